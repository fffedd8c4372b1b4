package ratelimit

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"go.opentelemetry.io/otel/trace"

	"github.com/parley-chat/parley/internal/redisconn"
	"github.com/parley-chat/parley/internal/tracing"
)

const (
	// maxBatch is how many requests share a round trip at most: some of Redis's milliseconds, in which it serves nobody else.
	maxBatch = 128
	// maxWaiting bounds the requests that wait for a round trip. Each waits for patience at most; for more of them this process
	// counts in its own memory.
	maxWaiting = 1 << 13
)

var (
	errAway     = errors.New("redis is unavailable")
	errPanicked = errors.New("the round trip panicked")
)

// Requests that wait at the same time share a round trip. Measured with 64 at once against one round trip each: less than half of
// the CPU of Redis, and three times as many requests (go test -bench Allow ./internal/ratelimit).

// asking is a request that asks Redis.
type asking struct {
	ctx   context.Context //nolint:containedctx // of the request, for its trace
	until time.Time       // when it stops waiting
	calls []redisconn.Call
	// taken is set by the first of the two: the round trip that includes it, or the request that stops waiting.
	taken atomic.Bool
	done  chan struct{}

	// Set before done is closed.
	cmds []*redis.Cmd
	err  error
}

// share runs a request's scripts in a round trip with those of others. Errors of single scripts are left in their commands.
func (l *Limiter) share(ctx context.Context, calls []redisconn.Call) ([]*redis.Cmd, error) {
	a := &asking{ctx: ctx, until: time.Now().Add(patience), calls: calls, done: make(chan struct{})}
	if !l.waiting.Offer(a) {
		return nil, errAway
	}
	wait, cancel := context.WithDeadline(ctx, a.until)
	defer cancel()
	select {
	case <-a.done:
		return a.cmds, a.err
	case <-wait.Done():
		a.taken.Store(true)
		if ctx.Err() == nil { // else it was the request that ended
			l.redis.Fail(wait.Err())
		}
		return nil, wait.Err()
	}
}

// ask asks Redis for those of a batch that still wait.
func (l *Limiter) askBatch(batch []*asking) {
	asked := batch[:0]
	for _, a := range batch {
		if a.taken.CompareAndSwap(false, true) {
			a.err = errPanicked
			asked = append(asked, a)
		}
	}
	if len(asked) == 0 {
		return
	}
	defer func() {
		for _, a := range asked {
			close(a.done)
		}
	}()
	cmds, err := l.roundTrip(asked)
	for _, a := range asked {
		a.err = err
		if err == nil {
			a.cmds, cmds = cmds[:len(a.calls)], cmds[len(a.calls):]
		}
	}
}

// roundTrip runs the scripts of a batch within the patience of its oldest.
func (l *Limiter) roundTrip(batch []*asking) ([]*redis.Cmd, error) {
	if l.redis.Open() { // since they queued
		return nil, errAway
	}
	// One client that goes away is nothing to the others.
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
		l.redis.Fail(err)
	}
	return cmds, err
}
