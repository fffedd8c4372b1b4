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
	// renewals is how often a connection is renewed within its TTL.
	renewals = 3
	// keepBeats is how many renewals pass until the records' own expiry is moved on: a command that most can do without.
	keepBeats = 64
	// lookEvery is how often the heartbeat looks for connections that are due.
	lookEvery = 250 * time.Millisecond
	// epochEvery is how often it looks whether Redis has lost its memory.
	epochEvery = 500 * time.Millisecond
	// beatWait bounds one pipeline, farewellWait what is still to be said when the process stops.
	beatWait     = 2 * time.Second
	farewellWait = 2 * time.Second
)

// connection is a socket of this pod. due, told and beats are of Run's goroutine alone.
type connection struct {
	userID, deviceID, id string
	due                  time.Time
	told                 bool
	beats                int
	closedAt             time.Time
}

// Heartbeat keeps the sockets of this pod online in Redis. Nothing waits for it.
type Heartbeat struct {
	records *records
	config  config.Presence
	metrics *HeartbeatMetrics
	log     *slog.Logger
	// tooMany is told of connections that their user has too many of.
	tooMany func(userID string, connectionIDs []string)

	mu     sync.Mutex // guards what follows
	live   map[string]*connection
	opened []*connection // since the last beat
	closed []*connection // in the order in which they closed
	wake   chan struct{}

	// Of Run's goroutine alone:
	looked    time.Time // when it last looked through all that live
	epoch     string
	stale     string // the marks that were old when it last renewed all because of them
	epochLook time.Time
	failing   bool
}

// NewHeartbeat makes a heartbeat; its Run makes it work. tooMany is told of the oldest connections of a user who has too
// many over all pods.
func NewHeartbeat(rdb redis.UniversalClient, c config.Presence, m *HeartbeatMetrics, log *slog.Logger, tooMany func(userID string, connectionIDs []string)) *Heartbeat {
	return &Heartbeat{
		records: newRecords(rdb), config: c, metrics: m, log: log, tooMany: tooMany,
		live: map[string]*connection{}, wake: make(chan struct{}, 1),
	}
}

// Opened takes in a connection, whose id was never used before.
func (h *Heartbeat) Opened(userID, deviceID, connectionID string) {
	h.mu.Lock()
	c := &connection{userID: userID, deviceID: deviceID, id: connectionID}
	h.live[connectionID] = c
	h.opened = append(h.opened, c)
	h.metrics.connections.Set(float64(len(h.live)))
	h.mu.Unlock()
	h.poke()
}

// Closed gives up a connection: its user has the grace to come back.
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

// Run keeps the connections until ctx ends, and then says goodbye for those that closed.
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

// beat says goodbye for what closed, and renews what is due. Goodbyes come first, and all is said by one goroutine: a
// connection that closed is not renewed.
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

// due are the connections to renew, the new ones first. It looks through all only with the ticks: those who open wake the
// heartbeat much more often.
func (h *Heartbeat) due(now time.Time) []*connection {
	h.mu.Lock()
	var out []*connection
	if now.Sub(h.looked) >= lookEvery/2 {
		h.looked = now
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

// renew touches connections. It returns false where Redis did not take it.
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
		forgotten = forgotten || c.told && answer[0] == int64(1)
		// Renewals are spread, so that those who came at once are not due at once for ever.
		c.due = time.Now().Add(interval - time.Duration(rand.Int64N(int64(interval/4)+1))) //nolint:gosec // it may be guessed
		c.told = true
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
	if !c.told {
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
			keep, keepFor.Milliseconds(),
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

// renewAll makes all connections due: Redis has forgotten one of them, and so perhaps all.
func (h *Heartbeat) renewAll() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, c := range h.live {
		c.due = time.Time{}
	}
	h.looked = time.Time{}
	h.poke()
}

// checkEpoch finds out whether Redis lost its memory since the last look. On a cluster it is one node's memory; what
// another lost is found by the renewals.
func (h *Heartbeat) checkEpoch(ctx context.Context) {
	if time.Since(h.epochLook) < epochEvery {
		return
	}
	h.epochLook = time.Now()
	ctx, cancel := context.WithTimeout(ctx, beatWait)
	defer cancel()
	epoch, err := h.records.rdb.SetArgs(ctx, rediskey.PresenceEpoch, id.New(), redis.SetArgs{Mode: "NX", Get: true}).Result()
	switch {
	case err == redis.Nil: //nolint:errorlint // go-redis returns it as it is
		h.epoch = "" // it is ours now, and read the next time
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

// checkMarks finds out whether there was a gap in which deadlines may have passed: Redis hung, or was restored from an old snapshot, in
// which the epoch is the same. All connections are renewed once for each gap, before watchers claim anybody.
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

// sayGoodbye shortens the connections that closed. It returns false where Redis did not take it; they are kept then, but
// for those whose time is over anyway.
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
