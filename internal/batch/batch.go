// Package batch collects items into batches. Items that arrive while a batch is being processed form the next one, and an item that arrives
// while none is being processed is processed at once. So batches grow with the load, and no item waits for a timer.
package batch

import (
	"context"
	"runtime"
)

// Batcher is a bounded queue whose items are processed in batches, in order. Offer and Len may be called from any
// goroutine, Run from one at a time.
type Batcher[T any] struct {
	queue chan T
	most  int
	work  func(batch []T)
}

// New makes a batcher that holds at most queue items. It calls work with up to most items at once. work must not keep the slice. If work
// panics, Run ends with that panic and loses this batch; it may be called again.
func New[T any](queue, most int, work func(batch []T)) *Batcher[T] {
	return &Batcher[T]{queue: make(chan T, queue), most: most, work: work}
}

// Offer queues an item. It returns false if the queue is full.
func (b *Batcher[T]) Offer(x T) bool {
	select {
	case b.queue <- x:
		return true
	default:
		return false
	}
}

// Len returns how many items wait.
func (b *Batcher[T]) Len() int { return len(b.queue) }

// Run processes batches until ctx ends, and then the items that are queued.
func (b *Batcher[T]) Run(ctx context.Context) {
	batch := make([]T, 0, min(b.most, 64))
	for {
		select {
		case x := <-b.queue:
			batch = append(batch[:0], x)
		case <-ctx.Done():
			select {
			case x := <-b.queue:
				batch = append(batch[:0], x)
			default:
				return
			}
		}
		runtime.Gosched() // let goroutines that are about to offer join this batch
		for len(batch) < b.most && len(b.queue) > 0 {
			batch = append(batch, <-b.queue)
		}
		b.work(batch)
		clear(batch)
	}
}
