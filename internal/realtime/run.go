package realtime

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/parley-chat/parley/internal/event"
	"github.com/parley-chat/parley/internal/lifecycle"
)

const (
	heartbeatLook = time.Second
	typingLook    = 250 * time.Millisecond
	drainLook     = 20 * time.Millisecond
	// drainPace is the longest time between the close frames of two sockets on a drain.
	drainPace = 5 * time.Millisecond
)

// Run keeps the hub going until ctx ends: the flushers, the repairs, the heartbeats, the ends of typings.
func (h *Hub) Run(ctx context.Context) error {
	var g errgroup.Group
	g.Go(func() error { return h.flushers.run(ctx) })
	g.Go(func() error { return h.repairs.run(ctx) })
	g.Go(func() error {
		return lifecycle.Every(ctx, heartbeatLook, func(context.Context) { h.beat() })
	})
	g.Go(func() error {
		return lifecycle.Every(ctx, typingLook, func(context.Context) { h.typing.expire() })
	})
	if h.watches != nil {
		g.Go(func() error { return h.watches.run(ctx) })
	}
	return g.Wait()
}

// beat gives every socket that heard or said nothing else a ping, and cuts those that said nothing for twice as long: who
// only listens, to much, says nothing but pongs.
func (h *Hub) beat() {
	now, beat := h.now(), int64(h.heartbeat)
	ping := event.HeartbeatFrame()
	h.each(func(s *Session) {
		silent := now - s.lastHeard.Load()
		asked := s.asked && silent >= beat
		switch s.asked = silent >= beat; {
		case silent > 2*beat:
			s.fail()
		case now-s.lastWritten.Load() >= beat, s.asked && !asked:
			s.Send(ping)
		}
	})
}

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

// Drain closes all sockets with 1012, in random order and spread over half of the time that ctx leaves, so that their
// clients don't come to the other pods all at once, and waits until they are gone or ctx ends.
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
		s.Close(CloseGoingAway, "the pod goes away")
		wait(ctx, time.Until(start.Add(time.Duration(i)*pause)))
	}
	for h.open() > 0 && ctx.Err() == nil {
		wait(ctx, drainLook)
	}
}

func wait(ctx context.Context, d time.Duration) {
	if d <= 0 {
		return
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}

func (h *Hub) open() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.count
}

// typers are the topics in which somebody types.
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
