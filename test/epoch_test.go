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
	s, _, err := p.dial(t, "/api/ws", nil, "parley.v1", "bearer."+u.token)
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

// Postgres fails over to an asynchronous standby that lacks a tail, under two pods with live sockets. Nobody gets what they may not see in
// the history that is left, every live and returning client ends equal to Postgres, and unread counts are right.
func TestAFailoverThatLosesATail(t *testing.T) {
	t.Parallel()
	primary := testenv.PostgresServer(t)
	s, proxy := behindProxy(t, primary)
	a, b := s.addPod(), s.addPod()
	u := a.users(t, 5)
	alice, bob, carol, dave, erin := u[0], u[1], u[2], u[3], u[4]
	g := a.group(t, alice, bob, carol)
	for n := range 5 {
		a.send(t, alice, g.ID, fmt.Sprint("kept ", n))
	}
	standby := primary.Replica(t)
	standby.Follow(t, primary)
	standby.Unfollow(t, primary)

	bobs, before := b.openedIn(t, bob)
	carols, _ := a.openedIn(t, carol)
	daves, _ := b.openedIn(t, dave)
	if before == "" {
		t.Fatal("ready names no epoch")
	}
	// What is lost: carol is removed, dave comes in, 20 messages are sent and read, erin registers another account's socket, a group is made.
	a.want(t, 204, alice.token, "DELETE", "/api/conversations/"+g.ID+"/members/"+carol.ID, nil)
	a.want(t, 200, alice.token, "POST", "/api/conversations/"+g.ID+"/members", map[string]any{"userIds": []string{dave.ID}})
	var last message
	for n := range 20 {
		last = a.send(t, alice, g.ID, fmt.Sprint("lost ", n))
	}
	b.read(t, bob, last.ID)
	lostGroup := a.group(t, alice, bob, erin)
	late := a.register(t)
	lates, _ := a.openedIn(t, late)
	bobs.messages(6, 25, 20*time.Second)
	carols.rest(300 * time.Millisecond)
	daves.rest(300 * time.Millisecond)

	proxy.Lead(standby.Addr())
	primary.Stop()
	standby.Promote(t)
	s.pg = standby.URL()
	testenv.Eventually(t, time.Minute, func() bool { return a.ready(t) == 200 && b.ready(t) == 200 }, "the pods are ready again")
	for _, p := range s.pods { // the first connection to be used finds out that its server is gone
		testenv.Eventually(t, time.Minute, func() bool {
			return p.call(t, alice.token, "PATCH", "/api/users/me", map[string]any{"displayName": "Alice"}).status == 200
		}, "the pods write")
	}
	for n := range 10 {
		a.send(t, alice, g.ID, fmt.Sprint("new ", n))
	}

	// A live client is asked to sync, and its sync, which names the epoch that it knows, starts it anew.
	var resync struct {
		Epoch         string
		WithinSeconds int
	}
	bobs.until("resync", 30*time.Second).into(t, &resync)
	if resync.Epoch == "" || resync.Epoch == before || resync.WithinSeconds < 1 {
		t.Errorf("resync is %+v after %q", resync, before)
	}
	equal := func(x *socket, who user, name string) {
		t.Helper()
		var got synced
		x.ask("sync", map[string]any{"conversations": map[string]int64{g.ID: 27, lostGroup.ID: 1}, "epoch": before}).into(t, &got)
		part := got.Conversations[g.ID]
		stored := a.stored(t, alice, g.ID)
		if got.Epoch != resync.Epoch || !part.Reset || !part.Complete || len(part.Messages) != len(stored) || part.Conversation == nil {
			t.Fatalf("%s: the sync answers %+v", name, got)
		}
		for i, m := range part.Messages {
			if m.ID != stored[i].ID || m.Seq != int64(i+1) {
				t.Errorf("%s: message %d is %+v, in Postgres %+v", name, i, m, stored[i])
			}
		}
		if len(got.Gone) != 1 || got.Gone[0] != lostGroup.ID {
			t.Errorf("%s: gone is %v", name, got.Gone)
		}
	}
	equal(bobs, bob, "live")
	returning, now := a.openedIn(t, bob)
	if now != resync.Epoch {
		t.Errorf("a new socket is in %q, live ones in %q", now, resync.Epoch)
	}
	equal(returning, bob, "returning")

	// Everybody hears what they may, once and in order; dave, whose joining is lost, hears nothing of the group; carol, whose removal is, does.
	carols.until("resync", 30*time.Second)
	daves.until("resync", 30*time.Second)
	carols.rest(500 * time.Millisecond)
	for n := range 10 {
		b.send(t, alice, g.ID, fmt.Sprint("newest ", n))
	}
	for name, x := range map[string]*socket{"bob": bobs, "bob again": returning, "carol": carols} {
		t.Log(name)
		x.messages(16, 25, 30*time.Second)
	}
	for _, f := range daves.rest(time.Second) {
		if f.Type == "message:new" {
			t.Errorf("one who is no member heard %s", f.Data)
		}
	}
	if code := lates.closed(30 * time.Second); code != 4401 {
		t.Errorf("the socket of a login that is lost is closed with %d", code)
	}

	// bob had read what was lost, and Redis knows it still: what was sent instead is unread, before and after the flush.
	s.database = []string{"PARLEY_DATABASE_URL=" + standby.URL()}
	worker := s.addWorker()
	for range 2 {
		if read, unread := a.unread(t, bob, g.ID); read > 5 || unread != 25-read {
			t.Errorf("bob has read up to %d, %d are unread", read, unread)
		}
		s.flushed(t, time.Minute)
	}
	if metric(t, worker.ops, "parley_receipts_flush_failures_total") != 0 {
		t.Error("a flush failed")
	}
	if read, unread := a.unread(t, bob, g.ID); read != 5 || unread != 20 {
		t.Errorf("in the end bob has read up to %d, %d are unread", read, unread)
	}
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
