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
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = l.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done; _ = rdb.Close() })
	return l
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
		look := x
		look.Look = true
		for left := 2; left >= 0; left-- {
			if v := l.Allow(t.Context(), look)[0]; !v.Allowed || v.Remaining != left+1 {
				t.Errorf("%s: looking at %d: %+v", name, left+1, v)
			}
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
		if v := l.Allow(t.Context(), look)[0]; v.Allowed {
			t.Errorf("%s: looking at none: %+v", name, v)
		}
		both := l.Allow(t.Context(), take(name, three), take(name, config.Rate{}))
		if both[0].Allowed || !both[1].Allowed || both[1].Limit != 0 {
			t.Errorf("%s: one that is off: %+v", name, both)
		}
	}
}

func TestARateFillsUpAgain(t *testing.T) {
	t.Parallel()
	r := testenv.Redis(t)
	for name, l := range map[string]*ratelimit.Limiter{"redis": limiter(t, r.URL()), "memory": limiter(t, "redis://127.0.0.1:1")} {
		quick := take(name, config.Rate{Count: 2, Window: 400 * time.Millisecond})
		if n := passed(5, quick, l); n != 2 {
			t.Errorf("%s: %d passed, want 2", name, n)
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
	start := time.Now()
	for range 100 {
		l.Allow(t.Context(), take("x", tenAnHour))
	}
	if d := time.Since(start); d > time.Second {
		t.Errorf("100 requests waited %s for a Redis that is known to be away", d)
	}
	r.Resume()
	other := limiter(t, r.URL())
	round := 0
	testenv.Eventually(t, 5*time.Second, func() bool {
		round++
		return passed(20, take(fmt.Sprint("back", round), tenAnHour), l, other) == 10
	}, "Redis counts again, for both pods together")
}
