package message

import (
	"sync"
	"time"
)

// queue holds the sends that wait for a commit, in their order. While one of a conversation's is in a commit that runs, the
// others of that conversation wait for its end: so their order holds with any number of commits at once.
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
}

func newQueue() *queue {
	return &queue{moved: make(chan struct{}, committers), busy: map[string]bool{}}
}

// add queues a send. It returns false where the queue is full.
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

// take moves what may be committed now into batch, and notes that a commit of it runs: done has to follow. Where that is
// nothing it tells when to look again; sooner if moved says so. hurry waits for no other commit's end.
func (q *queue) take(batch []*pending, hurry bool) (taken []*pending, again time.Duration) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if left := patience - time.Since(q.since); q.running > 0 && len(q.waiting) > 0 && len(q.waiting) < maxBatch && left > 0 && !hurry {
		return nil, left
	}
	stay := q.waiting[:0]
	for _, p := range q.waiting {
		if len(batch) < maxBatch && !q.busy[p.conversationID] {
			batch = append(batch, p)
		} else {
			stay = append(stay, p)
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
		q.busy[p.conversationID] = true
	}
	q.running++
	q.since = time.Now()
	return batch, 0
}

// done notes that a batch's commit ended.
func (q *queue) done(batch []*pending) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, p := range batch {
		delete(q.busy, p.conversationID)
	}
	q.running--
	q.poke()
}

func (q *queue) len() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.waiting)
}
