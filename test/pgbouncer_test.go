package test

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/parley-chat/parley/internal/testenv"
)

// pooled is a system whose processes reach a server through PgBouncer with the settings, and that through a proxy.
func pooled(t *testing.T, pg *testenv.PGServer, settings ...string) (*system, *testenv.Pooler, *testenv.Proxy) {
	t.Helper()
	if testenv.Engine() != testenv.PgBouncer {
		t.Skip("PgBouncer is one of the engines: make test-engines ENGINES=pgbouncer")
	}
	proxy := testenv.NewProxy(t, pg.Addr())
	pooler := testenv.NewPooler(t, pg.URLAt(proxy.Addr()), settings...)
	s := &system{t: t, pg: pg.URL(), redis: testenv.NewRedis(t)}
	s.database = []string{"PARLEY_DATABASE_URL=" + pooler.URL(), "PARLEY_DATABASE_MODE=pgbouncer", "PARLEY_MIGRATE_DATABASE_URL=" + pg.URL()}
	return s, pooler, proxy
}

// Each way in which PgBouncer has no server to give: requests get 503 while it lasts, and succeed within seconds once it is over, without a
// restart and without an error of a statement that was prepared on another connection.
func TestOutagesBehindPgBouncer(t *testing.T) {
	t.Parallel()
	pg := testenv.PostgresServer(t)
	s, pooler, _ := pooled(t, pg)
	a, b := s.addPod(), s.addPod()
	u := a.users(t, 3)
	g := a.group(t, u[0], u[1:]...)
	traffic := s.sending(u[0], g.ID)
	for _, fault := range []struct {
		name        string
		begin, over func()
	}{
		{"Postgres crashes, so that logins of PgBouncer fail", pg.Stop, pg.Start},
		{"Postgres is shut down", pg.Shutdown, pg.Start},
		{"PgBouncer is killed", pooler.Stop, pooler.Start},
		{"PAUSE", func() { pooler.Command("PAUSE") }, func() { pooler.Command("RESUME") }},
		{"KILL", func() { pooler.Command("KILL postgres") }, func() { pooler.Command("RESUME postgres") }},
	} {
		testenv.Eventually(t, time.Minute, func() bool { return traffic.all(s.pods, "201 ") }, "before %s both pods send", fault.name)
		fault.begin()
		testenv.Eventually(t, time.Minute, func() bool {
			return traffic.all(s.pods, "503 unavailable") && a.ready(t) == 503 && b.ready(t) == 503
		}, "%s: both pods refuse and say so", fault.name)
		fault.over()
		over := time.Now()
		testenv.Eventually(t, 30*time.Second, func() bool {
			return traffic.all(s.pods, "201 ") && a.ready(t) == 200 && b.ready(t) == 200
		}, "after %s both pods send again", fault.name)
		t.Logf("%s: both pods sent again after %s", fault.name, time.Since(over).Round(time.Millisecond))
	}
	t.Logf("%v", traffic.end(t))
	if !strings.Contains(pooler.Logs(), "server_login_retry") {
		t.Errorf("PgBouncer never refused for its failed logins: %s", pooler.Logs())
	}
}

// PgBouncer takes no more clients, or has no server for them in time: those that it refuses get 503, the others go on, and the pod serves
// all of them once there is room.
func TestPgBouncerIsFull(t *testing.T) {
	t.Parallel()
	pg := testenv.PostgresServer(t)
	for name, c := range map[string]struct{ settings, refusal string }{
		"clients": {"max_client_conn = 6", "no more connections allowed"},
		"servers": {"default_pool_size = 2\nquery_wait_timeout = 1", "query_wait_timeout"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, pooler, _ := pooled(t, pg, c.settings)
			p := s.addPod()
			u := p.users(t, 3)
			g := p.group(t, u[0], u[1:]...)
			rename := func(n int) answer {
				return p.call(t, u[0].token, "PATCH", "/api/conversations/"+g.ID, map[string]any{"name": fmt.Sprint(n)})
			}
			release := s.locked(t, g.ID)
			var calls sync.WaitGroup
			for n := range 30 {
				calls.Go(func() { expectDoneOrUnavailable(t, rename(n)) })
			}
			testenv.Eventually(t, time.Minute, func() bool { return strings.Contains(pooler.Logs(), c.refusal) }, "PgBouncer refuses: %s", c.refusal)
			release()
			calls.Wait()
			testenv.Eventually(t, 30*time.Second, func() bool { return p.ready(t) == 200 && rename(0).status == 200 }, "the pod serves again")
			for n := range 20 {
				rename(n).check(t, "a change once there is room", 200, "")
			}
		})
	}
}

// expectDoneOrUnavailable checks that a change was made, or refused because the database was unavailable and may be tried again later.
func expectDoneOrUnavailable(t *testing.T, a answer) {
	t.Helper()
	if a.status == 200 {
		return
	}
	a.check(t, "a change while PgBouncer is full", 503, "unavailable")
	if a.header.Get("Retry-After") == "" {
		t.Errorf("the refusal has no Retry-After: %d %s", a.status, a.body)
	}
}

// Postgres fails over behind PgBouncer, whose connections outlive servers, and loses a tail: the pods notice the other history, their
// sockets are asked to start anew, and writes go on.
func TestAFailoverBehindPgBouncer(t *testing.T) {
	t.Parallel()
	primary := testenv.PostgresServer(t)
	s, pooler, proxy := pooled(t, primary)
	a, b := s.addPod(), s.addPod()
	u := a.users(t, 3)
	g := a.group(t, u[0], u[1:]...)
	a.send(t, u[0], g.ID, "kept")
	standby := primary.Replica(t)
	standby.Follow(t, primary)
	standby.Unfollow(t, primary)
	sock, before := b.openedIn(t, u[1])
	for n := range 5 {
		a.send(t, u[0], g.ID, fmt.Sprint("lost ", n))
	}
	traffic := s.sending(u[2], g.ID)
	testenv.Eventually(t, time.Minute, func() bool { return traffic.all(s.pods, "201 ") }, "both pods send")
	proxy.Lead(standby.Addr())
	primary.Stop()
	testenv.Eventually(t, time.Minute, func() bool {
		return traffic.all(s.pods, "503 unavailable") && a.ready(t) == 503 && b.ready(t) == 503
	}, "both pods refuse: behind PgBouncer is a standby")
	standby.Promote(t)
	s.pg = standby.URL()
	promoted := time.Now()
	testenv.Eventually(t, 30*time.Second, func() bool {
		return traffic.all(s.pods, "201 ") && a.ready(t) == 200 && b.ready(t) == 200
	}, "both pods write to the promoted server")
	t.Logf("both pods wrote again %s after the promotion", time.Since(promoted).Round(time.Millisecond))
	var resync struct{ Epoch string }
	sock.until("resync", time.Minute).into(t, &resync)
	if resync.Epoch == before || resync.Epoch == "" {
		t.Errorf("the epoch is %q, and was %q", resync.Epoch, before)
	}
	t.Logf("%v", traffic.end(t))
	var got synced
	sock.ask("sync", map[string]any{"conversations": map[string]int64{g.ID: 1}, "epoch": before}).into(t, &got)
	if part := got.Conversations[g.ID]; !part.Reset || got.Epoch != resync.Epoch {
		t.Errorf("the sync returns %+v", got)
	}
	if strings.Contains(pooler.Logs(), "no such prepared statement") {
		t.Error("a statement was not found")
	}
}
