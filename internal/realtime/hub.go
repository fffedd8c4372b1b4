package realtime

import (
	"context"
	"hash/maphash"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/parley-chat/parley/internal/batch"
	"github.com/parley-chat/parley/internal/budget"
	"github.com/parley-chat/parley/internal/event"
	"github.com/parley-chat/parley/internal/history"
	"github.com/parley-chat/parley/internal/postgres"
	"github.com/parley-chat/parley/internal/realtime/wire"
)

// Bounds and intervals of sockets.
const (
	// Heartbeat is the longest time without a frame to a socket. A client that sends nothing for twice as long is disconnected.
	Heartbeat = 25 * time.Second
	// maxSockets is the largest number of sockets of a user on one pod; the oldest is closed.
	maxSockets = 20
	// subscribeWait bounds how long a new socket waits for its subscriptions. After that it starts without them, and gets events by repairs.
	subscribeWait = 2 * time.Second
	shards        = 64

	// Queries for new sockets (memberships, peers, baselines) are shared: one query within joinWait serves up to joinsAtOnce sockets. If
	// more than maxJoins sockets wait, further ones make separate queries.
	joinsAtOnce = 64
	maxJoins    = 1 << 12
	joinWait    = postgres.StatementTimeout
)

// Memberships is the part of the conversation domain that the hub needs.
type Memberships interface {
	// MembershipsOf reads users' conversations with the revision of each, in the order of the users.
	MembershipsOf(ctx context.Context, userIDs []string) ([]map[string]int64, error)
}

// Hub maps conversations and users to the sockets of the pod, and delivers events to them. Its methods may be called from any
// goroutine.
type Hub struct {
	memberships *batch.Calls[string, map[string]int64]
	channels    *Channels
	flushers    *flushers
	repairs     *repairs
	typing      *typers
	memory      *budget.Budget // bounds the frames that wait for slow clients; nil for no bound
	history     *history.Watch // nil if the database has no epoch
	sessions    Sessions       // nil if logins are not checked after a new epoch
	rejoins     chan struct{}
	generation  atomic.Int64           // the generation of the topics (epoch.go)
	present     atomic.Pointer[string] // the epoch of that generation, nil before the first change
	watches     *watches               // nil if presence is not delivered
	profiles    *profiles              // nil if changed profiles are not delivered
	sent        func(conversationID string, m event.Sent)
	metrics     *Metrics
	log         *slog.Logger
	seed        maphash.Seed
	born        time.Time
	heartbeat   time.Duration

	topics [shards]topicShard
	users  [shards]userShard

	mu        sync.Mutex // guards the following fields
	bySession map[string][]*Session
	count     int
	draining  bool
}

type topicShard struct {
	mu sync.Mutex
	m  map[string]*topic
}

type userShard struct {
	mu sync.RWMutex
	m  map[string][]*Session
}

// HubConfig has the dependencies of a Hub.
type HubConfig struct {
	Memberships Memberships
	Feed        Feed
	Channels    *Channels
	// Presence and Heartbeats make the hub deliver presence and keep sockets online; nil for neither.
	Presence   Presences
	Heartbeats Heartbeats
	// Profiles makes the hub deliver changed profiles; nil for none.
	Profiles Profiles
	// Sent, if not nil, is called for every new message, before its delivery to the sockets of this pod. It must not block.
	Sent func(conversationID string, m event.Sent)
	// History and Sessions make the hub follow the epoch of the database; nil for neither.
	History  *history.Watch
	Sessions Sessions
	// Memory bounds the frames that wait for slow clients; nil for no bound.
	Memory  *budget.Budget
	Metrics *Metrics
	Log     *slog.Logger
}

// NewHub makes a hub. It needs its Run.
func NewHub(c HubConfig) *Hub {
	h := &Hub{
		memberships: batch.NewCalls(maxJoins, joinsAtOnce, joinWait, c.Memberships.MembershipsOf), channels: c.Channels, sent: c.Sent, memory: c.Memory, flushers: newFlushers(), typing: newTypers(),
		metrics: c.Metrics, log: c.Log, seed: maphash.MakeSeed(), born: time.Now(), heartbeat: Heartbeat, bySession: map[string][]*Session{},
		rejoins: make(chan struct{}, 1), history: c.History, sessions: c.Sessions,
	}
	h.repairs = newRepairs(h, c.Feed)
	if c.Presence != nil {
		h.watches = newWatches(h, c.Presence, c.Heartbeats)
	}
	if c.Profiles != nil {
		h.profiles = newProfiles(h, c.Profiles)
	}
	for i := range shards {
		h.topics[i].m = map[string]*topic{}
		h.users[i].m = map[string][]*Session{}
	}
	if c.History != nil {
		c.History.OnChange(h.begin)
	}
	return h
}

func (h *Hub) now() int64 { return int64(time.Since(h.born)) }

func (h *Hub) topicShard(id string) *topicShard { return &h.topics[maphash.String(h.seed, id)%shards] }
func (h *Hub) userHash(id string) uint64        { return maphash.String(h.seed, id) }
func (h *Hub) userShard(id string) *userShard   { return &h.users[maphash.String(h.seed, id)%shards] }

// sessionsOf returns the user's sessions on this pod.
func (h *Hub) sessionsOf(userID string) []*Session {
	sh := h.userShard(userID)
	sh.mu.RLock()
	defer sh.mu.RUnlock()
	return slices.Clone(sh.m[userID])
}

// notice processes a notice: it delivers a frame to the user's sockets, or serves a join, closes replaced sockets, and so on.
func (h *Hub) notice(n *wire.Notice) {
	sessions := h.sessionsOf(n.UserID)
	if len(sessions) == 0 {
		return
	}
	if n.Join != nil {
		if generation := h.generation.Load(); !h.foreign(n.Epoch) {
			h.serveJoin(*n.Join, generation)
		}
	}
	if h.watches != nil && (n.Join != nil || n.Related != "") {
		h.watches.related(n.UserID, n.Related)
	}
	for _, s := range sessions {
		if slices.Contains(n.Replaced, s.ID) {
			s.Close(CloseReplaced)
		}
	}
	if n.Profile != nil && h.profiles != nil {
		h.profiles.heard(*n.Profile)
		return
	}
	if len(n.Frame) == 0 {
		return
	}
	for _, s := range sessions {
		if s.ID != n.ExceptSocket {
			s.Send(n.Type, n.Frame)
		}
	}
}

// Serves reports whether a socket of the user on this pod gets the conversation's events, which only members do.
func (h *Hub) Serves(userID, conversationID string) bool {
	return slices.ContainsFunc(h.sessionsOf(userID), func(s *Session) bool { return s.Serves(conversationID) })
}

// EndSessions closes the sockets of sessions that ended.
func (h *Hub) EndSessions(sessionIDs ...string) {
	for _, id := range sessionIDs {
		h.mu.Lock()
		list := slices.Clone(h.bySession[id])
		h.mu.Unlock()
		for _, s := range list {
			s.Close(CloseSessionOver)
		}
	}
}
