package realtime

import (
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/parley-chat/parley/internal/realtime/wire"
)

// Close codes that Parley uses (contract: The socket).
const (
	CloseGoingAway   = 1012
	CloseTooLarge    = 1009
	CloseBadFrame    = 4400
	CloseSessionOver = 4401
	CloseTooSlow     = 4408
	CloseReplaced    = 4409
	CloseTooMany     = 4429
	// CloseInternal is for a socket whose handler panicked, CloseTryAgain for one that cannot be served.
	CloseInternal = 1011
	CloseTryAgain = 1013
	// CloseAbnormal is never sent: it stands in metrics for a connection that ended without a close frame.
	CloseAbnormal = 1006
)

// Bounds of what waits for one socket. A full queue closes it with 4408. backlog is what a queue of more than one has room
// for at first.
const (
	backlog         = 8
	maxQueuedFrames = 1024
	maxQueuedBytes  = 4 << 20
)

const (
	// writeWait bounds one write to a reader that is slow.
	writeWait = 10 * time.Second
	// closeWait bounds what follows a close frame: its write to a slow reader, then the peer's own close.
	closeWait = 5 * time.Second
)

// Identity is whose socket it is.
type Identity struct {
	UserID, DeviceID, SessionID string
}

// Session is one open socket.
type Session struct {
	Identity
	// ID is made per socket and never used again.
	ID string

	hub  *Hub
	conn net.Conn
	raw  syscall.RawConn // nil where the connection has none: then every write takes the slow way

	lastHeard, lastWritten atomic.Int64 // nanoseconds since the hub's start
	pinged                 atomic.Int64 // when a protocol ping was sent that is not answered yet, 0 for none

	// What each delivery touches stands together.
	mu      sync.Mutex // guards what follows
	queue   []wire.Frame
	bytes   int
	oldest  *wire.Envelope // the first in the queue whose delivery is measured
	room    [1]wire.Frame  // for a queue of one, which most are
	started bool           // the ready frame is at the front of the queue
	busy    bool           // a flusher, or a goroutine of a slow reader's, has the queue in hand
	slow    bool           // the write deadline is set, for a reader that is slow
	closing bool           // a close frame is in the queue, and nothing follows it
	removed bool           // the hub forgot it: no topic takes it any more
	gone    bool           // detached: the connection is not ours any more
	code    int            // of that close frame
	reason  string         // why the socket ends, for metrics; "" while that is not known
	topics  []*topic
	left    []leaving     // where it was and is no more, the oldest first
	drained chan struct{} // closed once busy ends, where someone waits for it
}

// Send queues a frame of that type. What a closing socket does not get is not an error: its client will sync.
func (s *Session) Send(typ string, f wire.Frame) {
	s.hub.metrics.sent(typ, 1)
	s.push(f, nil)
}

// Reply queues the answer to the client's frame with that id, "" for none.
func (s *Session) Reply(typ, id string, data any) { s.Send(typ, wire.NewReply(typ, id, data)) }

// Pong queues the answer to a protocol ping.
func (s *Session) Pong(payload string) { s.Send(typeProtocolPong, wire.PongFrame(payload)) }

// push queues a frame, and measures its delivery where it is that of an event.
func (s *Session) push(f wire.Frame, of *wire.Envelope) {
	s.mu.Lock()
	if s.closing || s.gone {
		s.mu.Unlock()
		return
	}
	if s.oldest == nil {
		s.oldest = of
	}
	if len(s.queue) >= maxQueuedFrames || s.bytes+len(f) > maxQueuedBytes {
		s.tooSlow(reasonQueueFull, len(s.queue)+1)
	} else {
		if len(s.queue) == cap(s.queue) && len(s.queue) <= len(s.room) {
			s.queue = append(make([]wire.Frame, 0, backlog), s.queue...)
		}
		s.queue = append(s.queue, f)
		s.bytes += len(f)
	}
	s.wake()
}

// Close queues a close frame after what is queued already.
func (s *Session) Close(code int, reason string) {
	s.mu.Lock()
	if s.closing || s.gone {
		s.mu.Unlock()
		return
	}
	s.closeLocked(code, reason)
	s.wake()
}

// Echo queues the answer to the peer's own close frame.
func (s *Session) Echo(code int) {
	s.mu.Lock()
	if s.closing || s.gone {
		s.mu.Unlock()
		return
	}
	s.closing, s.code, s.started = true, code, true
	s.because(reasonPeer)
	f := wire.EmptyCloseFrame()
	if code != 1005 { // no status received: RFC 6455, section 7.1.5
		f = wire.CloseFrame(code, "")
	}
	s.queue = append(s.queue, f)
	s.wake()
}

func (s *Session) closeLocked(code int, reason string) {
	s.closing, s.code, s.started = true, code, true
	s.because(reasonOf[code])
	s.queue = append(s.queue, wire.CloseFrame(code, reason))
	_ = s.conn.SetWriteDeadline(time.Now().Add(closeWait))
}

// tooSlow drops what is queued and closes with 4408.
func (s *Session) tooSlow(reason string, dropped int) {
	s.because(reason)
	s.hub.metrics.slowReaders.Inc()
	s.hub.metrics.dropped.Add(float64(dropped))
	s.queue, s.bytes, s.oldest = nil, 0, nil
	s.closeLocked(CloseTooSlow, "too slow")
}

// because notes why the socket ends. The first reason counts.
func (s *Session) because(reason string) {
	if s.reason == "" {
		s.reason = reason
	}
}

// wake hands the queue to a flusher unless one has it. It unlocks s.mu.
func (s *Session) wake() {
	idle := s.started && !s.busy && len(s.queue) > 0
	if idle {
		s.busy = true
	}
	s.mu.Unlock()
	if idle {
		s.hub.flushers.add(s)
	}
}

// start lets the queue flow, the ready frame first.
func (s *Session) start(ready wire.Frame) {
	s.mu.Lock()
	if s.closing || s.gone {
		s.mu.Unlock()
		return
	}
	s.queue = append([]wire.Frame{ready}, s.queue...)
	s.bytes += len(ready)
	s.started = true
	s.wake()
}

// Closing tells whether a close frame is on its way: what the peer says from then on is not heard.
func (s *Session) Closing() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closing
}

// Heard notes a sign of life of the peer.
func (s *Session) Heard() { s.lastHeard.Store(s.hub.now()) }

// Ponged notes the answer to a protocol ping.
func (s *Session) Ponged() {
	s.Heard()
	if at := s.pinged.Swap(0); at != 0 {
		s.hub.metrics.pings.Observe(time.Duration(s.hub.now() - at).Seconds())
	}
}

// Detach ends the session: the hub forgets it, what is queued is given a moment to be written, and after that nothing is.
// The socket's handler calls it before it returns.
func (s *Session) Detach() {
	s.hub.remove(s)
	s.mu.Lock()
	code := CloseAbnormal
	if s.closing {
		code = s.code
	}
	s.because(reasonLost)
	s.hub.metrics.closed(code, s.reason)
	if s.busy {
		s.drained = make(chan struct{})
		drained := s.drained
		_ = s.conn.SetWriteDeadline(time.Now().Add(closeWait))
		s.mu.Unlock()
		<-drained // bounded by the write deadline
		s.mu.Lock()
	}
	s.gone = true
	s.queue, s.bytes, s.oldest = nil, 0, nil
	s.mu.Unlock()
}

// Serves tells whether the session gets the conversation's events, which only members do.
func (s *Session) Serves(conversationID string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, x := range s.topics {
		if x.id == conversationID {
			return true
		}
	}
	return false
}
