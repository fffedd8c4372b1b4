package test

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/parley-chat/parley/internal/testenv"
)

// behindProxy is a system whose processes reach Postgres through a proxy.
func behindProxy(t *testing.T, pg *testenv.PGServer) (*system, *testenv.Proxy) {
	t.Helper()
	proxy := testenv.NewProxy(t, pg.Addr())
	s := &system{t: t, pg: pg.URL(), redis: testenv.NewRedis(t)}
	s.database = []string{"PARLEY_DATABASE_URL=" + pg.URLAt(proxy.Addr())}
	return s, proxy
}

// sending sends to a conversation by turns through all pods until stop, and counts the answers by status.
type sending struct {
	mu     sync.Mutex
	counts map[string]int
	last   map[*pod]string
	stop   chan struct{}
	done   sync.WaitGroup
}

func (s *system) sending(u user, conversationID string) *sending {
	return s.sendingEvery(10*time.Millisecond, u, conversationID)
}

// sendingEvery is like sending, with a pause of each pod between two messages.
func (s *system) sendingEvery(pause time.Duration, u user, conversationID string) *sending {
	x := &sending{counts: map[string]int{}, last: map[*pod]string{}, stop: make(chan struct{})}
	for _, p := range s.pods {
		x.done.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-x.stop:
					return
				case <-time.After(pause):
				}
				a, err := p.try(u.token, "POST", "/api/conversations/"+conversationID+"/messages", map[string]any{"content": fmt.Sprint(n)})
				outcome := fmt.Sprintf("%d %s", a.status, a.code())
				switch {
				case err != nil:
					outcome = err.Error()
				case a.status == 503 && a.header.Get("Retry-After") == "":
					outcome += " without Retry-After"
				}
				x.mu.Lock()
				x.counts[outcome]++
				x.last[p] = outcome
				x.mu.Unlock()
			}
		})
	}
	return x
}

// all reports whether the last answer of every pod is that one.
func (x *sending) all(pods []*pod, outcome string) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, p := range pods {
		if x.last[p] != outcome {
			return false
		}
	}
	return true
}

// end stops the sending. Nothing but successes and 503s may have come.
func (x *sending) end(t *testing.T) map[string]int {
	t.Helper()
	close(x.stop)
	x.done.Wait()
	for outcome := range x.counts {
		if outcome != "201 " && outcome != "503 unavailable" {
			t.Errorf("%d sends were answered %q", x.counts[outcome], outcome)
		}
	}
	return x.counts
}

func (p *pod) ready(t testing.TB) int {
	t.Helper()
	return p.call(t, "", "GET", "/api/health/ready", nil).status
}

// The primary goes and the proxy leads to its standby, which is promoted only later, as a load balancer that is quicker than its
// cluster manager does. Writes are 503 and readiness says so; once the standby is promoted all pods write again without a restart. The
// worker keeps what waits, and takes none of it for unwritable.
func TestASwitchoverOfPostgres(t *testing.T) {
	t.Parallel()
	primary := testenv.PostgresServer(t)
	s, proxy := behindProxy(t, primary)
	a, b := s.addPod(), s.addPod()
	worker := s.addWorker()
	u := a.users(t, 4)
	g := a.group(t, u[0], u[1:]...)
	m := a.send(t, u[0], g.ID, "to be read")
	standby := primary.Replica(t)

	traffic := s.sending(u[0], g.ID)
	testenv.Eventually(t, time.Minute, func() bool { return traffic.all(s.pods, "201 ") }, "both pods send")
	proxy.Lead(standby.Addr())
	primary.Shutdown()
	testenv.Eventually(t, time.Minute, func() bool {
		return traffic.all(s.pods, "503 unavailable") && a.ready(t) == 503 && b.ready(t) == 503
	}, "the pods say that they can't write")
	for _, r := range u[1:] {
		a.call(t, r.token, "POST", "/api/messages/"+m.ID+"/read", nil) // kept in Redis, or refused
	}
	failures := metric(t, worker.ops, "parley_receipts_flush_failures_total")
	testenv.Eventually(t, time.Minute, func() bool { return metric(t, worker.ops, "parley_dependency_up{dependency=\"postgres\"}") == 0 }, "the worker notices")

	standby.Promote(t)
	s.pg = standby.URL()
	promoted := time.Now()
	testenv.Eventually(t, 30*time.Second, func() bool {
		return traffic.all(s.pods, "201 ") && a.ready(t) == 200 && b.ready(t) == 200
	}, "the pods write to the promoted server")
	t.Logf("all pods wrote again %s after the promotion", time.Since(promoted).Round(time.Millisecond))
	for _, r := range u[1:] {
		a.read(t, r, m.ID)
	}
	s.flushed(t, time.Minute)
	if n := s.rows(t, m.ID); n != len(u)-1 {
		t.Errorf("%d receipts are written of %d", n, len(u)-1)
	}
	if logs := worker.Logs(); strings.Contains(logs, "can't be written") {
		t.Errorf("the worker took what waits for unwritable (%v failures before): %s", failures, logs)
	}
	t.Logf("%v", traffic.end(t))
	for _, p := range s.pods {
		if n := strings.Count(p.Logs(), "requests are refused with 503"); n != 1 {
			t.Errorf("the log has %d lines for requests that were refused", n)
		}
	}
}

// Requests that hold all connections of a pod are no reason to take it out of service, and what finds no connection is 503.
func TestAFullPoolIsNotADeadDatabase(t *testing.T) {
	t.Parallel()
	if testenv.Engine() == "pgbouncer" {
		t.Skip("PgBouncer has fewer connections than the pod: TestPgBouncerIsFull")
	}
	s := start(t, 1)
	p := s.pods[0]
	u := p.users(t, 3)
	g := p.group(t, u[0], u[1:]...)
	release := s.locked(t, g.ID)
	defer release()
	var refused, other atomic.Int64
	var calls sync.WaitGroup
	for n := range 60 {
		calls.Go(func() {
			a, err := p.try(u[0].token, "PATCH", "/api/conversations/"+g.ID, map[string]any{"name": fmt.Sprint(n)})
			if err == nil && a.status == 503 && a.code() == "unavailable" && a.header.Get("Retry-After") != "" {
				refused.Add(1)
			} else {
				other.Add(1)
			}
		})
	}
	inUse := `go_sql_in_use_connections{db_name="parley"}`
	testenv.Eventually(t, time.Minute, func() bool { return metric(t, p.ops, inUse) >= 20 }, "all connections are in use")
	for range 20 {
		if status := p.ready(t); status != 200 {
			t.Errorf("with all connections in use the pod's readiness is %d", status)
		}
	}
	if metric(t, p.ops, inUse) < 20 {
		t.Skip("the pool was not full for long enough")
	}
	calls.Wait()
	if refused.Load() != 60 {
		t.Errorf("%d were refused as they should be, %d otherwise", refused.Load(), other.Load())
	}
}
