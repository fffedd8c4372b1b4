package realtime

import (
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/parley-chat/parley/internal/realtime/wire"
)

const (
	// writeWait bounds one write to a reader that is slow.
	writeWait = 10 * time.Second
	// closeWait bounds what follows a close frame: its write to a slow reader, then the peer's own close.
	closeWait = 5 * time.Second
)

// Identity says whose socket a session is.
type Identity struct {
	UserID, DeviceID string
	// SessionID is the session with which the socket ends, "" for one of an external token.
	SessionID string
	// ExpiresAt is when an external token ends, and Signer the key that signed it; both are zero for a session. A socket may be given
	// later ones: Session.Extend.
	ExpiresAt time.Time
	Signer    string
}

// state is where a session is in its life. doc.go draws it.
type state uint8

const (
	// joining: the hub knows the session, and frames queue up. Nothing is written before the ready frame.
	joining state = iota
	// open: the outbox flows.
	open
	// closing: a close frame is the last of the outbox. No topic takes the session any more.
	closing
	// leaving: the hub has forgotten the session. What is queued has a moment to be written.
	leaving
	// gone: nothing is written to the connection any more, which is somebody else's.
	gone
	states
)

// legal has the states that may follow each.
var legal = [states][states]bool{
	joining: {open: true, closing: true, gone: true},
	open:    {closing: true, leaving: true},
	closing: {leaving: true},
	leaving: {gone: true},
}

// enter changes the session's state if the change is legal, and reports whether it was. The lock is held.
func (s *Session) enter(next state) bool {
	if !legal[s.state][next] {
		return false
	}
	s.state = next
	return true
}

// Session is one open socket.
type Session struct {
	Identity
	// ID is made per socket and never used again.
	ID string

	hub  *Hub
	conn net.Conn
	raw  syscall.RawConn // nil if the connection has none: then every write takes the slow way

	lastHeard, lastWritten atomic.Int64 // nanoseconds since the hub's start
	expires                atomic.Int64 // when its token ends, in Unix nanoseconds; 0 for one that ends with its session
	pinged                 atomic.Int64 // when a protocol ping was sent that is not answered yet, 0 for none

	// What each delivery touches stands together.
	mu     sync.Mutex // guards what follows
	out    outbox
	state  state
	code   int    // of the close frame that was queued, 0 for none
	reason string // why the socket ends, for metrics; "" while that is not known
	signer string // the key that signed its token
	topics []*topic
	left   []leave // where it was and is no more, the oldest first
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

// push queues a frame, and measures its delivery if it is that of an event.
func (s *Session) push(f wire.Frame, of *wire.Envelope) {
	s.mu.Lock()
	if s.state > open {
		s.mu.Unlock()
		return
	}
	if !s.out.push(f, of) || !s.settle() {
		s.closeTooSlow(reasonQueueFull, s.out.len()+1)
	}
	flows := s.claim()
	s.mu.Unlock()
	if flows {
		s.hub.flushers.add(s)
	}
}

// settle counts what waits for the session in the budget of memory. The lock is held.
func (s *Session) settle() bool { return s.out.settle(s.hub.memory, s.UserID) }

// AwaitWritten returns once all that was queued has been written, or the session is closing. Another sync of a reader waits
// for that: what is asked for again and again is not piled up for somebody who reads none of it. It is bounded by the
// deadlines of writes.
func (s *Session) AwaitWritten() {
	s.mu.Lock()
	if s.state != open || s.out.hand == nobody {
		s.mu.Unlock()
		return
	}
	written := s.out.awaitRelease()
	s.mu.Unlock()
	<-written
}

// update changes the session under its lock and has what is queued then written.
func (s *Session) update(change func()) {
	s.mu.Lock()
	change()
	flows := s.claim()
	s.mu.Unlock()
	if flows {
		s.hub.flushers.add(s)
	}
}

// claim reports whether the outbox is to be given to the flushers. The lock is held.
func (s *Session) claim() bool { return (s.state == open || s.state == closing) && s.out.claim() }

// start lets the outbox flow, the ready frame first.
func (s *Session) start(ready wire.Frame) {
	s.update(func() {
		if s.enter(open) {
			s.out.pushFront(ready)
		}
	})
}

// Close queues a close frame with a code of Closings after what is queued already.
func (s *Session) Close(code int) {
	s.update(func() { s.closeWith(code) })
}

// closeWith is Close under the lock.
func (s *Session) closeWith(code int) {
	if !s.enter(closing) {
		return
	}
	c := closings[code]
	s.because(c.Reason)
	s.code = code
	s.out.add(wire.CloseFrame(code, c.Text))
	_ = s.conn.SetWriteDeadline(time.Now().Add(closeWait))
}

// Echo queues the answer to the peer's own close frame.
func (s *Session) Echo(code int) {
	s.update(func() {
		if !s.enter(closing) {
			return
		}
		s.because(reasonPeer)
		s.code = code
		f := wire.EmptyCloseFrame()
		if code != 1005 { // no status received: RFC 6455, section 7.1.5
			f = wire.CloseFrame(code, "")
		}
		s.out.add(f)
	})
}

// closeTooSlow drops what is queued and closes with 4408. The lock is held.
func (s *Session) closeTooSlow(reason string, dropped int) {
	s.because(reason)
	s.hub.metrics.slowReaders.Inc()
	s.hub.metrics.dropped.Add(float64(dropped))
	s.out.clear()
	s.settle()
	s.closeWith(CloseTooSlow)
}

// because notes why the socket ends. The first reason counts. The lock is held.
func (s *Session) because(reason string) {
	if s.reason == "" {
		s.reason = reason
	}
}

// Closing reports whether a close frame is on its way: what the peer says from then on is not heard.
func (s *Session) Closing() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state >= closing
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
func (s *Session) Detach() { s.hub.metrics.closed(s.detach()) }

// detach is Detach without counting it. It returns how the socket ended.
func (s *Session) detach() (code int, reason string) {
	s.hub.remove(s)
	s.mu.Lock()
	defer s.mu.Unlock()
	if code = s.code; code == 0 {
		code = CloseAbnormal
	}
	s.because(reasonLost)
	reason = s.reason
	if s.out.hand != nobody {
		released := s.out.awaitRelease()
		_ = s.conn.SetWriteDeadline(time.Now().Add(closeWait))
		s.mu.Unlock()
		<-released // bounded by the write deadline
		s.mu.Lock()
	}
	s.enter(gone)
	s.out.clear()
	s.settle()
	return code, reason
}

// leaveTopics has the session in no topic any more, and lets none take it. It returns those that it was in.
func (s *Session) leaveTopics() []*topic {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.enter(leaving) {
		s.enter(gone) // it never started
	}
	topics := s.topics
	s.topics = nil
	return topics
}

// fail drops what is queued and cuts the connection: its reader ends, and detaches.
func (s *Session) fail(reason string) {
	s.mu.Lock()
	s.because(reason)
	s.out.clear()
	s.settle()
	s.mu.Unlock()
	_ = s.conn.Close()
}

// Serves reports whether the session gets the conversation's events, which only members do.
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
