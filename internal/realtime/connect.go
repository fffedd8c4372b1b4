package realtime

import (
	"context"
	"errors"
	"net"
	"slices"
	"syscall"
	"time"

	"github.com/parley-chat/parley/internal/event"
	"github.com/parley-chat/parley/internal/id"
	"github.com/parley-chat/parley/internal/realtime/wire"
	"github.com/parley-chat/parley/internal/rediskey"
	"github.com/parley-chat/parley/internal/timestamp"
)

// ErrDraining is returned for a new socket while the pod is shutting down.
var ErrDraining = errors.New("the pod is going away")

// Connect makes a session from an open connection and starts it with its ready frame. Every commit after the ready frame is delivered, because
// subscriptions are established before it, or repairs take their place (subscribeWait). It returns ErrDraining while the pod is stopping.
func (h *Hub) Connect(ctx context.Context, who Identity, conn net.Conn) (*Session, error) {
	s := &Session{Identity: who, ID: id.New(), hub: h, conn: conn}
	if !who.ExpiresAt.IsZero() {
		s.Extend(who.ExpiresAt, who.Signer)
	}
	if sc, ok := conn.(syscall.Conn); ok {
		s.raw, _ = sc.SyscallConn()
	}
	s.Heard()
	s.lastWritten.Store(h.now())
	if err := h.register(s); err != nil {
		return nil, err
	}
	epoch, err := h.joinPresent(ctx, s)
	if err != nil {
		s.detach()
		return nil, err
	}
	watch := func() {}
	if h.watches != nil {
		var err error
		if watch, err = h.watches.connect(ctx, s); err != nil {
			s.detach()
			return nil, err
		}
	}
	h.metrics.opened.Inc()
	h.metrics.sent(event.TypeReady, 1)
	ready := readyData(who, h.heartbeat)
	ready.Epoch = epoch
	s.start(wire.NewFrame(event.TypeReady, ready))
	watch()
	return s, nil
}

func readyData(who Identity, heartbeat time.Duration) event.Ready {
	r := event.Ready{
		UserID: who.UserID, DeviceID: who.DeviceID, HeartbeatSeconds: int(heartbeat / time.Second), ServerTime: timestamp.Time{Time: time.Now()},
	}
	if who.SessionID != "" {
		r.SessionID = &who.SessionID
	}
	if !who.ExpiresAt.IsZero() {
		r.ExpiresAt = &timestamp.Time{Time: who.ExpiresAt}
	}
	return r
}

// Refused counts a socket that was upgraded but could not be served.
func (h *Hub) Refused(code int) { h.metrics.closed(code, closings[code].Reason) }

// register adds the session under its user, so that every later join of the user finds it.
func (h *Hub) register(s *Session) error {
	h.mu.Lock()
	if h.draining {
		h.mu.Unlock()
		return ErrDraining
	}
	if s.SessionID != "" {
		h.bySession[s.SessionID] = append(h.bySession[s.SessionID], s)
	}
	h.count++
	h.metrics.active.Set(float64(h.count))
	h.mu.Unlock()

	sh := h.userShard(s.UserID)
	sh.mu.Lock()
	first := len(sh.m[s.UserID]) == 0
	sh.m[s.UserID] = append(sh.m[s.UserID], s)
	var oldest *Session
	if len(sh.m[s.UserID]) > maxSockets {
		oldest = sh.m[s.UserID][0]
	}
	if first {
		h.channels.add(rediskey.UserChannel(s.UserID))
	}
	sh.mu.Unlock()
	if oldest != nil {
		oldest.Close(CloseReplaced)
	}
	return nil
}

// errHistory means that another history began during a join, so the memberships that were read are outdated.
var errHistory = errors.New("the database has another history")

// joinPresent calls join until it succeeds without another history beginning meanwhile. It returns the epoch of the topics that were joined.
func (h *Hub) joinPresent(ctx context.Context, s *Session) (epoch string, err error) {
	for {
		generation, epoch := h.generation.Load(), h.epoch()
		err := h.join(ctx, s)
		if err == nil && h.generation.Load() == generation && h.epoch() == epoch && epoch != betweenEpochs {
			return epoch, nil
		}
		if err != nil && !errors.Is(err, errHistory) || ctx.Err() != nil {
			return "", err
		}
	}
}

// join puts the session into the topics of its user's conversations.
func (h *Hub) join(ctx context.Context, s *Session) error {
	generation := h.generation.Load()
	mine, err := h.memberships.Call(ctx, s.UserID)
	if err != nil {
		return err
	}
	channels := []string{rediskey.UserChannel(s.UserID)}
	stale := false
	for id, revision := range mine {
		t := h.attach(s, id, revision, generation)
		if t == nil {
			return errHistory
		}
		channels = append(channels, rediskey.ConversationChannel(id))
		stale = stale || t.deliveredAfter(revision)
	}
	h.channels.await(ctx, channels, subscribeWait)
	if !stale {
		return nil
	}
	// A topic had already delivered later events than the revision that was read. They may include a removal of this user, which did not
	// find the session because it was not attached yet. So the memberships are read again. Later removals find the session.
	mine, err = h.memberships.Call(ctx, s.UserID)
	if err != nil {
		return err
	}
	for _, t := range s.snapshot() {
		if _, still := mine[t.id]; !still {
			t.detach(s)
			s.forget(t)
			h.dropIfEmpty(t)
		}
	}
	return nil
}

// snapshot returns a copy of the session's topics.
func (s *Session) snapshot() []*topic {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.topics)
}

// remove removes a session from the hub and its topics.
func (h *Hub) remove(s *Session) {
	if h.watches != nil {
		h.watches.gone(s)
	}
	sh := h.userShard(s.UserID)
	sh.mu.Lock()
	rest := slices.DeleteFunc(sh.m[s.UserID], func(x *Session) bool { return x == s })
	if len(rest) == 0 {
		delete(sh.m, s.UserID)
		h.channels.remove(rediskey.UserChannel(s.UserID))
	} else {
		sh.m[s.UserID] = rest
	}
	sh.mu.Unlock()

	for _, t := range s.leaveTopics() {
		t.detach(s)
		h.dropIfEmpty(t)
	}

	h.mu.Lock()
	defer h.mu.Unlock()
	if s.SessionID != "" {
		list := slices.DeleteFunc(h.bySession[s.SessionID], func(x *Session) bool { return x == s })
		if len(list) == 0 {
			delete(h.bySession, s.SessionID)
		} else {
			h.bySession[s.SessionID] = list
		}
	}
	h.count--
	h.metrics.active.Set(float64(h.count))
}
