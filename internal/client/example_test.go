package client_test

import (
	"fmt"

	"github.com/parley-chat/parley/internal/client"
)

// A frame that leaves a gap waits. A sync of the conversation fills the gap, and the waiting frame follows.
func ExampleConversation() {
	c := client.NewConversation("anna", client.Info{ID: "c", Revision: 7, LastSeq: 4, LastReadSeq: 4})

	late := []byte(`{"id":"m6","conversationId":"c","seq":6,"revision":9,"senderId":"ben","content":"Are you there?"}`)
	effects, err := c.Frame("message:new", late)
	fmt.Println(effects, err, c.Held, c.Waiting())

	effects = c.Sync(7, client.SyncPart{
		Messages: []client.HeldMessage{{ID: "m5", Seq: 5, Revision: 8, SenderID: "ben", Content: "Hello"}},
		Revision: 8, Complete: true,
	})
	fmt.Println(effects, c.Held, c.Waiting(), c.Unread())
	for _, m := range c.Messages {
		fmt.Println(m.Seq, m.Content)
	}
	// Output:
	// [{repair 0}] <nil> 7 [9]
	// [{message 5} {message 6}] 9 [] 2
	// 5 Hello
	// 6 Are you there?
}
