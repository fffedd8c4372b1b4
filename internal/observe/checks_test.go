package observe_test

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/parley-chat/parley/internal/observe"
	"github.com/parley-chat/parley/internal/postgres"
	"github.com/parley-chat/parley/internal/testenv"
)

// keySet is the state of an issuer's keys.
type keySet struct{ ready, up error }

func (k keySet) Ready() error { return k.ready }
func (k keySet) Up() error    { return k.up }

// Which failures make a process not ready, and with which words for the probe: without Redis, the storage or fresh keys it goes on degraded.
func TestWhatAProcessNeedsToBeReady(t *testing.T) {
	t.Parallel()
	away := errors.New("away")
	for _, c := range []struct {
		name   string
		change func(h *observe.Health)
		reason string
		seen   func(c observe.Checks) bool
	}{
		{"all is well", func(*observe.Health) {}, "", func(c observe.Checks) bool { return c.Postgres == nil && c.Redis == nil }},
		{"it stops", func(h *observe.Health) { h.Stopping = func() bool { return true } }, "stopping", func(c observe.Checks) bool { return c.Stopping }},
		{"the storage is unavailable", func(h *observe.Health) { h.Storage = func(context.Context) error { return away } }, "",
			func(c observe.Checks) bool { return errors.Is(c.Storage, away) }},
		{"there never were keys", func(h *observe.Health) { h.Identity = keySet{away, away} }, "key set was never fetched",
			func(c observe.Checks) bool { return c.NoKeys && errors.Is(c.Identity, away) }},
		{"the keys are old", func(h *observe.Health) { h.Identity = keySet{nil, away} }, "",
			func(c observe.Checks) bool { return !c.NoKeys && errors.Is(c.Identity, away) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			h := health(t, testenv.Postgres(t))
			c.change(h)
			got := ask(t, h)
			err := got.Ready()
			if !c.seen(got) || (err == nil) != (c.reason == "") || err != nil && !strings.Contains(err.Error(), c.reason) {
				t.Errorf("got %+v, not ready because of %v", got, err)
			}
		})
	}
}

// A probe gets its response while Postgres hangs, and the caller's end does not end a check that others share.
func TestAProbeIsAnsweredWhileADependencyHangs(t *testing.T) {
	t.Parallel()
	server := testenv.PostgresServer(t)
	proxy := testenv.NewProxy(t, server.Addr())
	h := health(t, server.URLAt(proxy.Addr()))
	if c := ask(t, h); c.Ready() != nil {
		t.Fatal(c.Ready())
	}
	proxy.SwallowAll()
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	for _, ctx := range []context.Context{gone, t.Context()} {
		if c := h.Check(ctx); !postgres.IsUnavailable(c.Postgres) || c.Ready() == nil || c.Ready().Error() != "postgres is down" {
			t.Errorf("while Postgres hangs: %+v, %v", c, c.Ready())
		}
	}
	proxy.Mend()
	testenv.Eventually(t, time.Minute, func() bool { return h.Check(t.Context()).Postgres == nil }, "Postgres responds again")
}

// The monitor has one line for the beginning of each outage and one for its end, and ends those that nothing has reported any more.
func TestTheMonitorReportsOutagesOnce(t *testing.T) {
	t.Parallel()
	server := testenv.PostgresServer(t)
	proxy := testenv.NewProxy(t, server.Addr())
	h := health(t, server.URLAt(proxy.Addr()))
	var broken atomic.Bool
	h.Storage = func(context.Context) error {
		if broken.Load() {
			return errors.New("no answer")
		}
		return nil
	}
	out := &testenv.Output{}
	log := slog.New(slog.NewTextHandler(out, nil))
	registry := prometheus.NewRegistry()
	m := observe.NewMonitor(h, registry, log)
	watched := observe.NewOutage(log, "requests fail", "requests succeed")
	m.Watch(watched)
	watched.Fail(t.Context(), errors.New("once"))
	broken.Store(true)
	proxy.Cut()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- m.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()
	up := func(want float64, dependencies ...string) {
		t.Helper()
		for _, d := range dependencies {
			testenv.Eventually(t, time.Minute, func() bool { return value(t, registry, "parley_dependency_up", d) == want }, "%s is %v", d, want)
		}
	}
	testenv.Eventually(t, time.Minute, func() bool { return out.Count("requests succeed") == 1 }, "an outage that is not reported any more ends")
	up(0, "postgres", "schema", "storage") // two checks are over
	for _, d := range []string{"postgres", "the storage for files"} {
		if begun, over := out.Count(d+" is unavailable"), out.Count(d+" is available again"); begun != 1 || over != 0 {
			t.Errorf("%s: %d beginnings and %d ends of one outage", d, begun, over)
		}
	}
	if value(t, registry, "parley_ready", "") != 0 {
		t.Error("it is ready without Postgres")
	}
	broken.Store(false)
	proxy.Mend()
	up(1, "postgres", "schema", "storage")
	testenv.Eventually(t, time.Minute, func() bool { return value(t, registry, "parley_ready", "") == 1 }, "it is ready")
	for _, d := range []string{"postgres", "the storage for files"} {
		if out.Count(d+" is available again") == 0 {
			t.Errorf("%s: the log has no end of the outage", d)
		}
	}
}
