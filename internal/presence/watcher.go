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

// Watcher tells who went offline: those whose device keys Redis tells to have expired, and those whom the sweep finds.
type Watcher struct {
	records *records
	store   *store
	config  config.Presence
	db      int
	metrics *WatcherMetrics
	log     *slog.Logger

	expired   chan string // users, of whom a device expired
	seen      chan []sighting
	settled   atomic.Bool // users may be claimed, as the last sweep saw it
	advised   atomic.Bool // the operator was told of notifications that can't be switched on
	failing   *observe.Outage
	unclear   *observe.Outage
	unwritten *observe.Outage
}

// NewWatcher makes a watcher of the database of that number; its Run makes it work.
func NewWatcher(rdb redis.UniversalClient, database int, db *sql.DB, c config.Presence, m *WatcherMetrics, log *slog.Logger) *Watcher {
	return &Watcher{
		records: newRecords(rdb), store: &store{db}, config: c, db: database, metrics: m, log: log,
		failing:   observe.NewOutage(log, "deadlines cannot be swept", "deadlines are swept again"),
		unclear:   observe.NewOutage(log, "a presence could not be looked at", "presences can be looked at again"),
		unwritten: observe.NewOutage(log, "last_seen_at could not be written, and will be", "last_seen_at is written again"),
		expired:   make(chan string, expiredQueue), seen: make(chan []sighting, seenQueue),
	}
}

// Run watches until ctx ends.
func (w *Watcher) Run(ctx context.Context) error {
	g := lifecycle.NewGroup(ctx)
	g.Go("listen", w.listen)
	g.Go("claim", w.claimExpired)
	g.Go("sweep", w.sweep)
	g.Go("last seen", w.writeSeen)
	return g.Wait()
}

// errUnsettled means that nobody may be claimed: there was a gap, and pods are still renewing what lives.
var errUnsettled = errors.New("redis was away, and sockets are renewed first")

// verdict is what became of a user.
type verdict struct {
	online   bool
	failed   bool
	deadline int64 // in ms, of one who is online
	seen     int64 // in microseconds, of one who is not
}

// claim finds out whether users are online still, and tells of those who are not. Errors of single users leave a verdict
// that looks again.
func (w *Watcher) claim(ctx context.Context, users []string) ([]verdict, error) {
	calls := make([]call, len(users))
	for i, u := range users {
		calls[i] = call{
			[]string{w.records.keys.Connections(u), w.records.keys.User(u)},
			[]any{w.config.TTL.Milliseconds(), rediskey.PresenceChannel(u), keepFor.Milliseconds(), markGood.Milliseconds()},
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
