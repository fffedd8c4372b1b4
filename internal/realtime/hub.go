package realtime

import (
	"context"
	"errors"
	"hash/maphash"
	"log/slog"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/parley-chat/parley/internal/batch"
	"github.com/parley-chat/parley/internal/budget"
	"github.com/parley-chat/parley/internal/event"
	"github.com/parley-chat/parley/internal/history"
	"github.com/parley-chat/parley/internal/id"
	"github.com/parley-chat/parley/internal/postgres"
	"github.com/parley-chat/parley/internal/realtime/wire"
	"github.com/parley-chat/parley/internal/rediskey"
	"github.com/parley-chat/parley/internal/timestamp"
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

// deliveredAfter reports whether the topic has delivered events after the revision.
func (t *topic) deliveredAfter(revision int64) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.delivered > revision
}

// snapshot returns a copy of the session's topics.
func (s *Session) snapshot() []*topic {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.topics)
}

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

// sessionsOf returns the user's sessions on this pod.
func (h *Hub) sessionsOf(userID string) []*Session {
	sh := h.userShard(userID)
	sh.mu.RLock()
	defer sh.mu.RUnlock()
	return slices.Clone(sh.m[userID])
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
