package receipt

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/parley-chat/parley/internal/fault"
	"github.com/parley-chat/parley/internal/id"
	"github.com/parley-chat/parley/internal/lifecycle"
	"github.com/parley-chat/parley/internal/postgres"
	"github.com/parley-chat/parley/internal/redisconn"
)

// flow is the flush of one kind of row.
type flow[R row] struct {
	*Flusher
	src source[R]
}

func (f flow[R]) name() string { return f.src.name() }

// flush moves the rows of all ids that were touched up to now. Reading, writing and removing run at the same time: a piece is read while the
// previous one is written. If a step fails, reading stops, and the pieces that were written are still removed.
func (f flow[R]) flush(ctx context.Context, now time.Time) (totals, error) {
	reading, stop := context.WithCancel(ctx)
	defer stop()
	pieces, written := make(chan *piece[R], 1), make(chan *piece[R], 1)
	var t totals
	var readErr, writeErr, removeErr error
	var g sync.WaitGroup
	g.Go(func() {
		defer close(pieces)
		readErr = guarded(ctx, func() (err error) {
			t.ids, err = f.read(reading, now, pieces)
			return err
		})
	})
	g.Go(func() {
		defer close(written)
		for p := range pieces {
			if writeErr == nil {
				writeErr = guarded(ctx, func() error { return f.write(ctx, p, &t) })
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
				removeErr = guarded(ctx, func() error { return f.remove(ctx, p) })
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
func (f flow[R]) read(ctx context.Context, now time.Time, to chan<- *piece[R]) (ids int, err error) {
	c := &cutter[R]{to: to, p: &piece[R]{}}
	last, err := f.last(ctx, now)
	if err != nil {
		return 0, err
	}
	for from := start; ; {
		entries, next, err := readPiece(ctx, f.rdb, f.src.index(), from, last, listSize)
		if err != nil {
			return ids, err
		}
		ids += len(entries)
		for len(entries) > 0 {
			part := entries[:min(len(entries), chunk)]
			entries = entries[len(part):]
			if err := f.readPart(ctx, part, now, c); err != nil {
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
func (f flow[R]) last(ctx context.Context, now time.Time) (string, error) {
	highest, err := f.rdb.ZRevRangeWithScores(ctx, f.src.index(), 0, 0).Result()
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
func (f flow[R]) readPart(ctx context.Context, part []entry, now time.Time, c *cutter[R]) error {
	var ids []string
	var entries []entry
	for _, e := range part {
		switch {
		case f.retries.waits(f.name(), e.member):
		case !id.Valid(e.member):
			f.log.Error("an index entry that is not an id is removed", "index", f.src.index(), "value", e.member)
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
	rows, nexts, err := f.src.first(ctx, ids)
	if err != nil {
		return err
	}
	for i, e := range entries {
		if len(rows[i]) == 0 && now.UnixMilli()-e.at > linger.Milliseconds() {
			c.p.idle = append(c.p.idle, e)
		}
		if err := c.add(ctx, rows[i]); err != nil {
			return err
		}
		for next := nexts[i]; next != nil; {
			var more []R
			if more, next, err = f.src.more(ctx, ids[i], *next); err != nil {
				return err
			}
			if err := c.add(ctx, more); err != nil {
				return err
			}
		}
	}
	return nil
}

// write writes a piece and keeps only the written rows in it. It returns an error if Postgres is unavailable. Ids whose rows are
// refused for another reason are retried later, without holding up the others.
func (f flow[R]) write(ctx context.Context, p *piece[R], t *totals) error {
	fault.Point("receipt.read")
	if len(p.rows) == 0 {
		return nil
	}
	ctx = context.WithoutCancel(ctx) // a piece that was begun is finished
	n, err := f.src.write(ctx, p.rows)
	if isRefused(err) {
		n, err = f.src.write(ctx, p.rows) // the cause may have been a message that was deleted during the statement
	}
	if isRefused(err) {
		p.rows, n, err = f.isolate(ctx, p.rows, err, t)
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
func (f flow[R]) isolate(ctx context.Context, rows []R, cause error, t *totals) (done []R, n int64, err error) {
	if id := rows[0].dirtyID(); id == rows[len(rows)-1].dirtyID() { // rows of an id are adjacent
		wait := f.retries.failed(f.name(), id)
		t.failed++
		f.metrics.failures.Inc()
		f.log.Error("pending reads of an id can't be written; they are retried later, the others continue", "what", f.name(), "id", id,
			"rows", len(rows), "retry_in", wait.String(), "error", cause)
		return nil, 0, nil
	}
	half := len(rows) / 2
	for half > 0 && rows[half-1].dirtyID() == rows[half].dirtyID() {
		half--
	}
	for half == 0 || rows[half-1].dirtyID() == rows[half].dirtyID() {
		half++
	}
	for _, part := range [][]R{rows[:half], rows[half:]} {
		m, err := f.src.write(ctx, part)
		switch {
		case err == nil:
			done, n = append(done, part...), n+m
		case !isRefused(err):
			return nil, 0, err
		default:
			d, m, err := f.isolate(ctx, part, err, t)
			if err != nil {
				return nil, 0, err
			}
			done, n = append(done, d...), n+m
		}
	}
	return done, n, nil
}

// remove removes the written rows from Redis, and idle ids from the index.
func (f flow[R]) remove(ctx context.Context, p *piece[R]) error {
	fault.Point("receipt.remove")
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), redisWait)
	defer cancel()
	calls := append(removals(f.src, p.rows, f.cluster), removals(f.src, p.junk, f.cluster)...)
	for _, r := range p.rows {
		f.retries.done(f.name(), r.dirtyID())
	}
	if len(p.junk) > 0 {
		f.log.Error("rows that hold no ids are dropped", "what", f.name(), "rows", len(p.junk), "first_of", p.junk[0].dirtyID())
	}
	if len(p.idle) > 0 {
		args := make([]any, 0, 2*len(p.idle))
		for _, e := range p.idle {
			args = append(args, e.member, e.at)
		}
		calls = append(calls, redisconn.Call{Script: f.forget, Keys: []string{f.src.index()}, Args: args})
	}
	if _, err := runAll(ctx, f.rdb, calls); err != nil {
		return fmt.Errorf("remove written rows: %w", err)
	}
	f.src.removed(ctx, p.rows)
	return nil
}
