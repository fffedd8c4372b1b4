package attachment

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/parley-chat/parley/internal/objectstore"
)

const (
	// settleAfter is how long after the expiry of its URL an upload may still create an object: the clocks of pods, storage and database may
	// differ by minutes, and an upload that began in time may end later.
	settleAfter = 15 * time.Minute
	// sweepBatch is how many rows a sweep processes at once.
	sweepBatch = 200
	// sweepAtOnce is how many objects it removes at once.
	sweepAtOnce = 8
)

// Sweeper removes files that were not sent in time, were rejected, or belong to deleted messages and conversations. A sweep may be stopped,
// killed, or run several times at once: an object is removed before its row, and each step can be repeated.
type Sweeper struct {
	store     *store
	objects   *objectstore.Store
	unsentTTL time.Duration
	metrics   *Metrics
	log       *slog.Logger
}

// NewSweeper makes a sweeper. unsentTTL is how long after its announcement a file may remain unsent.
func NewSweeper(db *sql.DB, objects *objectstore.Store, unsentTTL time.Duration, m *Metrics, log *slog.Logger) *Sweeper {
	if m.swept != nil {
		m.swept.SetToCurrentTime()
	}
	return &Sweeper{store: &store{db}, objects: objects, unsentTTL: unsentTTL, metrics: m, log: log}
}

// Sweep removes all files that are to be removed. It returns the first error; objects that the storage did not remove are tried again by the
// next sweep.
func (s *Sweeper) Sweep(ctx context.Context) error { return s.sweepAt(ctx, nil) }

// sweepAt is Sweep with the database's time given, for tests.
func (s *Sweeper) sweepAt(ctx context.Context, at *time.Time) error {
	begun := time.Now()
	unsent, err := s.giveUp(ctx, at)
	if err != nil {
		return err
	}
	for more := true; more; {
		if more, err = s.store.markDeleted(ctx, sweepBatch); err != nil {
			return err
		}
	}
	removed, kept, err := s.remove(ctx, at)
	if unsent+removed+kept > 0 || err != nil {
		s.log.InfoContext(ctx, "files swept", "unsent", unsent, "removed", removed, "kept", kept, "duration", time.Since(begun).String())
	}
	if err == nil && s.metrics.swept != nil {
		s.metrics.swept.SetToCurrentTime()
	}
	return err
}

// giveUp marks the files that were not sent in time as removed. From then on they can't be sent.
func (s *Sweeper) giveUp(ctx context.Context, at *time.Time) (total int, err error) {
	for {
		n, err := s.store.giveUpUnsent(ctx, at, s.unsentTTL, sweepBatch)
		total += n
		s.metrics.uploads.WithLabelValues(outcomeUnsent).Add(float64(n))
		if err != nil || n < sweepBatch {
			return total, err
		}
	}
}

// remove removes objects and then their rows, in batches. kept counts the rows that stay for a later sweep: their upload may still create the
// object again, or the storage did not remove it.
func (s *Sweeper) remove(ctx context.Context, at *time.Time) (removed, kept int, err error) {
	var failed error
	for after := ""; ; {
		batch, err := s.store.removable(ctx, at, after, sweepBatch)
		if err != nil || len(batch) == 0 {
			return removed, kept, errors.Join(failed, err)
		}
		after = batch[len(batch)-1].id
		gone, err := s.removeObjects(ctx, batch)
		if failed == nil {
			failed = err
		}
		if err := s.store.forget(ctx, gone); err != nil {
			return removed, kept, errors.Join(failed, err)
		}
		removed, kept = removed+len(gone), kept+len(batch)-len(gone)
		s.metrics.uploads.WithLabelValues(outcomeRemoved).Add(float64(len(gone)))
		if errors.Is(failed, objectstore.ErrUnavailable) {
			return removed, kept, failed // the other batches would fail too
		}
	}
}

// removeObjects removes the objects of a batch. It returns the ids of the rows that may be removed, and the first error. If the storage
// refuses to remove an object, the others are still removed. If the storage is unavailable, the rest of the batch is not tried.
func (s *Sweeper) removeObjects(ctx context.Context, batch []removable) (gone []string, err error) {
	var mu sync.Mutex // guards gone and err
	var away atomic.Bool
	var g errgroup.Group
	g.SetLimit(sweepAtOnce)
	for _, r := range batch {
		g.Go(func() error {
			if away.Load() {
				return nil
			}
			failed := s.objects.Remove(ctx, key(r.id))
			away.CompareAndSwap(false, errors.Is(failed, objectstore.ErrUnavailable))
			mu.Lock()
			defer mu.Unlock()
			switch {
			case failed != nil && err == nil:
				err = fmt.Errorf("remove the file %s: %w", r.id, failed)
			case failed == nil && r.settled:
				gone = append(gone, r.id)
			}
			return nil
		})
	}
	_ = g.Wait() // its errors are in err
	return gone, err
}
