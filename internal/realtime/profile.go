package realtime

import (
	"context"
	"sync"
	"time"

	"github.com/parley-chat/parley/internal/event"
	"github.com/parley-chat/parley/internal/postgres"
	"github.com/parley-chat/parley/internal/realtime/wire"
	"github.com/parley-chat/parley/internal/rediskey"
)

// Profiles is the part of the user domain that the hub needs.
type Profiles interface {
	// Changed reads the users whose profiles changed within a time before now, with the times of the changes in microseconds since 1970.
	Changed(ctx context.Context, within time.Duration) (map[string]int64, error)
	// Profiles reads profiles with the times of their last changes.
	Profiles(ctx context.Context, ids []string) ([]event.ProfileChange, error)
	// Apart reads the pairs that are separated by a block.
	Apart(ctx context.Context, pairs []event.PresencePair) (map[event.PresencePair]bool, error)
}

const (
	// profilesEvery is how often changed profiles are read from Postgres. profilesMargin is how far a read reaches back beyond the start of
	// the previous one: longer than a statement takes to commit.
	profilesEvery  = 2 * time.Second
	profilesMargin = postgres.StatementTimeout + 10*time.Second
	// profilePairs bounds the pairs of one query for blocks.
	profilePairs = 2000
)

// profiles delivers user:updated: to the sockets that watch the user's presence (friends, direct peers, subscribers) and to
// the user's own, but never across a block. A change is published over Redis at once. Postgres is also read every two seconds, which finds
// lost publications, and changes that are not published, for example by a script.
type profiles struct {
	hub    *Hub
	source Profiles
	wake   chan struct{}

	mu        sync.Mutex // guards the next two fields
	waiting   map[string]event.ProfileChange
	delivered map[string]sentProfile

	lastRead time.Time // used by run's goroutine only
}

// sentProfile is the last change of a profile that was delivered, and when.
type sentProfile struct {
	at   int64
	when time.Time
}

func newProfiles(h *Hub, source Profiles) *profiles {
	return &profiles{
		hub: h, source: source, wake: make(chan struct{}, 1), waiting: map[string]event.ProfileChange{}, delivered: map[string]sentProfile{},
		lastRead: time.Now(),
	}
}

// heard queues a change, unless it or a later one was delivered or queued already.
func (p *profiles) heard(c event.ProfileChange) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.delivered[c.User.ID].at >= c.At || p.waiting[c.User.ID].At >= c.At {
		return
	}
	p.waiting[c.User.ID] = c
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

func (p *profiles) run(ctx context.Context) error {
	t := time.NewTicker(profilesEvery)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-p.wake:
		case <-t.C:
			if err := p.readChanged(ctx); err != nil {
				p.hub.log.Debug("changed profiles could not be read", "error", err)
			}
		}
		if err := p.deliver(ctx); err != nil {
			p.hub.log.Debug("changed profiles could not be delivered and are retried", "error", err)
		}
	}
}

// readChanged reads changed profiles from Postgres, and queues those of users whom sockets of this pod see.
func (p *profiles) readChanged(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, postgres.StatementTimeout)
	defer cancel()
	start := time.Now()
	changed, err := p.source.Changed(ctx, profilesMargin+start.Sub(p.lastRead))
	if err != nil {
		return err
	}
	var ids []string
	p.mu.Lock()
	for id, at := range changed {
		if p.delivered[id].at < at {
			ids = append(ids, id)
		}
	}
	for id, d := range p.delivered { // forgets changes that no read returns any more
		if start.Sub(d.when) > 2*profilesMargin && changed[id] == 0 {
			delete(p.delivered, id)
		}
	}
	p.mu.Unlock()
	seen := ids[:0]
	for _, id := range ids {
		if len(p.hub.sessionsOf(id)) > 0 || len(p.hub.watchersOf(id)) > 0 {
			seen = append(seen, id)
		}
	}
	if len(seen) > 0 {
		found, err := p.source.Profiles(ctx, seen)
		if err != nil {
			return err
		}
		for _, c := range found {
			p.heard(c)
		}
	}
	p.lastRead = start
	return nil
}

// deliver sends queued changes. If blocks can't be read, the rest stays queued.
func (p *profiles) deliver(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, postgres.StatementTimeout)
	defer cancel()
	p.mu.Lock()
	changes := make([]event.ProfileChange, 0, len(p.waiting))
	for _, c := range p.waiting {
		changes = append(changes, c)
	}
	p.mu.Unlock()
	for _, c := range changes {
		if err := p.deliverOne(ctx, c); err != nil {
			return err
		}
		p.mu.Lock()
		p.delivered[c.User.ID] = sentProfile{c.At, time.Now()}
		if p.waiting[c.User.ID].At == c.At {
			delete(p.waiting, c.User.ID)
		}
		p.mu.Unlock()
	}
	return nil
}

func (p *profiles) deliverOne(ctx context.Context, c event.ProfileChange) error {
	watchers := p.hub.watchersOf(c.User.ID)
	apart := map[event.PresencePair]bool{}
	for i := 0; i < len(watchers); i += profilePairs {
		pairs := make([]event.PresencePair, 0, profilePairs)
		for _, s := range watchers[i:min(i+profilePairs, len(watchers))] {
			pairs = append(pairs, event.PresencePair{Viewer: s.UserID, Target: c.User.ID})
		}
		found, err := p.source.Apart(ctx, pairs)
		if err != nil {
			return err
		}
		for pair := range found {
			apart[pair] = true
		}
	}
	frame := wire.NewFrame(event.TypeUserUpdated, event.UserUpdated{User: c.User})
	for _, s := range p.hub.sessionsOf(c.User.ID) {
		s.Send(event.TypeUserUpdated, frame)
	}
	for _, s := range watchers {
		if s.UserID != c.User.ID && !apart[event.PresencePair{Viewer: s.UserID, Target: c.User.ID}] {
			s.Send(event.TypeUserUpdated, frame)
		}
	}
	return nil
}

// watchersOf returns the sockets that watch a user's presence, without those that still have to read it.
func (h *Hub) watchersOf(userID string) []*Session {
	if h.watches == nil {
		return nil
	}
	h.watches.mu.Lock()
	defer h.watches.mu.Unlock()
	t := h.watches.users[userID]
	if t == nil {
		return nil
	}
	out := make([]*Session, 0, len(t.views))
	for s, v := range t.views {
		if v != pending {
			out = append(out, s)
		}
	}
	return out
}

// ProfileChanged publishes a changed profile to the pods whose sockets watch the user's presence, and to those of the user's sockets.
func (p *Publisher) ProfileChanged(ctx context.Context, c event.ProfileChange) {
	p.add(rediskey.PresenceChannel(c.User.ID), event.PresenceNews{Recheck: true, Profile: &c}.Encode())
	p.Notify(event.ProfileNotice(c).In(ctx))
}
