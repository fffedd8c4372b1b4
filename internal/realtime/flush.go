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
	// flushWorkers write the queues of all sockets: no socket has a goroutine that waits to write.
	flushWorkers = 8
	// coalesce bounds what goes into one write.
	coalesce = 64 << 10
	// turn is how many sockets a worker takes at once: the lock, the clock and the histogram are touched once for all of them.
	turn = 16
)

// flushers hold the sessions whose outboxes were claimed, each once.
type flushers struct {
	mu      sync.Mutex // guards ready, first and stopped
	ready   []*Session
	first   int // of those that are ready; before it are those who had their turn
	wakeup  *sync.Cond
	stopped bool
}

func newFlushers() *flushers {
	f := &flushers{}
	f.wakeup = sync.NewCond(&f.mu)
	return f
}

// add takes a session whose outbox was just claimed.
func (f *flushers) add(s *Session) {
	f.mu.Lock()
	if len(f.ready) == cap(f.ready) && f.first > len(f.ready)/2 { // there is room at the front
		n := copy(f.ready, f.ready[f.first:])
		clear(f.ready[n:])
		f.ready, f.first = f.ready[:n], 0
	}
	f.ready = append(f.ready, s)
	f.mu.Unlock()
	f.wakeup.Signal()
}

// run writes until ctx ends. It is stopped after all sockets are closed.
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
			for lifecycle.Caught(ctx, "flusher", func() { f.work(ctx, w) }) {
				w.session.abandon()
			}
			return nil
		})
	}
	return g.Wait()
}

func (f *flushers) work(ctx context.Context, w *writer) {
	for len(w.left) > 0 || f.next(w) {
		for len(w.left) > 0 {
			w.session, w.left = w.left[0], w.left[1:]
			w.session.flush(ctx, w)
		}
		w.over()
	}
}

// next gives a worker its turn. It returns false where no other comes.
func (f *flushers) next(w *writer) bool {
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

// writer is what a worker writes with: a buffer to coalesce in, and one system call that does not wait.
type writer struct {
	session *Session       // whose queue is in hand
	turn    []*Session     // who were taken together
	left    []*Session     // those of them that come after session
	oldest  *wire.Envelope // what was committed first of what was written to them

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
		return true // never wait for the descriptor
	}
	return w
}

// over ends a turn: the clock is read once for all that was written in it.
func (w *writer) over() {
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

// wrote notes an event that was written.
func (w *writer) wrote(of *wire.Envelope) {
	if of != nil && of.CommittedAt > 0 && (w.oldest == nil || of.CommittedAt < w.oldest.CommittedAt) {
		w.oldest = of
	}
}

// write writes what the socket takes now: n bytes, fewer than len(b) where it is full.
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

// popOutbox takes the next piece of the outbox to write. It releases the outbox and returns nil if it is empty.
func (s *Session) popOutbox(buf []byte) (piece []byte, of *wire.Envelope) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if piece, of = s.out.pop(buf); piece != nil {
		s.settle()
		return piece, of
	}
	switch {
	case s.state == closing: // the close frame is written: the peer's own is due
		_ = s.conn.SetReadDeadline(time.Now().Add(closeWait))
	case s.out.hand == follower:
		_ = s.conn.SetWriteDeadline(time.Time{})
	}
	s.out.release()
	s.settle()
	return nil, nil
}

// abandon gives up a socket whose writing panicked, so that nobody waits for it.
func (s *Session) abandon() {
	s.mu.Lock()
	s.out.release()
	s.mu.Unlock()
	s.fail(reasonPanic)
}

// flush writes the outbox until it is empty or the socket is full; a goroutine of its own follows a slow reader then.
func (s *Session) flush(ctx context.Context, w *writer) {
	fault.Point("socket.flush")
	for piece, of := s.popOutbox(w.buf); piece != nil; piece, of = s.popOutbox(w.buf) {
		n, err := w.write(s, piece)
		if err != nil {
			s.fail(reasonWriteError)
			continue
		}
		if n == len(piece) {
			w.wrote(of)
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

// flushSlowly writes to a reader that is slow, waiting for it. It ends when the queue is empty or the reader is given up.
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
				if _, err = s.conn.Write(rest); err == nil { // the close frame must not land within a frame
					break
				}
			}
			s.fail(reasonWriteError)
			break
		}
	}
}

// writeSome writes at most coalesce bytes, for which a reader has writeWait: one that reads a long frame slowly is not given
// up as long as it gets on.
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

// giveUp closes a reader whose write took too long. It returns false if it was closing or leaving already.
func (s *Session) giveUp() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state != open {
		return false
	}
	s.closeTooSlow(reasonWriteTimeout, s.out.len())
	return true
}
