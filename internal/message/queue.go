package message

import (
	"sync"
	"time"
)

// queue holds the sends that wait for a commit, in order. While a running commit has sends of a conversation, the other sends of that
// conversation wait for its end, so their order holds with any number of concurrent commits.
//
// A lane is the sends of one socket. They are committed in order too, across conversations: while a running commit has sends of a lane, the
// others wait, and no send joins a batch from which an earlier send of its lane was held back.
//
//	waiting   a1 b1 a2 c1          running: {a0}  →  a is busy
//	batch     b1 c1                a1 and a2 stay; a lane with a1 stays too
//
// Few commits make large batches, and a batch alone costs as much as seven of its messages (bench: BenchmarkSend). Therefore only one commit
// runs, unless it takes longer than patience, because it waits for a lock, or a whole batch is waiting.
type queue struct {
	moved chan struct{} // wakes a committer

	mu      sync.Mutex // guards the following fields
	waiting []*pending
	busy    map[string]bool // conversations with sends in a running commit
	running int
	since   time.Time // when the last commit began
	passes  int       // how often sends were taken
}

// Lane keeps the sends of one socket in order. Its zero value is ready for use; the queue's lock guards it.
type Lane struct {
	busy bool // a running commit has sends of it
	held int  // the last pass that held one of its sends back
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

// setBusy notes that a running commit has a send in hand, or no more. The lock is held.
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

// done notes that a batch's commit ended.
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
