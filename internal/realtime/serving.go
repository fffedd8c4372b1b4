package realtime

import (
	"github.com/parley-chat/parley/internal/event"
	"github.com/parley-chat/parley/internal/rediskey"
)

// attach puts the session into the conversation's topic. If there is none, it makes one that counts the revision as delivered.
// It returns nil if the revision was read in an earlier generation.
func (h *Hub) attach(s *Session, conversationID string, revision, generation int64) *topic {
	for {
		t := h.topic(conversationID, revision, 0, generation)
		if t == nil {
			return nil
		}
		t.mu.Lock()
		dead := t.dead
		if !dead {
			t.attach(s)
		}
		t.mu.Unlock()
		if !dead {
			return t
		}
	}
}

// topic returns the conversation's topic. If there is none, it makes one that counts the revision as delivered. With expecting, the
// revision of a join, the topic stays without sessions until joinsArrived is called for that revision. It returns nil if the revision was
// read in an earlier generation.
func (h *Hub) topic(conversationID string, revision, expecting, generation int64) *topic {
	sh := h.topicShard(conversationID)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if h.generation.Load() != generation {
		return nil
	}
	t := sh.m[conversationID]
	if t == nil {
		t = &topic{id: conversationID, hub: h, delivered: revision}
		sh.m[conversationID] = t
		h.channels.add(rediskey.ConversationChannel(conversationID))
	}
	if expecting > 0 {
		t.mu.Lock()
		t.awaitedJoin = max(t.awaitedJoin, expecting)
		t.mu.Unlock()
	}
	return t
}

// serving returns the conversation's topic, nil if this pod does not serve it.
func (h *Hub) serving(conversationID string) *topic {
	sh := h.topicShard(conversationID)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	return sh.m[conversationID]
}

// dropIfEmpty removes a topic that has no sessions and awaits none. It unsubscribes the conversation's channel.
func (h *Hub) dropIfEmpty(t *topic) {
	t.mu.Lock()
	empty := t.idle()
	t.mu.Unlock()
	if !empty {
		return
	}
	sh := h.topicShard(t.id)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.idle() {
		return
	}
	t.dead = true
	delete(sh.m, t.id)
	h.channels.remove(rediskey.ConversationChannel(t.id))
}

func (t *topic) idle() bool { return len(t.sessions) == 0 && t.awaitedJoin == 0 && !t.dead }

// deliveredAfter reports whether the topic has delivered events after the revision.
func (t *topic) deliveredAfter(revision int64) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.delivered > revision
}

// serveJoin makes this pod serve a conversation that one of its users was added to. Usually it returns nil: the event of the join will
// attach the user's sockets. If the topic has delivered the join already, or was made after it, serveJoin returns the topic, and the
// caller checks for sockets that are not attached (doc.go draws both cases).
func (h *Hub) serveJoin(j event.Join, generation int64) *topic {
	t := h.topic(j.ConversationID, j.Revision-1, j.Revision, generation)
	if t == nil {
		return nil
	}
	if t.deliveredAfter(j.Revision - 1) {
		h.joinsArrived(t, j.Revision)
		return t
	}
	h.repairs.repairSoon(t, j.Revision)
	return nil
}

// joinsArrived ends the wait of a topic for joins up to a revision: their sockets are attached, or won't be.
func (h *Hub) joinsArrived(t *topic, revision int64) {
	t.mu.Lock()
	if t.awaitedJoin <= revision {
		t.awaitedJoin = 0
	}
	t.mu.Unlock()
	h.dropIfEmpty(t)
}
