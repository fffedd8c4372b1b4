package webhook

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/parley-chat/parley/internal/conversation"
	"github.com/parley-chat/parley/internal/jsonbody"
	"github.com/parley-chat/parley/internal/testenv"
)

// Of a hundred events an endpoint refuses one. It gets the other 99, in order.
func TestOneOfAHundredIsRefused(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	r := newReceiver(t)
	e := h.endpoint(r, `{"name":"a","url":%q,"types":["message.created"]}`)
	groups := []string{h.group(), h.group(), h.group(), h.group()}
	r.set(func(g got) int {
		if g.conversation == groups[1] && g.revision == 12 {
			return 500
		}
		return 200
	})
	h.dispatcher(time.Second, time.Second)
	for i := range 25 {
		for _, g := range groups {
			h.send(g, fmt.Sprint(i))
		}
	}
	busy := h.group() // so that the endpoint accepts something between the attempts
	list := r.await("99 events", func(l []got) bool {
		h.send(busy, "meanwhile")
		n := 0
		for _, g := range groups {
			n += r.messages(g)
		}
		return n >= 99
	})
	checkOrder(t, list)
	for i, g := range groups {
		if n, want := r.messages(g), 25; n != want && (i != 1 || n != want-1) {
			t.Errorf("%d of 25 messages of conversation %d", n, i)
		}
	}
	if dead, _, err := h.service.DeadEvents(t.Context(), e.ID, nil, 10); err != nil || len(dead) != 1 || dead[0].Event != fmt.Sprintf("evt_%s_12", groups[1]) {
		t.Errorf("dead are %+v, %v", dead, err)
	}
}

// While one endpoint answers nothing at all, another one gets everything.
func TestASlowEndpointDelaysNoOther(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	slow, quick := newReceiver(t), newReceiver(t)
	h.endpoint(slow, `{"name":"slow","url":%q,"types":["*"]}`)
	h.endpoint(quick, `{"name":"quick","url":%q,"types":["*"]}`)
	release := make(chan struct{})
	slow.set(func(got) int { <-release; return 200 })
	stop := h.dispatcher(time.Second)
	groups := make([]string, 2*slotsPerEndpoint)
	for i := range groups {
		groups[i] = h.group()
		h.send(groups[i], "hello")
	}
	all := func(r *receiver) func([]got) bool {
		return func([]got) bool {
			for _, g := range groups {
				if r.messages(g) == 0 {
					return false
				}
			}
			return true
		}
	}
	checkOrder(t, quick.await("all of it, while the other one hangs", all(quick)))
	close(release)
	slow.set(nil)
	checkOrder(t, slow.await("all of it, once it answers", all(slow)))
	stop()
}

// An event of members names all whom it was about, also those who have left before it is sent.
func TestEventsOfMembersNameThoseWhoLeft(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	g := h.group()
	users := testenv.Users(t, h.db.SQL, 2)
	if _, err := h.groups.Add(t.Context(), g, h.users[0], &conversation.Addition{UserIDs: users}); err != nil {
		t.Fatal(err)
	}
	if err := h.groups.Remove(t.Context(), g, h.users[0], users[0]); err != nil {
		t.Fatal(err)
	}
	missed, err := h.feed.After(t.Context(), g, 1, 10)
	if err != nil || len(missed.Events) != 2 {
		t.Fatalf("%d events, %v", len(missed.Events), err)
	}
	for i, want := range []string{fmt.Sprintf(`"userIds":[%q,%q]`, users[0], users[1]), fmt.Sprintf(`"userIds":[%q]`, users[0])} {
		d, ok, err := deliveryOf(missed.Events[i], &conversationRef{ID: g, Metadata: []byte("null")})
		if err != nil || !ok || !strings.Contains(string(d.body), want) {
			t.Errorf("%s, %v, want %s", d.body, err, want)
		}
	}
}

// An endpoint has sixteen deliveries at once at most, whatever the number of dispatchers, of places, subjects and replays together.
func TestAnEndpointHasSixteenSlots(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	r := newReceiver(t)
	e := h.endpoint(r, fromNow)
	var running, most, done atomic.Int64
	slow := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		n := running.Add(1)
		for {
			m := most.Load()
			if n <= m || most.CompareAndSwap(m, n) {
				break
			}
		}
		time.Sleep(50 * time.Millisecond)
		running.Add(-1)
		done.Add(1)
	}))
	t.Cleanup(slow.Close)
	url := jsonbody.Optional[string]{Set: true, Value: slow.URL}
	if _, err := h.service.Update(t.Context(), e.ID, &Change{URL: url}); err != nil {
		t.Fatal(err)
	}
	const groups = 100
	if _, err := h.db.SQL.Exec(`WITH c AS (
			INSERT INTO conversations (id, type, name, last_message_at, created_at, member_count) SELECT gen_random_uuid(), 'group', 'g', now(), now(), 0 FROM generate_series(1, $1::int)
			RETURNING id)
		INSERT INTO conversation_changes (conversation_id, revision, last_seq, kind, user_ids) SELECT id, 1, 0, 'created', '{}' FROM c`, groups); err != nil {
		t.Fatal(err)
	}
	testenv.Users(t, h.db.SQL, groups)
	h.replay(e, Period{From: at(time.Unix(0, 0))})
	for range 8 {
		h.dispatcher(time.Second)
	}
	testenv.Eventually(t, time.Minute, func() bool { return done.Load() >= 3*groups && h.incomplete() == 0 }, "all is delivered")
	if n := most.Load(); n > slotsPerEndpoint {
		t.Errorf("%d deliveries at once", n)
	}
}
