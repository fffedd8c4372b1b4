package webhook

import (
	"log/slog"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/parley-chat/parley/internal/jsonbody"
)

// The gauges show what waits, from the database: also while nothing is delivered at all, and not of an endpoint that is disabled or gone.
func TestTheGaugesShowWhatWaits(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	r := newReceiver(t)
	e := h.endpoint(r, fromNow)
	m := NewMetrics(prometheus.NewRegistry())
	d := NewDispatcher(Config{Timeout: time.Second}, h.db.SQL, h.feed, h.sealer, h.guard, nil, m, slog.New(slog.DiscardHandler))
	look := func() float64 {
		t.Helper()
		if err := d.observe(t.Context()); err != nil {
			t.Fatal(err)
		}
		return testutil.ToFloat64(m.lag.WithLabelValues("webhook:a"))
	}
	if lag := look(); lag != 0 {
		t.Errorf("the lag is %v without a change", lag)
	}
	g := h.group()
	h.send(g, "waits")
	if _, err := d.places.discover(t.Context(), e.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := h.db.SQL.Exec(`UPDATE webhook_places SET behind_since = behind_since - interval '1 hour'`); err != nil {
		t.Fatal(err)
	}
	if _, err := h.db.SQL.Exec(`INSERT INTO webhook_dead (id, webhook_id, event, type, error, body) VALUES (gen_random_uuid(), $1, 'evt_1', 'message.created', '', '')`, e.ID); err != nil {
		t.Fatal(err)
	}
	if lag := look(); lag < 3600 || lag > 4000 {
		t.Errorf("the lag is %v, an hour after the change", lag)
	}
	if got, err := h.service.Get(t.Context(), e.ID); err != nil || got.Lag.OldestAt == nil || time.Since(got.Lag.OldestAt.Time) < time.Hour {
		t.Errorf("the endpoint's lag is %+v, an hour after the change, %v", got.Lag, err)
	}
	if dead, active := testutil.ToFloat64(m.dead.WithLabelValues("a")), testutil.ToFloat64(m.state.WithLabelValues("a", StateActive)); dead != 1 || active != 1 {
		t.Errorf("dead are %v, active is %v", dead, active)
	}
	h.dispatcher(time.Second)
	r.await("what waited", func([]got) bool { return r.messages(g) == 1 })
	r.await("no lag", func([]got) bool { return look() == 0 })
	disabled := jsonbody.Optional[string]{Set: true, Value: StateDisabled}
	if _, err := h.service.Update(t.Context(), e.ID, &Change{State: disabled}); err != nil {
		t.Fatal(err)
	}
	if err := d.observe(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := testutil.CollectAndCount(m.lag); n != 0 || testutil.ToFloat64(m.state.WithLabelValues("a", StateDisabled)) != 1 {
		t.Errorf("a disabled one has %d lags", n)
	}
	if err := h.service.Delete(t.Context(), e.ID); err != nil {
		t.Fatal(err)
	}
	if err := d.observe(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := testutil.CollectAndCount(m.state) + testutil.CollectAndCount(m.dead); n != 0 {
		t.Errorf("a deleted one has %d series", n)
	}
}
