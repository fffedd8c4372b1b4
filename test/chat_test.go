package test

import (
	"fmt"
	"testing"
	"time"
)

func TestTwoPeopleChatOverTwoPods(t *testing.T) {
	t.Parallel()
	s := plainSystem(t)
	u := s.pods[0].users(t, 2)
	anna, ben := s.pods[0].open(t, u[0]), s.pods[1].open(t, u[1])
	c := s.pods[0].direct(t, u[0], u[1])
	for _, x := range []*socket{anna, ben} {
		x.until("conversation:created", 5*time.Second)
	}
	for n := range 10 {
		from, to := anna, ben
		if n%2 == 1 {
			from, to = ben, anna
		}
		var acked, heard message
		f := from.ask("message:send", map[string]any{"conversationId": c.ID, "content": fmt.Sprint("hello ", n), "clientMessageId": fmt.Sprint(n)})
		if f.Type != "ack" {
			t.Fatalf("got %s %s", f.Type, f.Data)
		}
		f.into(t, &acked)
		for heard.Seq < acked.Seq { // the user's own come too
			to.until("message:new", 5*time.Second).into(t, &heard)
		}
		if acked.Seq != int64(n+1) || heard.ID != acked.ID || heard.Content != fmt.Sprint("hello ", n) {
			t.Fatalf("acked %+v, heard %+v", acked, heard)
		}
	}
	anna.write(map[string]any{"type": "typing:start", "data": map[string]any{"conversationId": c.ID}})
	if f := ben.until("typing", 5*time.Second); string(f.Data) != fmt.Sprintf(`{"conversationId":%q,"userId":%q,"active":true}`, c.ID, u[0].ID) {
		t.Errorf("typing is %s", f.Data)
	}
	var got conversation
	s.pods[1].want(t, 200, u[1].token, "GET", "/api/conversations/"+c.ID, nil).into(t, &got)
	if got.LastSeq != 10 || got.Revision != 11 || got.LastReadSeq != 10 || got.UnreadCount != 0 {
		t.Errorf("the conversation is %+v", got)
	}
}

// Who has just been answered that a conversation is made may type in it, whether or not this pod has heard of it yet.
func TestTypingInAConversationThatWasJustMade(t *testing.T) {
	t.Parallel()
	s := plainSystem(t)
	p := s.pods[0]
	u := p.register(t)
	sock := p.open(t, u)
	for range 30 {
		var c conversation
		p.want(t, 201, u.token, "POST", "/api/conversations",
			map[string]any{"type": "group", "name": "a group", "memberIds": s.bareUsers(t, 2)}).into(t, &c)
		sock.write(map[string]any{"type": "typing:start", "data": map[string]any{"conversationId": c.ID}}) // it has no ack
		for _, f := range sock.upToPong() {
			if f.Type == "error" {
				t.Fatalf("typing: %s", f.Data)
			}
		}
	}
}
