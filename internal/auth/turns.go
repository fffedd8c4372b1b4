package auth

import (
	"context"
	"slices"
	"sync"
)

// Bounds of turns.
const (
	// maxWaiting is how many may wait in all.
	maxWaiting = 64
	// maxWaitingEach is how many requests of one subject may wait, so that a single subject never fills the queue.
	maxWaitingEach = maxWaiting / 2
)

// turns hands out turns to hash passwords: as many at once as fit the memory and the processors, and in rotation to the subjects
// that wait: the logins of a username, and other uses of an account's password. A subject with a hundred requests delays the others by one turn, not by a hundred.
//
// When maxWaiting are waiting, a newcomer whose subject has fewer waiting than another's takes the place of that other subject's
// newest request. So a queue that a few accounts fill is never full for the rest.
type turns struct {
	mu       sync.Mutex // guards the following fields
	mib      int        // memory that is free
	slots    int        // processors that are free
	running  int
	queues   map[string][]*turn // by subject, the oldest first; none is empty
	rotation []string           // the subjects of queues, the next one first
	waiting  int
	// most is maxWaiting and each is maxWaitingEach, except in tests.
	most, each int
}

// turn is a request that waits for its turn.
type turn struct {
	mib int
	// ready receives nil when the turn has come, ErrBusy when it had to give way. It has room for one.
	ready chan error
}

func newTurns(mib, slots int) *turns {
	return &turns{mib: mib, slots: slots, queues: map[string][]*turn{}, most: maxWaiting, each: maxWaitingEach}
}

// await waits for a turn of the subject's that takes so much memory. The caller calls release when it has done its work. It
// returns ErrBusy if too many wait, or ctx ends first.
func (t *turns) await(ctx context.Context, subject string, mib int) (release func(), err error) {
	t.mu.Lock()
	if t.waiting == 0 && t.fits(mib) {
		t.start(mib)
		t.mu.Unlock()
		return func() { t.release(mib) }, nil
	}
	if !t.makeRoom(subject) {
		t.mu.Unlock()
		return nil, ErrBusy
	}
	mine := &turn{mib: mib, ready: make(chan error, 1)}
	t.enqueue(subject, mine)
	t.mu.Unlock()

	select {
	case err := <-mine.ready:
		if err != nil {
			return nil, err
		}
		return func() { t.release(mib) }, nil
	case <-ctx.Done():
		t.abandon(subject, mine)
		return nil, ErrBusy
	}
}

// fits reports whether a turn may start. A turn that needs more than the whole memory starts when nothing else runs.
func (t *turns) fits(mib int) bool { return t.running == 0 || t.slots > 0 && t.mib >= mib }

func (t *turns) start(mib int) {
	t.running++
	t.slots--
	t.mib -= mib
}

func (t *turns) release(mib int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.running--
	t.slots++
	t.mib += mib
	t.startNext()
}

// startNext starts the next turns, as far as memory allows. The caller holds mu.
func (t *turns) startNext() {
	for len(t.rotation) > 0 {
		subject := t.rotation[0]
		next := t.queues[subject][0]
		if !t.fits(next.mib) {
			return
		}
		t.remove(subject, 0)
		if len(t.queues[subject]) > 0 { // to the end of the rotation
			t.rotation = append(slices.Delete(t.rotation, 0, 1), subject)
		}
		t.start(next.mib)
		next.ready <- nil
	}
}

// makeRoom reports whether one more request of the subject may wait. The caller holds mu.
func (t *turns) makeRoom(subject string) bool {
	own := len(t.queues[subject])
	switch {
	case own >= t.each:
		return false
	case t.waiting < t.most:
		return true
	}
	longest, n := "", own+1
	for s, q := range t.queues {
		if len(q) > n {
			longest, n = s, len(q)
		}
	}
	if longest == "" {
		return false
	}
	gone := t.queues[longest][n-1]
	t.remove(longest, n-1)
	gone.ready <- ErrBusy
	return true
}

func (t *turns) enqueue(subject string, mine *turn) {
	if len(t.queues[subject]) == 0 {
		t.rotation = append(t.rotation, subject)
	}
	t.queues[subject] = append(t.queues[subject], mine)
	t.waiting++
}

// remove removes the i-th request of a subject from its queue. The caller holds mu.
func (t *turns) remove(subject string, i int) {
	q := slices.Delete(t.queues[subject], i, i+1)
	t.waiting--
	if len(q) > 0 {
		t.queues[subject] = q
		return
	}
	delete(t.queues, subject)
	t.rotation = slices.DeleteFunc(t.rotation, func(s string) bool { return s == subject })
}

// abandon gives up a waiting request. If its turn came at the same moment, the next request gets it.
func (t *turns) abandon(subject string, mine *turn) {
	t.mu.Lock()
	i := slices.Index(t.queues[subject], mine)
	if i >= 0 {
		t.remove(subject, i)
	}
	t.mu.Unlock()
	if i < 0 && <-mine.ready == nil {
		t.release(mine.mib)
	}
}
