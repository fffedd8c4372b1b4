package batch

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// errPanicked is for the callers of a batch that panicked.
var errPanicked = errors.New("a shared call panicked")

// Calls shares calls: those that are made while one runs become one call, the next. Each begins after all of its callers asked, so
// that nobody gets what was read before that. Call may be called from any goroutine, Run from one at a time.
type Calls[K, V any] struct {
	wait    time.Duration
	do      func(ctx context.Context, keys []K) ([]V, error)
	batcher *Batcher[*call[K, V]]
}

type call[K, V any] struct {
	ctx  context.Context //nolint:containedctx // of the caller, who may have gone
	key  K
	done chan struct{}

	// Set before done is closed.
	value V
	err   error
}

// NewCalls makes calls of which at most queue wait and at most most are made as one, within wait. do returns a value for each key, in
// their order; it must be safe for concurrent use.
func NewCalls[K, V any](queue, most int, wait time.Duration, do func(ctx context.Context, keys []K) ([]V, error)) *Calls[K, V] {
	c := &Calls[K, V]{wait: wait, do: do}
	c.batcher = New(queue, most, c.work)
	return c
}

// Call makes a call, together with others if they come at the same time. If too many wait, it makes one on its own.
func (c *Calls[K, V]) Call(ctx context.Context, key K) (v V, err error) {
	x := &call[K, V]{ctx: ctx, key: key, done: make(chan struct{})}
	if !c.batcher.Offer(x) {
		list, err := c.do(ctx, []K{key})
		if err != nil {
			return v, err
		}
		return list[0], nil
	}
	select {
	case <-x.done:
		return x.value, x.err
	case <-ctx.Done():
		return v, fmt.Errorf("wait for a shared call: %w", ctx.Err())
	}
}

// Run makes calls until ctx ends, and then those that wait already.
func (c *Calls[K, V]) Run(ctx context.Context) error {
	c.batcher.Run(ctx)
	return nil
}

func (c *Calls[K, V]) work(batch []*call[K, V]) {
	keys, asked := make([]K, 0, len(batch)), make([]*call[K, V], 0, len(batch))
	for _, x := range batch {
		if x.ctx.Err() == nil {
			x.err = errPanicked
			keys, asked = append(keys, x.key), append(asked, x)
		}
	}
	if len(asked) == 0 {
		return
	}
	defer func() {
		for _, x := range asked {
			close(x.done)
		}
	}()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(asked[0].ctx), c.wait)
	defer cancel()
	values, err := c.do(ctx, keys)
	for i, x := range asked {
		if x.err = err; err == nil {
			x.value = values[i]
		}
	}
}
