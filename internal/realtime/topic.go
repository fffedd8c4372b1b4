package realtime

import (
	"slices"
	"sync"
	"time"

	"github.com/parley-chat/parley/internal/event"
	"github.com/parley-chat/parley/internal/realtime/wire"
)

// maxPending bounds the events of one topic that wait for one that is missing. What is dropped is read from Postgres.
const maxPending = 256

// typingLifetime is how long a typing lasts that nobody renews.
const typingLifetime = 6 * time.Second

// topic is a conversation that this pod serves.
type topic struct {
	id  string
	hub *Hub

	mu        sync.Mutex // guards what follows; held while an event is told, so that the order of telling is one
	told      int64      // the last revision that was told
	sessions  []*Session
	pending   map[int64]*wire.Envelope // heard, but one before them is missing
	typing    map[string]time.Time     // user -> when their typing ends by itself
	expecting int64                    // the last join whose user's sockets are about to come in, for which it is kept without any; 0 for none
	dead      bool                     // out of the hub's map
}

// receive takes an event that Redis brought.
func (t *topic) receive(e *wire.Envelope) {
	t.order(e)
	t.hub.dropIfEmpty(t)
}

// order tells an event if it is its turn, and keeps it if one before it is missing.
func (t *topic) order(e *wire.Envelope) {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case t.dead: // whoever it brings in would hear nothing more
	case e.Revision == 0:
		t.ephemeral(e)
	case e.Revision <= t.told:
		t.hub.metrics.duplicates.Inc()
	case e.Revision == t.told+1:
		t.tell(e)
		t.tellPending()
	default:
		if len(t.pending) < maxPending {
			if t.pending == nil {
				t.pending = map[int64]*wire.Envelope{}
			}
			t.pending[e.Revision] = e
		}
		t.hub.repairs.soon(t, e.Revision)
	}
}

// replay delivers events that were read from Postgres.
func (t *topic) replay(gone, events []*wire.Envelope) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.dead {
		return
	}
	for _, e := range gone {
		if e.Revision > t.told {
			t.expel(e)
		}
	}
	for _, e := range events {
		if e.Revision == t.told+1 {
			t.hub.metrics.repaired.Inc()
			t.tell(e)
		}
	}
	t.tellPending()
}

func (t *topic) tellPending() {
	for len(t.pending) > 0 {
		e := t.pending[t.told+1]
		if e == nil {
			break
		}
		t.tell(e)
	}
	for r := range t.pending {
		if r <= t.told {
			delete(t.pending, r)
		}
	}
	if len(t.pending) == 0 {
		t.pending = nil
	}
}

// tell gives the next event to whom it concerns, and lets it decide who gets those that follow.
func (t *topic) tell(e *wire.Envelope) {
	t.told = e.Revision
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
	t.hub.metrics.told(e.Type, n)
}

// welcome brings in those who see the conversation from this event on; the others are told of them.
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
	t.hub.metrics.told(e.Type, others)
	t.hub.metrics.told(event.TypeConversationCreated, welcomed)
}

// lacking are the user's sockets that should have come in by a join that was told, and did not.
func (t *topic) lacking(j event.UserJoin) (out []*Session) {
	for _, s := range t.hub.sessionsOf(j.UserID) {
		if s.lacks(t, j.Revision) {
			out = append(out, s)
		}
	}
	return out
}

// bringIn tells those sockets all from the join up to what was told to the others. It returns false where more was told than
// the events that were read.
func (t *topic) bringIn(j event.UserJoin, events []*wire.Envelope) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.dead {
		return true // the next poll makes another, from the join
	}
	if events[len(events)-1].Revision < t.told {
		return false
	}
	for _, s := range t.lacking(j) {
		in := false
		for _, e := range events {
			switch {
			case e.Revision > t.told:
			case slices.Contains(e.Added, j.UserID):
				in = true
				s.push(e.Welcome, e)
				t.hub.metrics.told(event.TypeConversationCreated, 1)
			case in:
				s.push(e.Frame, e)
				t.hub.metrics.told(e.Type, 1)
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

// expel tells a removed user alone of the removal, and nothing after it.
func (t *topic) expel(e *wire.Envelope) {
	for _, s := range t.sessions {
		if slices.Contains(e.Removed, s.UserID) {
			s.push(e.Frame, e)
			t.hub.metrics.told(e.Type, 1)
		}
	}
	t.detachUsers(e)
}

// ephemeral delivers an event that changes nothing and that nobody repairs, but not to the users whom it excepts.
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

// noteTyping tells whether the others are to be told of it.
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

// expireTyping ends what nobody renewed, and tells whether any is left.
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

// attach puts a session in, unless it is closed or in already. It returns false where the session is closed.
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

func (s *Session) forget(t *topic) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.topics = slices.DeleteFunc(s.topics, func(x *topic) bool { return x == t })
}

// maxLeft bounds what a session remembers of conversations that it left.
const maxLeft = 64

// leave is the end of a session's time in a conversation.
type leave struct {
	conversationID string
	revision       int64 // of the event that ended it, the last that the session was told
}

// lacks tells whether the session is not in the topic, though its user came in by that revision and did not leave since. One
// that has not started reads by itself where it belongs.
func (s *Session) lacks(t *topic, joined int64) bool {
	if s.leftAfter(t.id, joined) {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state == open && !slices.Contains(s.topics, t)
}

// leave notes that the session is out of a conversation. The oldest of too many is forgotten.
func (s *Session) leave(conversationID string, revision int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.left = slices.DeleteFunc(s.left, func(l leave) bool { return l.conversationID == conversationID })
	if len(s.left) == maxLeft {
		s.left = slices.Delete(s.left, 0, 1)
	}
	s.left = append(s.left, leave{conversationID, revision})
}

// leftAfter tells whether the session was told of an event, and left after it. A poll hears of joins that are over, and where
// the pod has forgotten the conversation since, its events are read again from there.
func (s *Session) leftAfter(conversationID string, revision int64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.ContainsFunc(s.left, func(l leave) bool { return l.conversationID == conversationID && l.revision > revision })
}
