package presence_test

import (
	"log/slog"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"

	"github.com/parley-chat/parley/internal/event"
	"github.com/parley-chat/parley/internal/id"
	"github.com/parley-chat/parley/internal/presence"
	"github.com/parley-chat/parley/internal/rediskey"
	"github.com/parley-chat/parley/internal/testenv"
)

// Redis is restored from a snapshot in which everybody's deadline is over: those whose sockets live stay online, those who are gone go
// offline, once.
func TestRedisRestoredFromAnOldSnapshot(t *testing.T) {
	t.Parallel()
	e := setup(t, 0)
	e.watcher()
	e.watcher()
	news := e.news()
	living, _ := e.heartbeat(times)
	dying, kill := e.heartbeat(times)
	const n = 200
	for range n {
		living.Opened(id.New(), "phone", id.New())
	}
	gone := id.New()
	dying.Opened(gone, "phone", id.New())
	for range n + 1 {
		if u, x := next(t, news, 10*time.Second); !x.Online {
			t.Fatalf("%s: %+v", u, x)
		}
	}
	testenv.Eventually(t, 10*time.Second, func() bool { return e.rdb.Exists(t.Context(), rediskey.PresenceMark(0)).Val() == 1 }, "a watcher swept")
	if err := e.rdb.Save(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	kill()
	for {
		if u, x := next(t, news, times.TTL+10*time.Second); u == gone && !x.Online {
			break
		}
	}
	time.Sleep(times.TTL) // the snapshot gets old
	e.redis.Stop()
	e.redis.Start()
	restarted := time.Now()
	news = e.news()
	published := 0
	for end := time.After(times.TTL + 8*time.Second); ; {
		select {
		case m := <-news:
			u, _ := rediskey.ParsePresenceChannel(m.Channel)
			if u == gone {
				published++
			} else if x := m.Payload; x != "" && !isOnline(t, x) {
				t.Errorf("%s, whose socket lives, is reported offline after %s: %s", u, time.Since(restarted), m.Payload)
			}
			continue
		case <-end:
		}
		break
	}
	if published != 1 {
		t.Errorf("the offline event of the user who is gone came %d times", published)
	}
	if s, err := presence.NewService(e.db.SQL, e.rdb).States(t.Context(), []string{gone}); err != nil || s[0].Online {
		t.Errorf("the one who is gone: %+v, %v", s, err)
	}
}

func isOnline(t *testing.T, payload string) bool {
	t.Helper()
	n, err := event.DecodePresence([]byte(payload))
	if err != nil {
		t.Fatal(err)
	}
	return n.Online
}

func clientOf(t *testing.T, addr string) *redis.Client {
	t.Helper()
	c := redis.NewClient(&redis.Options{Addr: addr, DialTimeout: time.Second, DialerRetries: 1, MaxRetries: -1})
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// Between the last deadline and a claim, which is long if no watcher runs, nobody comes online for those who ask only now. A socket that
// lived after all comes online again.
func TestTheDeadDoNotComeOnline(t *testing.T) {
	t.Parallel()
	e := setup(t, 1)
	s := presence.NewService(e.db.SQL, e.rdb)
	news := e.news()
	proxy := testenv.NewProxy(t, e.redis.Addr())
	h := presence.NewHeartbeat(clientOf(t, proxy.Addr()), nil, times, presence.NewHeartbeatMetrics(prometheus.NewRegistry()), slog.New(slog.DiscardHandler), func(string, []string) {})
	e.run(h.Run)
	u := id.New()
	h.Opened(u, "phone", id.New())
	if _, n := next(t, news, 5*time.Second); !n.Online {
		t.Fatal("not online")
	}
	online := func() (bool, int64) {
		states, err := s.States(t.Context(), []string{u})
		if err != nil {
			t.Fatal(err)
		}
		return states[0].Online, states[0].Version
	}
	is, version := online()
	if !is {
		t.Fatal("one who is online is not")
	}
	proxy.Cut()
	testenv.Eventually(t, times.TTL+10*time.Second, func() bool { is, _ := online(); return !is }, "the deadline is over")
	proxy.Mend()
	if _, n := next(t, news, 10*time.Second); !n.Online || n.Version <= version {
		t.Errorf("the socket that lived came online by %+v", n)
	}
	if is, _ := online(); !is {
		t.Error("one who came back is offline")
	}
}

// A user's oldest socket gives way, by Redis's clock: that of a pod which is an hour behind makes ids that look older than all.
func TestTheOldestSocketGivesWayWhateverThePodsClocks(t *testing.T) {
	t.Parallel()
	e := setup(t, 1)
	u := e.users[0]
	replaced := make(chan string, 10)
	h := presence.NewHeartbeat(e.rdb, nil, times, presence.NewHeartbeatMetrics(prometheus.NewRegistry()), slog.New(slog.DiscardHandler), func(_ string, ids []string) {
		for _, c := range ids {
			replaced <- c
		}
	})
	e.run(h.Run)
	opened := func(n int64) bool {
		return e.rdb.ZCard(t.Context(), rediskey.Presence{}.Connections(u)).Val() == n
	}
	var ids []string
	for n := range int64(20) {
		ids = append(ids, id.New())
		h.Opened(u, "phone", ids[n])
		testenv.Eventually(t, 10*time.Second, func() bool { return opened(n + 1) }, "it is open")
	}
	h.Opened(u, "laptop", "00000000"+id.New()[8:]) // of 1970
	if c := testenv.Receive(t, replaced, 10*time.Second, "a socket gives way"); c != ids[0] {
		t.Errorf("%s gives way, the oldest is %s", c, ids[0])
	}
	h.Closed(ids[1])
	testenv.Eventually(t, 10*time.Second, func() bool {
		return e.rdb.ZScore(t.Context(), rediskey.Presence{}.Connections(u), "phone:"+ids[1]+":closed").Err() == nil
	}, "it is closed")
	if e.rdb.HExists(t.Context(), rediskey.Presence{}.User(u), "opened:"+ids[1]).Val() {
		t.Error("what was kept of a connection outlives it")
	}
}

// A Redis that hangs for a moment is heard on; one that hangs for longer is heard again by a new subscription, and the gauge follows.
func TestTheGaugeOfSubscriptionsFollowsThem(t *testing.T) {
	t.Parallel()
	e := setup(t, 0)
	registry := prometheus.NewRegistry()
	w := presence.NewWatcher(e.rdb, nil, 0, e.db.SQL, times, presence.NewWatcherMetrics(registry), slog.New(slog.DiscardHandler))
	e.run(w.Run)
	up := func() float64 { return testenv.Metric(t, registry, "parley_presence_subscriptions_up") }
	testenv.Eventually(t, 10*time.Second, func() bool { return up() == 1 }, "it hears")
	for _, pause := range []time.Duration{2500 * time.Millisecond, 8 * time.Second} {
		if err := e.rdb.Do(t.Context(), "client", "pause", pause.Milliseconds(), "all").Err(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(pause)
		testenv.Eventually(t, 30*time.Second, func() bool { return up() == 1 }, "it hears after a pause of %s", pause)
	}
	e.redis.Stop()
	testenv.Eventually(t, 30*time.Second, func() bool { return up() == 0 }, "it hears nothing")
	e.redis.Start()
	testenv.Eventually(t, 30*time.Second, func() bool { return up() == 1 }, "it hears after a restart")
}
