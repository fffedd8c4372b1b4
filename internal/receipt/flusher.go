package receipt

import (
	"context"
	"database/sql"
	_ "embed"
	"fmt"
	"log/slog"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/parley-chat/parley/internal/id"
	"github.com/parley-chat/parley/internal/rediskey"
)

var (
	//go:embed unbatch.lua
	unbatchSource string
	//go:embed unmark.lua
	unmarkSource string
	//go:embed forget.lua
	forgetSource string
)

const (
	// listSize is how many dirty ids are listed at once, chunk how many of them are read in one pipeline, pieceRows how many rows one
	// statement has. So a flush holds one list and a few pieces in memory, however many reads are pending.
	listSize  = 2000
	chunk     = 128
	pieceRows = 5000
	// linger is how long an id without rows stays in its index: longer than a read takes from the index to its batch.
	linger = 15 * time.Second
	// redisWait bounds one pipeline.
	redisWait = 5 * time.Second
)

// Flusher moves pending reads from Redis to Postgres. Flush must not be called concurrently with itself.
type Flusher struct {
	rdb     redis.UniversalClient
	cluster bool
	flows   []interface {
		name() string
		flush(ctx context.Context, now time.Time) (totals, error)
	}
	retries *retries
	metrics *FlushMetrics
	log     *slog.Logger
	holder  string

	forget, lease *redis.Script
	since         func() time.Time
}

// began returns when the present history began, nil if unknown.
func (f *Flusher) began() *time.Time {
	if f.since == nil || f.since().IsZero() {
		return nil
	}
	t := f.since()
	return &t
}

// NewFlusher makes a flusher. interval is the time between two flushes, from which pauses after failures are derived. since returns when
// the present history of the database began; it is nil, or the time is zero, if that is unknown.
func NewFlusher(db *sql.DB, rdb redis.UniversalClient, interval time.Duration, since func() time.Time, m *FlushMetrics, log *slog.Logger) *Flusher {
	_, cluster := rdb.(*redis.ClusterClient)
	keys := rediskey.Receipts{Tagged: cluster}
	f := &Flusher{
		rdb: rdb, cluster: cluster, retries: newRetries(interval), metrics: m, log: log, holder: id.New(),
		forget: redis.NewScript(forgetSource), lease: redis.NewScript(leaseSource), since: since,
	}
	receipts := &batches{db: db, rdb: rdb, keys: keys, unbatch: redis.NewScript(unbatchSource), lag: m.lag}
	f.flows = append(f.flows, flow[pendingReceipt]{f, receipts},
		flow[pendingMarker]{f, &markers{db: db, rdb: rdb, keys: keys, unmark: redis.NewScript(unmarkSource), since: f.began}})
	return f
}

// totals count the work of one flush.
type totals struct {
	ids, rows, failed int
	written           int64
}

// Flush writes everything that was pending when it began. It returns nil at once if another worker is flushing. When ctx ends it
// finishes the pieces in progress and returns nil.
func (f *Flusher) Flush(ctx context.Context) error {
	ctx, release, err := f.takeLease(ctx)
	if err != nil || ctx == nil {
		return err
	}
	defer release()
	began := time.Now()
	now, err := f.rdb.Time(ctx).Result()
	if err != nil {
		f.metrics.failures.Inc()
		return fmt.Errorf("flush: %w", err)
	}
	var failed error
	for _, rows := range f.flows {
		t, err := rows.flush(ctx, now)
		f.metrics.flushed(rows.name(), t)
		if t.rows > 0 || t.failed > 0 || err != nil {
			f.log.Info("flushed", "what", rows.name(), "ids", t.ids, "rows", t.rows, "new", t.written, "failures", t.failed,
				"duration_ms", time.Since(began).Milliseconds())
		}
		if err != nil {
			failed = err
			break
		}
	}
	f.metrics.duration.Observe(time.Since(began).Seconds())
	if ctx.Err() != nil {
		return nil // the process is stopping; the next flush continues
	}
	if failed != nil {
		f.metrics.failures.Inc()
		return fmt.Errorf("flush: %w", failed)
	}
	f.metrics.lastSuccess.SetToCurrentTime()
	return nil
}
