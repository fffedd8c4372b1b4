package test

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"
)

// across is what the table of blocks acts on: actor does something, and it is seen what of that reaches other. One of the two
// blocks the other. third blocks nobody and is blocked by nobody.
type across struct {
	t                   *testing.T
	p, q                *pod
	actor, other, third user
	sock, ears          *socket // actor's, on p, and other's, on q
	direct, group, own  conversation
	// Messages from before the block, by who sent them and where.
	mine, theirs, mineInGroup, theirsInGroup message
	barrier                                  int
}

func newAcross(t *testing.T, s *system, blockerActs bool) *across {
	t.Helper()
	p, q := s.pods[0], s.pods[1]
	u := p.users(t, 4)
	x := &across{t: t, p: p, q: q, actor: u[0], other: u[1], third: u[2]}
	for who, name := range map[*user]string{&x.actor: "Actor", &x.other: "Other"} {
		p.want(t, 200, who.token, "PATCH", "/api/users/me", map[string]any{"displayName": name + " Before"})
	}
	p.befriend(t, x.actor, x.other)
	x.direct = p.direct(t, x.actor, x.other)
	x.group = p.group(t, x.third, x.actor, x.other)
	x.own = p.group(t, x.actor, x.third, u[3])
	x.mine, x.theirs = p.send(t, x.actor, x.direct.ID, "mine"), p.send(t, x.other, x.direct.ID, "theirs")
	x.mineInGroup, x.theirsInGroup = p.send(t, x.actor, x.group.ID, "mine"), p.send(t, x.other, x.group.ID, "theirs")
	for _, m := range []message{x.mine, x.mineInGroup} { // other has read what actor wrote
		p.read(t, x.other, m.ID)
	}
	x.sock, x.ears = p.open(t, x.actor), q.open(t, x.other)
	x.reached() // what came of all that has arrived before the rows are tried
	blocker, blocked := x.actor, x.other
	if !blockerActs {
		blocker, blocked = x.other, x.actor
	}
	p.want(t, 204, blocker.token, "PUT", "/api/blocks/"+blocked.ID, nil)
	p.want(t, 200, x.actor.token, "PATCH", "/api/users/me", map[string]any{"displayName": "Actor After", "avatarUrl": "https://example.com/after.png"})
	return x
}

// call is what a request of actor's gets: its status, and the code of what went wrong.
func (x *across) call(method, path string, body any) string {
	x.t.Helper()
	a := x.p.call(x.t, x.actor.token, method, path, body)
	return strings.TrimSpace(fmt.Sprint(a.status, " ", a.code()))
}

func (x *across) frame(typ string, data any) string {
	x.t.Helper()
	f := x.sock.ask(typ, data)
	var p problem
	if f.into(x.t, &p); f.Type == "error" {
		return "error " + p.Code
	}
	return f.Type
}

// reached are the types of frames that other got, of those that are asked for, until two things that a third did after what
// actor did: a read and a message. Both are published after whatever comes of what actor did.
func (x *across) reached(types ...string) string {
	x.t.Helper()
	x.barrier++
	m := x.p.send(x.t, x.other, x.group.ID, fmt.Sprint("barrier ", x.barrier))
	x.p.read(x.t, x.third, m.ID)
	var got []string
	for read := false; ; {
		f := x.ears.next(10 * time.Second)
		var d struct{ ID, MessageID, UserID, Content string }
		f.into(x.t, &d)
		switch {
		case f.Type == "receipt:read" && d.MessageID == m.ID && d.UserID == x.third.ID:
			read = true
			x.p.send(x.t, x.third, x.group.ID, fmt.Sprint("end ", x.barrier))
		case read && f.Type == "message:new" && d.Content == fmt.Sprint("end ", x.barrier):
			if len(got) == 0 {
				return "nothing"
			}
			slices.Sort(got)
			return strings.Join(slices.Compact(got), " ")
		case slices.Contains(types, f.Type) && !strings.HasPrefix(d.Content, "barrier "):
			got = append(got, f.Type)
		}
	}
}

// readReached is what other heard of actor's read of a message in the group, until a third's read of a later one.
func (x *across) readReached(read message) string {
	x.t.Helper()
	x.barrier++
	m := x.p.send(x.t, x.other, x.group.ID, fmt.Sprint("barrier ", x.barrier))
	x.p.read(x.t, x.third, m.ID)
	for heard := "nothing"; ; {
		var r receiptRead
		x.ears.until("receipt:read", 10*time.Second).into(x.t, &r)
		if r.MessageID == m.ID {
			return heard
		}
		if r.UserID == x.actor.ID || r.Count > 0 && r.MessageID == read.ID {
			heard = "receipt:read"
		}
	}
}

// shown is how other sees actor among the members of a conversation.
func (x *across) shown(members []member) string {
	x.t.Helper()
	for _, m := range members {
		if u := m.User; u.ID == x.actor.ID {
			picture := "a picture"
			if u.AvatarURL == nil {
				picture = "no picture"
			}
			return strings.ReplaceAll(u.DisplayName, x.actor.Username, "the username") + ", " + picture
		}
	}
	return "not there"
}

type member struct {
	User struct {
		ID, Username, DisplayName string
		AvatarURL                 *string
	}
}

// read is what other reads: a conversation object, a list of them, members, or a sync's answer.
func (x *across) read(path string) []member {
	x.t.Helper()
	type object struct {
		ID      string
		Members []member
	}
	var body struct {
		object
		Data []struct {
			object
			member
		}
	}
	x.q.want(x.t, 200, x.other.token, "GET", path, nil).into(x.t, &body)
	out := body.Members
	for _, d := range body.Data {
		if d.member.User.ID != "" {
			out = append(out, d.member)
		}
		if d.object.ID == x.direct.ID {
			out = append(out, d.object.Members...)
		}
	}
	return out
}

// What a block lets through, in both directions. In a direct conversation nothing crosses but the deletion of the user's own; a common
// group goes on as it was, but for receipts; outside of conversations each is as nobody to the other. What is added to Parley
// later and can cross a block gets a line here.
func TestWhatCrossesABlock(t *testing.T) {
	t.Parallel()
	s := plainSystem(t)
	const message, refused, hidden = "message:new message:updated message:deleted", "403 cannot_message; nothing", "the username, no picture"
	id := func(u user) any { return map[string]any{"userId": u.ID} }
	table := []struct {
		name, want string
		do         func(x *across) string
	}{
		// In their direct conversation.
		{"a message by REST", refused, func(x *across) string {
			return x.call("POST", "/api/conversations/"+x.direct.ID+"/messages", map[string]any{"content": "x"}) + "; " + x.reached(strings.Fields(message)...)
		}},
		{"a message by socket", "error cannot_message; nothing", func(x *across) string {
			return x.frame("message:send", map[string]any{"conversationId": x.direct.ID, "content": "x", "clientMessageId": "x"}) + "; " + x.reached(strings.Fields(message)...)
		}},
		{"an edit", refused, func(x *across) string {
			return x.call("PATCH", "/api/messages/"+x.mine.ID, map[string]any{"content": "x"}) + "; " + x.reached(strings.Fields(message)...)
		}},
		{"a reaction", refused, func(x *across) string {
			return x.call("PUT", "/api/messages/"+x.theirs.ID+"/reactions/x", nil) + "; " + x.reached("message:reacted")
		}},
		{"typing", "error cannot_message; nothing", func(x *across) string {
			return x.frame("typing:start", map[string]any{"conversationId": x.direct.ID}) + "; " + x.reached("typing")
		}},
		{"a read", "204; nothing; 0 receipts", func(x *across) string {
			got := x.call("POST", "/api/messages/"+x.theirs.ID+"/read", nil) + "; " + x.reached("receipt:read")
			return fmt.Sprint(got, "; ", x.q.receipts(x.t, x.other, x.theirs.ID).Count, " receipts")
		}},
		{"a receipt from before", "0 receipts", func(x *across) string {
			r := x.p.receipts(x.t, x.actor, x.mine.ID)
			return fmt.Sprint(max(r.Count, len(r.Data)), " receipts")
		}},
		{"name and picture in the conversation", hidden, func(x *across) string { return x.shown(x.read("/api/conversations/" + x.direct.ID)) }},
		{"name and picture in the list", hidden, func(x *across) string { return x.shown(x.read("/api/conversations")) }},
		{"name and picture among the members", hidden, func(x *across) string { return x.shown(x.read("/api/conversations/" + x.direct.ID + "/members")) }},
		{"name and picture in a sync", hidden, func(x *across) string {
			var a struct {
				Conversations map[string]struct{ Conversation struct{ Members []member } }
			}
			x.ears.ask("sync", map[string]any{"conversations": map[string]any{x.direct.ID: 0}}).into(x.t, &a)
			return x.shown(a.Conversations[x.direct.ID].Conversation.Members)
		}},
		{"how far the peer has read", "<nil>", func(x *across) string {
			var c struct{ PeerLastReadSeq *int64 }
			x.q.want(x.t, 200, x.other.token, "GET", "/api/conversations/"+x.direct.ID, nil).into(x.t, &c)
			return fmt.Sprint(c.PeerLastReadSeq)
		}},
		{"read markers", "204; []", func(x *across) string {
			got := x.call("POST", "/api/messages/"+x.theirs.ID+"/read", nil)
			var l struct{ Data []struct{ UserID string } }
			x.q.want(x.t, 200, x.other.token, "GET", "/api/conversations/"+x.direct.ID+"/markers", nil).into(x.t, &l)
			return fmt.Sprint(got, "; ", slices.DeleteFunc(l.Data, func(m struct{ UserID string }) bool { return m.UserID == x.other.ID }))
		}},
		{"a pin", "403 cannot_message; nothing", func(x *across) string {
			return x.call("PUT", "/api/messages/"+x.theirs.ID+"/pin", nil) + "; " + x.reached(strings.Fields(message)...)
		}},
		{"asking for the direct conversation", "404 user_not_found", func(x *across) string {
			return x.call("POST", "/api/conversations", map[string]any{"type": "direct", "memberIds": []string{x.other.ID}})
		}},
		{"the deletion of the user's own", "204; message:deleted", func(x *across) string {
			return x.call("DELETE", "/api/messages/"+x.mine.ID, nil) + "; " + x.reached(strings.Fields(message)...)
		}},

		// In a common group.
		{"a message in a group", "201; message:new", func(x *across) string {
			return x.call("POST", "/api/conversations/"+x.group.ID+"/messages", map[string]any{"content": "x"}) + "; " + x.reached(strings.Fields(message)...)
		}},
		{"an edit in a group", "200; message:updated", func(x *across) string {
			return x.call("PATCH", "/api/messages/"+x.mineInGroup.ID, map[string]any{"content": "x"}) + "; " + x.reached(strings.Fields(message)...)
		}},
		{"a reaction in a group", "200; message:reacted", func(x *across) string {
			return x.call("PUT", "/api/messages/"+x.theirsInGroup.ID+"/reactions/x", nil) + "; " + x.reached("message:reacted")
		}},
		{"typing in a group", "typing", func(x *across) string {
			x.sock.write(map[string]any{"type": "typing:start", "data": map[string]any{"conversationId": x.group.ID}})
			x.ears.until("typing", 10*time.Second)
			return "typing"
		}},
		{"a read in a group", "204; nothing; 0 for other, 1 for others", func(x *across) string {
			got := x.call("POST", "/api/messages/"+x.theirsInGroup.ID+"/read", nil) + "; " + x.readReached(x.theirsInGroup)
			return fmt.Sprint(got, "; ", x.q.receipts(x.t, x.other, x.theirsInGroup.ID).Count, " for other, ", x.q.receipts(x.t, x.third, x.theirsInGroup.ID).Count, " for others")
		}},
		{"a receipt from before in a group", "0", func(x *across) string { return fmt.Sprint(x.p.receipts(x.t, x.actor, x.mineInGroup.ID).Count) }},
		{"read markers in a group", "not for other, shown to others", func(x *across) string {
			shows := func(u user) bool {
				var l struct{ Data []struct{ UserID string } }
				x.q.want(x.t, 200, u.token, "GET", "/api/conversations/"+x.group.ID+"/markers", nil).into(x.t, &l)
				return slices.ContainsFunc(l.Data, func(m struct{ UserID string }) bool { return m.UserID == x.actor.ID })
			}
			return map[bool]string{true: "shown to other", false: "not for other"}[shows(x.other)] + map[bool]string{true: ", shown to others", false: ", not for others"}[shows(x.third)]
		}},
		{"a mention in a group", "400 invalid_request; nothing", func(x *across) string {
			in := map[string]any{"content": "x", "mentions": map[string]any{"userIds": []string{x.other.ID}}}
			return x.call("POST", "/api/conversations/"+x.group.ID+"/messages", in) + "; " + x.reached(strings.Fields(message)...)
		}},
		{"name and picture in a group", "Actor After, a picture", func(x *across) string {
			if a, b := x.shown(x.read("/api/conversations/"+x.group.ID)), x.shown(x.read("/api/conversations/"+x.group.ID+"/members")); a == b {
				return a
			}
			return "not the same"
		}},

		// Outside of conversations. Presence is asked by other, of actor, who is online.
		{"presence", "offline true", func(x *across) string {
			p := x.q.presence(x.t, x.other, x.actor.ID)
			return fmt.Sprint(p.Status, " ", p.LastSeenAt == nil)
		}},
		{"watched presence", "offline; nothing", func(x *across) string {
			got := fmt.Sprint(x.ears.watch(x.actor.ID)[0].Status)
			x.p.openAs(x.t, x.actor, "another-device")
			return got + "; " + x.reached("presence:online", "presence:offline")
		}},
		{"a new name", "200; nothing", func(x *across) string {
			return x.call("PATCH", "/api/users/me", map[string]any{"displayName": "Actor Again"}) + "; " + x.reached("user:updated")
		}},
		{"a profile", "404 user_not_found", func(x *across) string { return x.call("GET", "/api/users/"+x.other.ID, nil) }},
		{"profiles", "200 1", func(x *across) string {
			var l struct{ Data []struct{ ID string } }
			a := x.p.call(x.t, x.actor.token, "GET", "/api/users?ids="+x.other.ID+","+x.third.ID, nil)
			a.into(x.t, &l)
			return fmt.Sprint(a.status, " ", len(l.Data))
		}},
		{"a search", "200 0", func(x *across) string {
			var l struct{ Data []struct{ ID string } }
			a := x.p.call(x.t, x.actor.token, "GET", "/api/users/search?q="+url.QueryEscape(x.other.Username), nil)
			a.into(x.t, &l)
			return fmt.Sprint(a.status, " ", len(l.Data))
		}},
		{"a request for friendship", "404 user_not_found; nothing", func(x *across) string {
			return x.call("POST", "/api/friends/requests", id(x.other)) + "; " + x.reached("friend:requested")
		}},
		{"a new group", "404 user_not_found", func(x *across) string {
			return x.call("POST", "/api/conversations", map[string]any{"type": "group", "name": "x", "memberIds": []string{x.other.ID, x.third.ID}})
		}},
		{"being added to a group", "404 user_not_found", func(x *across) string {
			return x.call("POST", "/api/conversations/"+x.own.ID+"/members", map[string]any{"userIds": []string{x.other.ID}})
		}},
	}
	for actor, blockerActs := range map[string]bool{"by the one who blocks": true, "by the blocked one": false} {
		t.Run(actor, func(t *testing.T) {
			x := newAcross(t, s, blockerActs)
			for _, row := range table {
				t.Run(row.name, func(t *testing.T) { x.expect(t, row.do, row.want) })
			}
		})
	}
}

// expect checks what comes of a row. Its requests and sockets fail the row's own test.
func (x *across) expect(t *testing.T, row func(*across) string, want string) {
	t.Helper()
	x.t, x.sock.t, x.ears.t = t, t, t
	if got := row(x); got != want {
		t.Errorf("%s, want %s", got, want)
	}
}
