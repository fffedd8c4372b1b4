package ratelimit_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/redis/go-redis/v9"

	"github.com/parley-chat/parley/internal/config"
	"github.com/parley-chat/parley/internal/ratelimit"
	"github.com/parley-chat/parley/internal/redisconn"
	"github.com/parley-chat/parley/internal/testenv"
)

// gate counts the pipelines of scripts of a client, and does with each as it is set.
type gate struct {
	pipelines, commands atomic.Int64
	// before runs before the nth.
	before func(n int64)
}

func (*gate) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) { return next(ctx, network, addr) }
}

func (*gate) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }

func (g *gate) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		if !strings.HasPrefix(cmds[0].Name(), "eval") { // the client's own, of a new connection
			return next(ctx, cmds)
		}
		g.commands.Add(int64(len(cmds)))
		if n := g.pipelines.Add(1); g.before != nil {
			g.before(n)
		}
		return next(ctx, cmds)
	}
}

// gated is a limiter whose pipelines go through a gate, with what it logs and its metrics. A read may take a minute, so that it
// is patience that ends it.
func gated(t *testing.T, url string, g *gate) (*ratelimit.Limiter, *prometheus.Registry, *bytes.Buffer) {
	t.Helper()
	o, err := redisconn.Options(redisconn.Config{URL: url, PoolSize: 20})
	if err != nil {
		t.Fatal(err)
	}
	o.ReadTimeout, o.WriteTimeout = time.Minute, time.Minute
	rdb := redis.NewUniversalClient(o)
	t.Cleanup(func() { _ = rdb.Close() })
	if err := rdb.Ping(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	rdb.AddHook(g)
	r, logged := prometheus.NewRegistry(), &bytes.Buffer{}
	l := ratelimit.New(rdb, r, slog.New(slog.NewTextHandler(logged, nil)))
	run(t, l)
	return l, r, logged
}

// crowd asks once to lead, and n times more while that round trip is held, for the takes that it is given. It returns the verdicts.
func crowd(t *testing.T, l *ratelimit.Limiter, held, release chan struct{}, n int, of func(i int) ratelimit.Take) []ratelimit.Verdict {
	t.Helper()
	out := make([]ratelimit.Verdict, n+1)
	var wg sync.WaitGroup
	wg.Go(func() { out[n] = l.Allow(context.Background(), take("first", tenAnHour))[0] })
	<-held
	for i := range n {
		wg.Go(func() { out[i] = l.Allow(context.Background(), of(i))[0] })
	}
	testenv.Eventually(t, 5*time.Second, func() bool { return l.Waiting() == n }, "all wait")
	close(release)
	wg.Wait()
	return out
}

// holding is a gate that holds the first pipeline until it is released.
func holding() (g *gate, held, release chan struct{}) {
	held, release = make(chan struct{}), make(chan struct{})
	return &gate{before: func(n int64) {
		if n == 1 {
			close(held)
			<-release
		}
	}}, held, release
}

func ofEach(i int) ratelimit.Take {
	return ratelimit.Take{Rule: "x", Subject: fmt.Sprint(i), Rate: config.Rate{Count: 1000 + i, Window: time.Hour}}
}

func onlyRedisCounted(t *testing.T, r *prometheus.Registry) {
	t.Helper()
	want := "# HELP parley_rate_limit_fallbacks_total Times that this process began to count limits in its own memory.\n" +
		"# TYPE parley_rate_limit_fallbacks_total counter\nparley_rate_limit_fallbacks_total 0\n"
	if err := testutil.GatherAndCompare(r, strings.NewReader(want), "parley_rate_limit_fallbacks_total"); err != nil {
		t.Error(err)
	}
}

func TestConcurrentRequestsShareARoundTrip(t *testing.T) {
	t.Parallel()
	g, held, release := holding()
	server := testenv.Redis(t)
	l, r, _ := gated(t, server.URL(), g)
	if err := ratelimit.Load(t.Context(), server.Client(t)); err != nil {
		t.Fatal(err)
	}
	for i, v := range crowd(t, l, held, release, 150, ofEach)[:150] {
		if !v.Allowed || v.Limit != 1000+i || v.Remaining != 999+i {
			t.Errorf("%d was answered with another's verdict: %+v", i, v)
		}
	}
	if p, c := g.pipelines.Load(), g.commands.Load(); p != 3 || c != 151 {
		t.Errorf("%d pipelines of %d commands, want the first, 128 and 22", p, c)
	}
	onlyRedisCounted(t, r)
}

func TestManyAtOnceAreCountedExactly(t *testing.T) {
	t.Parallel()
	server := testenv.Redis(t)
	a, b := &gate{}, &gate{}
	la, _, _ := gated(t, server.URL(), a)
	lb, _, _ := gated(t, server.URL(), b)
	if n := passed(500, take("x", config.Rate{Count: 100, Window: time.Hour}), la, lb); n != 100 {
		t.Errorf("%d passed, want 100", n)
	}
	if p := a.pipelines.Load() + b.pipelines.Load(); p >= 500 {
		t.Errorf("%d round trips for 500 requests", p)
	}
}

func TestAScriptThatRedisForgotIsSentAgainWithinABatch(t *testing.T) {
	t.Parallel()
	server := testenv.Redis(t)
	g, held, release := holding()
	l, r, _ := gated(t, server.URL(), g)
	forget := server.Client(t)
	before := g.before
	g.before = func(n int64) {
		if n == 3 { // after the first and, as it did not know the script, that again
			if err := forget.ScriptFlush(context.Background()).Err(); err != nil {
				t.Error(err)
			}
		}
		before(n)
	}
	for i, v := range crowd(t, l, held, release, 20, ofEach)[:20] {
		if v.Remaining != 999+i {
			t.Errorf("%d: %+v", i, v)
		}
	}
	if p := g.pipelines.Load(); p != 4 {
		t.Errorf("%d round trips, want 4", p)
	}
	onlyRedisCounted(t, r)
}

func TestACorruptBucketDoesNotAffectOthers(t *testing.T) {
	t.Parallel()
	server := testenv.Redis(t)
	g, held, release := holding()
	l, r, logged := gated(t, server.URL(), g)
	c := server.Client(t)
	for i, err := range []error{c.Set(t.Context(), ratelimit.Key(ofEach(0)), "not a number", 0).Err(), c.RPush(t.Context(), ratelimit.Key(ofEach(7)), "x").Err()} {
		if err != nil {
			t.Fatal(i, err)
		}
	}
	for i, v := range crowd(t, l, held, release, 20, ofEach)[:20] {
		if !v.Allowed || v.Remaining != 999+i {
			t.Errorf("%d: %+v", i, v)
		}
	}
	if n := strings.Count(logged.String(), "is corrupt"); n != 2 {
		t.Errorf("%d of 2 corrupt buckets are logged:\n%s", n, logged)
	}
	onlyRedisCounted(t, r)
}

func TestRequestsWaitNoLongerThanPatience(t *testing.T) {
	t.Parallel()
	server := testenv.Redis(t)
	l, _, _ := gated(t, server.URL(), &gate{})
	l.Allow(t.Context(), take("x", tenAnHour))
	server.Pause()
	begun := time.Now()
	l.Allow(t.Context(), take("y", tenAnHour)) // waits, and finds out
	one := time.Since(begun)
	begun = time.Now()
	if n := passed(300, take("x", tenAnHour), l); n != 10 {
		t.Errorf("%d passed, want 10", n)
	}
	if all := time.Since(begun); all > 100*one {
		t.Errorf("300 calls waited %s, the first one %s", all, one)
	}
	server.Resume()
}

func TestACanceledRequestDoesNotAffectOthers(t *testing.T) {
	t.Parallel()
	g, held, release := holding()
	l, r, _ := gated(t, testenv.Redis(t).URL(), g)
	ctx, cancel := context.WithCancel(t.Context())
	var leaver, others sync.WaitGroup
	others.Go(func() { l.Allow(context.Background(), take("first", tenAnHour)) })
	<-held
	for range 5 {
		leaver.Go(func() { l.Allow(ctx, take("x", tenAnHour)) })
	}
	for range 5 {
		others.Go(func() { l.Allow(context.Background(), take("x", tenAnHour)) })
	}
	testenv.Eventually(t, 5*time.Second, func() bool { return l.Waiting() == 10 }, "all wait")
	cancel()
	leaver.Wait()
	close(release)
	others.Wait()
	if v := l.Allow(t.Context(), take("x", tenAnHour))[0]; v.Remaining != 4 {
		t.Errorf("the buckets hold %+v, want what the five others and this one left", v)
	}
	onlyRedisCounted(t, r)
}

func TestAPanicEndsAllWaits(t *testing.T) {
	t.Parallel()
	g, held, release := holding()
	before := g.before
	boom := errors.New("boom")
	g.before = func(n int64) {
		before(n)
		if n == 2 {
			panic(boom)
		}
	}
	server := testenv.Redis(t)
	l, _, _ := gated(t, server.URL(), g)
	if err := ratelimit.Load(t.Context(), server.Client(t)); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	var panics, answers atomic.Int64
	ask := func() {
		defer func() {
			if recover() != nil {
				panics.Add(1)
			}
		}()
		if l.Allow(context.Background(), take("x", tenAnHour))[0].Allowed {
			answers.Add(1)
		}
	}
	wg.Go(ask)
	<-held
	for range 8 {
		wg.Go(ask)
	}
	testenv.Eventually(t, 5*time.Second, func() bool { return l.Waiting() == 8 }, "all wait")
	close(release)
	wg.Wait()
	ask()
	if p, a := panics.Load(), answers.Load(); p != 0 || a != 10 {
		t.Errorf("%d panicked and %d were answered, want 0 and 10", p, a)
	}
}
