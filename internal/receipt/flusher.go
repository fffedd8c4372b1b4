package receipt

import (
	"context"
	"database/sql"
	_ "embed"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/parley-chat/parley/internal/fault"
	"github.com/parley-chat/parley/internal/id"
	"github.com/parley-chat/parley/internal/lifecycle"
	"github.com/parley-chat/parley/internal/postgres"
	"github.com/parley-chat/parley/internal/redisconn"
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
	sources []source
	retries *retries
	metrics *FlushMetrics
	log     *slog.Logger
	holder  string

	forget, lease *redis.Script
	since         func() time.Time
}

// UseHistory sets the function that returns when the present history of the database began. Call it before the first Flush.
func (f *Flusher) UseHistory(since func() time.Time) { f.since = since }

// began returns when the present history began, nil if unknown.
func (f *Flusher) began() *time.Time {
	if f.since == nil || f.since().IsZero() {
		return nil
	}
	t := f.since()
	return &t
}

// NewFlusher makes a flusher. interval is the time between two flushes, from which pauses after failures are derived.
func NewFlusher(db *sql.DB, rdb redis.UniversalClient, interval time.Duration, m *FlushMetrics, log *slog.Logger) *Flusher {
	_, cluster := rdb.(*redis.ClusterClient)
	keys := rediskey.Receipts{Tagged: cluster}
	f := &Flusher{
		rdb: rdb, cluster: cluster, retries: newRetries(interval), metrics: m, log: log, holder: id.New(),
		forget: redis.NewScript(forgetSource), lease: redis.NewScript(leaseSource),
	}
	f.sources = []source{
		&batches{db: db, rdb: rdb, keys: keys, unbatch: redis.NewScript(unbatchSource)},
		&markers{db: db, rdb: rdb, keys: keys, unmark: redis.NewScript(unmarkSource), since: f.began},
	}
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
	for _, src := range f.sources {
		t, err := f.flush(ctx, src, now)
		f.metrics.flushed(src, t)
		if t.rows > 0 || t.failed > 0 || err != nil {
			f.log.Info("flushed", "what", src.name(), "ids", t.ids, "rows", t.rows, "new", t.written, "failures", t.failed,
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

// piece is the content of one statement.
type piece struct {
	rows []row
	junk []row // rows that can never be written, because they hold no ids
	// idle are index entries without rows.
	idle []row
}

// flush moves the rows of all ids that were touched up to now. It reads, writes and removes at the same time: a piece is read
// while the previous one is written. A failing step stops the reader, and the pieces that were written are still removed.
func (f *Flusher) flush(ctx context.Context, src source, now time.Time) (totals, error) {
	reading, stop := context.WithCancel(ctx)
	defer stop()
	pieces, written := make(chan *piece, 1), make(chan *piece, 1)
	var t totals
	var readErr, writeErr, removeErr error
	var g sync.WaitGroup
	g.Go(func() {
		defer close(pieces)
		readErr = guarded(ctx, func() (err error) {
			t.ids, err = f.read(reading, src, now, pieces)
			return err
		})
	})
	g.Go(func() {
		defer close(written)
		for p := range pieces {
			if writeErr == nil {
				writeErr = guarded(ctx, func() error { return f.write(ctx, src, p, &t) })
			}
			if writeErr != nil {
				stop()
				continue
			}
			fault.Point("receipt.written")
			written <- p
		}
	})
	g.Go(func() {
		for p := range written {
			if removeErr == nil {
				removeErr = guarded(ctx, func() error { return f.remove(ctx, src, p) })
			}
			if removeErr != nil {
				stop()
			}
			fault.Point("receipt.removed")
		}
	})
	g.Wait()
	switch {
	case writeErr != nil:
		return t, writeErr
	case removeErr != nil:
		return t, removeErr
	case ctx.Err() != nil:
		return t, nil // the process is stopping
	}
	return t, readErr
}

var errPanic = errors.New("it panicked")

// guarded runs a step of a flush. If the step panics, the flush fails and the next one tries again.
func guarded(ctx context.Context, step func() error) (err error) {
	if lifecycle.Caught(ctx, "flush", func() { err = step() }) {
		return errPanic
	}
	return err
}

// read sends the rows of all ids as pieces, the least recently touched ids first. It returns the number of ids.
func (f *Flusher) read(ctx context.Context, src source, now time.Time, to chan<- *piece) (ids int, err error) {
	c := &cutter{to: to, p: &piece{}}
	last, err := f.last(ctx, src, now)
	if err != nil {
		return 0, err
	}
	for from := start; ; {
		entries, next, err := readPiece(ctx, f.rdb, src.index(), from, last, listSize)
		if err != nil {
			return ids, err
		}
		ids += len(entries)
		for len(entries) > 0 {
			part := entries[:min(len(entries), chunk)]
			entries = entries[len(part):]
			if err := f.readPart(ctx, src, part, now, c); err != nil {
				return ids, err
			}
		}
		if next == nil {
			return ids, c.end(ctx)
		}
		from = *next
	}
}

// last returns the score up to which a flush reads an index: ids that are touched meanwhile are left to the next flush. If Redis's
// clock stepped back, scores may be ahead of it, so the highest score counts.
func (f *Flusher) last(ctx context.Context, src source, now time.Time) (string, error) {
	highest, err := f.rdb.ZRevRangeWithScores(ctx, src.index(), 0, 0).Result()
	if err != nil {
		return "", fmt.Errorf("read the end of an index: %w", err)
	}
	last := float64(now.UnixMilli())
	for _, z := range highest {
		last = max(last, z.Score)
	}
	return strconv.FormatFloat(last, 'f', -1, 64), nil
}

// readPart reads the rows of some ids. Ids that wait after a failure are skipped.
func (f *Flusher) readPart(ctx context.Context, src source, part []row, now time.Time, c *cutter) error {
	var ids []string
	var entries []row
	for _, e := range part {
		switch {
		case f.retries.waits(src, e.member):
		case !id.Valid(e.member):
			f.log.Error("an index entry that is not an id is removed", "index", src.index(), "value", e.member)
			c.p.idle = append(c.p.idle, e)
		default:
			ids, entries = append(ids, e.member), append(entries, e)
		}
	}
	if len(c.p.idle) >= pieceRows {
		if err := c.send(ctx); err != nil {
			return err
		}
	}
	if len(ids) == 0 {
		return nil
	}
	rows, nexts, err := src.first(ctx, ids)
	if err != nil {
		return err
	}
	for i, e := range entries {
		if len(rows[i]) == 0 && now.UnixMilli()-e.value > linger.Milliseconds() {
			c.p.idle = append(c.p.idle, e)
		}
		if err := c.add(ctx, rows[i]); err != nil {
			return err
		}
		for next := nexts[i]; next != nil; {
			var more []row
			if more, next, err = src.more(ctx, ids[i], *next); err != nil {
				return err
			}
			if err := c.add(ctx, more); err != nil {
				return err
			}
		}
	}
	return nil
}

// cutter divides rows into pieces and sends them.
type cutter struct {
	to chan<- *piece
	p  *piece
}

func (c *cutter) add(ctx context.Context, rows []row) error {
	for _, r := range rows {
		if id.Valid(r.member) {
			c.p.rows = append(c.p.rows, r)
		} else {
			c.p.junk = append(c.p.junk, r)
		}
		if len(c.p.rows) == pieceRows {
			if err := c.send(ctx); err != nil {
				return err
			}
		}
	}
	return nil
}

func (c *cutter) end(ctx context.Context) error {
	if len(c.p.rows)+len(c.p.junk)+len(c.p.idle) == 0 {
		return nil
	}
	return c.send(ctx)
}

func (c *cutter) send(ctx context.Context) error {
	select {
	case c.to <- c.p:
		c.p = &piece{rows: make([]row, 0, pieceRows)}
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// write writes a piece and keeps only the written rows in it. It returns an error if Postgres is unavailable. Ids whose rows are
// refused for another reason are retried later, without holding up the others.
func (f *Flusher) write(ctx context.Context, src source, p *piece, t *totals) error {
	fault.Point("receipt.read")
	if len(p.rows) == 0 {
		return nil
	}
	ctx = context.WithoutCancel(ctx) // a piece that was begun is finished
	n, err := src.write(ctx, p.rows)
	if isRefused(err) {
		n, err = src.write(ctx, p.rows) // a message may have been deleted in between
	}
	if isRefused(err) {
		p.rows, n, err = f.isolate(ctx, src, p.rows, err, t)
	}
	if err != nil {
		return err
	}
	t.rows += len(p.rows)
	t.written += n
	return nil
}

// isRefused reports whether an error is due to the rows, or to a lock on them, rather than to Postgres as a whole.
func isRefused(err error) bool {
	return postgres.IsLocked(err) || postgres.IsRefused(err)
}

// isolate writes rows that were refused together in halves, down to single ids. It returns the written rows; ids that are refused alone
// wait for a later flush.
func (f *Flusher) isolate(ctx context.Context, src source, rows []row, cause error, t *totals) (done []row, n int64, err error) {
	if rows[0].id == rows[len(rows)-1].id { // rows of an id are adjacent
		wait := f.retries.failed(src, rows[0].id)
		t.failed++
		f.metrics.failures.Inc()
		f.log.Error("pending reads of an id can't be written; they are retried later, the others continue", "what", src.name(), "id", rows[0].id,
			"rows", len(rows), "retry_in", wait.String(), "error", cause)
		return nil, 0, nil
	}
	half := len(rows) / 2
	for half > 0 && rows[half-1].id == rows[half].id {
		half--
	}
	for half == 0 || rows[half-1].id == rows[half].id {
		half++
	}
	for _, part := range [][]row{rows[:half], rows[half:]} {
		m, err := src.write(ctx, part)
		switch {
		case err == nil:
			done, n = append(done, part...), n+m
		case !isRefused(err):
			return nil, 0, err
		default:
			d, m, err := f.isolate(ctx, src, part, err, t)
			if err != nil {
				return nil, 0, err
			}
			done, n = append(done, d...), n+m
		}
	}
	return done, n, nil
}

// remove removes the written rows from Redis, and idle ids from the index.
func (f *Flusher) remove(ctx context.Context, src source, p *piece) error {
	fault.Point("receipt.remove")
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), redisWait)
	defer cancel()
	calls := append(removals(src, p.rows, f.cluster), removals(src, p.junk, f.cluster)...)
	f.retries.done(src, p.rows)
	if len(p.junk) > 0 {
		f.log.Error("rows that hold no ids are dropped", "what", src.name(), "rows", len(p.junk), "first_of", p.junk[0].id)
	}
	if len(p.idle) > 0 {
		args := make([]any, 0, 2*len(p.idle))
		for _, r := range p.idle {
			args = append(args, r.member, r.value)
		}
		calls = append(calls, redisconn.Call{Script: f.forget, Keys: []string{src.index()}, Args: args})
	}
	if _, err := runAll(ctx, f.rdb, calls); err != nil {
		return fmt.Errorf("remove written rows: %w", err)
	}
	if src.index() == rediskey.DirtyMessages && len(p.rows) > 0 {
		f.observeLag(ctx, p.rows)
	}
	return nil
}

// observeLag observes the time from the reads to now, by Redis's clock.
func (f *Flusher) observeLag(ctx context.Context, rows []row) {
	now, err := f.rdb.Time(ctx).Result()
	if err != nil {
		return
	}
	for _, r := range rows {
		f.metrics.lag.Observe(max(0, float64(now.UnixMilli()-r.value)/1000))
	}
}
