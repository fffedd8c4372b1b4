package ratelimit

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
	"go.opentelemetry.io/otel/trace"

	"github.com/parley-chat/parley/internal/redisconn"
	"github.com/parley-chat/parley/internal/tracing"
)

// maxBatch is how many requests share a round trip at most: some of Redis's milliseconds, in which it serves nobody else.
const maxBatch = 128

var (
	errAway     = errors.New("redis is away")
	errPanicked = errors.New("the round trip panicked")
)

// round lets the requests that wait at the same time share a round trip: what is asked while one runs goes into the next. One
// that asks while none runs goes at once, in its own goroutine. When a round trip ends, the oldest that waits leads the next.
//
// What waits is bounded by the requests that a process serves: each waits for one answer, and for patience at most.
type round struct {
	mu      sync.Mutex // guards what follows
	led     bool       // a round trip runs, or the oldest that waits was told to lead one
	waiting []*asking
}

// asking is a request that asks Redis.
type asking struct {
	ctx   context.Context //nolint:containedctx // of the request, for its trace
	until time.Time       // when it stops waiting
	calls []redisconn.Call
	turn  chan turn // tells it once that it is answered, or that it leads; nil where it never waited
	told  bool      // that it leads; under round.mu

	// Set before it is told that it is answered.
	cmds []*redis.Cmd
	err  error
}

type turn int

const (
	answered turn = iota
	leads
)

// join makes a the leader of a round trip where none runs, else has it wait for its turn.
func (r *round) join(a *asking) (leader bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.led {
		r.led = true
		return true
	}
	a.turn = make(chan turn, 1)
	r.waiting = append(r.waiting, a)
	return false
}

// take takes those of the next round trip from what waits, the oldest first.
func (r *round) take() []*asking {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := min(len(r.waiting), maxBatch)
	batch := slices.Clone(r.waiting[:n])
	r.waiting = slices.Delete(r.waiting, 0, n)
	return batch
}

// leave is for one that waits no longer. If it was to lead, another does.
func (r *round) leave(a *asking) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if i := slices.Index(r.waiting, a); i >= 0 {
		r.waiting = slices.Delete(r.waiting, i, i+1)
	}
	if a.told {
		r.next()
	}
}

// end answers those that the first of a batch led, and has the next one led.
func (r *round) end(batch []*asking) {
	for _, a := range batch[1:] {
		a.turn <- answered
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.next()
}

// next tells the oldest that waits to lead. The caller holds mu.
func (r *round) next() {
	if len(r.waiting) == 0 {
		r.led = false
		return
	}
	a := r.waiting[0]
	a.told = true
	a.turn <- leads
}

// share runs a request's scripts in a round trip with those of others. Errors of single scripts are left in their commands.
func (l *Limiter) share(ctx context.Context, calls []redisconn.Call) ([]*redis.Cmd, error) {
	a := &asking{ctx: ctx, until: time.Now().Add(patience), calls: calls}
	if l.round.join(a) {
		l.lead([]*asking{a})
		return a.cmds, a.err
	}
	wait, cancel := context.WithDeadline(ctx, a.until)
	defer cancel()
	select {
	case t := <-a.turn:
		if t == leads {
			l.lead(l.round.take())
		}
		return a.cmds, a.err
	case <-wait.Done():
		l.round.leave(a)
		if ctx.Err() == nil { // else it was the request that ended
			l.lost(wait.Err())
		}
		return nil, wait.Err()
	}
}

// lead runs the scripts of a batch, which its oldest leads: no other's patience ends before the leader's.
func (l *Limiter) lead(batch []*asking) {
	defer l.round.end(batch)
	for _, a := range batch {
		a.err = errPanicked
	}
	cmds, err := l.runBatch(batch)
	for _, a := range batch {
		a.err = err
		if err == nil {
			a.cmds, cmds = cmds[:len(a.calls)], cmds[len(a.calls):]
		}
	}
}

func (l *Limiter) runBatch(batch []*asking) ([]*redis.Cmd, error) {
	if l.away.Load() { // since they queued
		return nil, errAway
	}
	// That the leader's client goes away is nothing to the others.
	ctx, cancel := context.WithDeadline(context.WithoutCancel(batch[0].ctx), batch[0].until)
	defer cancel()
	calls := batch[0].calls
	if len(batch) > 1 {
		var span trace.Span
		ctx, span = tracing.Batch(ctx, "take limits", len(batch), func(i int) trace.Span { return trace.SpanFromContext(batch[i].ctx) })
		defer span.End()
		for _, a := range batch[1:] {
			calls = append(calls, a.calls...)
		}
	}
	cmds, err := redisconn.RunScripts(ctx, l.rdb, calls)
	if err != nil {
		l.lost(err)
	}
	return cmds, err
}
