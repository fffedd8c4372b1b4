package realtime

import (
	"context"
	"errors"
	"sync"
	"syscall"
	"time"

	"github.com/parley-chat/parley/internal/fault"
	"github.com/parley-chat/parley/internal/lifecycle"
	"github.com/parley-chat/parley/internal/realtime/wire"
)

const (
	// flushWorkers is the number of flushers, which write the outboxes of all sockets: idle sockets have no writing goroutine.
	flushWorkers = 8
	// coalesce bounds the bytes of one write.
	coalesce = 64 << 10
	// turn is the largest number of sockets in one turn of a flusher. It locks the list, reads the clock and updates the histogram once in each
	// turn.
	turn = 16
)

// flushers is the list of sessions whose outboxes were claimed, each once, and the goroutines that write them.
type flushers struct {
	mu      sync.Mutex // guards ready, first and stopped
	ready   []*Session
	first   int // index of the first waiting session; earlier elements are nil
	wakeup  *sync.Cond
	stopped bool
}

func newFlushers() *flushers {
	f := &flushers{}
	f.wakeup = sync.NewCond(&f.mu)
	return f
}

// add queues a session whose outbox was just claimed.
func (f *flushers) add(s *Session) {
	f.mu.Lock()
	if len(f.ready) == cap(f.ready) && f.first > len(f.ready)/2 { // reuse the room at the front
		n := copy(f.ready, f.ready[f.first:])
		clear(f.ready[n:])
		f.ready, f.first = f.ready[:n], 0
	}
	f.ready = append(f.ready, s)
	f.mu.Unlock()
	f.wakeup.Signal()
}

// run writes outboxes until ctx ends. The hub is stopped after all sockets are closed, so nothing is lost.
func (f *flushers) run(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() {
		f.mu.Lock()
		f.stopped = true
		f.mu.Unlock()
		f.wakeup.Broadcast()
	})
	defer stop()
	g := lifecycle.NewGroup(ctx)
	for range flushWorkers {
		g.Go("flusher", func(ctx context.Context) error {
			w := newWriter()
			for lifecycle.Caught(ctx, "flusher", func() { f.writeTurns(ctx, w) }) {
				w.session.abandon()
			}
			return nil
		})
	}
	return g.Wait()
}

// writeTurns writes turn after turn until the flushers stop.
func (f *flushers) writeTurns(ctx context.Context, w *writer) {
	for len(w.left) > 0 || f.takeTurn(w) {
		for len(w.left) > 0 {
			w.session, w.left = w.left[0], w.left[1:]
			w.session.flush(ctx, w)
		}
		w.endTurn()
	}
}

// takeTurn waits for sessions and moves up to turn of them into w. It returns false if the flushers have stopped.
func (f *flushers) takeTurn(w *writer) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	for f.first == len(f.ready) {
		if f.stopped {
			return false
		}
		f.wakeup.Wait()
	}
	w.turn = append(w.turn[:0], f.ready[f.first:min(f.first+turn, len(f.ready))]...)
	w.left = w.turn
	clear(f.ready[f.first : f.first+len(w.turn)])
	if f.first += len(w.turn); f.first == len(f.ready) {
		f.ready, f.first = f.ready[:0], 0
	}
	return true
}

// writer is the state of a flusher: a buffer to coalesce frames in, and one system call that does not block.
type writer struct {
	session *Session       // whose outbox is being written
	turn    []*Session     // the sessions of this turn
	left    []*Session     // the part of turn after session
	oldest  *wire.Envelope // the event with the earliest commit among those written in this turn

	buf []byte
	b   []byte
	n   int
	err error
	try func(fd uintptr) bool
}

func newWriter() *writer {
	w := &writer{buf: make([]byte, 0, coalesce), turn: make([]*Session, 0, turn)}
	w.try = func(fd uintptr) bool {
		w.n, w.err = syscall.Write(int(fd), w.b)
		for errors.Is(w.err, syscall.EINTR) {
			w.n, w.err = syscall.Write(int(fd), w.b)
		}
		return true // means that Write must not wait until the descriptor is ready
	}
	return w
}

// endTurn ends a turn: it reads the clock once for everything that was written in it.
func (w *writer) endTurn() {
	now := time.Now()
	for _, s := range w.turn {
		s.lastWritten.Store(int64(now.Sub(s.hub.born)))
	}
	if w.oldest != nil {
		w.turn[0].hub.metrics.delivered(w.oldest, now)
	}
	clear(w.turn)
	w.session, w.turn, w.oldest = nil, w.turn[:0], nil
}

// noteWritten records an event that was written.
func (w *writer) noteWritten(of *wire.Envelope) {
	if of != nil && of.CommittedAt > 0 && (w.oldest == nil || of.CommittedAt < w.oldest.CommittedAt) {
		w.oldest = of
	}
}

// write writes as much as the socket accepts without blocking: n bytes, fewer than len(b) if it is full.
func (w *writer) write(s *Session, b []byte) (n int, err error) {
	if s.raw == nil {
		return 0, nil
	}
	w.b = b
	if err := s.raw.Write(w.try); err != nil {
		return 0, err
	}
	if errors.Is(w.err, syscall.EAGAIN) {
		return 0, nil
	}
	return max(w.n, 0), w.err
}

// popOutbox returns the next piece of the outbox to write. If there is none, it releases the outbox and returns nil.
func (s *Session) popOutbox(buf []byte) (piece []byte, of *wire.Envelope) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if piece, of = s.out.pop(buf); piece != nil {
		s.charge()
		return piece, of
	}
	switch {
	case s.state == closing: // the close frame is written; the peer has closeWait for its own
		_ = s.conn.SetReadDeadline(time.Now().Add(closeWait))
	case s.out.hand == follower:
		_ = s.conn.SetWriteDeadline(time.Time{})
	}
	s.out.release()
	s.charge()
	return nil, nil
}

// abandon gives up a socket whose write panicked. It releases the outbox, because Detach waits for that.
func (s *Session) abandon() {
	s.mu.Lock()
	s.out.release()
	s.mu.Unlock()
	s.fail(reasonPanic)
}

// flush writes the outbox until it is empty or the socket is full. In the latter case a follower takes over.
func (s *Session) flush(ctx context.Context, w *writer) {
	fault.Point("socket.flush")
	for piece, of := s.popOutbox(w.buf); piece != nil; piece, of = s.popOutbox(w.buf) {
		n, err := w.write(s, piece)
		if err != nil {
			s.fail(reasonWriteError)
			continue
		}
		if n == len(piece) {
			w.noteWritten(of)
		} else {
			rest := append([]byte(nil), piece[n:]...)
			go func() {
				if lifecycle.Caught(ctx, "slow reader", func() { s.flushSlowly(rest) }) {
					s.abandon()
				}
			}()
			return
		}
	}
}

// flushSlowly is the follower of a slow client: it waits for the socket. It ends when the outbox is empty or the client is given up.
func (s *Session) flushSlowly(rest []byte) {
	buf := make([]byte, 0, coalesce)
	for ; rest != nil; rest, _ = s.popOutbox(buf) {
		for len(rest) > 0 {
			n, err := s.writeSome(rest)
			rest = rest[n:]
			if err == nil {
				continue
			}
			if s.giveUp() {
				if _, err = s.conn.Write(rest); err == nil { // the close frame must not be written inside an incomplete frame
					break
				}
			}
			s.fail(reasonWriteError)
			break
		}
	}
}

// writeSome writes at most coalesce bytes within writeWait: a client that reads a long frame slowly is not given up as long as it
// makes progress.
func (s *Session) writeSome(b []byte) (n int, err error) {
	s.mu.Lock()
	s.out.hand = follower
	if s.state == open {
		_ = s.conn.SetWriteDeadline(time.Now().Add(writeWait))
	}
	s.mu.Unlock()
	n, err = s.conn.Write(b[:min(len(b), coalesce)])
	s.lastWritten.Store(s.hub.now())
	return n, err
}

// giveUp closes a socket whose write took too long. It returns false if it was closing or leaving already.
func (s *Session) giveUp() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state != open {
		return false
	}
	s.closeTooSlow(reasonWriteTimeout, s.out.len())
	return true
}
