package redisconn_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/parley-chat/parley/internal/redisconn"
	"github.com/parley-chat/parley/internal/testenv"
)

func TestMain(m *testing.M) { testenv.VerifyNoLeaks(m) }

func through(t *testing.T, proxy *testenv.Proxy, size int) redis.UniversalClient {
	t.Helper()
	rdb, err := redisconn.Open(redisconn.Config{URL: "redis://" + proxy.Addr(), PoolSize: size})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = rdb.Close() })
	return rdb
}

// ear notes what a listener hears.
type ear struct {
	mu    sync.Mutex
	heard map[string]int // messages by payload, confirmations by channel
	lost  []error
}

func listenTo(t *testing.T, rdb redis.UniversalClient, last string, channels ...string) (*redisconn.Listener, *ear) {
	t.Helper()
	e := &ear{heard: map[string]int{}}
	l := &redisconn.Listener{Client: rdb, Last: last, OnHeard: func(m any) {
		e.mu.Lock()
		defer e.mu.Unlock()
		switch m := m.(type) {
		case *redis.Subscription:
			e.heard[m.Kind+" "+m.Channel]++
		case *redis.Message:
			e.heard[m.Payload]++
		}
	}, OnLost: func(err error) {
		e.mu.Lock()
		defer e.mu.Unlock()
		e.lost = append(e.lost, err)
	}}
	l.Subscribe(t.Context(), channels...)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); l.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	e.awaits(t, 1, "subscribe "+last)
	return l, e
}

func (e *ear) awaits(t *testing.T, n int, what string) {
	t.Helper()
	testenv.Eventually(t, 30*time.Second, func() bool {
		e.mu.Lock()
		defer e.mu.Unlock()
		return e.heard[what] >= n
	}, "%q is heard", what)
}

func (e *ear) losses() []error {
	e.mu.Lock()
	defer e.mu.Unlock()
	return append([]error(nil), e.lost...)
}

// A subscription that dies without a reset is noticed, closed, and replaced with all its channels.
func TestASubscriptionInABlackHoleIsMadeAnew(t *testing.T) {
	t.Parallel()
	server := testenv.Redis(t)
	for name, fault := range map[string]func(p *testenv.Proxy){
		"swallowed": (*testenv.Proxy).Swallow, "halved": (*testenv.Proxy).Halve,
		"cut": func(p *testenv.Proxy) { p.Cut(); p.Mend() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			proxy := testenv.NewProxy(t, server.Addr())
			var channels []string
			for n := range 1200 {
				channels = append(channels, fmt.Sprint(name, n))
			}
			l, e := listenTo(t, through(t, proxy, 1), name+"last", channels[:1199]...)
			l.Subscribe(t.Context(), channels[1199])
			l.Unsubscribe(t.Context(), channels[0])
			e.awaits(t, 1, "unsubscribe "+channels[0])
			fault(proxy)
			e.awaits(t, 2, "subscribe "+name+"last")
			losses := e.losses()
			if len(losses) != 1 || name == "swallowed" && !errors.Is(losses[0], redisconn.ErrSilent) {
				t.Errorf("lost by %v", losses)
			}
			direct := server.Client(t)
			for _, c := range channels {
				if err := direct.Publish(t.Context(), c, "on "+c).Err(); err != nil {
					t.Fatal(err)
				}
			}
			for _, c := range channels[1:] {
				e.awaits(t, 1, "on "+c)
			}
			e.mu.Lock()
			defer e.mu.Unlock()
			if e.heard["on "+channels[0]] != 0 {
				t.Error("a channel is heard that was unsubscribed")
			}
		})
	}
}

// A quiet subscription, and one that is only slow, is left alone.
func TestAQuietSubscriptionIsLeftAlone(t *testing.T) {
	t.Parallel()
	server := testenv.Redis(t)
	proxy := testenv.NewProxy(t, server.Addr())
	_, e := listenTo(t, through(t, proxy, 1), "last")
	proxy.Delay(500 * time.Millisecond)
	time.Sleep(6 * time.Second) // longer than a silent one is trusted
	if losses := e.losses(); len(losses) != 0 {
		t.Errorf("lost by %v", losses)
	}
}

// Pooled connections that lead nowhere are replaced for the price of one read time-out, not of one each. Fresh ones are not touched.
func TestPooledConnectionsInABlackHoleAreReplaced(t *testing.T) {
	t.Parallel()
	const size = 12
	server := testenv.Redis(t)
	for name, fault := range map[string]func(p *testenv.Proxy){"swallowed": (*testenv.Proxy).Swallow, "halved": (*testenv.Proxy).Halve} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			proxy := testenv.NewProxy(t, server.Addr())
			rdb := through(t, proxy, size)
			testenv.Eventually(t, time.Minute, func() bool { return proxy.Links() == size }, "the pool is full")
			time.Sleep(2100 * time.Millisecond) // what was heard from lately is trusted
			fault(proxy)
			failures := 0
			for range 2 * size {
				if err := rdb.Ping(t.Context()).Err(); err != nil {
					failures++
				}
			}
			if failures > 1 {
				t.Errorf("%d of %d commands failed: each connection had to be found dead", failures, 2*size)
			}
		})
	}
}

// Everything is a black hole, new connections too, until it is over: then commands work at once.
func TestCommandsWorkAgainAfterAHangingProxy(t *testing.T) {
	t.Parallel()
	server := testenv.Redis(t)
	proxy := testenv.NewProxy(t, server.Addr())
	rdb := through(t, proxy, 4)
	if err := rdb.Ping(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	proxy.SwallowAll()
	start := time.Now()
	if err := rdb.Ping(t.Context()).Err(); err == nil {
		t.Error("a command was answered out of a black hole")
	}
	t.Logf("a command gave up after %s", time.Since(start))
	proxy.Mend()
	testenv.Eventually(t, 10*time.Second, func() bool { return rdb.Ping(t.Context()).Err() == nil }, "commands work again")
}
