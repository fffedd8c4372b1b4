package observe_test

import (
	"context"
	"log/slog"
	"math"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/parley-chat/parley/internal/observe"
	"github.com/parley-chat/parley/internal/postgres"
	"github.com/parley-chat/parley/internal/testenv"
)

func TestMain(m *testing.M) { testenv.VerifyNoLeaks(m) }

// watch runs a monitor of a Redis, and answers how to read its gauges.
func watch(t *testing.T, r *testenv.RedisServer) (gauge func(name, label string) float64, log *testenv.Output) {
	t.Helper()
	db, err := postgres.Open(postgres.Config{URL: testenv.Postgres(t), MaxConns: 2})
	if err != nil {
		t.Fatal(err)
	}
	log = &testenv.Output{}
	registry := prometheus.NewRegistry()
	h := &observe.Health{DB: db.SQL, Redis: r.Client(t), Stopping: func() bool { return false }}
	m := observe.NewMonitor(h, registry, slog.New(slog.NewTextHandler(log, nil)))
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- m.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		_ = db.Close()
	})
	gauge = func(name, label string) float64 { return value(t, registry, name, label) }
	testenv.Eventually(t, time.Minute, func() bool { return gauge("parley_ready", "") == 1 }, "it looked")
	return gauge, log
}

func TestTheMonitorTellsOfRedisSettings(t *testing.T) {
	t.Parallel()
	for name, x := range map[string]struct {
		args           []string
		policy, events float64
	}{
		"as it should be": {[]string{"--maxmemory-policy", "noeviction", "--notify-keyspace-events", "Ex"}, 1, 1},
		"all events":      {[]string{"--notify-keyspace-events", "AKE"}, 1, 1},
		"dropping keys":   {[]string{"--maxmemory-policy", "allkeys-lru", "--notify-keyspace-events", "Kx"}, 0, 0},
		"managed":         {[]string{"--maxmemory-policy", "volatile-ttl", "--rename-command", "CONFIG", ""}, 0, math.NaN()},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			gauge, log := watch(t, testenv.Redis(t, x.args...))
			if got := gauge("parley_redis_noeviction", ""); got != x.policy {
				t.Errorf("the policy is %v, want %v", got, x.policy)
			}
			if got := gauge("parley_redis_expiry_events", ""); got != x.events && !(math.IsNaN(got) && math.IsNaN(x.events)) {
				t.Errorf("the events are %v, want %v", got, x.events)
			}
			if warned := log.Count("maxmemory-policy to noeviction") > 0; warned != (x.policy == 0) {
				t.Errorf("warned: %v", warned)
			}
		})
	}
}

func TestTheMonitorReportsDependencies(t *testing.T) {
	t.Parallel()
	r := testenv.Redis(t)
	gauge, log := watch(t, r)
	for _, d := range []string{"postgres", "redis", "schema"} {
		if gauge("parley_dependency_up", d) != 1 {
			t.Errorf("%s is not up", d)
		}
	}
	r.Stop()
	testenv.Eventually(t, time.Minute, func() bool { return gauge("parley_dependency_up", "redis") == 0 }, "redis is down")
	if gauge("parley_ready", "") != 1 {
		t.Error("without Redis the process is not ready")
	}
	r.Start()
	testenv.Eventually(t, time.Minute, func() bool { return gauge("parley_dependency_up", "redis") == 1 }, "redis is up again")
	if gone, back := log.Count("redis is unavailable"), log.Count("redis is available again"); gone == 0 || gone != back {
		t.Errorf("%d lines when an outage begins and %d when it is over", gone, back) // more than one of each if checks time out under load
	}
}
