package receipt

import (
	"context"
	_ "embed"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/parley-chat/parley/internal/fault"
	"github.com/parley-chat/parley/internal/id"
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
	//go:embed lease.lua
	leaseSource string
)

const (
	// listSize is how many dirty ids are read at once, chunk how many of them are looked at in one pipeline, pieceRows how
	// many rows make a statement. So much, and a few pieces, is what a flush holds in memory, whatever is pending.
	listSize  = 2000
	chunk     = 128
	pieceRows = 5000
	// linger is how long an id with nothing left stays in its index: longer than a read is on its way from there to its key.
	linger = 15 * time.Second
	// leaseFor is after what time another worker flushes, where one died.
	leaseFor = 5 * time.Second
	// redisWait bounds one pipeline.
	redisWait = 5 * time.Second
)

// Flusher writes what Redis holds of reads to Postgres.
type Flusher struct {
	rdb     redis.UniversalClient
	sources []source
	retries *retries
	metrics *FlushMetrics
	log     *slog.Logger
	holder  string

	forget, lease *redis.Script
}

// NewFlusher makes a flusher that runs every interval.
func NewFlusher(db *postgres.DB, rdb redis.UniversalClient, interval time.Duration, m *FlushMetrics, log *slog.Logger) *Flusher {
	_, cluster := rdb.(*redis.ClusterClient)
	keys := rediskey.Receipts{Tagged: cluster}
	return &Flusher{
		rdb: rdb, retries: newRetries(interval), metrics: m, log: log, holder: id.New(),
		sources: []source{
			&batches{db: db, rdb: rdb, keys: keys, unbatch: redis.NewScript(unbatchSource)},
			&markers{db: db, rdb: rdb, keys: keys, unmark: redis.NewScript(unmarkSource)},
		},
		forget: redis.NewScript(forgetSource), lease: redis.NewScript(leaseSource),
	}
}

// totals are what one flush did.
type totals struct {
	ids, rows, failed int
	written           int64
}

// Flush writes all that was pending when it began. It returns at once where another worker flushes. When ctx ends it
// finishes the pieces that it has in hand.
func (f *Flusher) Flush(ctx context.Context) error {
	ctx, release, err := f.hold(ctx)
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
		t, err := f.walk(ctx, src, now)
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
	if failed != nil && ctx.Err() == nil {
		f.metrics.failures.Inc()
		return fmt.Errorf("flush: %w", failed)
	}
	f.metrics.lastSuccess.SetToCurrentTime()
	return nil
}

// hold takes the lease, so that no two workers do the same work, and keeps it. ctx is nil where another has it, and ends
// where it is lost; nothing but work is lost then.
func (f *Flusher) hold(ctx context.Context) (held context.Context, release func(), err error) {
	got, err := f.rdb.SetNX(ctx, rediskey.FlushLease, f.holder, leaseFor).Result()
	if err != nil {
		f.metrics.failures.Inc()
		return nil, nil, fmt.Errorf("take the lease of flushing: %w", err)
	}
	if !got {
		return nil, nil, nil
	}
	held, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		t := time.NewTicker(leaseFor / 4)
		defer t.Stop()
		for {
			select {
			case <-held.Done():
				return
			case <-t.C:
			}
			if n, err := f.keepLease(held, leaseFor); err == nil && n == 0 {
				f.log.Warn("another worker has taken over the flush")
				cancel()
			}
		}
	}()
	return held, func() {
		cancel()
		<-done
		_, _ = f.keepLease(context.Background(), 0) // it ends by itself
	}, nil
}

func (f *Flusher) keepLease(ctx context.Context, d time.Duration) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, redisWait)
	defer cancel()
	return f.lease.Run(ctx, f.rdb, []string{rediskey.FlushLease}, f.holder, d.Milliseconds()).Int64()
}

// walk flushes the ids that were touched up to now, the least recently touched first.
func (f *Flusher) walk(ctx context.Context, src source, now time.Time) (totals, error) {
	var sum totals
	last := fmt.Sprint(now.UnixMilli())
	from := start
	for ctx.Err() == nil {
		entries, next, err := readPiece(ctx, f.rdb, src.index(), from, last, listSize)
		if err != nil {
			return sum, err
		}
		t, err := f.flush(ctx, src, entries, now)
		sum.ids, sum.rows, sum.failed, sum.written = sum.ids+t.ids, sum.rows+t.rows, sum.failed+t.failed, sum.written+t.written
		if err != nil || next == nil {
			return sum, err
		}
		from = *next
	}
	return sum, nil
}

// piece is what goes into one statement.
type piece struct {
	rows []row
	junk []row // what can never be written
	// idle are entries of the index that had nothing.
	idle []row
}

func (p *piece) empty() bool { return len(p.rows)+len(p.junk)+len(p.idle) == 0 }

// flush reads what ids have, writes it, and removes it, all three at the same time: a piece is read while the one before it
// is written.
func (f *Flusher) flush(ctx context.Context, src source, entries []row, now time.Time) (totals, error) {
	reading, stop := context.WithCancel(ctx)
	defer stop()
	pieces, written := make(chan *piece, 1), make(chan *piece, 1)
	var t totals
	var readErr, writeErr, removeErr error
	var g sync.WaitGroup
	g.Go(func() {
		defer close(pieces)
		readErr = f.read(reading, src, entries, now, pieces)
	})
	g.Go(func() {
		defer close(written)
		for p := range pieces {
			if writeErr == nil {
				writeErr = f.write(ctx, src, p, &t)
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
				removeErr = f.remove(ctx, src, p)
			}
			if removeErr != nil {
				stop()
			}
			fault.Point("receipt.removed")
		}
	})
	g.Wait()
	t.ids = len(entries)
	switch {
	case writeErr != nil:
		return t, writeErr
	case removeErr != nil:
		return t, removeErr
	case ctx.Err() != nil:
		return t, nil // it was told to stop
	}
	return t, readErr
}

// read hands on what ids have, in pieces. Ids that wait after a failure are left alone.
func (f *Flusher) read(ctx context.Context, src source, entries []row, now time.Time, to chan<- *piece) error {
	p := &piece{}
	send := func() error {
		select {
		case to <- p:
			p = &piece{}
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	take := func(rows []row) error {
		for _, r := range rows {
			if id.Valid(r.member) {
				p.rows = append(p.rows, r)
			} else {
				p.junk = append(p.junk, r)
			}
			if len(p.rows) == pieceRows {
				if err := send(); err != nil {
					return err
				}
			}
		}
		return nil
	}
	for len(entries) > 0 {
		part := entries[:min(len(entries), chunk)]
		entries = entries[len(part):]
		var ids []string
		var known []row
		for _, e := range part {
			switch {
			case f.retries.waits(src, e.member):
			case !id.Valid(e.member):
				f.log.Error("what is no id is taken out of an index", "index", src.index(), "value", e.member)
				p.idle = append(p.idle, e)
			default:
				ids, known = append(ids, e.member), append(known, e)
			}
		}
		if len(ids) == 0 {
			continue
		}
		rows, nexts, err := src.first(ctx, ids)
		if err != nil {
			return err
		}
		for i, e := range known {
			if len(rows[i]) == 0 && now.UnixMilli()-e.value > linger.Milliseconds() {
				p.idle = append(p.idle, e)
			}
			if err := take(rows[i]); err != nil {
				return err
			}
			for next := nexts[i]; next != nil; {
				var more []row
				if more, next, err = src.more(ctx, ids[i], *next); err != nil {
					return err
				}
				if err := take(more); err != nil {
					return err
				}
			}
		}
	}
	if p.empty() {
		return nil
	}
	return send()
}

// write writes a piece, and leaves in it what was written. It returns an error where Postgres can't be asked; what can't be
// written for another reason waits by itself.
func (f *Flusher) write(ctx context.Context, src source, p *piece, t *totals) error {
	fault.Point("receipt.read")
	if len(p.rows) == 0 {
		return nil
	}
	ctx = context.WithoutCancel(ctx) // what was begun is finished
	n, err := src.write(ctx, p.rows)
	if err != nil && !postgres.IsUnavailable(err) {
		n, err = src.write(ctx, p.rows) // a message may have been deleted in between
	}
	if err != nil && !postgres.IsUnavailable(err) {
		p.rows, n, err = f.isolate(ctx, src, p.rows, err, t)
	}
	if err != nil {
		return err
	}
	t.rows += len(p.rows)
	t.written += n
	return nil
}

// isolate writes what can be written of rows that were refused together, and lets the ids wait that are to blame.
func (f *Flusher) isolate(ctx context.Context, src source, rows []row, cause error, t *totals) (done []row, n int64, err error) {
	if rows[0].id == rows[len(rows)-1].id { // rows of an id stand together
		wait := f.retries.failed(src, rows[0].id)
		t.failed++
		f.metrics.failures.Inc()
		f.log.Error("what is pending of an id can't be written; it waits, the others go on", "what", src.name(), "id", rows[0].id,
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
		case postgres.IsUnavailable(err):
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

// remove removes what was written, and from the index what has idled for long.
func (f *Flusher) remove(ctx context.Context, src source, p *piece) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), redisWait)
	defer cancel()
	var calls []redisconn.Call
	for _, rows := range [][]row{p.rows, p.junk} {
		for len(rows) > 0 {
			n := 1
			for n < len(rows) && rows[n].id == rows[0].id {
				n++
			}
			calls = append(calls, src.remove(rows[0].id, rows[:n]))
			f.retries.done(src, rows[0].id)
			rows = rows[n:]
		}
	}
	if len(p.junk) > 0 {
		f.log.Error("what is no id is dropped", "what", src.name(), "rows", len(p.junk), "first_of", p.junk[0].id)
	}
	if len(p.idle) > 0 {
		calls = append(calls, redisconn.Call{Script: f.forget, Keys: []string{src.index()}, Args: pairs(p.idle)})
	}
	cmds, err := redisconn.RunScripts(ctx, f.rdb, calls)
	if err == nil {
		err = redisconn.FirstError(cmds)
	}
	if err != nil {
		return fmt.Errorf("remove what was written: %w", err)
	}
	if src.index() == rediskey.DirtyMessages && len(p.rows) > 0 {
		f.observeLag(ctx, p.rows)
	}
	return nil
}

// observeLag measures from the reads to now, by Redis's clock.
func (f *Flusher) observeLag(ctx context.Context, rows []row) {
	now, err := f.rdb.Time(ctx).Result()
	if err != nil {
		return
	}
	for _, r := range rows {
		f.metrics.lag.Observe(max(0, float64(now.UnixMilli()-r.value)/1000))
	}
}
