package webhook

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/parley-chat/parley/internal/audit"
	"github.com/parley-chat/parley/internal/invalid"
	"github.com/parley-chat/parley/internal/jsonbody"
	"github.com/parley-chat/parley/internal/timestamp"
)

// now is Postgres's clock.
func (h *house) now() time.Time {
	h.t.Helper()
	var at time.Time
	if err := h.db.SQL.QueryRow(`SELECT clock_timestamp()`).Scan(&at); err != nil {
		h.t.Fatal(err)
	}
	return at.UTC()
}

func (h *house) replay(e WithSecret, p Period) Replay {
	h.t.Helper()
	r, err := h.service.Replay(h.t.Context(), e.ID, &p)
	if err != nil {
		h.t.Fatal(err)
	}
	return r
}

// incomplete is how many replays are.
func (h *house) incomplete() (n int) {
	h.t.Helper()
	if err := h.db.SQL.QueryRow(`SELECT (SELECT count(*) FROM webhook_replays) + (SELECT count(*) FROM outbox WHERE replay_id IS NOT NULL)`).Scan(&n); err != nil {
		h.t.Fatal(err)
	}
	return n
}

// replayed waits until replays are complete, and returns what was live and what was replayed.
func (h *house) replayed(r *receiver) (live, again []got) {
	h.t.Helper()
	r.await("replays are complete", func([]got) bool { return h.incomplete() == 0 })
	for _, g := range r.list() {
		if g.replay {
			again = append(again, g)
		} else {
			live = append(live, g)
		}
	}
	return live, again
}

func at(t time.Time) timestamp.Time { return timestamp.Time{Time: t} }

func TestAPeriodIsReplayed(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	r := newReceiver(t)
	e := h.endpoint(r, fromNow)
	groups := []string{h.group(), h.group(), h.group()}
	phase := func(content string) {
		for _, g := range groups[:2] {
			for range 3 {
				h.send(g, content)
			}
		}
	}
	phase("before")
	from := h.now()
	phase("within")
	until := at(h.now())
	phase("after")
	h.dispatcher(time.Second)
	r.await("all of it, live", func([]got) bool { return r.messages(groups[0])+r.messages(groups[1]) == 18 })
	made := h.replay(e, Period{From: at(from), Until: &until})
	if made.Conversation != nil || !made.Until.Equal(until.Time) || made.ID == "" {
		t.Errorf("the replay is %+v", made)
	}
	live, again := h.replayed(r)
	if len(again) != 6 {
		t.Fatalf("%d events of 6 were replayed: %v", len(again), again)
	}
	checkOrder(t, live)
	checkOrder(t, again)
	ids := map[string]bool{}
	for _, g := range live {
		ids[g.id] = true
	}
	for _, g := range again {
		if !ids[g.id] || g.revision < 5 || g.revision > 7 {
			t.Errorf("%+v was replayed", g)
		}
	}

	one := "ext:" + groups[1]
	if _, err := h.db.SQL.Exec(`UPDATE conversations SET external_id = id::text WHERE id = $1`, groups[1]); err != nil {
		t.Fatal(err)
	}
	if made := h.replay(e, Period{From: at(time.Unix(0, 0)), Conversation: &one}); *made.Conversation != groups[1] || made.Until.After(h.now()) {
		t.Errorf("the replay is %+v", made)
	}
	_, again = h.replayed(r)
	if again = again[6:]; len(again) != 10 || again[0].revision != 1 || again[9].revision != 10 || again[0].conversation != groups[1] {
		t.Errorf("of one conversation there were replayed %v", again)
	}
	var audited int
	if err := h.db.SQL.QueryRow(`SELECT count(*) FROM audit_log WHERE action = 'webhook.replay' AND target_id = $1`, e.ID).Scan(&audited); err != nil || audited != 2 {
		t.Errorf("%d audit entries, %v", audited, err)
	}
}

// A replay outlives its dispatcher. Nothing of it is lost, and nothing comes out of order.
func TestAReplaySurvivesItsDispatcher(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	r := newReceiver(t)
	const groups, each = 6, 8
	for range groups {
		g := h.group()
		for i := range each - 1 {
			h.send(g, fmt.Sprint(i))
		}
	}
	e := h.endpoint(r, fromNow)
	h.replay(e, Period{From: at(time.Unix(0, 0))})
	stop := h.dispatcher(time.Second)
	r.await("a part of it", func(l []got) bool { return len(l) >= each })
	stop()
	h.dispatcher(time.Second)
	live, again := h.replayed(r)
	checkOrder(t, again)
	ids := map[string]bool{}
	for _, g := range again {
		ids[g.id] = true
	}
	if len(live) != 0 || len(ids) != groups*each {
		t.Errorf("%d events of %d were replayed, and %d are live", len(ids), groups*each, len(live))
	}
}

// An event that is refused when it is replayed holds up no live event, and is dead in the end.
func TestARefusedReplayHoldsUpNothing(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	g := h.group()
	h.send(g, "refused")
	r := newReceiver(t)
	e := h.endpoint(r, fromNow)
	r.set(func(g got) int {
		if g.replay && g.revision == 2 {
			return 500
		}
		return 200
	})
	h.dispatcher(time.Second)
	h.replay(e, Period{From: at(time.Unix(0, 0))})
	sent := 0
	r.await("live events", func([]got) bool {
		if h.incomplete() > 0 {
			h.send(g, "live")
			sent++
		}
		return h.incomplete() == 0 && r.messages(g) == sent
	})
	live, _ := h.replayed(r)
	checkOrder(t, live)
	if dead, _, err := h.service.DeadEvents(t.Context(), e.ID, nil, 10); err != nil || len(dead) != 1 || !strings.HasSuffix(dead[0].Event, "_2") {
		t.Errorf("dead are %+v, %v", dead, err)
	}
}

func TestUsersEventsAreReplayed(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	r := newReceiver(t)
	e := h.endpoint(r, fromNow)
	for i := range 4 {
		if _, err := h.db.SQL.Exec(`UPDATE users SET display_name = $2 FROM`+audit.ActorSQL("$3")+`WHERE id = $1`,
			h.users[i%2], fmt.Sprint(i), audit.Actor{UserID: h.users[i%2], KeyID: h.users[2]}.ForOutbox()); err != nil {
			t.Fatal(err)
		}
	}
	h.dispatcher(time.Second)
	first := r.await("four events", func(l []got) bool { return len(l) >= 4 })
	h.replay(e, Period{From: at(time.Unix(0, 0))})
	_, again := h.replayed(r)
	if len(again) != 4 {
		t.Fatalf("%d events of 4 were replayed", len(again))
	}
	for _, g := range append(first, again...) {
		if (g.actor != h.users[0]+"/"+h.users[2]) && (g.actor != h.users[1]+"/"+h.users[2]) {
			t.Errorf("%s by %q, a replay: %v", g.id, g.actor, g.replay)
		}
	}
	for _, list := range [][]got{first[:2], first[2:]} {
		for _, g := range list {
			n := 0
			for _, x := range again {
				if x.id == g.id && x.typ == g.typ {
					n++
				}
			}
			if n != 1 {
				t.Errorf("%s was replayed %d times", g.id, n)
			}
		}
	}
}

func TestReplaysThatCannotBe(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	r := newReceiver(t)
	e := h.endpoint(r, fromNow)
	for body, field := range map[string]string{
		`{}`: "from", `{"from":"yesterday"}`: "from", `{"from":"2999-01-01T00:00:00Z"}`: "from", `{"from":null}`: "from",
		`{"from":"2026-01-02T00:00:00Z","until":"2026-01-01T00:00:00Z"}`: "until", `{"from":"2026-01-02T00:00:00Z","conversation":""}`: "conversation",
		`{"from":"2026-01-02T00:00:00Z","other":1}`: "other",
	} {
		var p Period
		var faults *invalid.Faults
		if err := jsonbody.Decode([]byte(body), &p); !errors.As(err, &faults) || !faults.Has(field) {
			t.Errorf("%s: %v", body, err)
		}
	}
	for _, name := range []string{"nothing", "ext:nothing", e.ID} {
		var faults *invalid.Faults
		if _, err := h.service.Replay(t.Context(), e.ID, &Period{From: at(h.now()), Conversation: &name}); !errors.As(err, &faults) || !faults.Has("conversation") {
			t.Errorf("of the conversation %q: %v", name, err)
		}
	}
	if _, err := h.service.Replay(t.Context(), h.users[0], &Period{From: at(h.now())}); !errors.Is(err, ErrNotFound) {
		t.Errorf("of no endpoint: %v", err)
	}
	for range maxReplays {
		h.replay(e, Period{From: at(h.now())})
	}
	if _, err := h.service.Replay(t.Context(), e.ID, &Period{From: at(h.now())}); !errors.Is(err, ErrTooManyReplays) {
		t.Errorf("one too many: %v", err)
	}
}
