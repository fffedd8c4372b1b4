package client_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"

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

// A request is refused by a problem, which says what to do about it.
func ExampleServer_Call() {
	parley := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusForbidden)
		_, _ = io.WriteString(w, `{"status":403,"code":"not_member","detail":"You are no member."}`)
	}))
	defer parley.Close()

	ana := client.Server{Base: parley.URL, Token: "ana's access token"}
	var message struct{ ID string }
	err := ana.Call(context.Background(), "POST", "/conversations/c/messages", map[string]string{"content": "Hello"}, &message)
	if p := client.ProblemOf(err); p != nil {
		fmt.Println(p.Status, p.Code)
	}
	// Output: 403 not_member
}
