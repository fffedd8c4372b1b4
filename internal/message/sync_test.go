package message_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"

	"github.com/parley-chat/parley/internal/chat"
	"github.com/parley-chat/parley/internal/conversation"
	"github.com/parley-chat/parley/internal/cursor"
	"github.com/parley-chat/parley/internal/jsonbody"
	"github.com/parley-chat/parley/internal/message"
	"github.com/parley-chat/parley/internal/testenv"
)

// replica is a client's copy, kept by sync alone.
type replica struct {
	revisions     map[string]int64
	conversations map[string]chat.Conversation
	messages      map[string]map[int64]chat.Message
}

func newReplica() *replica {
	return &replica{revisions: map[string]int64{}, conversations: map[string]chat.Conversation{}, messages: map[string]map[int64]chat.Message{}}
}

// catchUp syncs until every part is complete, and answers how many syncs that took.
func (r *replica) catchUp(t *testing.T, p *pod, user string) int {
	t.Helper()
	for n := 1; ; n++ {
		a, err := p.sync.Sync(t.Context(), user, &message.SyncRequest{Conversations: maps.Clone(r.revisions)})
		if err != nil {
			t.Fatal(err)
		}
		complete := len(a.Unknown) == 0
		for _, c := range a.Unknown {
			r.revisions[c] = 0
		}
		for _, c := range a.Gone {
			delete(r.revisions, c)
			delete(r.conversations, c)
			delete(r.messages, c)
		}
		for c, part := range a.Conversations {
			r.take(t, c, part)
			complete = complete && part.Complete
		}
		if complete {
			return n
		}
		if n > 200 {
			t.Fatal("sync does not come to an end")
		}
	}
}

func (r *replica) take(t *testing.T, c string, part *message.SyncPart) {
	t.Helper()
	last := r.revisions[c]
	for _, b := range part.Messages {
		var m chat.Message
		if err := json.Unmarshal(b, &m); err != nil {
			t.Fatal(err)
		}
		if m.Revision <= last && m.Revision > part.Revision {
			t.Fatalf("revision %d after %d", m.Revision, last)
		}
		last = m.Revision
		if r.messages[c] == nil {
			r.messages[c] = map[int64]chat.Message{}
		}
		r.messages[c][m.Seq] = m
	}
	if part.Revision < r.revisions[c] {
		t.Fatalf("asked again at %d after %d", part.Revision, r.revisions[c])
	}
	r.revisions[c] = part.Revision
	if part.Conversation != nil {
		var conv chat.Conversation
		if err := json.Unmarshal(part.Conversation, &conv); err != nil {
			t.Fatal(err)
		}
		r.conversations[c] = conv
	}
}

// check holds the replica against REST's answers.
func (r *replica) check(t *testing.T, p *pod, user string) {
	t.Helper()
	list, _, err := p.conversations.List(t.Context(), user, conversation.Selection{Filter: conversation.FilterAll}, nil, 1000)
	if err != nil {
		t.Fatal(err)
	}
	if len(list) != len(r.conversations) {
		t.Fatalf("%d conversations held, %d are there", len(r.conversations), len(list))
	}
	for _, conv := range list {
		held := r.conversations[conv.ID]
		same := jsonOf(t, held) == jsonOf(t, conv)
		if !same && held.Revision == conv.Revision { // one's marker moves without a revision only by receipts
			t.Fatalf("a conversation is held as\n%s\nand is\n%s", jsonOf(t, held), jsonOf(t, conv))
		}
		if held.Revision != conv.Revision {
			t.Fatalf("revision %d is held, %d is there", held.Revision, conv.Revision)
		}
		r.checkMessages(t, p, user, conv)
	}
}

func (r *replica) checkMessages(t *testing.T, p *pod, user string, conv chat.Conversation) {
	t.Helper()
	n := 0
	var before *cursor.Position
	for {
		page, err := p.messages.History(t.Context(), conv.ID, user, before, 100)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range page.Messages {
			if held := r.messages[conv.ID][m.Seq]; !reflect.DeepEqual(jsonOf(t, held), jsonOf(t, m)) {
				t.Fatalf("message %d is held as\n%s\nand is\n%s", m.Seq, jsonOf(t, held), jsonOf(t, m))
			}
			n++
			before = &cursor.Position{Time: m.CreatedAt.Time, ID: m.ID}
		}
		if !page.HasMore {
			break
		}
	}
	if n != len(r.messages[conv.ID]) {
		t.Fatalf("%d messages held, %d are there", len(r.messages[conv.ID]), n)
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

// world does things at random.
type world struct {
	p      *pod
	rng    *rand.Rand
	users  []string
	groups []string
	sent   map[string][]string
}

func (w *world) pick(list []string) string { return list[w.rng.IntN(len(list))] }

// step does one thing; that a role forbids it is a result like any other.
func (w *world) step(t *testing.T) {
	t.Helper()
	ctx, g := t.Context(), w.pick(w.groups)
	owner := w.users[0]
	switch w.rng.IntN(10) {
	case 0, 1, 2, 3, 4:
		who := w.pick(w.users)
		if m, _, err := w.p.messages.Send(ctx, g, who, &message.Draft{Content: fmt.Sprint(w.rng.Int())}); err == nil {
			w.sent[g] = append(w.sent[g], m.ID)
		}
	case 5, 6:
		if len(w.sent[g]) > 0 {
			for _, u := range w.users {
				if _, err := w.p.messages.Edit(ctx, w.pick(w.sent[g]), u, &message.Edit{Content: jsonbody.Optional[string]{Set: true, Value: "edited " + fmt.Sprint(w.rng.Int())}}); err == nil {
					break
				}
			}
		}
	case 7:
		if len(w.sent[g]) > 0 {
			_ = w.p.messages.Delete(ctx, w.pick(w.sent[g]), owner)
		}
	case 8:
		if w.rng.IntN(2) == 0 {
			_, _ = w.p.conversations.Add(ctx, g, owner, &conversation.Addition{UserIDs: []string{w.pick(w.users[1:])}})
		} else {
			_ = w.p.conversations.Remove(ctx, g, owner, w.pick(w.users[1:]))
		}
	case 9:
		_, _ = w.p.conversations.Update(ctx, g, owner, &conversation.Patch{Name: jsonbody.Optional[string]{Set: true, Value: fmt.Sprint("n", w.rng.IntN(1000))}})
	}
}

// After any mix of changes a sync brings a copy, however old, to what the database holds.
func TestSyncBringsAnyCopyUpToDate(t *testing.T) {
	t.Parallel()
	p := newPod(t, testenv.Postgres(t))
	users := testenv.Users(t, p.db.SQL, 5)
	w := &world{p: p, rng: rand.New(rand.NewPCG(1, 2)), users: users, sent: map[string][]string{}}
	for range 3 {
		w.groups = append(w.groups, p.group(t, users...))
	}
	replicas := map[string]*replica{}
	for range 300 {
		for range 1 + w.rng.IntN(12) {
			w.step(t)
		}
		u := w.pick(users)
		if replicas[u] == nil || w.rng.IntN(20) == 0 {
			replicas[u] = newReplica()
		}
		replicas[u].catchUp(t, p, u)
		replicas[u].check(t, p, u)
	}
}

func TestSyncComesInPieces(t *testing.T) {
	t.Parallel()
	p := newPod(t, testenv.Postgres(t))
	users := testenv.Users(t, p.db.SQL, 3)
	long := make([]byte, 8000)
	for i := range long {
		long[i] = 'a'
	}
	many, large := p.group(t, users...), p.group(t, users...)
	var ids []string
	for range 250 {
		ids = append(ids, p.send(t, many, users[0], "x").ID)
		p.send(t, large, users[0], string(long))
	}
	for _, i := range []int{3, 120, 249} {
		if _, err := p.messages.Edit(t.Context(), ids[i], users[0], &message.Edit{Content: jsonbody.Optional[string]{Set: true, Value: "edited"}}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := p.conversations.Update(t.Context(), large, users[0], &conversation.Patch{Name: jsonbody.Optional[string]{Set: true, Value: "renamed"}}); err != nil {
		t.Fatal(err)
	}
	a, err := p.sync.Sync(t.Context(), users[1], &message.SyncRequest{Conversations: map[string]int64{many: 1, large: 1}})
	if err != nil {
		t.Fatal(err)
	}
	if b := jsonOf(t, a); len(b) > 1<<20+4096 {
		t.Errorf("an answer of %d bytes", len(b))
	}
	for _, part := range a.Conversations {
		if part.Complete || len(part.Messages) > 100 {
			t.Errorf("a part of %d messages says complete: %v", len(part.Messages), part.Complete)
		}
	}
	r := newReplica()
	if n := r.catchUp(t, p, users[1]); n < 4 {
		t.Errorf("it took %d syncs, where 2 MB take three at least", n)
	}
	r.check(t, p, users[1])
}

func TestSyncTellsOfTheUnknownAndTheGone(t *testing.T) {
	t.Parallel()
	p := newPod(t, testenv.Postgres(t))
	u := testenv.Users(t, p.db.SQL, 4)
	mine, left, others := p.group(t, u[0], u[1], u[2]), p.group(t, u[0], u[1], u[2]), p.group(t, u[0], u[1], u[3])
	if err := p.conversations.Remove(t.Context(), left, u[2], u[2]); err != nil {
		t.Fatal(err)
	}
	a, err := p.sync.Sync(t.Context(), u[2], &message.SyncRequest{Conversations: map[string]int64{left: 1, others: 1}})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{left, others}
	slices.Sort(want)
	if !slices.Equal(a.Gone, want) || !slices.Equal(a.Unknown, []string{mine}) || len(a.Conversations) != 0 {
		t.Errorf("gone %v, unknown %v, parts %d", a.Gone, a.Unknown, len(a.Conversations))
	}
	held := int64(99)
	a, err = p.sync.Sync(t.Context(), u[2], &message.SyncRequest{Conversations: map[string]int64{mine: held}})
	if part := a.Conversations[mine]; err != nil || !part.Complete || part.Revision != 1 || part.Conversation == nil {
		t.Errorf("a revision that never was: %+v, %v", part, err)
	}
}
