package realtime

import (
	"slices"
	"sync"
	"time"

	"github.com/parley-chat/parley/internal/event"
	"github.com/parley-chat/parley/internal/realtime/wire"
)

// maxPending bounds the events of one topic that wait for a missing one. Further ones are dropped and read from Postgres.
const maxPending = 256

// typingLifetime is how long typing lasts without renewal.
const typingLifetime = 6 * time.Second

// topic is a conversation that this pod serves: its sessions, and the revision delivered last.
type topic struct {
	id  string
	hub *Hub

	mu          sync.Mutex // guards the following fields; held during a delivery, so that all sessions get events in the same order
	delivered   int64      // the last revision that was delivered
	sessions    []*Session
	pending     map[int64]*wire.Envelope // received, but an earlier one is missing
	typing      map[string]time.Time     // by user, when the typing ends without renewal
	awaitedJoin int64                    // see serveJoin; 0 for none
	dead        bool                     // removed from the hub's map
}

// receive processes an event from Redis.
func (t *topic) receive(e *wire.Envelope) {
	t.order(e)
	t.hub.dropIfEmpty(t)
}

// order delivers an event if it is the next one, keeps it if an earlier one is missing, and drops it if it was delivered already.
func (t *topic) order(e *wire.Envelope) {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case t.dead: // a session that a join attached now would get no further events
	case e.Revision == 0:
		t.ephemeral(e)
	case e.Revision <= t.delivered:
		t.hub.metrics.duplicates.Inc()
	case e.Revision == t.delivered+1:
		t.deliver(e)
		t.deliverPending()
	default:
		if len(t.pending) < maxPending {
			if t.pending == nil {
				t.pending = map[int64]*wire.Envelope{}
			}
			t.pending[e.Revision] = e
		}
		t.hub.repairs.repairSoon(t, e.Revision)
	}
}

// replay delivers events that were read from Postgres. gone are removals of users who are not members now. They are delivered first,
// because the other events carry the present state, which these users must not get.
func (t *topic) replay(gone, events []*wire.Envelope) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.dead {
		return
	}
	for _, e := range gone {
		if e.Revision > t.delivered {
			t.expel(e)
		}
	}
	for _, e := range events {
		if e.Revision == t.delivered+1 {
			t.hub.metrics.repaired.Inc()
			t.deliver(e)
		}
	}
	t.deliverPending()
}

// deliverPending delivers waiting events as long as they follow without a gap.
func (t *topic) deliverPending() {
	for len(t.pending) > 0 {
		e := t.pending[t.delivered+1]
		if e == nil {
			break
		}
		t.deliver(e)
	}
	for r := range t.pending {
		if r <= t.delivered {
			delete(t.pending, r)
		}
	}
	if len(t.pending) == 0 {
		t.pending = nil
	}
}

// deliver gives the next event to the sessions, and updates the set of sessions for later events. The lock is held.
func (t *topic) deliver(e *wire.Envelope) {
	t.delivered = e.Revision
	delete(t.pending, e.Revision)
	if e.Sent != nil && t.hub.sent != nil {
		t.hub.sent(t.id, *e.Sent)
	}
	if len(e.Added) > 0 {
		t.welcome(e)
		return
	}
	for _, s := range t.sessions {
		s.push(e.Frame, e)
	}
	n := len(t.sessions)
	t.detachUsers(e)
	t.hub.metrics.queued(e.Type, n)
}

// welcome delivers a join: it attaches the sockets of the added users, which get the whole conversation, and the other sessions get the
// event.
func (t *topic) welcome(e *wire.Envelope) {
	added := make(map[string]bool, len(e.Added))
	for _, u := range e.Added {
		added[u] = true
	}
	others, welcomed := 0, 0
	if len(e.Frame) > 0 {
		for _, s := range t.sessions {
			if !added[s.UserID] {
				s.push(e.Frame, e)
				others++
			}
		}
	}
	for _, u := range e.Added {
		for _, s := range t.hub.sessionsOf(u) {
			if !s.leftAfter(t.id, e.Revision) && t.attach(s) {
				s.push(e.Welcome, e)
				welcomed++
			}
		}
	}
	t.hub.metrics.queued(e.Type, others)
	t.hub.metrics.queued(event.TypeConversationCreated, welcomed)
}

// missingSessions returns the user's sockets that a delivered join should have attached, but did not.
func (t *topic) missingSessions(j event.UserJoin) (out []*Session) {
	for _, s := range t.hub.sessionsOf(j.UserID) {
		if s.misses(t, j.Revision) {
			out = append(out, s)
		}
	}
	return out
}

// attachLate delivers the events from the join up to the topic's last delivered revision to the missing sockets only, and attaches them. It
// returns false if the topic has delivered more than the events that were read; the caller then reads more.
func (t *topic) attachLate(j event.UserJoin, events []*wire.Envelope) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.dead {
		return true // the next poll makes a new topic, starting at the join
	}
	if events[len(events)-1].Revision < t.delivered {
		return false
	}
	for _, s := range t.missingSessions(j) {
		in := false
		for _, e := range events {
			switch {
			case e.Revision > t.delivered:
			case slices.Contains(e.Added, j.UserID):
				in = true
				s.push(e.Welcome, e)
				t.hub.metrics.queued(event.TypeConversationCreated, 1)
			case in:
				s.push(e.Frame, e)
				t.hub.metrics.queued(e.Type, 1)
				if e.Ends || slices.Contains(e.Removed, j.UserID) {
					in = false
					s.leave(t.id, e.Revision)
				}
			}
		}
		if in {
			t.attach(s)
		}
	}
	return true
}

// expel delivers a removal to the removed user only, and detaches that user's sessions.
func (t *topic) expel(e *wire.Envelope) {
	for _, s := range t.sessions {
		if slices.Contains(e.Removed, s.UserID) {
			s.push(e.Frame, e)
			t.hub.metrics.queued(e.Type, 1)
		}
	}
	t.detachUsers(e)
}

// ephemeral delivers an event without a revision, which is never repaired, to all sessions except those of excepted users.
func (t *topic) ephemeral(e *wire.Envelope) {
	if e.Typing != nil && !t.noteTyping(e.Typing) {
		return
	}
	for _, s := range t.sessions {
		if s.UserID != e.Except && !slices.Contains(e.ExceptMany, s.UserID) {
			s.Send(e.Type, e.Frame)
		}
	}
}

// noteTyping records that a user is or is not typing. It reports whether the others have to be notified.
func (t *topic) noteTyping(y *event.Typing) bool {
	_, was := t.typing[y.UserID]
	if !y.Active {
		delete(t.typing, y.UserID)
		return was
	}
	if t.typing == nil {
		t.typing = map[string]time.Time{}
	}
	t.typing[y.UserID] = time.Now().Add(typingLifetime)
	t.hub.typing.note(t)
	return true
}

// expireTyping ends typing that was not renewed, and reports whether any remains.
func (t *topic) expireTyping(now time.Time) (left bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for user, until := range t.typing {
		if now.Before(until) {
			continue
		}
		t.ephemeral(wire.Seal(event.UserTyping(event.Typing{ConversationID: t.id, UserID: user})))
	}
	if len(t.typing) == 0 {
		t.typing = nil
	}
	return t.typing != nil
}

// attach adds a session, unless it is closed or attached already. It returns false if the session is closed.
func (t *topic) attach(s *Session) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state > open {
		return false
	}
	if !slices.Contains(s.topics, t) {
		s.topics = append(s.topics, t)
		t.sessions = append(t.sessions, s)
	}
	return true
}

// detachUsers detaches the sessions of users who were removed by an event; all sessions if it is the conversation's last.
func (t *topic) detachUsers(e *wire.Envelope) {
	if len(e.Removed) == 0 && !e.Ends {
		return
	}
	t.sessions = slices.DeleteFunc(t.sessions, func(s *Session) bool {
		if !e.Ends && !slices.Contains(e.Removed, s.UserID) {
			return false
		}
		s.forget(t)
		s.leave(t.id, e.Revision)
		return true
	})
	for _, u := range e.Removed {
		delete(t.typing, u)
	}
	if e.Ends {
		t.typing = nil
	}
}

// detach removes a session.
func (t *topic) detach(s *Session) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if i := slices.Index(t.sessions, s); i >= 0 {
		last := len(t.sessions) - 1
		t.sessions[i] = t.sessions[last]
		t.sessions[last] = nil
		t.sessions = t.sessions[:last]
	}
}

// forget removes a topic from the session's list.
func (s *Session) forget(t *topic) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.topics = slices.DeleteFunc(s.topics, func(x *topic) bool { return x == t })
}

// maxLeft is how many left conversations a session remembers.
const maxLeft = 64

// leave is the end of a session's time in a conversation.
type leave struct {
	conversationID string
	revision       int64 // of the event that ended it, the last that the session got
}

// misses reports whether the session is not in the topic although its user joined at that revision and has not left since. A session
// that has not started yet is never missing, because it reads its memberships itself.
func (s *Session) misses(t *topic, joined int64) bool {
	if s.leftAfter(t.id, joined) {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state == open && !slices.Contains(s.topics, t)
}

// leave remembers that the session has left a conversation. Beyond maxLeft the oldest is dropped.
func (s *Session) leave(conversationID string, revision int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.left = slices.DeleteFunc(s.left, func(l leave) bool { return l.conversationID == conversationID })
	if len(s.left) == maxLeft {
		s.left = slices.Delete(s.left, 0, 1)
	}
	s.left = append(s.left, leave{conversationID, revision})
}

// leftAfter reports whether the session left the conversation after a revision. A poll may return an old join of a user who was removed
// since. If the pod has dropped the topic meanwhile, the events are read again from the join on, and without this check the session would
// get them again.
func (s *Session) leftAfter(conversationID string, revision int64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.ContainsFunc(s.left, func(l leave) bool { return l.conversationID == conversationID && l.revision > revision })
}
