package realtime_test

import (
	"context"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/parley-chat/parley/internal/event"
	"github.com/parley-chat/parley/internal/id"
	"github.com/parley-chat/parley/internal/message"
	"github.com/parley-chat/parley/internal/realtime"
	"github.com/parley-chat/parley/internal/realtime/wire"
	"github.com/parley-chat/parley/internal/testenv"
)

func TestSlowReaderIsClosed(t *testing.T) {
	t.Parallel()
	e := setup(t, 1, 3)
	p := e.pods[0]
	quick := p.connect(t, e.users[0])
	slow := p.dial(t, e.users[1])
	big := string(make([]byte, 0, 30<<10))
	for len(big) < 30<<10 {
		big += "0123456789abcdef"
	}
	big = big[:8000]
	const n = 1200
	var g sync.WaitGroup
	g.Go(func() {
		for range n {
			p.send(t, e.group, e.users[2], big)
		}
	})
	testenv.Eventually(t, 60*time.Second, func() bool { return testenv.Metric(t, p.registry, "parley_sockets_slow_total") >= 1 }, "the slow reader is noticed")
	go slow.read() // soon: the close frame waits for it a few seconds only
	quick.messages(1, n, 60*time.Second)
	g.Wait()
	for f := slow.next(20 * time.Second); ; f = slow.next(20 * time.Second) {
		if f.code == 4408 {
			break
		}
		if f.Type == "" {
			t.Fatalf("the connection ended without 4408 (%+v)", f)
		}
	}
}

func TestAnEndedSessionsSocketsCloseOnEveryPod(t *testing.T) {
	t.Parallel()
	e := setup(t, 2, 3)
	c := e.pods[1].connect(t, e.users[0])
	e.pods[0].publisher.SessionsEnded(t.Context(), []string{c.session.SessionID})
	if f := c.next(5 * time.Second); f.code != 4401 {
		t.Errorf("got %+v, want a close with 4401", f)
	}
}

func TestDrainClosesAllWith1012(t *testing.T) {
	t.Parallel()
	e := setup(t, 1, 3)
	var clients []*client
	for range 5 {
		clients = append(clients, e.pods[0].connect(t, e.users[0]))
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	e.pods[0].hub.Drain(ctx)
	for _, c := range clients {
		if f := c.next(5 * time.Second); f.code != 1012 {
			t.Errorf("got %+v, want a close with 1012", f)
		}
	}
	if _, err := e.pods[0].hub.Connect(t.Context(), realtime.Identity{UserID: e.users[0]}, clients[0].conn); !errors.Is(err, realtime.ErrDraining) {
		t.Errorf("a socket that comes late: %v", err)
	}
}

func TestTheOldestOfTooManySocketsGivesWay(t *testing.T) {
	t.Parallel()
	e := setup(t, 1, 3)
	oldest := e.pods[0].connect(t, e.users[0])
	for range 20 {
		e.pods[0].connect(t, e.users[0])
	}
	if f := oldest.next(5 * time.Second); f.code != 4409 {
		t.Errorf("got %+v, want a close with 4409", f)
	}
}

// A connection belongs to its handler: after Detach a late event may not reach it, even if it is reused by then.
func TestNothingIsWrittenAfterDetach(t *testing.T) {
	t.Parallel()
	e := setup(t, 1, 3)
	p := e.pods[0]
	stop := make(chan struct{})
	var sender sync.WaitGroup
	sender.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				_, _, _ = p.messages.Send(context.Background(), e.group, e.users[2], &message.Draft{Content: "late"})
			}
		}
	})
	for range 30 {
		ours, theirs := net.Pipe()
		seen := make(chan int, 1)
		go func() {
			b := make([]byte, 64<<10)
			n := 0
			for {
				k, err := theirs.Read(b)
				n += k
				if err != nil {
					seen <- n
					return
				}
			}
		}()
		w := &watched{Conn: ours}
		s, err := p.hub.Connect(t.Context(), realtime.Identity{UserID: e.users[0], DeviceID: "d", SessionID: id.New()}, w)
		if err != nil {
			t.Fatal(err)
		}
		testenv.Eventually(t, 5*time.Second, func() bool { return w.writes.Load() > 1 }, "something is written")
		s.Detach()
		before := w.writes.Load()
		s.Send(event.TypePing, wire.NewFrame("x", nil))
		s.Close(realtime.CloseBadFrame)
		p.send(t, e.group, e.users[1], "later")
		if after := w.writes.Load(); after != before {
			t.Fatalf("%d writes after the detach", after-before)
		}
		_ = ours.Close()
		<-seen
	}
	close(stop)
	sender.Wait()
}

// watched counts writes.
type watched struct {
	net.Conn
	writes atomic.Int64
}

func (w *watched) Write(b []byte) (int, error) {
	w.writes.Add(1)
	return w.Conn.Write(b)
}
