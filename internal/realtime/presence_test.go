package realtime_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/parley-chat/parley/internal/config"
	"github.com/parley-chat/parley/internal/event"
	"github.com/parley-chat/parley/internal/id"
	"github.com/parley-chat/parley/internal/jsonbody"
	"github.com/parley-chat/parley/internal/presence"
	"github.com/parley-chat/parley/internal/realtime"
	"github.com/parley-chat/parley/internal/testenv"
	"github.com/parley-chat/parley/internal/user"
)

var presenceTimes = config.Presence{TTL: 15 * time.Second, Grace: 300 * time.Millisecond}

// setupWhole starts whole pods with a presence-watcher. The users from the first on are friends of the first.
func setupWhole(t *testing.T, pods, users int) *env {
	t.Helper()
	e := setupPods(t, pods, users, podConfig{whole: true})
	for _, u := range e.users[1:] {
		e.befriend(t, e.users[0], u)
	}
	w := presence.NewWatcher(e.redis.Client(t), nil, 0, e.pods[0].db.SQL, presenceTimes, presence.NewWatcherMetrics(prometheus.NewRegistry()), slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return e
}

func (e *env) exec(t *testing.T, query string, args ...any) {
	t.Helper()
	if _, err := e.pods[0].db.SQL.ExecContext(t.Context(), query, args...); err != nil {
		t.Fatal(err)
	}
}

func (e *env) befriend(t *testing.T, a, b string) {
	t.Helper()
	e.exec(t, `INSERT INTO friendships (user_id, friend_id, status) VALUES ($1, $2, 'accepted'), ($2, $1, 'accepted')`, a, b)
}

// change reads frames up to one of that type, which must be of the user, and returns it.
func (c *client) change(typ, userID string) event.PresenceChange {
	c.t.Helper()
	var got event.PresenceChange
	if f := c.until(typ, 30*time.Second); json.Unmarshal(f.Data, &got) != nil || got.UserID != userID {
		c.t.Fatalf("got %s %s, want one of %s", f.Type, f.Data, userID)
	}
	return got
}

// nothingSince checks that the client got no frame but pings before one that is published to it now.
func (c *client) nothingSince(p *pod, what string) {
	c.t.Helper()
	mark := id.New()
	p.publisher.Notify(event.StateNotice(c.session.UserID, event.StateUpdated{ConversationID: mark}))
	for {
		f := c.next(30 * time.Second)
		var s event.StateUpdated
		switch {
		case f.Type == event.TypeStateUpdated && json.Unmarshal(f.Data, &s) == nil && s.ConversationID == mark:
			return
		case f.Type != event.TypePing:
			c.t.Fatalf("%s: got %s %s", what, f.Type, f.Data)
		}
	}
}

func TestFriendsSeeEachOtherComeAndGo(t *testing.T) {
	t.Parallel()
	e := setupWhole(t, 2, 2)
	a := e.pods[0].connect(t, e.users[0])
	b := e.pods[1].connect(t, e.users[1])
	a.change(event.TypePresenceOnline, e.users[1])
	again := e.pods[0].connect(t, e.users[1]) // a second socket changes nothing
	_ = b.conn.Close()
	a.nothingSince(e.pods[0], "while one of two sockets is left")
	_ = again.conn.Close()
	if got := a.change(event.TypePresenceOffline, e.users[1]); got.LastSeenAt == nil {
		t.Error("a friend who left has no time")
	}
}

// While Redis is unavailable a friend leaves and another one comes; Redis has also lost its memory. The friend who stays is not reported.
func TestPresenceIsCorrectedAfterRedisWasUnavailable(t *testing.T) {
	t.Parallel()
	e := setupWhole(t, 2, 4)
	leaves, stays := e.pods[1].connect(t, e.users[1]), e.pods[1].connect(t, e.users[2])
	a := e.pods[0].connect(t, e.users[0])
	online := map[string]bool{}
	if err := a.session.Subscribe(t.Context(), e.users[1:], func(list []event.Presence) {
		for _, p := range list {
			online[p.UserID] = p.Status == event.StatusOnline
		}
	}); err != nil {
		t.Fatal(err)
	}
	for _, c := range []*client{leaves, stays} {
		if u := c.session.UserID; !online[u] { // its heartbeat was not written yet
			a.until(event.TypePresenceOnline, 30*time.Second)
		}
	}
	e.redis.Stop()
	_ = leaves.conn.Close()
	e.pods[1].connect(t, e.users[3])
	e.redis.Start()
	want := map[string]string{e.users[1]: event.TypePresenceOffline, e.users[3]: event.TypePresenceOnline}
	for len(want) > 0 {
		f := a.next(time.Minute)
		var c event.PresenceChange
		if f.Type == event.TypeResync || f.Type == event.TypePing {
			continue
		}
		if json.Unmarshal(f.Data, &c) != nil || want[c.UserID] != f.Type {
			t.Fatalf("got %s %s, want %v", f.Type, f.Data, want)
		}
		delete(want, c.UserID)
	}
}

// Hidden users look offline, without a last-seen time. So do users on the other side of a block. They look online again when either ends.
func TestAHiddenUserLooksOffline(t *testing.T) {
	t.Parallel()
	e := setupWhole(t, 2, 2)
	a, b := e.users[0], e.users[1]
	c := e.pods[0].connect(t, a)
	e.pods[1].connect(t, b)
	c.change(event.TypePresenceOnline, b)
	hidden := func(what string) {
		t.Helper()
		if got := c.change(event.TypePresenceOffline, b); got.LastSeenAt != nil {
			t.Errorf("%s shows the time %v", what, got.LastSeenAt)
		}
	}
	e.exec(t, `UPDATE users SET presence_sharing = 'nobody' WHERE id = $1`, b)
	e.pods[1].publisher.PrivacyChanged(t.Context(), b)
	hidden("privacy")
	e.exec(t, `UPDATE users SET presence_sharing = 'friends' WHERE id = $1`, b)
	e.pods[1].publisher.PrivacyChanged(t.Context(), b)
	c.change(event.TypePresenceOnline, b)
	e.exec(t, `INSERT INTO blocks (user_id, blocked_id) VALUES ($1, $2)`, b, a)
	e.pods[1].publisher.RelationChanged(t.Context(), a, b)
	hidden("a block")
}

// Users who become friends while they are connected see each other without another connection.
func TestNewFriendsSeeEachOther(t *testing.T) {
	t.Parallel()
	e := setupWhole(t, 2, 2)
	stranger := testenv.User(t, e.pods[0].db.SQL)
	a, b := e.pods[0].connect(t, e.users[0]), e.pods[1].connect(t, stranger)
	a.nothingSince(e.pods[0], "a stranger came")
	e.befriend(t, e.users[0], stranger)
	e.pods[0].publisher.RelationChanged(t.Context(), e.users[0], stranger)
	a.change(event.TypePresenceOnline, stranger)
	b.change(event.TypePresenceOnline, e.users[0])
}

func TestASubscriptionToStrangers(t *testing.T) {
	t.Parallel()
	e := setupWhole(t, 2, 1)
	stranger := testenv.User(t, e.pods[0].db.SQL)
	a, other := e.pods[0].connect(t, e.users[0]), e.pods[0].connect(t, testenv.User(t, e.pods[0].db.SQL))
	for _, c := range []*client{a, other} {
		var shown []event.Presence
		if err := c.session.Subscribe(t.Context(), []string{stranger}, func(list []event.Presence) { shown = list }); err != nil {
			t.Fatal(err)
		}
		if len(shown) != 1 || shown[0].UserID != stranger || shown[0].Status != event.StatusOffline {
			t.Errorf("the stranger is %+v", shown)
		}
	}
	b := e.pods[1].connect(t, stranger)
	a.change(event.TypePresenceOnline, stranger)
	other.change(event.TypePresenceOnline, stranger)
	a.session.Unsubscribe([]string{stranger, id.New()})
	_ = b.conn.Close()
	other.change(event.TypePresenceOffline, stranger)
	a.nothingSince(e.pods[0], "after the end of the subscription")

	many := make([]string, 201)
	for i := range many {
		many[i] = id.New()
	}
	if err := a.session.Subscribe(t.Context(), many, nil); !errors.Is(err, realtime.ErrTooManyWatched) {
		t.Errorf("201 users: %v", err)
	}
	if err := a.session.Subscribe(t.Context(), many[:200], func([]event.Presence) {}); err != nil {
		t.Errorf("200 users: %v", err)
	}
	if err := a.session.Subscribe(t.Context(), many[200:], nil); !errors.Is(err, realtime.ErrTooManyWatched) {
		t.Errorf("one more: %v", err)
	}
}

// A subscription while Redis is unavailable is an error, and the socket can subscribe again once it is back.
func TestASubscriptionWithoutRedisIsAnError(t *testing.T) {
	t.Parallel()
	e := setupWhole(t, 1, 1)
	stranger := testenv.User(t, e.pods[0].db.SQL)
	a := e.pods[0].connect(t, e.users[0])
	e.redis.Stop()
	if err := a.session.Subscribe(t.Context(), []string{stranger}, nil); err == nil {
		t.Error("the presence was read without Redis")
	}
	e.redis.Start()
	testenv.Eventually(t, time.Minute, func() bool {
		return a.session.Subscribe(t.Context(), []string{stranger}, func([]event.Presence) {}) == nil
	}, "it can subscribe again")
	e.pods[0].connect(t, stranger)
	a.change(event.TypePresenceOnline, stranger)
}

// A changed profile reaches the user and those who watch the user, once, but not across a block. Changes whose publication
// is lost, or that are not published, are found in Postgres.
func TestAChangedProfileIsDeliveredOnce(t *testing.T) {
	t.Parallel()
	e := setupWhole(t, 2, 2)
	blocked := testenv.User(t, e.pods[0].db.SQL)
	e.exec(t, `INSERT INTO blocks (user_id, blocked_id) VALUES ($1, $2)`, e.users[1], blocked)
	friend, own := e.pods[0].connect(t, e.users[0]), e.pods[1].connect(t, e.users[1])
	apart := e.pods[0].connect(t, blocked)
	if err := apart.session.Subscribe(t.Context(), []string{e.users[1]}, func([]event.Presence) {}); err != nil {
		t.Fatal(err)
	}
	change := func(name string) {
		t.Helper()
		c := &user.ProfileChange{DisplayName: jsonbody.Optional[string]{Set: true, Value: name}}
		if _, err := e.pods[0].users.Update(t.Context(), e.users[1], c); err != nil {
			t.Fatal(err)
		}
	}
	due := func(names ...string) {
		t.Helper()
		for _, name := range names {
			for _, c := range []*client{friend, own} {
				var got event.UserUpdated
				if f := c.until(event.TypeUserUpdated, 30*time.Second); json.Unmarshal(f.Data, &got) != nil || got.User.DisplayName != name || got.User.ID != e.users[1] {
					t.Fatalf("got %s %s, want the name %s", f.Type, f.Data, name)
				}
			}
		}
	}
	for n := range 3 {
		name := fmt.Sprint("published ", n)
		change(name)
		due(name)
	}
	e.exec(t, `UPDATE users SET display_name = 'by a script' WHERE id = $1`, e.users[1])
	due("by a script")
	e.redis.Stop()
	change("while redis was unavailable")
	due("while redis was unavailable")
	e.redis.Start()
	testenv.Eventually(t, time.Minute, func() bool { return testenv.Metric(t, e.pods[0].registry, "parley_subscriber_up") == 1 }, "redis is back")
	apart.nothingSince(e.pods[0], "across a block")
}
