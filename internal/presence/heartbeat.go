package presence

import (
	"cmp"
	"context"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/parley-chat/parley/internal/config"
	"github.com/parley-chat/parley/internal/id"
	"github.com/parley-chat/parley/internal/rediskey"
)

const (
	// renewals is how many times a connection is renewed within its TTL.
	renewals = 3
	// keepBeats is the number of renewals after which the expiry of the user's keys is extended. Doing it each time would cost two more
	// commands.
	keepBeats = 64
	// lookEvery is how often the heartbeat looks for connections that are due.
	lookEvery = 250 * time.Millisecond
	// epochEvery is how often it checks whether Redis has lost its memory, or had a gap.
	epochEvery = 500 * time.Millisecond
	// beatWait bounds one pipeline, farewellWait the goodbyes of a stopping process.
	beatWait     = 2 * time.Second
	farewellWait = 2 * time.Second
)

// connection is a socket of this pod. due (the time of the next renewal), registered (Redis has the connection) and beats (the number of
// renewals) are used by Run's goroutine only. Heartbeat.mu guards closedAt.
type connection struct {
	userID, deviceID, id string
	due                  time.Time
	registered           bool
	beats                int
	closedAt             time.Time
}

// Heartbeat keeps the sockets of this pod online in Redis. Opened and Closed only queue the connection and never wait for
// Redis; they may be called from any goroutine. All commands are sent by Run.
type Heartbeat struct {
	records *records
	config  config.Presence
	metrics *HeartbeatMetrics
	log     *slog.Logger
	// tooMany is called with the connections that exceed a user's maxSockets.
	tooMany func(userID string, connectionIDs []string)

	mu     sync.Mutex // guards the next three fields, and is never held during a call to Redis
	live   map[string]*connection
	opened []*connection // since the last beat
	closed []*connection // not yet shortened in Redis, in the order in which they closed
	wake   chan struct{}

	// The following belong to Run's goroutine:
	scannedAt      time.Time // when all live connections were last scanned
	epoch          string
	stale          string // the old marks for which all connections were last renewed
	epochCheckedAt time.Time
	failing        bool
}

// NewHeartbeat makes a heartbeat, which needs its Run. A nil Sharding is always plain. If a user has more than maxSockets connections over all pods,
// tooMany is called with the oldest ones, from Run's goroutine: it must not block.
func NewHeartbeat(rdb redis.UniversalClient, sharding Sharding, c config.Presence, m *HeartbeatMetrics, log *slog.Logger, tooMany func(userID string, connectionIDs []string)) *Heartbeat {
	return &Heartbeat{
		records: newRecords(rdb, sharding), config: c, metrics: m, log: log, tooMany: tooMany,
		live: map[string]*connection{}, wake: make(chan struct{}, 1),
	}
}

// Opened adds a connection. Its id must be new.
func (h *Heartbeat) Opened(userID, deviceID, connectionID string) {
	h.mu.Lock()
	c := &connection{userID: userID, deviceID: deviceID, id: connectionID}
	h.live[connectionID] = c
	h.opened = append(h.opened, c)
	h.metrics.connections.Set(float64(len(h.live)))
	h.mu.Unlock()
	h.poke()
}

// Closed removes a connection. Its user stays online for the grace, in case the client reconnects. Unknown ids are ignored.
func (h *Heartbeat) Closed(connectionID string) {
	h.mu.Lock()
	c := h.live[connectionID]
	if c != nil {
		delete(h.live, connectionID)
		c.closedAt = time.Now()
		h.closed = append(h.closed, c)
		h.metrics.connections.Set(float64(len(h.live)))
	}
	h.mu.Unlock()
	if c != nil {
		h.poke()
	}
}

func (h *Heartbeat) poke() {
	select {
	case h.wake <- struct{}{}:
	default:
	}
}

// Run renews the connections until ctx ends, and then says goodbye for those that closed. It returns nil.
func (h *Heartbeat) Run(ctx context.Context) error {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			stop, cancel := context.WithTimeout(context.Background(), farewellWait)
			defer cancel()
			h.sayGoodbye(stop)
			return nil
		case <-tick.C:
		case <-h.wake:
			if h.failing {
				continue // the next tick tries
			}
		}
		h.beat(ctx)
	}
}

// beat says goodbye for closed connections and renews those that are due. Goodbyes come first and one goroutine sends
// both, so a closed connection is not renewed afterwards.
func (h *Heartbeat) beat(ctx context.Context) {
	h.checkEpoch(ctx)
	ok := h.sayGoodbye(ctx)
	due := h.due(time.Now())
	for ok && len(due) > 0 && ctx.Err() == nil {
		n := min(len(due), batchSize)
		ok = h.renew(ctx, due[:n])
		due = due[n:]
		ok = ok && h.sayGoodbye(ctx)
	}
	if !ok && !h.failing && ctx.Err() == nil {
		h.log.Warn("redis does not take heartbeats: presence stands still until it does")
	}
	if ok && h.failing {
		h.log.Info("redis takes heartbeats again")
	}
	h.failing = !ok
}

// due returns the connections to renew, the new ones first. It scans all connections only once per tick. Between ticks,
// when new connections wake the heartbeat, it returns only those.
func (h *Heartbeat) due(now time.Time) []*connection {
	h.mu.Lock()
	var out []*connection
	if now.Sub(h.scannedAt) >= lookEvery/2 {
		h.scannedAt = now
		for _, c := range h.live {
			if !c.due.After(now) {
				out = append(out, c)
			}
		}
	} else {
		for _, c := range h.opened {
			if h.live[c.id] == c {
				out = append(out, c)
			}
		}
	}
	h.opened = nil
	h.mu.Unlock()
	slices.SortFunc(out, func(a, b *connection) int { return cmp.Or(a.due.Compare(b.due), cmp.Compare(a.id, b.id)) })
	return out
}

// renew writes the hints and then the connections, in this order, so that no connection is without a hint. It returns false if Redis did not
// accept them. If the script failed for a single connection, that one is tried again after epochEvery.
func (h *Heartbeat) renew(ctx context.Context, batch []*connection) bool {
	ctx, cancel := context.WithTimeout(ctx, beatWait)
	defer cancel()
	users := make([]string, len(batch))
	calls := make([]call, len(batch))
	for i, c := range batch {
		users[i] = c.userID
		calls[i] = h.touch(c)
	}
	if err := h.records.scheduleIn(ctx, h.config.TTL, users); err != nil {
		return h.failed(err)
	}
	cmds, err := h.records.run(ctx, h.records.touch, calls)
	if err != nil {
		return h.failed(err)
	}
	h.metrics.renewed.Add(float64(len(batch)))
	interval := h.config.TTL / renewals
	forgotten := false
	for i, c := range batch {
		answer, err := cmds[i].Slice()
		if err != nil || len(answer) == 0 {
			h.failed(err)
			c.due = time.Now().Add(epochEvery)
			continue
		}
		forgotten = forgotten || c.registered && answer[0] == int64(1)
		// The random part spreads the renewals of connections that were opened at the same time.
		c.due = time.Now().Add(interval - time.Duration(rand.Int64N(int64(interval/4)+1))) //nolint:gosec // it may be guessed
		c.registered = true
		if len(answer) > 1 {
			h.evict(c.userID, answer[1:])
		}
	}
	if forgotten {
		h.renewAll()
	}
	return true
}

func (h *Heartbeat) touch(c *connection) call {
	opening, keep := 0, 0
	if !c.registered {
		opening = 1
	}
	if c.beats++; c.beats%keepBeats == 0 {
		keep = 1
	}
	k := h.records.keys
	return call{
		[]string{k.Connections(c.userID), k.User(c.userID), k.Device(c.userID, c.deviceID)},
		[]any{
			c.deviceID, c.id, h.config.TTL.Milliseconds(), opening, maxSockets, rediskey.PresenceChannel(c.userID),
			keep, keepFor.Milliseconds(), h.records.sharded(c.userID),
		},
	}
}

func (h *Heartbeat) failed(err error) bool {
	h.metrics.errors.Inc()
	h.log.Debug("a heartbeat failed", "error", err)
	return false
}

func (h *Heartbeat) evict(userID string, connections []any) {
	ids := make([]string, 0, len(connections))
	for _, c := range connections {
		if s, ok := c.(string); ok {
			ids = append(ids, s)
		}
	}
	h.tooMany(userID, ids)
}

// renewAll makes all connections due. It is called if Redis has forgotten one of them, and so perhaps all.
func (h *Heartbeat) renewAll() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, c := range h.live {
		c.due = time.Time{}
	}
	h.scannedAt = time.Time{}
	h.poke()
}

// checkEpoch detects that Redis lost its memory since the last check: the random value that some pod wrote is gone, or another
// one is there. On a cluster this covers one node; renewals find what another node lost.
func (h *Heartbeat) checkEpoch(ctx context.Context) {
	if time.Since(h.epochCheckedAt) < epochEvery {
		return
	}
	h.epochCheckedAt = time.Now()
	ctx, cancel := context.WithTimeout(ctx, beatWait)
	defer cancel()
	epoch, err := h.records.rdb.SetArgs(ctx, rediskey.PresenceEpoch, id.New(), redis.SetArgs{Mode: "NX", Get: true}).Result()
	switch {
	case err == redis.Nil: //nolint:errorlint // go-redis returns it as it is
		h.epoch = "" // this pod has written the value; the next check reads it
		h.renewAll()
	case err != nil:
		return
	case epoch != h.epoch:
		if h.epoch != "" {
			h.renewAll()
		}
		h.epoch = epoch
	}
	h.checkMarks(ctx)
}

// checkMarks detects a gap in which deadlines may have passed: Redis hung, or was restored from an old snapshot that has the
// same epoch. All connections are renewed once for each gap, before watchers claim users (settleIn).
func (h *Heartbeat) checkMarks(ctx context.Context) {
	stale, err := h.records.staleMarks(ctx)
	if err != nil {
		return
	}
	if stale != "" && stale != h.stale {
		h.renewAll()
	}
	h.stale = stale
}

// sayGoodbye shortens the deadlines of closed connections to the grace. It returns false if Redis did not accept that. The connections then
// stay queued, except those whose deadlines have passed anyway.
func (h *Heartbeat) sayGoodbye(ctx context.Context) bool {
	for {
		h.mu.Lock()
		h.closed = slices.DeleteFunc(h.closed, func(c *connection) bool { return time.Since(c.closedAt) > h.config.TTL+h.config.Grace })
		batch := slices.Clone(h.closed[:min(len(h.closed), batchSize)])
		h.mu.Unlock()
		if len(batch) == 0 {
			return true
		}
		if err := h.shorten(ctx, batch); err != nil {
			return h.failed(err)
		}
		h.mu.Lock()
		h.closed = slices.Delete(h.closed, 0, len(batch))
		h.mu.Unlock()
	}
}

// shorten shortens the deadlines of a batch, and then writes the hints for the earlier checks.
func (h *Heartbeat) shorten(ctx context.Context, batch []*connection) error {
	ctx, cancel := context.WithTimeout(ctx, beatWait)
	defer cancel()
	calls := make([]call, len(batch))
	for i, c := range batch {
		k := h.records.keys
		calls[i] = call{
			[]string{k.Connections(c.userID), k.User(c.userID), k.Device(c.userID, c.deviceID)},
			[]any{c.deviceID, c.id, max(0, h.config.Grace-time.Since(c.closedAt)).Milliseconds()},
		}
	}
	cmds, err := h.records.run(ctx, h.records.close, calls)
	if err != nil {
		return err
	}
	var users []string
	for i, c := range batch {
		if n, err := cmds[i].Int64(); err == nil && n == 1 {
			users = append(users, c.userID)
		}
	}
	if len(users) == 0 {
		return nil
	}
	return h.records.scheduleIn(ctx, h.config.Grace, users)
}
