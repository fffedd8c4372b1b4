package test

import (
	"fmt"
	"testing"
	"time"

	"github.com/parley-chat/parley/internal/testenv"
)

// opened is a socket and the epoch that its ready frame named.
func (p *pod) openedIn(t testing.TB, u user) (*socket, string) {
	t.Helper()
	s, err := p.dial(t, "/api/ws", nil, "parley.v1", "bearer."+u.token)
	if err != nil {
		t.Fatal(err)
	}
	var ready struct{ Epoch string }
	s.until("ready", time.Minute).into(t, &ready)
	return s, ready.Epoch
}

// synced is the answer to a sync.
type synced struct {
	Epoch         string
	Conversations map[string]struct {
		Messages     []message
		Conversation *conversation
		Revision     int64
		Complete     bool
		Reset        bool
	}
	Unknown, Gone []string
}

// lostTail is two pods whose Postgres fails over to an asynchronous standby, and people with sockets on both.
type lostTail struct {
	s                       *system
	a, b                    *pod
	alice, bob, carol, dave user
	group, lostGroup        conversation
	before, now             string // epochs
}

// failOver has the standby promoted in place of the primary, and waits until both pods write to it.
func (l *lostTail) failOver(t *testing.T, proxy *testenv.Proxy, primary, standby *testenv.PGServer) {
	t.Helper()
	proxy.Lead(standby.Addr())
	primary.Stop()
	standby.Promote(t)
	l.s.pg = standby.URL()
	testenv.Eventually(t, time.Minute, func() bool { return l.a.ready(t) == 200 && l.b.ready(t) == 200 }, "the pods are ready again")
	for _, p := range l.s.pods { // the first connection to be used finds out that its server is gone
		testenv.Eventually(t, time.Minute, func() bool {
			return p.call(t, l.alice.token, "PATCH", "/api/users/me", map[string]any{"displayName": "Alice"}).status == 200
		}, "the pods write")
	}
}

// resynced waits until a live client is asked to sync, and keeps the new epoch.
func (l *lostTail) resynced(t *testing.T, x *socket) {
	t.Helper()
	var resync struct {
		Epoch         string
		WithinSeconds int
	}
	x.until("resync", 30*time.Second).into(t, &resync)
	if resync.Epoch == "" || resync.Epoch == l.before || resync.WithinSeconds < 1 {
		t.Errorf("resync is %+v after %q", resync, l.before)
	}
	l.now = resync.Epoch
}

// startsAnew checks that a sync that names the lost epoch returns the group as Postgres has it, and that the lost group is gone.
func (l *lostTail) startsAnew(t *testing.T, x *socket, name string) {
	t.Helper()
	var got synced
	x.ask("sync", map[string]any{"conversations": map[string]int64{l.group.ID: 27, l.lostGroup.ID: 1}, "epoch": l.before}).into(t, &got)
	part := got.Conversations[l.group.ID]
	stored := l.a.stored(t, l.alice, l.group.ID)
	if got.Epoch != l.now || !part.Reset || !part.Complete || len(part.Messages) != len(stored) || part.Conversation == nil {
		t.Fatalf("%s: the sync answers %+v", name, got)
	}
	for i, m := range part.Messages {
		if m.ID != stored[i].ID || m.Seq != int64(i+1) {
			t.Errorf("%s: message %d is %+v, in Postgres %+v", name, i, m, stored[i])
		}
	}
	if len(got.Gone) != 1 || got.Gone[0] != l.lostGroup.ID {
		t.Errorf("%s: gone is %v", name, got.Gone)
	}
}

// hearsFrom is messages for a socket that has read messages of another history, whose seqs come again.
func (s *socket) hearsFrom(first, last int64) {
	s.t.Helper()
	clear(s.heard)
	s.messages(first, last, 30*time.Second)
}

// unreadIsRight checks bob's marker: he had read what was lost, and Redis knows it still. What was sent instead is unread, before and after
// the flush.
func (l *lostTail) unreadIsRight(t *testing.T) {
	t.Helper()
	worker := l.s.addWorker()
	for range 2 {
		if read, unread := l.a.unread(t, l.bob, l.group.ID); read > 5 || unread != 25-read {
			t.Errorf("bob has read up to %d, %d are unread", read, unread)
		}
		l.s.flushed(t, time.Minute)
	}
	if metric(t, worker.ops, "parley_receipts_flush_failures_total") != 0 {
		t.Error("a flush failed")
	}
	if read, unread := l.a.unread(t, l.bob, l.group.ID); read != 5 || unread != 20 {
		t.Errorf("in the end bob has read up to %d, %d are unread", read, unread)
	}
}

// Postgres fails over to an asynchronous standby that lacks a tail, under two pods with live sockets. Nobody gets what they may not see in
// the history that is left, every live and returning client ends equal to Postgres, and unread counts are right.
func TestAFailoverThatLosesATail(t *testing.T) {
	t.Parallel()
	primary := testenv.PostgresServer(t)
	s, proxy := behindProxy(t, primary)
	a, b := s.addPod(), s.addPod()
	u := a.users(t, 5)
	l := &lostTail{s: s, a: a, b: b, alice: u[0], bob: u[1], carol: u[2], dave: u[3]}
	l.group = a.group(t, l.alice, l.bob, l.carol)
	for n := range 5 {
		a.send(t, l.alice, l.group.ID, fmt.Sprint("kept ", n))
	}
	standby := primary.Replica(t)
	standby.Follow(t, primary)
	standby.Unfollow(t, primary)

	bobs, before := b.openedIn(t, l.bob)
	carols, _ := a.openedIn(t, l.carol)
	daves, _ := b.openedIn(t, l.dave)
	if l.before = before; before == "" {
		t.Fatal("ready names no epoch")
	}
	// What is lost: carol is removed, dave comes in, 20 messages are sent and read, a group is made, another user registers.
	a.want(t, 204, l.alice.token, "DELETE", "/api/conversations/"+l.group.ID+"/members/"+l.carol.ID, nil)
	a.want(t, 200, l.alice.token, "POST", "/api/conversations/"+l.group.ID+"/members", map[string]any{"userIds": []string{l.dave.ID}})
	var last message
	for n := range 20 {
		last = a.send(t, l.alice, l.group.ID, fmt.Sprint("lost ", n))
	}
	b.read(t, l.bob, last.ID)
	l.lostGroup = a.group(t, l.alice, l.bob, u[4])
	lates, _ := a.openedIn(t, a.register(t))
	bobs.messages(6, 25, 20*time.Second)
	carols.rest(300 * time.Millisecond)
	daves.rest(300 * time.Millisecond)

	l.failOver(t, proxy, primary, standby)
	for n := range 10 {
		a.send(t, l.alice, l.group.ID, fmt.Sprint("new ", n))
	}
	l.resynced(t, bobs)
	l.startsAnew(t, bobs, "live")
	returning, now := a.openedIn(t, l.bob)
	if now != l.now {
		t.Errorf("a new socket is in %q, live ones in %q", now, l.now)
	}
	l.startsAnew(t, returning, "returning")

	// Everybody hears what they may; dave, whose joining is lost, hears nothing of the group; carol, whose removal is, does.
	carols.until("resync", 30*time.Second)
	daves.until("resync", 30*time.Second)
	for n := range 10 {
		b.send(t, l.alice, l.group.ID, fmt.Sprint("newest ", n))
	}
	for name, x := range map[string]*socket{"bob": bobs, "bob again": returning, "carol": carols} {
		t.Log(name)
		x.hearsFrom(16, 25)
	}
	for _, f := range daves.rest(time.Second) {
		if f.Type == "message:new" {
			t.Errorf("one who is no member heard %s", f.Data)
		}
	}
	if code := lates.closed(30 * time.Second); code != 4401 {
		t.Errorf("the socket of a login that is lost is closed with %d", code)
	}
	s.database = []string{"PARLEY_DATABASE_URL=" + standby.URL()}
	l.unreadIsRight(t)
}

// An ordinary restart of Postgres, by a crash or an orderly one, keeps the epoch, and nobody is asked to sync.
func TestARestartKeepsTheEpoch(t *testing.T) {
	t.Parallel()
	pg := testenv.PostgresServer(t)
	s := &system{t: t, pg: pg.URL(), redis: testenv.NewRedis(t)}
	p := s.addPod()
	u := p.users(t, 2)
	c := p.direct(t, u[0], u[1])
	sock, before := p.openedIn(t, u[1])
	for name, end := range map[string]func(){"a crash": pg.Stop, "an orderly restart": pg.Shutdown} {
		p.send(t, u[0], c.ID, name)
		end()
		pg.Start()
		testenv.Eventually(t, time.Minute, func() bool { return p.ready(t) == 200 }, "the pod is ready after %s", name)
		testenv.Eventually(t, time.Minute, func() bool { // the first connection to be used finds out that its server was another
			return p.call(t, u[0].token, "POST", "/api/conversations/"+c.ID+"/messages", map[string]any{"content": "after " + name}).status == 201
		}, "the pod writes after %s", name)
		if _, now := p.openedIn(t, u[1]); now != before || now == "" {
			t.Errorf("after %s the epoch is %q, before %q", name, now, before)
		}
	}
	for _, f := range sock.rest(2 * time.Second) {
		if f.Type == "resync" {
			t.Errorf("a restart has clients sync: %s", f.Data)
		}
	}
	if metric(t, p.ops, "parley_history_changes_total") != 0 {
		t.Error("a restart counts as another history")
	}
}
