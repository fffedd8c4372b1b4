package webhook

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/parley-chat/parley/internal/chat"
	"github.com/parley-chat/parley/internal/event"
	"github.com/parley-chat/parley/internal/id"
)

// However much an event is about, its body has 256 KiB at most, and its userIds are whole.
func TestBodiesAreBounded(t *testing.T) {
	t.Parallel()
	avatar := "https://example.com/" + strings.Repeat("&", 2000)
	ids := make([]string, 5000)
	members := make([]chat.Member, 20)
	for i := range ids {
		ids[i] = id.New()
	}
	for i := range members {
		members[i].User = chat.Profile{ID: ids[i], DisplayName: strings.Repeat("<", 50), AvatarURL: &avatar}
	}
	by := make([]event.ReactedBy, 1024)
	for i := range by {
		by[i] = event.ReactedBy{UserID: ids[i], Reactions: []string{strings.Repeat("👍", 32), strings.Repeat("👎", 32), strings.Repeat("🎉", 32)}}
	}
	ref := &conversationRef{ID: ids[0], Metadata: []byte("null")}
	for _, e := range []*event.Event{
		{Type: event.TypeMemberAdded, Data: event.MembersAdded{Members: members, MemberCount: len(ids)}, Concerned: ids},
		{Type: event.TypeMemberUpdated, Data: event.MembersUpdated{Members: members}, Concerned: ids},
		{Type: event.TypeMessageReacted, Data: &event.MessageReactions{By: by}},
	} {
		d, ok, err := deliveryOf(e, ref)
		if err != nil || !ok || len(d.body) > 256<<10 {
			t.Fatalf("%s has %d bytes, %v", e.Type, len(d.body), err)
		}
		var in struct {
			Data struct {
				UserIDs []string
				Members []any
				By      []any
			}
		}
		if err := json.Unmarshal(d.body, &in); err != nil {
			t.Fatal(err)
		}
		if len(in.Data.UserIDs) != len(e.Concerned) || len(in.Data.Members) == 0 && len(in.Data.By) == 0 {
			t.Errorf("%s has %d ids, %d members, %d who reacted", e.Type, len(in.Data.UserIDs), len(in.Data.Members), len(in.Data.By))
		}
	}
}

// An endpoint that accepted others once, and then accepts nothing, is down: nothing dies meanwhile.
func TestNothingDiesInAnOutageThatFollowsARefusal(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	r := newReceiver(t)
	e := h.endpoint(r, fromNow)
	poisoned, other := h.group(), h.group()
	refused := func(g got) bool { return g.conversation == poisoned && g.revision == 2 }
	refuse := func(g got) int {
		if refused(g) {
			return 500
		}
		return 200
	}
	attempts := func() (n int) {
		if err := h.db.SQL.QueryRow(`SELECT count(*) FROM webhook_attempts WHERE event = $1`, fmt.Sprintf("evt_%s_2", poisoned)).Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	r.set(refuse)
	h.dispatcher(time.Second, time.Second)
	h.send(poisoned, "refused")
	r.await("the refusal", func([]got) bool { return attempts() > 0 })
	h.send(other, "accepted meanwhile")
	r.await("another event", func([]got) bool { return r.messages(other) == 1 })
	r.set(func(got) int { return 503 })
	h.send(other, "while it is down")
	r.await("many attempts", func([]got) bool { return attempts() > 5 })
	if dead, _, err := h.service.DeadEvents(t.Context(), e.ID, nil, 10); err != nil || len(dead) > 0 {
		t.Errorf("dead are %+v, %v", dead, err)
	}
	r.set(nil)
	checkOrder(t, r.await("all of it", func([]got) bool { return r.messages(poisoned) == 1 && r.messages(other) == 2 }))
}

// A Retry-After is obeyed: nothing is sent to the endpoint before.
func TestRetryAfterIsObeyed(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	r := newReceiver(t)
	h.endpoint(r, fromNow)
	g := h.group()
	var at []time.Time
	r.retryAfter = "3"
	r.set(func(got) int {
		at = append(at, time.Now()) // under the receiver's lock
		if len(at) < 3 {
			return 429
		}
		return 200
	})
	h.dispatcher(time.Second)
	h.send(g, "hello")
	r.await("the message", func([]got) bool { return r.messages(g) == 1 })
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range 2 {
		if d := at[i+1].Sub(at[i]); d < 3*time.Second {
			t.Errorf("attempt %d came %s after the one before", i+2, d)
		}
	}
}
