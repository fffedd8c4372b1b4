package message_test

import (
	"encoding/json"
	"maps"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/parley-chat/parley/internal/chat"
	"github.com/parley-chat/parley/internal/conversation"
	"github.com/parley-chat/parley/internal/cursor"
	"github.com/parley-chat/parley/internal/message"
	"github.com/parley-chat/parley/internal/testenv"
)

// replica is a client's copy, kept by sync alone.
type replica struct {
	user          string
	window        *int64 // as it asks for it
	revisions     map[string]int64
	state         int64
	conversations map[string]map[string]json.RawMessage
	messages      map[string]map[int64]chat.Message
	first         map[string]int64 // the seq at which the copy begins, 0 for all of the conversation
}

func newReplica(user string, window int64) *replica {
	r := &replica{user: user, revisions: map[string]int64{}, conversations: map[string]map[string]json.RawMessage{}, messages: map[string]map[int64]chat.Message{}, first: map[string]int64{}}
	if window > 0 {
		r.window = &window
	}
	return r
}

// sync asks once, and reports whether the copy is complete.
func (r *replica) sync(t *testing.T, p *pod) (complete bool) {
	t.Helper()
	a, err := p.sync.Sync(t.Context(), r.user, &message.SyncRequest{Conversations: maps.Clone(r.revisions), Window: r.window, State: &r.state})
	if err != nil {
		t.Fatal(err)
	}
	complete = len(a.Unknown) == 0
	for _, c := range a.Unknown {
		r.revisions[c] = 0
	}
	for _, c := range a.Gone {
		delete(r.revisions, c)
		delete(r.conversations, c)
		delete(r.messages, c)
		delete(r.first, c)
	}
	for c, part := range a.Conversations {
		r.take(t, c, part)
		complete = complete && part.Complete
	}
	states, ok := a.State.(conversation.States)
	if !ok {
		t.Fatalf("the state is %T", a.State)
	}
	r.state = states.Revision
	for c, s := range states.Conversations {
		if r.conversations[c] != nil { // else it comes with the conversation
			r.overlay(t, c, jsonOf(t, s))
		}
	}
	return complete && states.Complete
}

// catchUp syncs until every part is complete, and returns how many syncs that took.
func (r *replica) catchUp(t *testing.T, p *pod) int {
	t.Helper()
	for n := 1; ; n++ {
		if r.sync(t, p) {
			return n
		}
		if n > 200 {
			t.Fatal("sync does not come to an end")
		}
	}
}

func (r *replica) overlay(t *testing.T, c, object string) {
	t.Helper()
	if err := json.Unmarshal([]byte(object), new(r.conversations[c])); err != nil {
		t.Fatal(err)
	}
}

func (r *replica) take(t *testing.T, c string, part *message.SyncPart) {
	t.Helper()
	last := r.revisions[c]
	if part.Reset {
		last = 0
		r.messages[c] = nil
		r.first[c] = math.MaxInt64
	}
	for _, b := range part.Messages {
		var m chat.Message
		if err := json.Unmarshal(b, &m); err != nil {
			t.Fatal(err)
		}
		if !part.Reset && m.Revision <= last && m.Revision > part.Revision {
			t.Fatalf("revision %d after %d", m.Revision, last)
		}
		last = m.Revision
		if r.messages[c] == nil {
			r.messages[c] = map[int64]chat.Message{}
		}
		if part.Reset {
			r.first[c] = min(r.first[c], m.Seq)
		}
		if m.Seq >= r.first[c] { // an older one comes when the client pages back
			r.messages[c][m.Seq] = m
		}
	}
	if part.Revision < r.revisions[c] {
		t.Fatalf("asked again at %d after %d", part.Revision, r.revisions[c])
	}
	r.revisions[c] = part.Revision
	if part.Conversation != nil {
		r.conversations[c] = map[string]json.RawMessage{}
		r.overlay(t, c, string(part.Conversation))
	}
}

// check holds a complete replica against REST.
func (r *replica) check(t *testing.T, p *pod) {
	t.Helper()
	list, _, err := p.conversations.List(t.Context(), r.user, conversation.Selection{Filter: conversation.FilterAll}, nil, 1000)
	if err != nil {
		t.Fatal(err)
	}
	if len(list) != len(r.conversations) {
		t.Fatalf("%d conversations held, %d are there", len(r.conversations), len(list))
	}
	for _, conv := range list {
		var want map[string]json.RawMessage
		if err := json.Unmarshal([]byte(jsonOf(t, conv)), &want); err != nil {
			t.Fatal(err)
		}
		held := maps.Clone(r.conversations[conv.ID])
		for _, c := range []map[string]json.RawMessage{held, want} {
			delete(c, "peerLastReadSeq") // which comes by conversation:markers
		}
		if h, w := jsonOf(t, held), jsonOf(t, want); h != w {
			t.Fatalf("a conversation is held as\n%s\nand is\n%s", h, w)
		}
		r.checkMessages(t, p, conv)
	}
}

// checkMessages compares the messages that the copy has: with a window the newest of the conversation, else all.
func (r *replica) checkMessages(t *testing.T, p *pod, conv chat.Conversation) {
	t.Helper()
	held := r.messages[conv.ID]
	first := max(r.first[conv.ID], 1)
	if r.window != nil && first > 1 && len(held) < int(*r.window) || int(conv.LastSeq-first+1) != len(held) {
		t.Fatalf("messages from %d to %d are held, %d in all", first, conv.LastSeq, len(held))
	}
	var before *cursor.Position
	for {
		page, err := p.messages.History(t.Context(), conv.ID, r.user, before, 100)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range page.Messages {
			if m.Seq < first {
				return
			}
			if h, w := jsonOf(t, held[m.Seq]), jsonOf(t, m); h != w {
				t.Fatalf("message %d is held as\n%s\nand is\n%s", m.Seq, h, w)
			}
			before = &cursor.Position{Time: m.CreatedAt.Time, ID: m.ID}
		}
		if !page.HasMore {
			return
		}
	}
}

func jsonOf(t *testing.T, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// After any mix of changes a sync brings a copy, however old, to what the database holds.
func TestSyncBringsAnyCopyUpToDate(t *testing.T) {
	t.Parallel()
	p := newPod(t, testenv.Postgres(t))
	p.reactor.SetPause(0)
	w := newWorld(t, p, rand.New(rand.NewPCG(1, 2)))
	replicas := map[string]*replica{}
	for range testenv.Runs(t, 300) {
		for range 1 + w.rng.IntN(12) {
			w.step(t)
			if r := replicas[w.pick(w.users)]; r != nil && w.rng.IntN(4) == 0 {
				r.sync(t, p) // a piece, and then the world goes on
			}
		}
		u := w.pick(w.users)
		if replicas[u] == nil || w.rng.IntN(20) == 0 {
			replicas[u] = newReplica(u, int64(w.rng.IntN(2)*20))
		}
		replicas[u].catchUp(t, p)
		replicas[u].check(t, p)
	}
	for _, a := range actions {
		if w.done[a.name] == 0 {
			t.Errorf("%s never succeeded", a.name)
		}
	}
}
