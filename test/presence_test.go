package test

import (
	"database/sql"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/parley-chat/parley/internal/id"
	"github.com/parley-chat/parley/internal/testenv"
)

// Short times, so that tests needn't wait long; what is promised relative to them holds for any.
const (
	presenceTTL   = 4 * time.Second
	presenceGrace = time.Second
)

var presenceTimes = []string{
	"PARLEY_PRESENCE_TTL=" + presenceTTL.String(), "PARLEY_PRESENCE_GRACE=" + presenceGrace.String(),
}

// addWatcher starts a presence-watcher.
func (s *system) addWatcher() *testenv.Process {
	s.t.Helper()
	p, _ := s.addBeside("presence-watcher")
	return p
}

// presences starts pods and watchers.
func presences(t testing.TB, pods, watchers int) *system {
	t.Helper()
	s := start(t, pods, presenceTimes...)
	for range watchers {
		s.addWatcher()
	}
	return s
}

type presence struct {
	UserID     string
	Status     any // of a problem it is a number
	LastSeenAt *string
}

func (p *pod) presence(t testing.TB, viewer user, of string) presence {
	t.Helper()
	var x presence
	p.want(t, 200, viewer.token, "GET", "/api/presence/"+of, nil).into(t, &x)
	return x
}

func (p *pod) becomes(t testing.TB, viewer user, of, status string, within time.Duration) {
	t.Helper()
	testenv.Eventually(t, within, func() bool {
		a := p.call(t, viewer.token, "GET", "/api/presence/"+of, nil)
		var x presence
		a.into(t, &x)
		return a.status == http.StatusOK && x.Status == status
	}, "%s is %s", of, status)
}

func (p *pod) openAs(t testing.TB, u user, device string) *socket {
	t.Helper()
	s, err := p.dial(t, "/api/ws?deviceId="+device, http.Header{"Authorization": {"Bearer " + u.token}})
	if err != nil {
		t.Fatal(err)
	}
	s.until("ready", 10*time.Second)
	return s
}

// cut ends a socket without a word.
func (s *socket) cut() { _ = s.conn.NetConn().Close() }

// nextPresence reads the next frame of presence. Events of other kinds may come before it.
func (s *socket) nextPresence(within time.Duration) (typ string, p presence) {
	s.t.Helper()
	for limit := testenv.NewLimit(within); ; {
		f := s.nextWithin(limit)
		if f.Type == "" {
			s.t.Fatalf("the socket ended with %d where a frame of presence was due", f.code)
		}
		if strings.HasPrefix(f.Type, "presence:") {
			f.into(s.t, &p)
			return f.Type, p
		}
	}
}

// presence reads the next frame of presence, which must be of the type and the user.
func (s *socket) presence(typ string, who user, within time.Duration) presence {
	s.t.Helper()
	got, p := s.nextPresence(within)
	if got != typ || p.UserID != who.ID {
		s.t.Fatalf("%s reports %s, want %s of %s", got, p.UserID, typ, who.ID)
	}
	return p
}

// noPresence checks that for some time no frame of presence comes.
func (s *socket) noPresence(d time.Duration) {
	s.t.Helper()
	s.silent(d, "presence:")
}

func (s *socket) watch(users ...string) []presence {
	s.t.Helper()
	f := s.ask("presence:subscribe", map[string]any{"userIds": users})
	if f.Type != "ack" {
		s.t.Fatalf("subscribe: %s %s", f.Type, f.Data)
	}
	var a struct{ Presence []presence }
	f.into(s.t, &a)
	return a.Presence
}

func (p *pod) befriend(t testing.TB, a, b user) {
	t.Helper()
	p.ask(t, a, b, 201)
	p.want(t, 200, b.token, "POST", "/api/friends/requests/"+a.ID+"/accept", nil)
}

func TestPresenceComesAndGoesOnce(t *testing.T) {
	t.Parallel()
	s := presentSystem(t)
	p, q := s.pods[0], s.pods[1]
	u := p.users(t, 4)
	anna, friend, peer, stranger := u[0], u[1], u[2], u[3]
	p.befriend(t, anna, friend)
	p.direct(t, anna, peer)
	watching := q.open(t, stranger)
	sockets := audience{p.open(t, friend), q.open(t, friend), q.open(t, peer), watching}
	if got := watching.watch(anna.ID); len(got) != 1 || got[0].Status != "offline" || got[0].LastSeenAt != nil {
		t.Errorf("a user who never connected: %+v, want offline without lastSeenAt", got)
	}
	unwatching := p.open(t, stranger)

	phone := p.openAs(t, anna, "phone")
	sockets.expectOnline(anna)
	q.becomes(t, stranger, anna.ID, "online", time.Second)
	laptop := q.openAs(t, anna, "laptop")
	phone.cut() // a reload, on another pod; and a second tab that goes
	again := q.openAs(t, anna, "phone")
	tab := p.openAs(t, anna, "phone")
	tab.cut()
	sockets.expectNoPresence(presenceTTL / 2)
	closed := time.Now()
	laptop.cut()
	again.cut()
	seen := sockets.expectOffline(anna, closed)
	sockets.expectNoPresence(300 * time.Millisecond)
	for f := range drain(unwatching) {
		if strings.HasPrefix(f.Type, "presence") {
			t.Errorf("a socket that watches nobody got %s", f.Type)
		}
	}
	if got := p.presence(t, stranger, anna.ID); got.Status != "offline" || got.LastSeenAt == nil || *got.LastSeenAt != seen {
		t.Errorf("read: %+v, want offline since %s, as it was delivered", got, seen)
	}
	s.awaitLastSeen(t, anna, seen)
}

// audience are sockets that hear of the same users' presence.
type audience []*socket

// expectOnline checks that each socket hears that a user is online, without the time of an earlier visit.
func (a audience) expectOnline(who user) {
	for _, x := range a {
		x.t.Helper()
		if got := x.presence("presence:online", who, 5*time.Second); got.LastSeenAt != nil {
			x.t.Errorf("online with lastSeenAt %s, want none", *got.LastSeenAt)
		}
	}
}

// expectOffline checks that each socket hears that a user is offline, all with the same lastSeenAt, which it returns. The grace since the
// user's last socket closed must be over.
func (a audience) expectOffline(who user, closed time.Time) (seen string) {
	first := a[0]
	first.t.Helper()
	at := first.presence("presence:offline", who, presenceGrace+2*time.Second).LastSeenAt
	if took := time.Since(closed); took < presenceGrace-100*time.Millisecond {
		first.t.Errorf("offline %s after the close, want after the grace of %s", took, presenceGrace)
	}
	if at == nil {
		first.t.Fatal("offline without lastSeenAt")
	}
	for _, x := range a[1:] {
		if got := x.presence("presence:offline", who, 2*time.Second).LastSeenAt; got == nil || *got != *at {
			x.t.Errorf("lastSeenAt is %v, want %s as on the other socket", got, *at)
		}
	}
	return *at
}

// expectNoPresence checks on one socket after the other that for some time no frame of presence comes.
func (a audience) expectNoPresence(d time.Duration) {
	for _, x := range a {
		x.t.Helper()
		x.noPresence(d)
	}
}

// awaitLastSeen waits until Postgres has the lastSeenAt that was delivered.
func (s *system) awaitLastSeen(t *testing.T, u user, delivered string) {
	t.Helper()
	want, err := time.Parse(time.RFC3339Nano, delivered)
	if err != nil {
		t.Fatal(err)
	}
	db, err := sql.Open("pgx", s.pg)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	testenv.Eventually(t, 5*time.Second, func() bool {
		var at *time.Time
		if err := db.QueryRow(`SELECT last_seen_at FROM users WHERE id = $1`, u.ID).Scan(&at); err != nil {
			t.Fatal(err)
		}
		return at != nil && at.Equal(want)
	}, "last_seen_at in Postgres is %s", delivered)
}

// drain are the frames that a socket holds already.
func drain(s *socket) func(func(frame) bool) {
	return func(yield func(frame) bool) {
		for {
			select {
			case f, ok := <-s.frames:
				if !ok || !yield(f) {
					return
				}
			default:
				return
			}
		}
	}
}

func TestPresenceOfAKilledPod(t *testing.T) {
	t.Parallel()
	s := presences(t, 2, 2)
	u := s.pods[0].users(t, 2)
	w := s.pods[0].open(t, u[1])
	w.watch(u[0].ID)
	s.pods[1].open(t, u[0])
	w.presence("presence:online", u[0], 5*time.Second)
	s.pods[1].Kill()
	w.presence("presence:offline", u[0], presenceTTL+2*time.Second)
	w.noPresence(time.Second)
}

func TestPresenceOfAPodThatIsReplaced(t *testing.T) {
	t.Parallel()
	const grace = 3 * time.Second // the new socket comes within it on a busy machine too
	s := start(t, 2, append(presenceTimes, "PARLEY_PRESENCE_GRACE="+grace.String())...)
	s.addWatcher()
	u := s.pods[0].users(t, 2)
	w := s.pods[0].open(t, u[1])
	w.watch(u[0].ID)
	old := s.pods[1].open(t, u[0])
	w.presence("presence:online", u[0], 5*time.Second)
	s.pods[1].Signal(syscall.SIGTERM)
	old.expectClosed(1012, 10*time.Second)
	s.pods[0].open(t, u[0])
	s.pods[1].Wait(20 * time.Second)
	w.noPresence(grace + 500*time.Millisecond)
}

func TestPresenceMissedByAPodThatWasCutOff(t *testing.T) {
	t.Parallel()
	s := presences(t, 1, 1)
	u := s.pods[0].users(t, 3)
	one, ok := s.redis.(interface{ Addr() string })
	if !ok {
		t.Skip("a proxy stands before one server")
	}
	proxy := testenv.NewProxy(t, one.Addr())
	cut := s.addPod("PARLEY_REDIS_URL=redis://" + proxy.Addr() + "/0")
	w := cut.open(t, u[1])
	w.watch(u[0].ID, u[2].ID)
	going := s.pods[0].open(t, u[0])
	w.presence("presence:online", u[0], 5*time.Second)
	proxy.Cut()
	going.cut()
	s.pods[0].becomes(t, u[2], u[0].ID, "offline", presenceGrace+3*time.Second)
	s.pods[0].open(t, u[2])
	s.pods[0].becomes(t, u[1], u[2].ID, "online", 3*time.Second)
	proxy.Mend()
	got := map[string]string{}
	for range 2 {
		typ, x := w.nextPresence(5 * time.Second)
		got[x.UserID] = typ
	}
	if got[u[0].ID] != "presence:offline" || got[u[2].ID] != "presence:online" {
		t.Errorf("delivered %v", got)
	}
	w.noPresence(time.Second)
}

func TestPresenceThatEndsWithoutAWatcher(t *testing.T) {
	t.Parallel()
	s := presences(t, 1, 0)
	killed := s.addWatcher()
	u := s.pods[0].users(t, 2)
	w := s.pods[0].open(t, u[1])
	w.watch(u[0].ID)
	going := s.pods[0].open(t, u[0])
	w.presence("presence:online", u[0], 5*time.Second)
	killed.Kill()
	going.cut()
	s.pods[0].becomes(t, u[1], u[0].ID, "offline", presenceGrace+2*time.Second)
	w.noPresence(500 * time.Millisecond)
	s.addWatcher()
	w.presence("presence:offline", u[0], 3*time.Second)
}

func TestPresenceAfterRedisWasAway(t *testing.T) {
	t.Parallel()
	s := presences(t, 2, 2)
	u := s.pods[0].users(t, 4)
	w := s.pods[0].open(t, u[1])
	w.watch(u[0].ID, u[2].ID)
	staying := s.pods[1].open(t, u[0])
	w.presence("presence:online", u[0], 5*time.Second)
	going := s.pods[1].open(t, u[2])
	w.presence("presence:online", u[2], 5*time.Second)
	s.redis.Stop()
	if a := s.pods[0].call(t, u[1].token, "GET", "/api/presence/"+u[0].ID, nil); a.status != 503 || a.code() != "unavailable" {
		t.Errorf("without Redis presence answers %d %s", a.status, a.body)
	}
	going.cut()
	late := s.pods[1].open(t, u[3])
	time.Sleep(presenceTTL + time.Second) // the fault's length is the point
	s.redis.Start()
	s.pods[0].becomes(t, u[1], u[0].ID, "online", presenceTTL/3+time.Second)
	s.pods[0].becomes(t, u[1], u[3].ID, "online", presenceTTL/3+time.Second)
	w.presence("presence:offline", u[2], 10*time.Second) // who went meanwhile; who stayed did not flap
	w.noPresence(time.Second)
	staying.cut()
	w.presence("presence:offline", u[0], presenceGrace+2*time.Second)
	late.cut()
}

func TestPresenceAfterRedisForgot(t *testing.T) {
	t.Parallel()
	s := presences(t, 2, 2)
	u := s.pods[0].users(t, 2)
	w := s.pods[0].open(t, u[1])
	w.watch(u[0].ID)
	staying := s.pods[1].open(t, u[0])
	w.presence("presence:online", u[0], 5*time.Second)
	s.redis.Flush(t)
	s.pods[0].becomes(t, u[1], u[0].ID, "online", presenceTTL/3+time.Second)
	w.noPresence(presenceTTL)
	staying.cut()
	w.presence("presence:offline", u[0], presenceGrace+2*time.Second)
	w.noPresence(300 * time.Millisecond)
}

func TestPresenceIsRetracted(t *testing.T) {
	t.Parallel()
	s := presentSystem(t)
	p, q := s.pods[0], s.pods[1]
	u := p.users(t, 3)
	anna, friend, stranger := u[0], u[1], u[2]
	p.befriend(t, anna, friend)
	f, x := p.open(t, friend), q.open(t, stranger)
	x.watch(anna.ID)
	p.open(t, anna)
	f.presence("presence:online", anna, 5*time.Second)
	x.presence("presence:online", anna, 5*time.Second)
	share := func(with string) {
		t.Helper()
		q.want(t, 200, anna.token, "PATCH", "/api/users/me/privacy", map[string]any{"presenceSharing": with})
	}
	hidden := func(viewer user, from *pod) {
		t.Helper()
		never := from.presence(t, viewer, id.New())
		if got := from.presence(t, viewer, anna.ID); got.Status != never.Status || got.LastSeenAt != nil {
			t.Errorf("hidden reads as %+v", got)
		}
	}
	retracted := func(s *socket) {
		t.Helper()
		if got := s.presence("presence:offline", anna, 2*time.Second); got.LastSeenAt != nil {
			t.Errorf("a retraction says %s", *got.LastSeenAt)
		}
	}
	share("friends")
	hidden(stranger, p)
	retracted(x)
	f.noPresence(300 * time.Millisecond)
	share("nobody")
	hidden(friend, q)
	retracted(f)
	share("friends")
	f.presence("presence:online", anna, 2*time.Second)
	share("everyone")
	x.presence("presence:online", anna, 2*time.Second)
	p.want(t, 204, anna.token, "PUT", "/api/blocks/"+stranger.ID, nil)
	hidden(stranger, q)
	retracted(x)
	p.want(t, 204, anna.token, "DELETE", "/api/blocks/"+stranger.ID, nil)
	x.presence("presence:online", anna, 2*time.Second)
	share("friends")
	retracted(x)
	q.want(t, 204, friend.token, "DELETE", "/api/friends/"+anna.ID, nil)
	hidden(friend, p)
	var last presence
	f.anyOrder("friend:removed", "presence:offline")["presence:offline"].into(t, &last)
	if last.UserID != anna.ID || last.LastSeenAt != nil {
		t.Errorf("a retraction says %+v", last)
	}
	x.noPresence(300 * time.Millisecond)
}

func TestNewFriendsAndPeersAreWatched(t *testing.T) {
	t.Parallel()
	s := presentSystem(t)
	p, q := s.pods[0], s.pods[1]
	u := p.users(t, 3)
	w := p.open(t, u[0])
	p.befriend(t, u[0], u[1])
	p.direct(t, u[2], u[0])
	w.anyOrder("friend:accepted", "conversation:created")
	for _, other := range u[1:] {
		q.open(t, other)
		w.presence("presence:online", other, 5*time.Second)
	}
}

func TestPresenceIsAsked(t *testing.T) {
	t.Parallel()
	p := presentSystem(t).pods[0]
	u := p.users(t, 2)
	w := p.open(t, u[0])
	p.becomes(t, u[1], u[0].ID, "online", 2*time.Second)
	nobody := id.New()
	t.Run("of several users", func(t *testing.T) {
		var l struct{ Data []presence }
		p.want(t, 200, u[1].token, "GET", "/api/presence?userIds="+nobody+","+u[0].ID, nil).into(t, &l)
		if len(l.Data) != 2 || l.Data[0].UserID != nobody || l.Data[0].Status != "offline" || l.Data[1].UserID != u[0].ID || l.Data[1].Status != "online" {
			t.Errorf("got %+v, want %s offline, then %s online", l.Data, nobody, u[0].ID)
		}
	})
	t.Run("by requests with faults", func(t *testing.T) {
		many := strings.TrimSuffix(strings.Repeat(nobody+",", 101), ",")
		for _, query := range []string{"", "?userIds=", "?userIds=x", "?userIds=" + many} {
			expectFaults(t, p.call(t, u[1].token, "GET", "/api/presence"+query, nil), query, "userIds")
		}
		p.want(t, 404, u[1].token, "GET", "/api/presence/x", nil)
		p.want(t, 401, "", "GET", "/api/presence/"+nobody, nil)
	})
	subscribesUpToTheLimit(w, nobody)
}

// subscribesUpToTheLimit watches as many users as a socket may, which must then have room for another one only in exchange, and sends
// subscriptions with faults.
func subscribesUpToTheLimit(w *socket, another string) {
	w.t.Helper()
	ids := make([]string, 200)
	for i := range ids {
		ids[i] = id.New()
	}
	if got := w.watch(ids...); len(got) != 200 || got[7].UserID != ids[7] {
		w.t.Errorf("%d presences, want those of 200 users in their order", len(got))
	}
	w.refuses("presence:subscribe", map[string]any{"userIds": []string{another}}, "limit_reached")
	w.acks("presence:unsubscribe", map[string]any{"userIds": ids[:1]})
	w.watch(another)
	for _, faulty := range []any{map[string]any{"userIds": []string{"x"}}, map[string]any{}, map[string]any{"userIds": slices.Concat(ids, []string{another})}} {
		w.refuses("presence:subscribe", faulty, "userIds")
	}
}

func TestForeignKeysThatExpireTellNothing(t *testing.T) {
	t.Parallel()
	s := presences(t, 1, 2)
	u := s.pods[0].users(t, 2)
	w := s.pods[0].open(t, u[1])
	w.watch(u[0].ID)
	s.pods[0].open(t, u[0])
	w.presence("presence:online", u[0], 5*time.Second)
	if testenv.Engine() == testenv.Cluster {
		t.Skip("the test listens to one node")
	}
	rdb := s.redis.Client(t)
	expired := rdb.Subscribe(t.Context(), "__keyevent@0__:expired")
	defer expired.Close()
	if _, err := expired.Receive(t.Context()); err != nil {
		t.Fatal(err)
	}
	foreign := []string{"session:" + u[0].ID + ":phone", "presence:" + u[0].ID + ":", "presence:nobody:phone", "presence:" + u[0].ID + ":ghost"}
	for _, k := range foreign {
		if err := rdb.Set(t.Context(), k, "", 50*time.Millisecond).Err(); err != nil {
			t.Fatal(err)
		}
	}
	for range foreign {
		if _, err := expired.ReceiveMessage(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	w.noPresence(time.Second)
}

func TestTheOldestSocketOverAllPodsGivesWay(t *testing.T) {
	t.Parallel()
	s := presentSystem(t)
	u := s.pods[0].users(t, 1)
	oldest := s.pods[0].openAs(t, u[0], "first")
	s.pods[0].becomes(t, u[0], u[0].ID, "online", 5*time.Second)
	var rest []*socket
	for n := range 20 {
		rest = append(rest, s.pods[n%2].openAs(t, u[0], fmt.Sprintf("device-%d", n)))
	}
	oldest.expectClosed(4409, 5*time.Second)
	for i, x := range rest {
		for _, f := range x.upToPong() {
			t.Errorf("socket %d got %s %s", i, f.Type, f.Data)
		}
	}
}
