package test

import (
	"database/sql"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/parley-chat/parley/internal/client"
	"github.com/parley-chat/parley/internal/testenv"
)

// balancer knows which pods want work, as a load balancer finds out, and gives them requests.
type balancer struct {
	mu   sync.Mutex
	pods []*pod
}

// add gives requests to a pod whenever it says that it is ready, until it is gone.
func (b *balancer) add(p *pod) {
	b.set(p, true)
	go func() {
		for {
			a, err := p.try("", "GET", "/api/health/ready", nil)
			b.set(p, err == nil && a.status == http.StatusOK)
			select {
			case <-p.Done():
				b.set(p, false)
				return
			case <-time.After(20 * time.Millisecond):
			}
		}
	}()
}

func (b *balancer) set(p *pod, ready bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !ready {
		b.pods = slices.DeleteFunc(b.pods, func(x *pod) bool { return x == p })
	} else if !slices.Contains(b.pods, p) {
		b.pods = append(b.pods, p)
	}
}

// pick returns one of the pods that are ready. A busy machine may have none for a moment.
func (b *balancer) pick() (*pod, error) {
	for limit := testenv.NewLimit(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		if p := b.anyReady(); p != nil {
			return p, nil
		}
		if limit.Over() {
			return nil, fmt.Errorf("no pod was ready within %s", limit)
		}
	}
}

// anyReady returns one of the pods that are ready now, or nil.
func (b *balancer) anyReady() *pod {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.pods) == 0 {
		return nil
	}
	return b.pods[rand.IntN(len(b.pods))]
}

// named is a pod's database, where its connections have a name of their own.
func (s *system) named(t testing.TB, name string) string {
	t.Helper()
	u, err := url.Parse(s.pg)
	if err != nil {
		t.Fatal(err)
	}
	q := u.Query()
	q.Set("application_name", name)
	u.RawQuery = q.Encode()
	return "PARLEY_DATABASE_URL=" + u.String()
}

// replacedLoad is people who write to and listen at the pods of a balancer until stop is closed.
type replacedLoad struct {
	t            *testing.T
	lb           *balancer
	group        conversation
	stop         chan struct{}
	wg           sync.WaitGroup
	acked        sync.Map // clientMessageId -> id
	sent, failed atomic.Int64
	closings     chan int // the codes with which sockets were closed
}

// write sends as the user until the load stops. Every send must succeed.
func (l *replacedLoad) write(u user) {
	for n := 0; !l.stopped(); n++ {
		p, err := l.lb.pick()
		if err != nil {
			l.failed.Add(1)
			l.t.Error(err)
			return
		}
		key := fmt.Sprint(u.ID, n)
		a, err := p.try(u.token, "POST", "/api/conversations/"+l.group.ID+"/messages", map[string]any{"content": key, "clientMessageId": key})
		if err != nil || a.status != http.StatusCreated {
			l.failed.Add(1)
			l.t.Errorf("a send to a pod that was ready: %d %s %v", a.status, a.body, err)
			continue
		}
		var m message
		a.into(l.t, &m)
		l.acked.Store(key, m.ID)
		l.sent.Add(1)
	}
}

// listen has one socket open until the load stops, and opens another one whenever it is closed.
func (l *replacedLoad) listen(u user) {
	for !l.stopped() {
		p, err := l.lb.pick()
		if err != nil {
			l.t.Error(err)
			return
		}
		sock, err := p.dial(l.t, "/api/ws", http.Header{"Authorization": {"Bearer " + u.token}})
		if err != nil {
			if pr := client.ProblemOf(err); pr == nil || pr.Status != http.StatusServiceUnavailable { // it stopped being ready meanwhile, and said so
				l.t.Errorf("open a socket: %v", err)
				return
			}
			continue
		}
		l.drain(sock)
	}
}

// drain reads frames until the socket is closed or the load stops.
func (l *replacedLoad) drain(sock *socket) {
	for f := range sock.frames {
		if f.code != 0 {
			l.closings <- f.code
		}
		if l.stopped() {
			_ = sock.conn.Close()
			return
		}
	}
}

func (l *replacedLoad) stopped() bool {
	select {
	case <-l.stop:
		return true
	default:
		return false
	}
}

// goesOn waits until more is sent.
func (l *replacedLoad) goesOn() {
	l.t.Helper()
	before := l.sent.Load()
	testenv.Eventually(l.t, time.Minute, func() bool { return l.sent.Load() > before+50 }, "the load goes on")
}

// end stops the load and checks that at least as many sockets as were open were closed, each with 1012.
func (l *replacedLoad) end(listeners int) {
	l.t.Helper()
	close(l.stop)
	l.wg.Wait()
	close(l.closings)
	closed := 0
	for code := range l.closings {
		if closed++; code != 1012 {
			l.t.Errorf("a socket was closed with %d", code)
		}
	}
	if closed < listeners {
		l.t.Errorf("%d sockets got 1012, %d were open", closed, listeners)
	}
	l.t.Logf("%d messages, %d sockets closed, %d failures", l.sent.Load(), closed, l.failed.Load())
}

// storedOnce checks that every acknowledged message is among those that are stored, once.
func (l *replacedLoad) storedOnce(history []message) {
	l.t.Helper()
	stored := map[string]string{}
	for _, m := range history {
		if _, twice := stored[*m.ClientMessageID]; twice {
			l.t.Errorf("message %s is stored twice", *m.ClientMessageID)
		}
		stored[*m.ClientMessageID] = m.ID
	}
	l.acked.Range(func(key, id any) bool {
		if stored[key.(string)] != id {
			l.t.Errorf("message %s was acknowledged as %s, and is %q", key, id, stored[key.(string)])
		}
		return true
	})
}

// Two pods are replaced, one after the other, while people write and listen: nobody notices but for the 1012 of sockets.
func TestPodsAreReplacedUnderLoad(t *testing.T) {
	t.Parallel()
	const writers, listeners, each = 4, 40, 10 // sockets of one user, who may have 20
	s := start(t, 0, "PARLEY_DRAIN_DELAY=4s")
	old := []*pod{s.addPod(s.named(t, "old0")), s.addPod(s.named(t, "old1"))}
	u := old[0].users(t, writers+listeners/each)
	l := &replacedLoad{t: t, lb: &balancer{}, group: old[0].group(t, u[0], u[1:]...), stop: make(chan struct{}), closings: make(chan int, 10_000)}
	for _, p := range old {
		l.lb.add(p)
	}
	for _, w := range u[:writers] {
		l.wg.Go(func() { l.write(w) })
	}
	for n := range listeners {
		l.wg.Go(func() { l.listen(u[writers+n/each]) })
	}
	open := func(p *pod) float64 { return scrape(t, p.ops).value("websocket_connections_active") }
	testenv.Eventually(t, time.Minute, func() bool { return l.sent.Load() > 50 && open(old[0])+open(old[1]) == listeners }, "the load is on")

	for i, p := range old {
		l.lb.add(s.addPod())
		if open(p) == 0 {
			t.Errorf("pod %d had no socket", i)
		}
		p.Signal(syscall.SIGTERM)
		if code := p.Wait(time.Minute); code != 0 {
			t.Errorf("pod %d exited with %d", i, code)
		}
		s.unconnected(t, fmt.Sprintf("old%d", i))
		if strings.Contains(p.Logs(), "level=ERROR") {
			t.Errorf("pod %d logged an error", i)
		}
		l.goesOn()
	}
	l.end(listeners)
	l.storedOnce(s.pods[len(s.pods)-1].stored(t, u[0], l.group.ID))
}

// unconnected waits until Postgres has no connection of that name. A process that ended closed them; that Postgres sees it
// takes a moment.
func (s *system) unconnected(t testing.TB, application string) {
	t.Helper()
	db, err := sql.Open("pgx", s.pg)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	testenv.Eventually(t, 10*time.Second, func() bool {
		var n int
		if err := db.QueryRow(`SELECT count(*) FROM pg_stat_activity WHERE application_name = $1`, application).Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n == 0
	}, "no connection of %s is left", application)
}

// A request that is being served when the pod is stopped is finished.
func TestARequestInFlightIsFinished(t *testing.T) {
	t.Parallel()
	hold := filepath.Join(t.TempDir(), "hold")
	s := start(t, 1)
	u := s.pods[0].users(t, 2)
	c := s.pods[0].direct(t, u[0], u[1])
	p := s.addPod("PARLEY_FAULT=message.committed=stall:" + hold)
	if err := os.WriteFile(hold, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	answered := make(chan answer, 1)
	go func() {
		a, err := p.try(u[0].token, "POST", "/api/conversations/"+c.ID+"/messages", map[string]any{"content": "held"})
		if err != nil {
			t.Error(err)
		}
		answered <- a
	}()
	testenv.Eventually(t, time.Minute, func() bool { // it is committed, and not answered
		var page struct{ Data []message }
		s.pods[0].want(t, 200, u[0].token, "GET", "/api/conversations/"+c.ID+"/messages", nil).into(t, &page)
		return len(page.Data) == 1
	}, "the message is stored")
	p.Signal(syscall.SIGTERM)
	testenv.Eventually(t, time.Minute, func() bool {
		_, err := net.Dial("tcp", strings.TrimPrefix(p.url, "http://"))
		return err != nil
	}, "the pod takes no more connections")
	if err := os.Remove(hold); err != nil {
		t.Fatal(err)
	}
	if a := <-answered; a.status != http.StatusCreated {
		t.Errorf("the request in flight got %d %s", a.status, a.body)
	}
	expectExit(t, p.Process, 0, time.Minute)
}

// Clients that don't do their part hold up a stop until its time is over, and no longer.
func TestAStopIsBounded(t *testing.T) {
	t.Parallel()
	s := start(t, 0, "PARLEY_SHUTDOWN_TIMEOUT=4s")
	p := s.addPod(s.named(t, "bounded"))
	u := p.register(t)
	half, err := net.Dial("tcp", strings.TrimPrefix(p.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer half.Close()
	_, _ = half.Write([]byte("POST /api/auth/login HTTP/1.1\r\nHost: x\r\nContent-Type: app")) // and no more
	deaf, err := net.Dial("tcp", strings.TrimPrefix(p.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer deaf.Close()
	_, _ = fmt.Fprintf(deaf, "GET /api/ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"+
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nAuthorization: Bearer %s\r\n\r\n", u.token) // it answers no close
	testenv.Eventually(t, time.Minute, func() bool { return scrape(t, p.ops).value("websocket_connections_active") == 1 }, "the socket is open")
	p.Signal(syscall.SIGTERM)
	expectExit(t, p.Process, 0, time.Minute)
	if !strings.Contains(p.Logs(), "connections were cut off") {
		t.Error("the log does not report what was cut off")
	}
	s.unconnected(t, "bounded")
}

// A process stops in time and with 0 also while what it depends on hangs.
func TestAStopWhileADependencyHangs(t *testing.T) {
	t.Parallel()
	for name, hang := range map[string]func(testenv.RedisEngine, *testenv.PGServer) (end func()){
		"redis":    func(redis testenv.RedisEngine, _ *testenv.PGServer) func() { redis.Pause(); return redis.Resume },
		"postgres": func(_ testenv.RedisEngine, pg *testenv.PGServer) func() { pg.Pause(); return pg.Resume },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pg := testenv.PostgresServer(t)
			s := &system{t: t, pg: pg.URL(), redis: testenv.NewRedis(t), extra: testenv.Storage(t).Settings()} // asynq has two tasks then
			p := s.addPod()
			u := p.users(t, 3)
			c := p.group(t, u[0], u[1:]...)
			sock := p.open(t, u[1])
			p.send(t, u[0], c.ID, "hello")
			watcher, _ := s.addBeside("presence-watcher")
			worker := s.addWorker()
			defer hang(s.redis, pg)()
			processes := map[string]*testenv.Process{"api": p.Process, "presence-watcher": watcher, "receipt-worker": worker.Process}
			for _, x := range processes {
				x.Signal(syscall.SIGTERM)
			}
			sock.expectClosed(1012, time.Minute)
			for process, x := range processes {
				if code := x.Wait(time.Minute); code != 0 {
					t.Errorf("%s exited with %d, want 0", process, code)
				}
			}
		})
	}
}
