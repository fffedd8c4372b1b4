package presence

import (
	"context"
	"database/sql"
	"errors"
	"log/slog"
	"sync/atomic"

	"github.com/redis/go-redis/v9"

	"github.com/parley-chat/parley/internal/config"
	"github.com/parley-chat/parley/internal/lifecycle"
	"github.com/parley-chat/parley/internal/observe"
	"github.com/parley-chat/parley/internal/rediskey"
)

// Watcher finds users whose last deadline has passed, by the sweep and by Redis's expiry events, and claims them: it marks
// them offline and publishes that. Any number of watchers may run; the claim script lets one of them publish.
type Watcher struct {
	records *records
	store   *store
	config  config.Presence
	db      int
	metrics *WatcherMetrics
	log     *slog.Logger

	expired   chan string     // users with an expired device key; expiries are dropped if it is full
	seen      chan []sighting // from the sweep to writeSeen
	settled   atomic.Bool     // the last sweep found that users may be claimed
	advised   atomic.Bool     // the log has the advice for a Redis whose notifications can't be switched on
	failing   *observe.Outage
	unclear   *observe.Outage
	unwritten *observe.Outage
}

// NewWatcher makes a watcher of the Redis database with that number. It needs its Run. A nil Sharding is always plain.
func NewWatcher(rdb redis.UniversalClient, sharding Sharding, database int, db *sql.DB, c config.Presence, m *WatcherMetrics, log *slog.Logger) *Watcher {
	return &Watcher{
		records: newRecords(rdb, sharding), store: &store{db}, config: c, db: database, metrics: m, log: log,
		failing:   observe.NewOutage(log, "deadlines cannot be swept", "deadlines are swept again"),
		unclear:   observe.NewOutage(log, "a presence could not be checked", "presences can be checked again"),
		unwritten: observe.NewOutage(log, "last_seen_at could not be written, and will be", "last_seen_at is written again"),
		expired:   make(chan string, expiredQueue), seen: make(chan []sighting, seenQueue),
	}
}

// Run sweeps and claims until ctx ends, then writes the last_seen_at that are queued.
func (w *Watcher) Run(ctx context.Context) error {
	g := lifecycle.NewGroup(ctx)
	g.Go("listen", w.listen)
	g.Go("claim", w.claimExpired)
	g.Go("sweep", w.sweep)
	g.Go("last seen", w.writeSeen)
	return g.Wait()
}

// errUnsettled means that no user may be claimed now: there was a gap, and pods are still renewing open sockets.
var errUnsettled = errors.New("redis was unavailable, and sockets are renewed first")

// verdict is the result of a claim.
type verdict struct {
	online   bool
	failed   bool
	deadline int64 // ms since 1970, of a user who is online
	seen     int64 // microseconds since 1970, of a user who is offline; 0 if unknown
}

// claim checks whether users are still online. It marks the others offline and publishes that, in the script. A user whose
// script failed has the verdict failed and is checked again. It returns errUnsettled if no user may be claimed.
func (w *Watcher) claim(ctx context.Context, users []string) ([]verdict, error) {
	calls := make([]call, len(users))
	for i, u := range users {
		calls[i] = call{
			[]string{w.records.keys.Connections(u), w.records.keys.User(u)},
			[]any{w.config.TTL.Milliseconds(), rediskey.PresenceChannel(u), keepFor.Milliseconds(), markGood.Milliseconds(), w.records.sharded(u)},
		}
		if !w.records.keys.Tagged {
			calls[i].keys = append(calls[i].keys, rediskey.PresenceMark(0))
		}
	}
	cmds, err := w.records.run(ctx, w.records.claim, calls)
	if err != nil {
		return nil, err
	}
	out := make([]verdict, len(users))
	for i, c := range cmds {
		f, err := numbers(c)
		if err == nil && len(f) == 1 {
			return nil, errUnsettled
		}
		if err != nil || len(f) < 2 {
			w.metrics.errors.Inc()
			out[i].failed = true
			w.unclear.Fail(ctx, err, "user_id", users[i])
			continue
		}
		out[i] = w.verdict(f)
	}
	return out, nil
}

// verdict reads a reply of claim.lua and counts it.
func (w *Watcher) verdict(f []int64) verdict {
	const alive, lost = 1, 0
	switch f[0] {
	case alive:
		return verdict{online: true, deadline: f[1]}
	case lost:
		w.metrics.lost.Inc()
		return verdict{seen: f[1]}
	}
	w.metrics.offline.Inc()
	if len(f) == 4 && f[2] > 0 {
		w.metrics.lag.Observe(float64(f[3]-f[2]) / 1000)
	}
	return verdict{seen: f[1]}
}
