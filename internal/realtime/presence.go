package realtime

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/parley-chat/parley/internal/batch"
	"github.com/parley-chat/parley/internal/event"
	"github.com/parley-chat/parley/internal/rediskey"
)

// Presences is the part of the presence domain that the hub needs.
type Presences interface {
	// Read returns the presence of users as the viewer may see it, in the order of the ids.
	Read(ctx context.Context, viewerID string, userIDs []string) ([]event.Presence, error)
	// ReadPairs is Read for several viewers.
	ReadPairs(ctx context.Context, pairs []event.PresencePair) ([]event.Presence, error)
	// States returns the states of users in Redis, in the order of the ids.
	States(ctx context.Context, userIDs []string) ([]event.PresenceState, error)
	// Peers returns the users whom viewers watch automatically.
	Peers(ctx context.Context, viewerIDs []string) ([]event.PresencePair, error)
	// Visible returns the pairs whose viewer may see the target now, with the target's last_seen_at in Postgres.
	Visible(ctx context.Context, pairs []event.PresencePair) (map[event.PresencePair]int64, error)
}

// Heartbeats keep a pod's sockets online.
type Heartbeats interface {
	Opened(userID, deviceID, connectionID string)
	Closed(connectionID string)
}

// ErrTooManyWatched is returned if a socket would subscribe to more users than allowed.
var ErrTooManyWatched = errors.New("a socket watches at most 200 users in addition to friends and direct peers")

// maxWatched is the largest number of users that a socket subscribes to.
const maxWatched = 200

// view is the presence of a user that was last sent to a socket.
type view uint8

const (
	// pending: the present state is being read for the socket. Events are not sent until activate.
	pending view = iota
	// unknown: the state could not be read. It is sent as soon as it was read.
	unknown
	// hidden: the user is shown as offline without a time. Either nothing is known of the user, or the socket's user may not see the user.
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
	// known is set once the state was read or received.
	known bool
	// lostAt is when Redis was first found to have no state of a user who was online: it may have lost its memory.
	lostAt time.Time
	views  map[*Session]view
}

// watching is the set of users that a session watches. watches.mu guards it.
type watching struct {
	own   map[string]bool // watched by Subscribe
	peers map[string]bool // watched automatically: friends and direct peers
}

// watches has the users that the sockets of this pod watch, and the view of each socket. One worker sends all changes, so that none
// overtakes another:
//
//	event, privacy change ─► changed ─┐
//	reread, lost memory ───► unread ──┼─► processBatch ─► Redis: states ─► Postgres: visible? ─► frames where the view differs
//	new friend or peer ────► joined ──┘        ▲                                │
//	                                           └────── putBack on failure ──────┘
type watches struct {
	hub        *Hub
	presences  Presences
	heartbeats Heartbeats
	peers      *batch.Calls[string, []string]           // of new sockets
	baselines  *batch.Calls[baseline, []event.Presence] // of new sockets
	wake       chan struct{}
	counts     presenceMetrics

	mu       sync.Mutex // guards the following fields; under it only sessions' and the channels' locks are taken, and nothing is read
	users    map[string]*watched
	sessions map[*Session]*watching
	changed  map[string]bool // users whose changes have to be sent
	unread   map[string]bool // users whose state has to be read first
	joined   map[string]bool // viewers who may have new friends or peers
	rereadAt time.Time       // when all states have to be read again, zero for never
}

func newWatches(h *Hub, p Presences, b Heartbeats) *watches {
	return &watches{
		hub: h, presences: p, heartbeats: b,
		peers:     batch.NewCalls(maxJoins, joinsAtOnce, joinWait, peersBy(p)),
		baselines: batch.NewCalls(maxJoins, joinsAtOnce, joinWait, baselinesBy(p)),
		wake:      make(chan struct{}, 1), counts: h.metrics.presence,
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

// add makes a session watch users, with the view pending until activate. It returns the users that are new to the session.
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
	w.counts.watched.Set(float64(len(w.users)))
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
		w.counts.watched.Set(float64(len(w.users)))
	}
}

// activate ends pending: from now on changes of the users are sent to the session. shown is the presence that was sent to it, nil if it could
// not be read.
func (w *watches) activate(s *Session, users []string, shown []event.Presence) {
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
		if shown != nil {
			t.views[s] = viewOf(shown[i])
		}
		if t.known && shown != nil {
			w.changed[u] = true
		} else {
			w.unread[u] = true
		}
	}
	w.poke()
}

// connect makes a new session watch its friends and peers. The caller has to call ready after the ready frame was queued.
func (w *watches) connect(ctx context.Context, s *Session) (ready func(), err error) {
	w.mu.Lock()
	w.sessions[s] = &watching{own: map[string]bool{}, peers: map[string]bool{}}
	w.mu.Unlock()
	w.heartbeats.Opened(s.UserID, s.DeviceID, s.ID)
	users, err := w.peers.Call(ctx, s.UserID)
	if err != nil {
		return nil, err
	}
	return w.present(ctx, s, w.add(s, users, false)), nil
}

// present waits for the subscriptions and then reads the present states, so that no change in between is missed.
func (w *watches) present(ctx context.Context, s *Session, fresh []string) (activate func()) {
	channels := make([]string, len(fresh))
	for i, u := range fresh {
		channels[i] = rediskey.PresenceChannel(u)
	}
	w.hub.channels.await(ctx, channels, subscribeWait)
	shown, err := w.baseline(ctx, s.UserID, fresh)
	if err != nil {
		shown = nil
	}
	return func() { w.activate(s, fresh, shown) }
}

// gone removes a session.
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

// Subscribe makes the session watch users. It calls answer with their presence, in the order of users, before any later change is sent. It
// returns ErrTooManyWatched, or an error if the presence could not be read.
func (s *Session) Subscribe(ctx context.Context, users []string, answer func([]event.Presence)) error {
	w := s.hub.watches
	w.mu.Lock()
	var added []string
	n := 0
	if x := w.sessions[s]; x != nil {
		all := maps.Clone(x.own)
		for _, u := range users {
			if !all[u] {
				added = append(added, u)
			}
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
	shown, err := w.presences.Read(ctx, s.UserID, users)
	if err != nil {
		s.Unsubscribe(added)
		return err
	}
	answer(shown)
	views := make([]event.Presence, len(fresh))
	for i, u := range fresh {
		views[i] = shown[slices.Index(users, u)]
	}
	w.activate(s, fresh, views)
	return nil
}

// Unsubscribe undoes Subscribe. Friends and direct peers stay watched.
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
