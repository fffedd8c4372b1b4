package presence

import (
	"context"
	"errors"
	"strconv"
	"time"

	"github.com/parley-chat/parley/internal/fault"
	"github.com/parley-chat/parley/internal/lifecycle"
	"github.com/parley-chat/parley/internal/redisconn"
	"github.com/parley-chat/parley/internal/rediskey"
)

const (
	// sweepEvery is how often the deadlines are swept.
	sweepEvery = 250 * time.Millisecond
	// leaseFor is the duration of a lease. If the watcher dies, another one leases the users after that.
	leaseFor = 1500 * time.Millisecond
	// leaseSize is the largest number of users leased from one shard at once.
	leaseSize = 125
	// sweepWait bounds one pipeline of a sweep.
	sweepWait = 2 * time.Second
	// seenQueue is how many batches may wait for Postgres. Further ones are dropped; their users are leased again later.
	seenQueue = 256
	// seenPause is how long users wait whose last_seen_at could not be written, or whose claim failed.
	seenPause = 10 * time.Second
	// seenWait bounds the writing of one batch.
	seenWait = 6 * time.Second
)

// lease is a user whom this watcher leased. score is the hint's score during the lease. If the hint has another score, a pod or another watcher
// has written it since.
type lease struct {
	user  string
	shard int
	score int64
}

// sighting is the time at which a user was last seen, in microseconds since 1970, with the lease that ends once the time is written.
type sighting struct {
	lease
	seen int64
}

// sweep claims users whose deadlines have passed, every sweepEvery until ctx ends.
func (w *Watcher) sweep(ctx context.Context) error {
	return lifecycle.Every(ctx, sweepEvery, func(ctx context.Context) {
		start := time.Now()
		err := w.sweepOnce(ctx)
		switch {
		case err == nil:
			w.metrics.sweep.Observe(time.Since(start).Seconds())
			w.failing.End()
			w.unclear.Settle()
		case ctx.Err() == nil:
			w.metrics.errors.Inc()
			w.failing.Fail(ctx, err)
		}
	})
}

// sweepOnce claims all users who are due now, or none shortly after a gap.
func (w *Watcher) sweepOnce(ctx context.Context) error {
	fault.Point("watcher.sweep")
	wait, cancel := context.WithTimeout(ctx, sweepWait)
	may, err := w.records.mayClaim(wait)
	cancel()
	w.settled.Store(may)
	if err != nil || !may {
		return err
	}
	for more := true; more && ctx.Err() == nil; {
		due, full, err := w.leaseDue(ctx)
		if err != nil {
			return err
		}
		for len(due) > 0 {
			n := min(len(due), batchSize)
			err := w.claimLeased(ctx, due[:n])
			if errors.Is(err, errUnsettled) {
				return nil // the leases expire
			}
			if err != nil {
				return err
			}
			due = due[n:]
		}
		more = full
	}
	return nil
}

// leaseDue leases users who are due, from all shards. full reports that there may be more.
func (w *Watcher) leaseDue(ctx context.Context) (due []lease, full bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, sweepWait)
	defer cancel()
	calls := make([]call, rediskey.PresenceShards)
	for n := range calls {
		calls[n] = call{[]string{rediskey.PresenceDeadlines(n)}, []any{leaseSize, leaseFor.Milliseconds()}}
	}
	cmds, err := w.records.run(ctx, w.records.lease, calls)
	if err == nil {
		err = redisconn.FirstError(cmds)
	}
	if err != nil {
		return nil, false, err
	}
	for n, c := range cmds {
		users, err := c.StringSlice()
		if err != nil || len(users) == 0 {
			continue
		}
		score, err := strconv.ParseInt(users[0], 10, 64)
		if err != nil {
			return nil, false, err
		}
		for _, u := range users[1:] {
			due = append(due, lease{u, n, score})
		}
		full = full || len(users) > leaseSize
	}
	return due, full, nil
}

// claimLeased claims leased users. It ends the leases of those who are still online. The leases of the others end when
// last_seen_at is written: if the watcher dies before that, another one leases them again and nothing is lost
// (TestLastSeenIsNeverLostAndNeverMovesBack).
func (w *Watcher) claimLeased(ctx context.Context, due []lease) error {
	ctx, cancel := context.WithTimeout(ctx, sweepWait)
	defer cancel()
	users := make([]string, len(due))
	for i, l := range due {
		users[i] = l.user
	}
	verdicts, err := w.claim(ctx, users)
	if err != nil {
		return err
	}
	var alive []settlement
	var gone []sighting
	for i, v := range verdicts {
		switch {
		case v.failed:
			alive = append(alive, settlement{due[i], due[i].score + seenPause.Milliseconds()})
		case v.online:
			alive = append(alive, settlement{due[i], v.deadline})
		default:
			gone = append(gone, sighting{due[i], v.seen})
		}
	}
	if len(gone) > 0 {
		select {
		case w.seen <- gone:
		default:
		}
	}
	return w.settle(ctx, alive)
}

// settlement ends a lease: next is the new score of the hint, in ms since 1970, or 0 to remove it.
type settlement struct {
	lease
	next int64
}

// settle ends leases, except those whose hint was written by a pod in the meantime.
func (w *Watcher) settle(ctx context.Context, list []settlement) error {
	if len(list) == 0 {
		return nil
	}
	shards := map[int][]any{}
	for _, s := range list {
		shards[s.shard] = append(shards[s.shard], s.user, s.score, s.next)
	}
	calls := make([]call, 0, len(shards))
	for n, args := range shards {
		calls = append(calls, call{[]string{rediskey.PresenceDeadlines(n)}, args})
	}
	cmds, err := w.records.run(ctx, w.records.settle, calls)
	if err != nil {
		return err
	}
	return redisconn.FirstError(cmds)
}

// writeSeen writes last_seen_at until ctx ends, and then the batches that are queued.
func (w *Watcher) writeSeen(ctx context.Context) error {
	for {
		select {
		case batch := <-w.seen:
			w.writeBatch(batch)
		case <-ctx.Done():
			for len(w.seen) > 0 {
				w.writeBatch(<-w.seen)
			}
			return nil
		}
	}
}

// writeBatch writes last_seen_at of a batch and ends its leases; if Postgres fails, the users are checked again after seenPause.
func (w *Watcher) writeBatch(batch []sighting) {
	ctx, cancel := context.WithTimeout(context.Background(), seenWait)
	defer cancel()
	users, seen := make([]string, 0, len(batch)), make([]int64, 0, len(batch))
	for _, s := range batch {
		if s.seen > 0 {
			users, seen = append(users, s.user), append(seen, s.seen)
		}
	}
	rows, err := w.store.writeLastSeen(ctx, users, seen)
	next := int64(0)
	if err != nil {
		w.metrics.seenErrors.Inc()
		w.unwritten.Fail(ctx, err, "users", len(users))
	} else {
		w.unwritten.End()
	}
	w.metrics.seenRows.Add(float64(rows))
	list := make([]settlement, 0, len(batch))
	for _, s := range batch {
		if err != nil {
			next = s.score + seenPause.Milliseconds()
		}
		list = append(list, settlement{s.lease, next})
	}
	if err := w.settle(ctx, list); err != nil {
		w.metrics.errors.Inc() // they are leased again
		w.log.Debug("leases could not be ended", "error", err)
	}
}
