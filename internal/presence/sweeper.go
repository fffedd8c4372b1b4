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
	// leaseFor is how long a watcher has for the users whom it took; if it dies, another takes them then.
	leaseFor = 1500 * time.Millisecond
	// leaseSize is how many users it takes of a shard at once.
	leaseSize = 125
	// sweepWait bounds one pipeline of a sweep.
	sweepWait = 2 * time.Second
	// seenQueue is how many batches wait for Postgres. Those that come when it is full are taken again after their lease.
	seenQueue = 256
	// seenPause is when users are looked at again whose last_seen_at could not be written.
	seenPause = 10 * time.Second
	// seenWait bounds the writing of a batch.
	seenWait = 6 * time.Second
)

// lease is a user whom this watcher took from a shard, and the score that shows that nobody wrote it since.
type lease struct {
	user  string
	shard int
	score int64
}

// sighting is when a user was last seen, and the lease that ends when that is written.
type sighting struct {
	lease
	seen int64
}

// sweep looks at all whose deadlines are over, until ctx ends.
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

// sweepOnce looks at all users who are due now, or at none if there was a gap lately.
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
		due, full, err := w.lease(ctx)
		if err != nil {
			return err
		}
		for len(due) > 0 {
			n := min(len(due), batchSize)
			err := w.look(ctx, due[:n])
			if errors.Is(err, errUnsettled) {
				return nil // the leases end soon
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

// lease takes users who are due. full tells that there may be more.
func (w *Watcher) lease(ctx context.Context) (due []lease, full bool, err error) {
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

// look claims users and ends the leases of those who are online still. The others' end when their last_seen_at is
// written: a watcher that dies before leaves them to another, and nothing is lost.
func (w *Watcher) look(ctx context.Context, due []lease) error {
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

// settlement ends a lease: next is when to look again in ms, 0 for never.
type settlement struct {
	lease
	next int64
}

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

// writeSeen writes last_seen_at until ctx ends, and then what waits already.
func (w *Watcher) writeSeen(ctx context.Context) error {
	for {
		select {
		case batch := <-w.seen:
			w.saw(batch)
		case <-ctx.Done():
			for len(w.seen) > 0 {
				w.saw(<-w.seen)
			}
			return nil
		}
	}
}

func (w *Watcher) saw(batch []sighting) {
	ctx, cancel := context.WithTimeout(context.Background(), seenWait)
	defer cancel()
	users, seen := make([]string, 0, len(batch)), make([]int64, 0, len(batch))
	for _, s := range batch {
		if s.seen > 0 {
			users, seen = append(users, s.user), append(seen, s.seen)
		}
	}
	rows, err := w.store.saw(ctx, users, seen)
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
		w.metrics.errors.Inc() // they are taken again after their lease
		w.log.Debug("leases could not be ended", "error", err)
	}
}
