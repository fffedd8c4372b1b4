package receipt

import (
	"context"
	"runtime"
)

// batcher gathers what comes while one batch is at work into the next. What comes alone is worked on at once.
type batcher[T any] struct {
	queue chan T
	most  int
	work  func(batch []T)
}

func newBatcher[T any](queue, most int, work func([]T)) *batcher[T] {
	return &batcher[T]{queue: make(chan T, queue), most: most, work: work}
}

// offer queues, unless the queue is full.
func (b *batcher[T]) offer(x T) bool {
	select {
	case b.queue <- x:
		return true
	default:
		return false
	}
}

// run works until ctx ends, and then on what is queued already.
func (b *batcher[T]) run(ctx context.Context) {
	var batch []T
	for {
		select {
		case x := <-b.queue:
			batch = append(batch, x)
		case <-ctx.Done():
			select {
			case x := <-b.queue:
				batch = append(batch, x)
			default:
				return
			}
		}
		runtime.Gosched() // who is about to queue comes into this batch
		for len(batch) < b.most && len(b.queue) > 0 {
			batch = append(batch, <-b.queue)
		}
		b.work(batch)
		clear(batch)
		batch = batch[:0]
	}
}
