package test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/parley-chat/parley/internal/testenv"
)

// switches are files that make fault points panic while they exist.
type switches struct {
	t   *testing.T
	dir string
}

func newSwitches(t *testing.T) *switches { return &switches{t, t.TempDir()} }

func (s *switches) setting(points ...string) string {
	var list []string
	for _, p := range points {
		list = append(list, p+"=panic:"+filepath.Join(s.dir, p))
	}
	return "PARLEY_FAULT=" + strings.Join(list, ",")
}

func (s *switches) on(point string) {
	s.t.Helper()
	if err := os.WriteFile(filepath.Join(s.dir, point), nil, 0o600); err != nil {
		s.t.Fatal(err)
	}
}

func (s *switches) off(point string) {
	s.t.Helper()
	if err := os.Remove(filepath.Join(s.dir, point)); err != nil {
		s.t.Fatal(err)
	}
}

// counted waits until panics of a part are counted.
func counted(t *testing.T, ops, part string) {
	t.Helper()
	testenv.Eventually(t, time.Minute, func() bool { return scrape(t, ops).value("parley_panics_total", "part", part) >= 1 }, "a panic of %s is counted", part)
}

func TestAPanicInAHandlerIsA500(t *testing.T) {
	t.Parallel()
	x := newSwitches(t)
	p := start(t, 1, x.setting("http.request")).pods[0]
	u := p.register(t)
	x.on("http.request")
	a := p.want(t, 500, u.token, "GET", "/api/users/me", nil, "X-Request-Id", "the-one-that-panics")
	if r := a.problem(t); r.Code != "internal" || r.RequestID != "the-one-that-panics" || strings.Contains(string(a.body), "fault point") {
		t.Errorf("the answer is %s", a.body)
	}
	x.off("http.request")
	p.want(t, 200, u.token, "GET", "/api/users/me", nil)
	counted(t, p.ops, "request")
	for _, want := range []string{"fault point http.request", "request_id=the-one-that-panics", "middleware.go"} {
		if !strings.Contains(p.Logs(), want) {
			t.Errorf("the log does not show %q", want)
		}
	}
}

func TestAPanicInASocketClosesIt(t *testing.T) {
	t.Parallel()
	x := newSwitches(t)
	p := start(t, 1, x.setting("socket.frame", "socket.flush")).pods[0]
	u := p.users(t, 2)
	c := p.direct(t, u[0], u[1])
	sock, other := p.open(t, u[0]), p.open(t, u[1])
	x.on("socket.frame")
	sock.write(map[string]any{"type": "ping", "id": "1"})
	if code := sock.closed(time.Minute); code != 1011 {
		t.Errorf("closed with %d, want 1011", code)
	}
	counted(t, p.ops, "socket")
	x.off("socket.frame")
	p.send(t, u[0], c.ID, "one")
	other.messages(1, 1, time.Minute)

	// Where writing to a socket panics, that socket is given up, and the pod goes on.
	x.on("socket.flush")
	p.send(t, u[0], c.ID, "two")
	other.closed(time.Minute)
	x.off("socket.flush")
	counted(t, p.ops, "hub")
	testenv.Eventually(t, time.Minute, func() bool { return scrape(t, p.ops).value("websocket_connections_active") == 0 }, "both sockets are gone")
	again := p.open(t, u[1])
	p.send(t, u[0], c.ID, "three")
	again.messages(3, 3, time.Minute)
	m := scrape(t, p.ops)
	if m.value("parley_sockets_closed_total", "code", "1011", "reason", "panic") != 1 || m.value("parley_sockets_closed_total", "code", "1006", "reason", "panic") != 1 {
		t.Errorf("the ends are counted as %v", m["parley_sockets_closed_total"])
	}
}

// Each loop of the api panics once, is run again, and does its work.
func TestAPanicInALoopRunsItAgain(t *testing.T) {
	t.Parallel()
	x := newSwitches(t)
	p := start(t, 1, x.setting("publisher.send", "subscriber.heard", "hub.poll", "monitor.look")).pods[0]
	u := p.users(t, 2)
	c := p.direct(t, u[0], u[1])
	sock := p.open(t, u[1])
	seq := int64(0)
	works := func() {
		t.Helper()
		p.send(t, u[0], c.ID, "hello")
		seq++
		sock.messages(seq, seq, time.Minute)
	}
	works()
	for point, part := range map[string]string{"publisher.send": "publisher", "subscriber.heard": "subscriber", "hub.poll": "hub", "monitor.look": "monitor"} {
		x.on(point)
		counted(t, p.ops, part) // the pod's own notes go that way each second
		x.off(point)
		works()
	}
	p.want(t, 200, "", "GET", "/api/health/ready", nil)
}

// The senders of a commit that panics get an error, and their repeated sends are the stored ones.
func TestAPanicInAGroupCommitIsA500(t *testing.T) {
	t.Parallel()
	const senders = 20
	x := newSwitches(t)
	s := start(t, 1, x.setting("message.committed"))
	p := s.pods[0]
	u := s.withTokens(t, 3)
	c := p.group(t, u[0], u[1:]...)
	sock := p.open(t, u[1])
	send := func(want int) {
		var wg sync.WaitGroup
		for i := range senders {
			wg.Go(func() {
				body := map[string]any{"content": "x", "clientMessageId": fmt.Sprint(i)}
				a, err := p.try(u[0].token, "POST", "/api/conversations/"+c.ID+"/messages", body)
				if err != nil || a.status != want {
					t.Errorf("a send: %d %s %v, want %d", a.status, a.body, err, want)
				}
			})
		}
		wg.Wait()
	}
	x.on("message.committed")
	send(500)
	x.off("message.committed")
	send(200)
	sock.messages(1, senders, time.Minute)
	panics := scrape(t, p.ops).value("parley_panics_total", "part", "committer")
	if logged := strings.Count(p.Logs(), `panic="fault point message.committed"`); panics < 1 || float64(logged) != panics {
		t.Errorf("%v panics are counted, %d were logged", panics, logged)
	}
	p.send(t, u[0], c.ID, "next")
	sock.messages(senders+1, senders+1, time.Minute)
}

func TestAPanicOfTheWatcherRunsItAgain(t *testing.T) {
	t.Parallel()
	x := newSwitches(t)
	_, ops := start(t, 0).addBeside("presence-watcher", x.setting("watcher.sweep"))
	x.on("watcher.sweep")
	counted(t, ops, "watcher")
	x.off("watcher.sweep")
	sweeps := func() float64 { return scrape(t, ops).value("parley_presence_sweep_seconds") }
	before := sweeps()
	testenv.Eventually(t, time.Minute, func() bool { return sweeps() > before }, "it sweeps again")
}

// A flush that panics fails, and the next one writes what it left.
func TestAPanicInAFlushFailsThatFlushAlone(t *testing.T) {
	t.Parallel()
	for _, point := range []string{"receipt.read", "receipt.remove"} {
		x := newSwitches(t)
		s := start(t, 1)
		p := s.pods[0]
		u := p.users(t, 3)
		c := p.group(t, u[0], u[1:]...)
		m := p.send(t, u[0], c.ID, "hello")
		x.on(point)
		w := s.addWorker(x.setting(point))
		p.want(t, 204, u[1].token, "POST", "/api/messages/"+m.ID+"/read", nil)
		counted(t, w.ops, "worker")
		x.off(point)
		testenv.Eventually(t, time.Minute, func() bool { return s.rows(t, m.ID) == 1 }, "the read is written")
		testenv.Eventually(t, time.Minute, func() bool { return scrape(t, w.ops).value("parley_receipts_pending") == 0 }, "nothing is pending")
	}
}

// A loop that keeps panicking ends its process: better none than one that says ok and does nothing.
func TestAPanicForEverEndsTheProcess(t *testing.T) {
	t.Parallel()
	s := start(t, 0)
	p := testenv.Start(t, testenv.Binary(t, "receipt-worker"), nil, append(s.settings(), "PARLEY_OPS_ADDR=127.0.0.1:0", "PARLEY_FAULT=monitor.look=panic"))
	if code := p.Wait(time.Minute); code != 1 {
		t.Errorf("exited with %d", code)
	}
	if !strings.Contains(p.Logs(), "monitor: monitor: it panicked too often") {
		t.Error("the log does not show why")
	}
}
