package realtime

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/parley-chat/parley/internal/backoff"
	"github.com/parley-chat/parley/internal/event"
	"github.com/parley-chat/parley/internal/lifecycle"
	"github.com/parley-chat/parley/internal/realtime/wire"
)

const (
	heartbeatLook = time.Second
	typingLook    = 250 * time.Millisecond
	drainLook     = 20 * time.Millisecond
	// drainPace is the longest time between the close frames of two sockets on a drain, on average.
	drainPace = 5 * time.Millisecond
)

// Run runs the parts of the hub until ctx ends: flushers, repairs, heartbeats, expiry of typing, presence and profiles.
func (h *Hub) Run(ctx context.Context) error {
	g := lifecycle.NewGroup(ctx)
	g.Go("flushers", h.flushers.run)
	g.Go("memberships", h.memberships.Run)
	g.Go("repairs", h.repairs.run)
	g.Go("rejoin", h.rejoin)
	g.Go("heartbeat", func(ctx context.Context) error {
		return lifecycle.Every(ctx, heartbeatLook, func(context.Context) { h.beat(h.now()) })
	})
	g.Go("typing", func(ctx context.Context) error {
		return lifecycle.Every(ctx, typingLook, func(context.Context) { h.typing.expire() })
	})
	if h.watches != nil {
		g.Go("presence", h.watches.run)
		g.Go("peers", h.watches.peers.Run)
		g.Go("baselines", h.watches.baselines.Run)
	}
	if h.profiles != nil {
		g.Go("profiles", h.profiles.run)
	}
	return g.Wait()
}

// beat sends a ping to every socket to which nothing was written for a heartbeat. To a socket from which nothing was received for a heartbeat it
// sends a protocol ping, which WebSocket libraries answer automatically. Sockets from which nothing was received for two heartbeats are cut.
func (h *Hub) beat(now int64) {
	beat := int64(h.heartbeat)
	ping, protocolPing := wire.HeartbeatFrame(), wire.PingFrame()
	wall := time.Now()
	h.each(func(s *Session) {
		s.expire(wall)
		switch {
		case now-s.lastHeard.Load() > 2*beat:
			s.fail(reasonSilent)
		case now-s.lastWritten.Load() >= beat:
			s.pinged.CompareAndSwap(0, now)
			s.Send(event.TypePing, ping)
		case now-s.lastHeard.Load() >= beat && s.pinged.CompareAndSwap(0, now):
			s.Send(typeProtocolPing, protocolPing)
		}
	})
}

// each calls f for every session, without holding a lock.
func (h *Hub) each(f func(*Session)) {
	for i := range h.users {
		sh := &h.users[i]
		sh.mu.RLock()
		var list []*Session
		for _, sessions := range sh.m {
			list = append(list, sessions...)
		}
		sh.mu.RUnlock()
		for _, s := range list {
			f(s)
		}
	}
}

// Drain closes all sockets with 1012, in random order, at random moments, over at most half of the time until ctx's deadline, so that their
// clients don't reconnect to the other pods all at once. It returns when all sockets are gone or ctx ends.
func (h *Hub) Drain(ctx context.Context) {
	h.mu.Lock()
	h.draining = true
	h.mu.Unlock()
	var list []*Session
	h.each(func(s *Session) { list = append(list, s) })
	rand.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
	pause := drainPace
	if deadline, ok := ctx.Deadline(); ok && len(list) > 0 {
		pause = min(pause, time.Until(deadline)/2/time.Duration(len(list)))
	}
	start := time.Now()
	for i, s := range list {
		at := start.Add(time.Duration((float64(i) + rand.Float64()) * float64(pause))) //nolint:gosec // it may be guessed
		backoff.Wait(ctx, time.Until(at))
		s.Close(CloseGoingAway)
	}
	for h.open() > 0 && ctx.Err() == nil {
		backoff.Wait(ctx, drainLook)
	}
	h.log.Info("sockets were closed because the pod is stopping", "sockets", len(list), "left", h.open(), "duration", time.Since(start).String())
}

func (h *Hub) open() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.count
}

// typers has the topics with a typing user.
type typers struct {
	mu sync.Mutex // guards m; taken with a topic's lock held
	m  map[*topic]bool
}

func newTypers() *typers { return &typers{m: map[*topic]bool{}} }

func (y *typers) note(t *topic) {
	y.mu.Lock()
	defer y.mu.Unlock()
	y.m[t] = true
}

func (y *typers) expire() {
	y.mu.Lock()
	list := make([]*topic, 0, len(y.m))
	for t := range y.m {
		list = append(list, t)
	}
	clear(y.m)
	y.mu.Unlock()
	now := time.Now()
	for _, t := range list {
		if t.expireTyping(now) {
			y.note(t)
		}
	}
}
