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
	// writeWait bounds one write to a slow client.
	writeWait = 10 * time.Second
	// closeWait bounds the write of a close frame to a slow client, and then the wait for the peer's close frame.
	closeWait = 5 * time.Second
)

// Identity identifies the user, device and login of a socket.
type Identity struct {
	UserID, DeviceID string
	// SessionID is the login with which the socket ends, "" for an external token.
	SessionID string
	// ExpiresAt is when an external token ends, and Signer the key that signed it; both are zero for a login. Session.Extend replaces them.
	ExpiresAt time.Time
	Signer    string
}

// state is the state of a session. doc.go draws the transitions.
type state uint8

const (
	// joining: the hub knows the session, and frames queue up. Nothing is written before the ready frame.
	joining state = iota
	// open: the outbox is being written.
	open
	// closing: a close frame is the last of the outbox. No topic attaches the session any more.
	closing
	// leaving: the hub has removed the session. Queued frames have closeWait to be written.
	leaving
	// gone: nothing is written to the connection any more; the server may reuse it.
	gone
	states
)

// legal has the states that may follow each state.
var legal = [states][states]bool{
	joining: {open: true, closing: true, gone: true},
	open:    {closing: true, leaving: true},
	closing: {leaving: true},
	leaving: {gone: true},
}

// enter changes the session's state if the transition is legal, and reports whether it was. The lock is held.
func (s *Session) enter(next state) bool {
	if !legal[s.state][next] {
		return false
	}
	s.state = next
	return true
}

// Session is one open socket. Its exported methods may be called from any goroutine; Detach once, by the socket's handler.
type Session struct {
	Identity
	// ID is unique for each socket and never reused.
	ID string

	hub  *Hub
	conn net.Conn
	raw  syscall.RawConn // nil if the connection has none: a follower then writes every frame

	lastHeard, lastWritten atomic.Int64 // nanoseconds since the hub's start
	expires                atomic.Int64 // when its token ends, in Unix nanoseconds; 0 for one that ends with its session
	pinged                 atomic.Int64 // when the outstanding protocol ping was sent, 0 for none

	// The fields that each delivery uses are adjacent, for the cache.
	mu     sync.Mutex // guards the following fields
	out    outbox
	state  state
	code   int    // of the close frame that was queued, 0 for none
	reason string // why the socket ends, for metrics; "" if not known yet
	signer string // the key that signed its token, "" for a login
	topics []*topic
	left   []leave // the conversations that it has left, the oldest first, at most maxLeft
}

// Send queues a frame of that type. It never blocks. A closing socket drops the frame; its client will sync.
func (s *Session) Send(typ string, f wire.Frame) {
	s.hub.metrics.sent(typ, 1)
	s.push(f, nil)
}

// Reply queues the response to the client's frame with that id, "" for none.
func (s *Session) Reply(typ, id string, data any) { s.Send(typ, wire.NewReply(typ, id, data)) }

// Pong queues the pong for a protocol ping.
func (s *Session) Pong(payload string) { s.Send(typeProtocolPong, wire.PongFrame(payload)) }

// push queues a frame, and measures its delivery if it belongs to an event. If the queue or the memory budget is full, it closes
// the socket as too slow.
func (s *Session) push(f wire.Frame, of *wire.Envelope) {
	s.mu.Lock()
	if s.state > open {
		s.mu.Unlock()
		return
	}
	if !s.out.push(f, of) || !s.charge() {
		s.closeTooSlow(reasonQueueFull, s.out.len()+1)
	}
	flows := s.claim()
	s.mu.Unlock()
	if flows {
		s.hub.flushers.add(s)
	}
}

// charge updates the memory budget with the size of the outbox. It returns false if the budget is exceeded. The lock is held.
func (s *Session) charge() bool { return s.out.charge(s.hub.memory, s.UserID) }

// AwaitWritten returns once everything that was queued has been written, or the session is closing. A client's next sync waits for
// this, so that large responses don't pile up for a client that does not read them. The write deadlines bound the wait.
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

// update changes the session under its lock and starts the writing of queued frames.
func (s *Session) update(change func()) {
	s.mu.Lock()
	change()
	flows := s.claim()
	s.mu.Unlock()
	if flows {
		s.hub.flushers.add(s)
	}
}

// claim reports whether the caller must give the session to the flushers. The lock is held.
func (s *Session) claim() bool { return (s.state == open || s.state == closing) && s.out.claim() }

// start opens the session: its outbox is written from now on, the ready frame first.
func (s *Session) start(ready wire.Frame) {
	s.update(func() {
		if s.enter(open) {
			s.out.pushFront(ready)
		}
	})
}

// Close queues a close frame with a code of Closings, after the frames that are queued already.
func (s *Session) Close(code int) {
	s.update(func() { s.closeWith(code) })
}

// closeWith is Close; the lock is held.
func (s *Session) closeWith(code int) {
	if !s.enter(closing) {
		return
	}
	c := closings[code]
	s.noteReason(c.Reason)
	s.code = code
	s.out.add(wire.CloseFrame(code, c.Text))
	_ = s.conn.SetWriteDeadline(time.Now().Add(closeWait))
}

// Echo queues the response to the peer's close frame.
func (s *Session) Echo(code int) {
	s.update(func() {
		if !s.enter(closing) {
			return
		}
		s.noteReason(reasonPeer)
		s.code = code
		f := wire.EmptyCloseFrame()
		if code != 1005 { // no status received: RFC 6455, section 7.1.5
			f = wire.CloseFrame(code, "")
		}
		s.out.add(f)
	})
}

// closeTooSlow drops the queued frames and closes with 4408. The lock is held.
func (s *Session) closeTooSlow(reason string, dropped int) {
	s.noteReason(reason)
	s.hub.metrics.slowReaders.Inc()
	s.hub.metrics.dropped.Add(float64(dropped))
	s.out.clear()
	s.charge()
	s.closeWith(CloseTooSlow)
}

// noteReason records why the socket ends. The first reason counts. The lock is held.
func (s *Session) noteReason(reason string) {
	if s.reason == "" {
		s.reason = reason
	}
}

// Closing reports whether a close frame is queued or sent: further frames of the peer are ignored.
func (s *Session) Closing() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state >= closing
}

// Heard records that the peer has sent something.
func (s *Session) Heard() { s.lastHeard.Store(s.hub.now()) }

// Ponged records a protocol pong.
func (s *Session) Ponged() {
	s.Heard()
	if at := s.pinged.Swap(0); at != 0 {
		s.hub.metrics.pings.Observe(time.Duration(s.hub.now() - at).Seconds())
	}
}

// Detach ends the session: the hub removes it, queued frames have closeWait to be written, and after that nothing is written.
// The socket's handler calls it before it returns.
func (s *Session) Detach() { s.hub.metrics.closed(s.detach()) }

// detach is Detach without the metric. It returns how the socket ended.
func (s *Session) detach() (code int, reason string) {
	s.hub.remove(s)
	s.mu.Lock()
	defer s.mu.Unlock()
	if code = s.code; code == 0 {
		code = CloseAbnormal
	}
	s.noteReason(reasonLost)
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
	s.charge()
	return code, reason
}

// leaveTopics clears the session's topics, and no topic can attach it from now on. It returns the previous topics.
func (s *Session) leaveTopics() []*topic {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.enter(leaving) {
		s.enter(gone) // it was never started
	}
	topics := s.topics
	s.topics = nil
	return topics
}

// fail drops the queued frames and cuts the connection: its reader ends, and detaches.
func (s *Session) fail(reason string) {
	s.mu.Lock()
	s.noteReason(reason)
	s.out.clear()
	s.charge()
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
