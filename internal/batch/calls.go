package batch

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// errPanicked is returned to the callers of a shared call that panicked.
var errPanicked = errors.New("a shared call panicked")

// Calls merges concurrent calls: those that are made while one is running become a single call, the next one. A shared call begins after all of
// its callers have called, so no caller gets data that was read before its call. Call may be called from any goroutine, Run from one at
// a time.
type Calls[K, V any] struct {
	wait    time.Duration
	do      func(ctx context.Context, keys []K) ([]V, error)
	batcher *Batcher[*call[K, V]]
}

type call[K, V any] struct {
	ctx  context.Context //nolint:containedctx // of the caller, which may have ended
	key  K
	done chan struct{}

	// Set before done is closed.
	value V
	err   error
}

// NewCalls makes Calls in which up to queue calls wait, and up to most are merged. wait bounds one shared call. do returns a value for each key,
// in the order of the keys. It must be safe for concurrent use.
func NewCalls[K, V any](queue, most int, wait time.Duration, do func(ctx context.Context, keys []K) ([]V, error)) *Calls[K, V] {
	c := &Calls[K, V]{wait: wait, do: do}
	c.batcher = New(queue, most, c.work)
	return c
}

// Call returns do's value for a key, from a call that is shared with concurrent callers. If too many calls wait, it makes a separate call.
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

// Run makes shared calls until ctx ends, and then those that are waiting.
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
