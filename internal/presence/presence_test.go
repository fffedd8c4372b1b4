package presence_test

import (
	"context"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"

	"github.com/parley-chat/parley/internal/config"
	"github.com/parley-chat/parley/internal/event"
	"github.com/parley-chat/parley/internal/id"
	"github.com/parley-chat/parley/internal/postgres"
	"github.com/parley-chat/parley/internal/presence"
	"github.com/parley-chat/parley/internal/rediskey"
	"github.com/parley-chat/parley/internal/testenv"
)

func TestMain(m *testing.M) { testenv.VerifyNoLeaks(m) }

var times = config.Presence{TTL: 3 * time.Second, Grace: 300 * time.Millisecond}

// env is a Redis and a Postgres with users.
type env struct {
	t     *testing.T
	redis *testenv.RedisServer
	rdb   *redis.Client
	db    *postgres.DB
	users []string
}

func setup(t *testing.T, users int) *env {
	t.Helper()
	e := &env{t: t, redis: testenv.Redis(t)}
	e.rdb = e.redis.Client(t)
	db := testenv.Open(t, postgres.Config{URL: testenv.Postgres(t)})
	e.db = db
	e.users = testenv.Users(t, db.SQL, users)
	return e
}

// run runs a part until stop is called, or the test ends.
func (e *env) run(part func(context.Context) error) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- part(ctx) }()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-done; err != nil {
			e.t.Error(err)
		}
	}
	e.t.Cleanup(stop)
	return stop
}

func (e *env) heartbeat(c config.Presence) (h *presence.Heartbeat, stop func()) {
	h = presence.NewHeartbeat(e.rdb, nil, c, presence.NewHeartbeatMetrics(prometheus.NewRegistry()), slog.New(slog.DiscardHandler), func(string, []string) {})
	return h, e.run(h.Run)
}

func (e *env) watcher() (stop func()) {
	w := presence.NewWatcher(e.rdb, nil, 0, e.db.SQL, times, presence.NewWatcherMetrics(prometheus.NewRegistry()), slog.New(slog.DiscardHandler))
	return e.run(w.Run)
}

// news are the transitions that are published, of all users.
func (e *env) news() <-chan *redis.Message {
	e.t.Helper()
	ps := e.rdb.PSubscribe(e.t.Context(), rediskey.PresenceChannel("*"))
	if _, err := ps.Receive(e.t.Context()); err != nil {
		e.t.Fatal(err)
	}
	e.t.Cleanup(func() { _ = ps.Close() })
	return ps.Channel(redis.WithChannelSize(1 << 14))
}

func next(t *testing.T, news <-chan *redis.Message, within time.Duration) (userID string, n event.PresenceNews) {
	t.Helper()
	m := testenv.Receive(t, news, within, "something is published")
	n, err := event.DecodePresence([]byte(m.Payload))
	if err != nil {
		t.Fatal(err)
	}
	userID, _ = rediskey.ParsePresenceChannel(m.Channel)
	return userID, n
}

func silent(t *testing.T, news <-chan *redis.Message, d time.Duration) {
	t.Helper()
	select {
	case m := <-news:
		t.Fatalf("%s got %s although nothing was due", m.Channel, m.Payload)
	case <-time.After(d):
	}
}

func TestEachUserIsReportedOfflineOnceByManyWatchers(t *testing.T) {
	t.Parallel()
	e := setup(t, 1)
	for range 3 {
		e.watcher()
	}
	news := e.news()
	h, stop := e.heartbeat(times)
	const n = 2000
	for range n {
		h.Opened(id.New(), "phone", id.New())
	}
	online, offline := map[string]int64{}, map[string]int64{}
	for len(online) < n {
		u, x := next(t, news, 10*time.Second)
		if !x.Online {
			t.Fatalf("%s is offline at once", u)
		}
		online[u] = x.Version
	}
	stop() // the pod is gone without a word
	for len(offline) < n {
		u, x := next(t, news, times.TTL+2*time.Second)
		if _, twice := offline[u]; twice || x.Online || x.Version <= online[u] {
			t.Fatalf("%s: %+v after %d", u, x, online[u])
		}
		offline[u] = x.Version
	}
	silent(t, news, 2*time.Second)
}

func TestALateGoodbyeDoesNotEndTheNewSocketOfTheDevice(t *testing.T) {
	t.Parallel()
	e := setup(t, 1)
	u := e.users[0]
	e.watcher()
	news := e.news()
	h, _ := e.heartbeat(times)
	old, fresh := id.New(), id.New()
	h.Opened(u, "phone", old)
	if _, n := next(t, news, 5*time.Second); !n.Online {
		t.Fatal("not online")
	}
	h.Opened(u, "phone", fresh)
	connections := rediskey.Presence{}.Connections(u)
	testenv.Eventually(t, 5*time.Second, func() bool { return e.rdb.ZCard(t.Context(), connections).Val() == 2 }, "both are open")
	h.Closed(old)
	testenv.Eventually(t, 5*time.Second, func() bool {
		return e.rdb.ZScore(t.Context(), connections, "phone:"+old+":closed").Err() == nil
	}, "the old one has said goodbye")
	if ttl := e.rdb.PTTL(t.Context(), rediskey.Presence{}.Device(u, "phone")).Val(); ttl <= times.Grace {
		t.Errorf("the device lives %s more", ttl)
	}
	silent(t, news, times.Grace+time.Second)
	h.Closed(fresh)
	h.Closed(fresh)
	if _, n := next(t, news, times.Grace+time.Second); n.Online || n.Seen == 0 {
		t.Errorf("published %+v", n)
	}
}

// A pod that hung renews connections of users who were published as offline: they are published as online again.
func TestAUserReportedOfflineIsReportedOnlineAgain(t *testing.T) {
	t.Parallel()
	e := setup(t, 1)
	u := e.users[0]
	e.watcher()
	news := e.news()
	proxy := testenv.NewProxy(t, e.redis.Addr())
	through := redis.NewClient(&redis.Options{Addr: proxy.Addr(), DialTimeout: time.Second, DialerRetries: 1, MaxRetries: -1})
	t.Cleanup(func() { _ = through.Close() })
	h := presence.NewHeartbeat(through, nil, times, presence.NewHeartbeatMetrics(prometheus.NewRegistry()), slog.New(slog.DiscardHandler), func(string, []string) {})
	e.run(h.Run)
	h.Opened(u, "phone", id.New())
	var last int64
	for _, want := range []bool{true, false, true} {
		_, n := next(t, news, times.TTL+3*time.Second)
		if n.Online != want || n.Version <= last {
			t.Fatalf("published %+v after %d, want online %v", n, last, want)
		}
		last = n.Version
		if want {
			proxy.Cut()
		} else {
			proxy.Mend()
		}
	}
	proxy.Mend()
}

func TestLastSeenIsNeverLostAndNeverMovesBack(t *testing.T) {
	t.Parallel()
	e := setup(t, 2)
	read := func(u string) *time.Time {
		t.Helper()
		var at *time.Time
		if err := e.db.SQL.QueryRow(`SELECT last_seen_at FROM users WHERE id = $1`, u).Scan(&at); err != nil {
			t.Fatal(err)
		}
		return at
	}
	later := time.Now().Add(time.Hour).UTC().Truncate(time.Microsecond)
	if _, err := e.db.SQL.Exec(`UPDATE users SET last_seen_at = $2 WHERE id = $1`, e.users[1], later); err != nil {
		t.Fatal(err)
	}
	news := e.news()
	h, stop := e.heartbeat(times)
	for _, u := range e.users {
		c := id.New()
		h.Opened(u, "phone", c)
		if _, n := next(t, news, 5*time.Second); !n.Online {
			t.Fatal("not online")
		}
		h.Closed(c)
	}
	stop()
	// The first watcher publishes and dies before it could write: its Postgres is unavailable.
	closed := testenv.Open(t, postgres.Config{URL: "postgres://127.0.0.1:1/none", MaxConns: 1})
	registry := prometheus.NewRegistry()
	w := presence.NewWatcher(e.rdb, nil, 0, closed.SQL, times, presence.NewWatcherMetrics(registry), slog.New(slog.DiscardHandler))
	kill := e.run(w.Run)
	var seen int64
	for range e.users {
		u, n := next(t, news, times.TTL+3*time.Second)
		if n.Online {
			t.Fatal("online again")
		}
		if u == e.users[0] {
			seen = n.Seen
		}
	}
	testenv.Eventually(t, 20*time.Second, func() bool { return testenv.Metric(t, registry, "parley_presence_seen_errors_total") > 0 }, "Postgres fails")
	kill()
	if read(e.users[0]) != nil {
		t.Fatal("something was written without Postgres")
	}
	e.watcher()
	testenv.Eventually(t, 20*time.Second, func() bool { return read(e.users[0]) != nil }, "last_seen_at is written by another watcher")
	if got := read(e.users[0]).UnixMicro(); got != seen {
		t.Errorf("last seen at %d, published %d", got, seen)
	}
	testenv.Eventually(t, 20*time.Second, func() bool {
		n := int64(0)
		for s := range rediskey.PresenceShards {
			n += e.rdb.ZCard(t.Context(), rediskey.PresenceDeadlines(s)).Val()
		}
		return n == 0
	}, "no deadline is left")
	if got := read(e.users[1]); !got.Equal(later) {
		t.Errorf("last_seen_at moved back from %s to %s", later, got)
	}
	silent(t, news, 300*time.Millisecond)
}

func TestTheWatcherWorksWhereSettingsMayNotBeChanged(t *testing.T) {
	t.Parallel()
	e := setup(t, 1)
	e.redis = testenv.Redis(t, "--rename-command", "CONFIG", "")
	e.rdb = e.redis.Client(t)
	log := &testenv.Output{}
	w := presence.NewWatcher(e.rdb, nil, 0, e.db.SQL, times, presence.NewWatcherMetrics(prometheus.NewRegistry()), slog.New(slog.NewTextHandler(log, nil)))
	e.run(w.Run)
	testenv.Eventually(t, 5*time.Second, func() bool { return log.Count("set notify-keyspace-events to") > 0 }, "the log says what to set")
	news := e.news()
	h, _ := e.heartbeat(times)
	c := id.New()
	h.Opened(e.users[0], "phone", c)
	next(t, news, 5*time.Second)
	h.Closed(c)
	if _, n := next(t, news, times.Grace+time.Second); n.Online {
		t.Error("online again")
	}
}

func TestNotificationsAreAddedToThoseThatAreSet(t *testing.T) {
	t.Parallel()
	e := setup(t, 0)
	if err := e.rdb.ConfigSet(t.Context(), "notify-keyspace-events", "Kl").Err(); err != nil {
		t.Fatal(err)
	}
	e.watcher()
	testenv.Eventually(t, 5*time.Second, func() bool {
		v := e.rdb.ConfigGet(t.Context(), "notify-keyspace-events").Val()["notify-keyspace-events"]
		has := map[rune]bool{}
		for _, c := range v {
			has[c] = true
		}
		return has['E'] && has['x'] && has['K'] && has['l']
	}, "expiries are published in addition to the setting")
}

// A Redis that starts anew has lost the setting where its configuration does not have it.
func TestNotificationsAreAskedForAgain(t *testing.T) {
	t.Parallel()
	e := setup(t, 0)
	e.watcher()
	asked := func() bool {
		v := e.rdb.ConfigGet(t.Context(), "notify-keyspace-events").Val()["notify-keyspace-events"]
		return strings.Contains(v, "E") && strings.Contains(v, "x")
	}
	testenv.Eventually(t, time.Minute, asked, "expiries are published")
	e.redis.Stop()
	e.redis.Start()
	testenv.Eventually(t, time.Minute, asked, "expiries are published after a restart")
	if err := e.rdb.ConfigSet(t.Context(), "notify-keyspace-events", "").Err(); err != nil {
		t.Fatal(err)
	}
	testenv.Eventually(t, time.Minute, asked, "expiries are published after somebody removed the setting")
}

func TestWhoMaySeeWhom(t *testing.T) {
	t.Parallel()
	e := setup(t, 6)
	everyone, friends, nobody, friend, stranger, blocked := e.users[0], e.users[1], e.users[2], e.users[3], e.users[4], e.users[5]
	for _, q := range []struct {
		sql  string
		args []any
	}{
		{`UPDATE users SET presence_sharing = 'friends' WHERE id = $1`, []any{friends}},
		{`UPDATE users SET presence_sharing = 'nobody' WHERE id = $1`, []any{nobody}},
		{`INSERT INTO friendships (user_id, friend_id, status) VALUES ($1, $2, 'accepted'), ($2, $1, 'accepted'), ($1, $3, 'pending')`, []any{friends, friend, stranger}},
		{`INSERT INTO blocks (user_id, blocked_id) VALUES ($1, $2), ($2, $3)`, []any{everyone, blocked, friend}},
	} {
		if _, err := e.db.SQL.Exec(q.sql, q.args...); err != nil {
			t.Fatal(err)
		}
	}
	h, _ := e.heartbeat(times)
	for _, u := range e.users {
		h.Opened(u, "phone", id.New())
	}
	s := presence.NewService(e.db.SQL, e.rdb)
	all := func(viewer string) (online map[string]bool) {
		t.Helper()
		list, err := s.Read(t.Context(), viewer, e.users)
		if err != nil {
			t.Fatal(err)
		}
		online = map[string]bool{}
		for i, p := range list {
			if p.UserID != e.users[i] {
				t.Fatalf("the answers are in another order")
			}
			online[p.UserID] = p.Status == event.StatusOnline
		}
		return online
	}
	testenv.Eventually(t, 5*time.Second, func() bool { return all(nobody)[nobody] && all(nobody)[stranger] && all(nobody)[blocked] }, "all are online")
	for _, x := range []struct {
		name, viewer, target string
		want                 bool
	}{
		{"everyone's", stranger, everyone, true},
		{"everyone's, blocked", blocked, everyone, false},
		{"everyone's, the other way", everyone, blocked, false},
		{"friends', a friend", friend, friends, true},
		{"friends', a stranger", everyone, friends, false},
		{"friends', one who was asked", stranger, friends, false},
		{"nobody's", friend, nobody, false},
		{"the same user", nobody, nobody, true},
	} {
		if got := all(x.viewer)[x.target]; got != x.want {
			t.Errorf("%s: seen online %v, want %v", x.name, got, x.want)
		}
	}
}
