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
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/parley-chat/parley/internal/testenv"
)

// balancer knows which pods want work, as a load balancer finds out, and gives them requests.
type balancer struct {
	mu   sync.Mutex
	pods []*pod
}

// add gives requests to a pod for as long as it says that it is ready.
func (b *balancer) add(p *pod) {
	b.mu.Lock()
	b.pods = append(b.pods, p)
	b.mu.Unlock()
	go func() {
		for {
			a, err := p.try("", "GET", "/api/health/ready", nil)
			if err != nil || a.status != http.StatusOK {
				break
			}
			time.Sleep(20 * time.Millisecond)
		}
		b.mu.Lock()
		defer b.mu.Unlock()
		for i := range b.pods {
			if b.pods[i] == p {
				b.pods = append(b.pods[:i:i], b.pods[i+1:]...)
				return
			}
		}
	}()
}

func (b *balancer) pick() *pod {
	b.mu.Lock()
	defer b.mu.Unlock()
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

// Two pods are replaced, one after the other, while people write and listen: nobody notices but for the 1012 of sockets.
func TestPodsAreReplacedUnderLoad(t *testing.T) {
	t.Parallel()
	const writers, listeners, each = 4, 40, 10 // sockets of one user, who may have 20
	s := start(t, 0, "PARLEY_DRAIN_DELAY=4s")
	lb := &balancer{}
	old := []*pod{s.addPod(s.named(t, "old0")), s.addPod(s.named(t, "old1"))}
	u := old[0].users(t, writers+listeners/each)
	g := old[0].group(t, u[0], u[1:]...)
	for _, p := range old {
		lb.add(p)
	}

	stop := make(chan struct{})
	var wg sync.WaitGroup
	var acked sync.Map // clientMessageId -> id
	var sent, failed atomic.Int64
	for w := range writers {
		wg.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				p, key := lb.pick(), fmt.Sprintf("%d-%d", w, n)
				a, err := p.try(u[w].token, "POST", "/api/conversations/"+g.ID+"/messages", map[string]any{"content": key, "clientMessageId": key})
				if err != nil || a.status != http.StatusCreated {
					failed.Add(1)
					t.Errorf("a send to a pod that was ready: %d %s %v", a.status, a.body, err)
					continue
				}
				var m message
				a.into(t, &m)
				acked.Store(key, m.ID)
				sent.Add(1)
			}
		})
	}
	type closing struct {
		on   *pod
		code int
	}
	closings := make(chan closing, 10_000)
	for n := range listeners {
		wg.Go(func() {
			for {
				p := lb.pick()
				sock, res, err := p.dial(t, "/api/ws", http.Header{"Authorization": {"Bearer " + u[writers+n/each].token}})
				if err != nil {
					if res == nil || res.StatusCode != http.StatusServiceUnavailable { // it stopped being ready meanwhile, and said so
						t.Errorf("open a socket: %v", err)
						return
					}
					continue
				}
				for f := range sock.frames {
					if f.code != 0 {
						closings <- closing{p, f.code}
					}
					select {
					case <-stop:
						_ = sock.conn.Close()
						return
					default:
					}
				}
			}
		})
	}
	open := func(p *pod) float64 { return scrape(t, p.ops).value("websocket_connections_active") }
	testenv.Eventually(t, time.Minute, func() bool { return sent.Load() > 50 && open(old[0])+open(old[1]) == listeners }, "the load is on")

	for i, p := range old {
		lb.add(s.addPod())
		had, before := open(p), sent.Load()
		p.Signal(syscall.SIGTERM)
		if code := p.Wait(time.Minute); code != 0 {
			t.Errorf("pod %d exited with %d", i, code)
		}
		s.unconnected(t, fmt.Sprintf("old%d", i))
		if strings.Contains(p.Logs(), "level=ERROR") {
			t.Errorf("pod %d logged an error", i)
		}
		if had == 0 {
			t.Errorf("pod %d had no socket", i)
		}
		testenv.Eventually(t, time.Minute, func() bool { return sent.Load() > before+50 }, "the load goes on")
	}
	close(stop)
	wg.Wait()
	close(closings)
	closed := 0
	for c := range closings {
		if closed++; c.code != 1012 {
			t.Errorf("a socket was closed with %d", c.code)
		}
	}
	if closed < listeners {
		t.Errorf("%d sockets got 1012, %d were open", closed, listeners)
	}

	// Every acknowledged message is there, once.
	stored := map[string]string{}
	for _, m := range s.pods[len(s.pods)-1].stored(t, u[0], g.ID) {
		if _, twice := stored[*m.ClientMessageID]; twice {
			t.Errorf("message %s is stored twice", *m.ClientMessageID)
		}
		stored[*m.ClientMessageID] = m.ID
	}
	acked.Range(func(key, id any) bool {
		if stored[key.(string)] != id {
			t.Errorf("message %s was acknowledged as %s, and is %q", key, id, stored[key.(string)])
		}
		return true
	})
	t.Logf("%d messages, %d sockets closed, %d failures", sent.Load(), closed, failed.Load())
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
	if code := p.Wait(time.Minute); code != 0 {
		t.Errorf("exited with %d", code)
	}
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
	if code := p.Wait(time.Minute); code != 0 {
		t.Errorf("exited with %d", code)
	}
	if !strings.Contains(p.Logs(), "connections were cut off") {
		t.Error("the log does not report what was cut off")
	}
	s.unconnected(t, "bounded")
}

// A process stops in time and with 0 also while what it depends on hangs.
func TestAStopWhileADependencyHangs(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"redis", "postgres"} {
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
			if name == "redis" {
				s.redis.Pause()
				defer s.redis.Resume()
			} else {
				pg.Pause()
				defer pg.Resume()
			}
			processes := map[string]*testenv.Process{"api": p.Process, "presence-watcher": watcher, "receipt-worker": worker.Process}
			for _, x := range processes {
				x.Signal(syscall.SIGTERM)
			}
			if code := sock.closed(time.Minute); code != 1012 {
				t.Errorf("the socket was closed with %d", code)
			}
			for process, x := range processes {
				if code := x.Wait(time.Minute); code != 0 {
					t.Errorf("%s exited with %d", process, code)
				}
			}
		})
	}
}
