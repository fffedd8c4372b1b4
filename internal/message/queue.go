package message

import (
	"sync"
	"time"
)

// queue holds the sends that wait for a commit, in their order. While one of a conversation's is in a commit that runs, the
// others of that conversation wait for its end: so their order holds with any number of commits at once.
//
// Sends of one lane, which is one socket's, are committed in their order too, whatever their conversations are: while a commit has one
// of them in hand, the others wait, and none goes into a batch from which an earlier one was held back.
//
// Few commits make large batches, and a batch costs as much as seven of its messages do (bench: BenchmarkSend). Therefore
// one commits at a time, unless that one takes longer than patience, because it waits for a lock, or a whole batch waits.
type queue struct {
	moved chan struct{} // somebody should look

	mu      sync.Mutex // guards what follows
	waiting []*pending
	busy    map[string]bool // conversations that a running commit has in hand
	running int
	since   time.Time // when the last commit began
	passes  int       // how often sends were taken
}

// Lane keeps sends in order that wait at the same time. Its zero value is ready for use; the queue's lock guards it.
type Lane struct {
	busy bool // a running commit has sends of it in hand
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

// take moves what may be committed now into batch, and notes that a commit of it runs: done has to follow. If there is nothing, it
// returns when to look again; moved may say so sooner. hurry waits for no other commit's end.
func (q *queue) take(batch []*pending, hurry bool) (taken []*pending, again time.Duration) {
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
