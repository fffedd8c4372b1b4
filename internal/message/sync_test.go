package message_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/parley-chat/parley/internal/conversation"
	"github.com/parley-chat/parley/internal/jsonbody"
	"github.com/parley-chat/parley/internal/message"
	"github.com/parley-chat/parley/internal/testenv"
)

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
	r := newReplica(users[1], 0)
	if n := r.catchUp(t, p); n < 4 {
		t.Errorf("it took %d syncs, where 2 MB take three at least", n)
	}
	r.check(t, p)
}

func TestSyncNamesUnknownAndGoneConversations(t *testing.T) {
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

// After a failover every copy is reset. A response that is full resets the other conversations without their messages.
func TestAFullResponseResetsWithoutMessages(t *testing.T) {
	t.Parallel()
	p := newPod(t, testenv.Postgres(t))
	p.epoch = "new"
	u := testenv.Users(t, p.db.SQL, 2)
	groups := []string{p.group(t, u[0], u[1]), p.group(t, u[0], u[1])}
	slices.Sort(groups)
	for range 34 { // of 32 KB each: more than 1 MiB
		p.send(t, groups[0], u[0], strings.Repeat("𝒳", message.MaxContent))
	}
	p.send(t, groups[1], u[0], "short")
	a, err := p.sync.Sync(t.Context(), u[1], &message.SyncRequest{Conversations: map[string]int64{groups[0]: 1, groups[1]: 1}, Epoch: "old"})
	if err != nil {
		t.Fatal(err)
	}
	full, empty := a.Conversations[groups[0]], a.Conversations[groups[1]]
	if n := len(full.Messages); !full.Reset || n < 25 || n > 33 {
		t.Errorf("%d messages, reset %t", n, full.Reset)
	}
	if !empty.Reset || !empty.Complete || len(empty.Messages) != 0 || empty.Revision != 2 || empty.Conversation == nil {
		t.Errorf("got %d messages, revision %d, conversation %s", len(empty.Messages), empty.Revision, empty.Conversation)
	}
}
