package test

import (
	"fmt"
	"net/url"
	"slices"
	"testing"
	"time"
)

type serverConversation struct {
	ID, Name, ExternalID, Posting string
	MemberCount                   int
	Revision                      int64
	UpdatedAt                     time.Time
	Members                       []struct {
		User struct{ ID string }
		Role string
	}
}

func TestARoomByItsExternalIDAndABotThatSaysHello(t *testing.T) {
	t.Parallel()
	s := start(t, 2)
	p := s.pods[0]
	key := s.createKey(t, "back end", "users,conversations,messages,audit:read")
	users := []map[string]any{{"externalId": "bot", "displayName": "Bot", "kind": "bot"}}
	for i := range 30 {
		users = append(users, map[string]any{"externalId": fmt.Sprint("u", i), "displayName": fmt.Sprintf("User %d", i)})
	}
	made := p.upsert(t, key, users...)
	ann := p.register(t)
	sock := s.pods[1].open(t, ann)
	path := "/api/server/conversations/ext:" + url.PathEscape("order/1")
	var c serverConversation
	p.want(t, 201, key, "PUT", path, map[string]any{"name": "Order 1", "members": []any{map[string]any{"user": ann.ID, "role": "owner"}, map[string]any{"user": "ext:u0"}}}).into(t, &c)
	if c.ExternalID != "order/1" || c.MemberCount != 2 {
		t.Fatalf("made: %+v", c)
	}
	sock.until("conversation:created", 10*time.Second)
	p.want(t, 200, key, "PUT", path, map[string]any{"name": "Order 1", "members": []any{map[string]any{"user": "ext:u0"}}}).into(t, &c)
	if c.Revision != 1 || c.MemberCount != 2 {
		t.Errorf("the same again: %+v", c)
	}
	r := keyRoom{p, key, path, sock}
	r.addsMany(t, c)
	r.hasMessages(t, *made[0].ID)
	p.want(t, 200, key, "PATCH", path, map[string]any{"posting": "admins"}).into(t, &c)
	if c.Posting != "admins" {
		t.Errorf("posting: %+v", c)
	}
	r.removesThree(t, c)
	p.want(t, 200, key, "PUT", path+"?members=exact", map[string]any{"name": "Order 1", "members": []any{}}).into(t, &c)
	if c.MemberCount != 0 {
		t.Errorf("exactly nobody: %+v", c)
	}
	sock.until("conversation:member_removed", 10*time.Second)
	p.want(t, 404, ann.token, "GET", "/api/conversations/"+c.ID, nil)
	p.want(t, 200, key, "GET", "/api/server/conversations/"+c.ID, nil)
	var list struct{ Data []serverConversation }
	p.want(t, 200, key, "GET", "/api/server/conversations?limit=200", nil).into(t, &list)
	if len(list.Data) != 1 || list.Data[0].UpdatedAt.IsZero() {
		t.Errorf("listed: %+v", list)
	}
	p.want(t, 204, key, "DELETE", path, nil)
	p.want(t, 404, key, "GET", path, nil)
	var anew serverConversation
	p.want(t, 201, key, "PUT", path, map[string]any{"name": "Order 1, again"}).into(t, &anew)
	if anew.ID == c.ID {
		t.Error("a deleted group came back")
	}
	audits(t, p, key, "conversation.create", "conversation.delete", "conversation.update", "key.create", "member.add", "member.remove", "message.delete",
		"message.send", "message.update", "user.create")
}

// keyRoom is a group that a server key manages by its path.
type keyRoom struct {
	p         *pod
	key, path string
	sock      *socket // of a member
}

// addsMany checks that all new members come in one revision and one frame.
func (r keyRoom) addsMany(t *testing.T, c serverConversation) {
	t.Helper()
	var more []any
	for i := range 29 {
		more = append(more, map[string]any{"user": fmt.Sprint("ext:u", i+1)})
	}
	r.p.want(t, 200, r.key, "POST", r.path+"/members", map[string]any{"users": more}).into(t, &c)
	if c.Revision != 2 || c.MemberCount != 31 {
		t.Errorf("members: revision %d, %d members", c.Revision, c.MemberCount)
	}
	var added struct {
		Members []any
		UserIDs []string
	}
	r.sock.until("conversation:member_added", 10*time.Second).into(t, &added)
	if len(added.Members) != 20 || len(added.UserIDs) != 29 {
		t.Errorf("the frame has %d members, %d ids", len(added.Members), len(added.UserIDs))
	}
}

// hasMessages checks that bots and users write by the key, and that what they wrote is read, edited and deleted by it.
func (r keyRoom) hasMessages(t *testing.T, botID string) {
	t.Helper()
	hello := map[string]any{"sender": "ext:bot", "content": "Hello", "clientMessageId": "hello"}
	var m struct {
		ID, SenderID, Kind string
		Seq                int64
	}
	r.p.want(t, 201, r.key, "POST", r.path+"/messages", hello).into(t, &m)
	r.p.want(t, 200, r.key, "POST", r.path+"/messages", hello)
	if m.Seq != 1 || m.SenderID != botID {
		t.Errorf("hello: %+v", m)
	}
	r.sock.until("message:new", 10*time.Second)
	r.p.want(t, 201, r.key, "POST", r.path+"/messages", map[string]any{"sender": "ext:u3", "content": "joined", "clientMessageId": "j", "kind": "system"}).into(t, &m)
	if m.Kind != "system" {
		t.Errorf("a system message: %+v", m)
	}
	r.p.want(t, 400, r.key, "POST", r.path+"/messages", map[string]any{"sender": r.p.register(t).ID, "content": "x", "clientMessageId": "x"})
	r.p.want(t, 400, r.key, "POST", r.path+"/messages", map[string]any{"sender": "ext:bot", "content": "x"})
	r.p.want(t, 404, r.key, "POST", r.path+"/messages", map[string]any{"sender": "ext:nobody", "content": "x", "clientMessageId": "x"})
	var history struct {
		Data []struct{ ID, Content string }
	}
	r.p.want(t, 200, r.key, "GET", r.path+"/messages?limit=1", nil).into(t, &history)
	if len(history.Data) != 1 || history.Data[0].Content != "joined" {
		t.Errorf("history: %+v", history)
	}
	r.p.want(t, 200, r.key, "PATCH", "/api/server/messages/"+m.ID, map[string]any{"content": "has joined"})
	r.sock.until("message:updated", 10*time.Second)
	r.p.want(t, 204, r.key, "DELETE", "/api/server/messages/"+m.ID, nil)
	r.p.want(t, 204, r.key, "DELETE", "/api/server/messages/"+m.ID, nil)
	r.sock.until("message:deleted", 10*time.Second)
	r.p.want(t, 200, r.key, "GET", "/api/server/messages/"+m.ID, nil)
}

// removesThree checks that removed members go in one revision and one frame.
func (r keyRoom) removesThree(t *testing.T, c serverConversation) {
	t.Helper()
	before := c.Revision
	r.p.want(t, 200, r.key, "DELETE", r.path+"/members", map[string]any{"users": []any{"ext:u1", "ext:u2", "ext:u3"}}).into(t, &c)
	if c.Revision != before+1 || c.MemberCount != 28 {
		t.Errorf("removed: %+v", c)
	}
	var removed struct{ UserIDs []string }
	r.sock.until("conversation:member_removed", 10*time.Second).into(t, &removed)
	if len(removed.UserIDs) != 3 {
		t.Errorf("the frame: %+v", removed)
	}
}

// audits checks that the audit log has entries of these actions.
func audits(t *testing.T, p *pod, key string, want ...string) {
	t.Helper()
	var log struct{ Data []struct{ Action string } }
	p.want(t, 200, key, "GET", "/api/server/audit?limit=100", nil).into(t, &log)
	var actions []string
	for _, e := range log.Data {
		actions = append(actions, e.Action)
	}
	slices.Sort(actions)
	for _, action := range want {
		if !slices.Contains(actions, action) {
			t.Errorf("the audit log lacks %s: %v", action, slices.Compact(actions))
		}
	}
}
