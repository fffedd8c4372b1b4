package message

import (
	"sync"
	"time"
)

// queue holds the sends that wait for a commit, in order. It keeps two orders, with any number of concurrent commits:
//
//   - A conversation's sends are committed in order: while a running commit has sends of a conversation, its other sends wait.
//   - A lane's sends, those of one socket, are committed in order across conversations: while a running commit has sends of a lane, its other
//     sends wait. And if a send is held back from a batch, the later sends of its lane are too.
//
// An example with the sends of conversations a, b and c, of which a1 and c1 have the same lane:
//
//	running   a0
//	waiting   a1 b1 a2 c1
//	batch     b1                   a1 and a2 wait for a0; c1 waits, because a1 of its lane was held back
//
// Few commits make large batches, and a batch costs as much as seven of its messages (bench: BenchmarkSend). Therefore only one commit runs
// at a time. A second one may start if the first takes longer than patience, because it waits for a lock, or if a full batch is waiting.
type queue struct {
	moved chan struct{} // wakes a committer

	mu      sync.Mutex // guards the following fields
	waiting []*pending
	busy    map[string]bool // conversations with sends in a running commit
	running int
	since   time.Time // when the last commit began
	passes  int       // the number of calls of takeBatch that considered the waiting sends
}

// Lane keeps the sends of one socket in order. The zero value is ready for use. The queue's lock guards it.
type Lane struct {
	busy bool // a running commit has sends of it
	held int  // the last pass in which one of its sends was held back
}

func newQueue() *queue {
	return &queue{moved: make(chan struct{}, committers), busy: map[string]bool{}}
}

// add queues a send. It returns false if the queue is full.
func (q *queue) add(p *pending) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.waiting) >= maxQueue {
		return false
	}
	q.waiting = append(q.waiting, p)
	if n := len(q.waiting); n == 1 || n == maxBatch || q.running == 0 {
		q.poke()
	}
	return true
}

func (q *queue) poke() {
	select {
	case q.moved <- struct{}{}:
	default:
	}
}

// takeBatch moves the sends that may be committed now into batch and counts a running commit; the caller must call done afterwards. If there
// are none, it returns when to try again, unless moved wakes the caller earlier. With hurry it does not wait for the end of another commit.
func (q *queue) takeBatch(batch []*pending, hurry bool) (taken []*pending, again time.Duration) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if left := patience - time.Since(q.since); q.running > 0 && len(q.waiting) > 0 && len(q.waiting) < maxBatch && left > 0 && !hurry {
		return nil, left
	}
	q.passes++
	stay := q.waiting[:0]
	for _, p := range q.waiting {
		if len(batch) < maxBatch && q.free(p) {
			batch = append(batch, p)
			continue
		}
		stay = append(stay, p)
		if p.lane != nil {
			p.lane.held = q.passes
		}
	}
	clear(q.waiting[len(stay):])
	q.waiting = stay
	switch {
	case len(batch) > 0:
	case len(stay) > 0:
		return nil, patience
	default:
		return nil, time.Hour
	}
	for _, p := range batch {
		q.setBusy(p, true)
	}
	q.running++
	q.since = time.Now()
	return batch, 0
}

// free reports whether a send may go into the batch of this pass. The lock is held.
func (q *queue) free(p *pending) bool {
	return !q.busy[p.conversationID] && (p.lane == nil || !p.lane.busy && p.lane.held != q.passes)
}

// setBusy records whether a running commit has the send. The lock is held.
func (q *queue) setBusy(p *pending, busy bool) {
	if busy {
		q.busy[p.conversationID] = true
	} else {
		delete(q.busy, p.conversationID)
	}
	if p.lane != nil {
		p.lane.busy = busy
	}
}

// done records that a batch's commit has ended.
func (q *queue) done(batch []*pending) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, p := range batch {
		q.setBusy(p, false)
	}
	q.running--
	q.poke()
}

func (q *queue) len() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.waiting)
}
