package ratelimit_test

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/parley-chat/parley/internal/config"
	"github.com/parley-chat/parley/internal/ratelimit"
	"github.com/parley-chat/parley/internal/redisconn"
	"github.com/parley-chat/parley/internal/testenv"
)

func TestMain(m *testing.M) { testenv.VerifyNoLeaks(m) }

func limiter(t testing.TB, url string) *ratelimit.Limiter {
	t.Helper()
	rdb, err := redisconn.Open(redisconn.Config{URL: url, PoolSize: 20})
	if err != nil {
		t.Fatal(err)
	}
	l := ratelimit.New(rdb, prometheus.NewRegistry(), slog.New(slog.DiscardHandler))
	t.Cleanup(func() { _ = rdb.Close() })
	run(t, l)
	return l
}

// run runs a limiter until the test ends.
func run(t testing.TB, l *ratelimit.Limiter) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = l.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
}

var tenAnHour = config.Rate{Count: 10, Window: time.Hour}

func take(rule string, r config.Rate) ratelimit.Take {
	return ratelimit.Take{Rule: rule, Subject: "someone", Rate: r}
}

// passed counts how many of n takes at once are allowed, spread over the limiters.
func passed(n int, t ratelimit.Take, limiters ...*ratelimit.Limiter) int {
	var wg sync.WaitGroup
	var ok atomic.Int64
	for i := range n {
		wg.Go(func() {
			if limiters[i%len(limiters)].Allow(context.Background(), t)[0].Allowed {
				ok.Add(1)
			}
		})
	}
	wg.Wait()
	return int(ok.Load())
}

func TestExactlyTheLimitPassesOverTwoPods(t *testing.T) {
	t.Parallel()
	r := testenv.Redis(t)
	a, b := limiter(t, r.URL()), limiter(t, r.URL())
	if n := passed(100, take("x", tenAnHour), a, b); n != 10 {
		t.Errorf("%d passed, want 10", n)
	}
	if n := passed(5, take("y", tenAnHour), a, b); n != 5 {
		t.Errorf("of another rule %d passed, want 5", n)
	}
}

func TestVerdicts(t *testing.T) {
	t.Parallel()
	r := testenv.Redis(t)
	for name, l := range map[string]*ratelimit.Limiter{"redis": limiter(t, r.URL()), "memory": limiter(t, "redis://127.0.0.1:1")} {
		three := config.Rate{Count: 3, Window: 15 * time.Minute}
		x := take(name, three)
		for left := 2; left >= 0; left-- {
			v := l.Allow(t.Context(), x)[0]
			if !v.Allowed || v.Limit != 3 || v.Remaining != left || v.RetryAfter != 0 {
				t.Errorf("%s: taking down to %d: %+v", name, left, v)
			}
			if want := time.Duration(3-left) * 5 * time.Minute; v.Reset > want || v.Reset < want-10*time.Second {
				t.Errorf("%s: whole in %s, want %s", name, v.Reset, want)
			}
		}
		v := l.Allow(t.Context(), x)[0]
		if v.Allowed || v.Remaining != 0 || v.RetryAfter > 5*time.Minute || v.RetryAfter < 5*time.Minute-10*time.Second {
			t.Errorf("%s: the fourth: %+v", name, v)
		}
		both := l.Allow(t.Context(), take(name, three), take(name, config.Rate{}))
		if both[0].Allowed || !both[1].Allowed || both[1].Limit != 0 {
			t.Errorf("%s: one that is off: %+v", name, both)
		}
	}
}

func TestCosts(t *testing.T) {
	t.Parallel()
	r := testenv.Redis(t)
	for name, l := range map[string]*ratelimit.Limiter{"redis": limiter(t, r.URL()), "memory": limiter(t, "redis://127.0.0.1:1")} {
		for i, step := range []struct {
			cost    int
			allowed bool
			left    int
		}{
			{7, true, 3}, {4, false, 3}, {3, true, 0}, {1, false, 0}, {-1, true, 1}, {1, true, 0}, {-20, true, 10}, {50, true, 0},
		} {
			x := take(name, tenAnHour)
			x.Cost = step.cost
			if v := l.Allow(t.Context(), x)[0]; v.Allowed != step.allowed || v.Remaining != step.left {
				t.Errorf("%s: step %d, cost %d: %+v", name, i, step.cost, v)
			}
		}
	}
}

// What a bucket holds is bounded by the rule of now: a restart with another rule, or a clock that steps back, locks nobody
// out for longer than that rule's window.
func TestABucketDoesNotOutliveItsRule(t *testing.T) {
	t.Parallel()
	r := testenv.Redis(t)
	for name, l := range map[string]*ratelimit.Limiter{"redis": limiter(t, r.URL()), "memory": limiter(t, "redis://127.0.0.1:1")} {
		if n := passed(30, take(name, config.Rate{Count: 20, Window: time.Hour}), l); n != 20 {
			t.Fatalf("%s: %d passed, want 20", name, n)
		}
		v := l.Allow(t.Context(), take(name, config.Rate{Count: 100, Window: time.Minute}))[0]
		if v.Reset > time.Minute || v.RetryAfter > time.Second {
			t.Errorf("%s: under the new rule: %+v", name, v)
		}
	}
}

func TestARateFillsUpAgain(t *testing.T) {
	t.Parallel()
	r := testenv.Redis(t)
	for name, l := range map[string]*ratelimit.Limiter{"redis": limiter(t, r.URL()), "memory": limiter(t, "redis://127.0.0.1:1")} {
		const refill = 500 * time.Millisecond
		quick := take(name, config.Rate{Count: 2, Window: 2 * refill})
		begun := time.Now()
		if n := passed(5, quick, l); n < 2 || n > 2+int(time.Since(begun)/refill) {
			t.Errorf("%s: %d passed in %s, want 2", name, n, time.Since(begun))
		}
		testenv.Eventually(t, 2*time.Second, func() bool { return l.Allow(t.Context(), quick)[0].Allowed }, "%s: one is given back", name)
	}
}

func TestRedisAway(t *testing.T) {
	t.Parallel()
	r := testenv.Redis(t)
	l := limiter(t, r.URL())
	if n := passed(4, take("x", tenAnHour), l); n != 4 {
		t.Fatalf("%d passed, want 4", n)
	}
	r.Pause()
	if n := passed(30, take("x", tenAnHour), l); n != 10 {
		t.Errorf("while Redis hangs %d passed, want the whole limit of the process: 10", n)
	}
	limit := testenv.NewLimit(time.Second)
	for range 100 {
		l.Allow(t.Context(), take("x", tenAnHour))
	}
	if limit.Over() {
		t.Errorf("100 requests waited longer than %s for a Redis that is known to be away", limit)
	}
	r.Resume()
	other := limiter(t, r.URL())
	round := 0
	testenv.Eventually(t, 5*time.Second, func() bool {
		round++
		return passed(20, take(fmt.Sprint("back", round), tenAnHour), l, other) == 10
	}, "Redis counts again, for both pods together")
}
