package realtime

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/parley-chat/parley/internal/event"
	"github.com/parley-chat/parley/internal/rediskey"
)

// Presences is what the hub needs of the domain of presence.
type Presences interface {
	// Read reads users' presence as the viewer may see it, in their order.
	Read(ctx context.Context, viewerID string, userIDs []string) ([]event.Presence, error)
	// States reads what Redis knows of users, in their order.
	States(ctx context.Context, userIDs []string) ([]event.PresenceState, error)
	// Peers reads whom viewers watch by themselves.
	Peers(ctx context.Context, viewerIDs []string) ([]event.PresencePair, error)
	// Visible reads which viewers may see their targets now, with when Postgres saw the target last.
	Visible(ctx context.Context, pairs []event.PresencePair) (map[event.PresencePair]int64, error)
}

// Heartbeats keep a pod's sockets online.
type Heartbeats interface {
	Opened(userID, deviceID, connectionID string)
	Closed(connectionID string)
}

// ErrTooManyWatched is returned where a socket would watch more users than it may.
var ErrTooManyWatched = errors.New("a socket watches at most 200 users besides friends and direct peers")

// maxWatched is how many users a socket watches at its own wish.
const maxWatched = 200

// view is what a socket was told of a user.
type view uint8

const (
	// pending is a socket's that is just being told the present state: events wait.
	pending view = iota
	// unknown is where the state could not be read: the socket is told as soon as it can be.
	unknown
	// hidden is offline, without a time: nobody is there, or the socket's user may not see them.
	hidden
	offline
	online
)

func viewOf(p event.Presence) view {
	switch {
	case p.Status == event.StatusOnline:
		return online
	case p.LastSeenAt != nil:
		return offline
	}
	return hidden
}

// watched is a user whom sockets of this pod watch. watches.mu guards it.
type watched struct {
	userID string
	state  event.PresenceState
	// known is set once the state was read or told.
	known bool
	// lostAt is when Redis was first found to know nothing of one who was online: it may have lost its memory.
	lostAt time.Time
	views  map[*Session]view
}

// watching is what a session watches. watches.mu guards it.
type watching struct {
	own   map[string]bool // at its own wish
	peers map[string]bool // by themselves
}

// watches are whom the sockets of this pod watch, and what each was told. One worker tells all of them, so that nothing
// overtakes anything.
type watches struct {
	hub        *Hub
	presences  Presences
	heartbeats Heartbeats
	wake       chan struct{}
	told       presenceMetrics

	mu       sync.Mutex // guards what follows; nothing else is locked or asked under it but sessions' queues and the subscriber
	users    map[string]*watched
	sessions map[*Session]*watching
	changed  map[string]bool // users whose sockets are to be told what changed
	unread   map[string]bool // users whose state is to be read first
	joined   map[string]bool // viewers who may have new friends or peers
	rereadAt time.Time       // when all states are to be read, zero for never
}

func newWatches(h *Hub, p Presences, b Heartbeats) *watches {
	return &watches{
		hub: h, presences: p, heartbeats: b, wake: make(chan struct{}, 1), told: h.metrics.presence,
		users: map[string]*watched{}, sessions: map[*Session]*watching{}, changed: map[string]bool{}, unread: map[string]bool{},
		joined: map[string]bool{},
	}
}

func (w *watches) poke() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// add has a session watch users, pending until activate. It returns those that are new to it.
func (w *watches) add(s *Session, users []string, own bool) (fresh []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	x := w.sessions[s]
	if x == nil {
		return nil
	}
	set := x.peers
	if own {
		set = x.own
	}
	for _, u := range users {
		if x.own[u] || x.peers[u] {
			set[u] = true
			continue
		}
		set[u] = true
		t := w.users[u]
		if t == nil {
			t = &watched{userID: u, views: map[*Session]view{}}
			w.users[u] = t
			w.hub.channels.add(rediskey.PresenceChannel(u))
		}
		t.views[s] = pending
		fresh = append(fresh, u)
	}
	w.told.watched.Set(float64(len(w.users)))
	return fresh
}

// drop ends a session's view of a user. The lock is held.
func (w *watches) drop(s *Session, userID string) {
	t := w.users[userID]
	if t == nil {
		return
	}
	delete(t.views, s)
	if len(t.views) == 0 {
		delete(w.users, userID)
		w.hub.channels.remove(rediskey.PresenceChannel(userID))
		w.told.watched.Set(float64(len(w.users)))
	}
}

// activate lets events flow to a session that was told the presence of users just now. What changed since is told.
func (w *watches) activate(s *Session, users []string, told []event.Presence) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for i, u := range users {
		t := w.users[u]
		if t == nil {
			continue
		}
		if v, is := t.views[s]; !is || v != pending {
			continue
		}
		t.views[s] = unknown
		if told != nil {
			t.views[s] = viewOf(told[i])
		}
		if t.known && told != nil {
			w.changed[u] = true
		} else {
			w.unread[u] = true
		}
	}
	w.poke()
}

// connect has a new session watch its friends and peers. The answer is called once the session has its ready frame.
func (w *watches) connect(ctx context.Context, s *Session) (ready func(), err error) {
	w.mu.Lock()
	w.sessions[s] = &watching{own: map[string]bool{}, peers: map[string]bool{}}
	w.mu.Unlock()
	w.heartbeats.Opened(s.UserID, s.DeviceID, s.ID)
	pairs, err := w.presences.Peers(ctx, []string{s.UserID})
	if err != nil {
		return nil, err
	}
	users := make([]string, len(pairs))
	for i, p := range pairs {
		users[i] = p.Target
	}
	return w.present(ctx, s, w.add(s, users, false)), nil
}

// present waits for the subscriptions and reads what is the baseline of the events to come.
func (w *watches) present(ctx context.Context, s *Session, fresh []string) (activate func()) {
	channels := make([]string, len(fresh))
	for i, u := range fresh {
		channels[i] = rediskey.PresenceChannel(u)
	}
	w.hub.channels.await(ctx, channels, subscribeWait)
	told, err := w.presences.Read(ctx, s.UserID, fresh)
	if err != nil {
		told = nil
	}
	return func() { w.activate(s, fresh, told) }
}

// gone forgets a session.
func (w *watches) gone(s *Session) {
	w.heartbeats.Closed(s.ID)
	w.mu.Lock()
	defer w.mu.Unlock()
	x := w.sessions[s]
	if x == nil {
		return
	}
	delete(w.sessions, s)
	for u := range x.own {
		w.drop(s, u)
	}
	for u := range x.peers {
		w.drop(s, u)
	}
}

// Subscribe has the session watch users, and gives their presence to answer before anything that changes it is told.
func (s *Session) Subscribe(ctx context.Context, users []string, answer func([]event.Presence)) error {
	w := s.hub.watches
	w.mu.Lock()
	n := 0
	if x := w.sessions[s]; x != nil {
		all := maps.Clone(x.own)
		for _, u := range users {
			all[u] = true
		}
		n = len(all)
	}
	w.mu.Unlock()
	if n > maxWatched {
		return ErrTooManyWatched
	}
	fresh := w.add(s, users, true)
	channels := make([]string, len(fresh))
	for i, u := range fresh {
		channels[i] = rediskey.PresenceChannel(u)
	}
	w.hub.channels.await(ctx, channels, subscribeWait)
	told, err := w.presences.Read(ctx, s.UserID, users)
	if err != nil {
		s.Unsubscribe(fresh)
		return err
	}
	answer(told)
	views := make([]event.Presence, len(fresh))
	for i, u := range fresh {
		views[i] = told[slices.Index(users, u)]
	}
	w.activate(s, fresh, views)
	return nil
}

// Unsubscribe ends what Subscribe began. Friends and direct peers are watched on.
func (s *Session) Unsubscribe(users []string) {
	w := s.hub.watches
	w.mu.Lock()
	defer w.mu.Unlock()
	x := w.sessions[s]
	if x == nil {
		return
	}
	for _, u := range users {
		if x.own[u] {
			delete(x.own, u)
			if !x.peers[u] {
				w.drop(s, u)
			}
		}
	}
}
