package receipt

import (
	"sync"
	"time"

	"github.com/parley-chat/parley/internal/backoff"
)

const (
	// maxRetries bounds the ids that wait; further failing ids are tried by every flush.
	maxRetries   = 10_000
	longestRetry = 10 * time.Minute
)

// retries has the ids that can't be written, each with the time of its next attempt. The pauses double, from twice the interval of flushes
// up to longestRetry. Safe for concurrent use.
type retries struct {
	pauses backoff.Policy

	mu sync.Mutex // guards m
	m  map[string]*retry
}

type retry struct {
	failures int
	until    time.Time
}

func newRetries(interval time.Duration) *retries {
	return &retries{pauses: backoff.Policy{First: 2 * interval, Most: longestRetry}, m: map[string]*retry{}}
}

func (*retries) key(kind, id string) string { return kind + ":" + id }

// waits reports whether an id has to be skipped for now.
func (r *retries) waits(kind, id string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	x := r.m[r.key(kind, id)]
	return x != nil && time.Now().Before(x.until)
}

// failed records a failure and returns how long the id waits.
func (r *retries) failed(kind, id string) time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	k := r.key(kind, id)
	x := r.m[k]
	if x == nil {
		x = &retry{}
		if len(r.m) < maxRetries {
			r.m[k] = x
		}
	}
	x.failures++
	wait := r.pauses.After(x.failures)
	x.until = time.Now().Add(wait)
	return wait
}

// done removes an id that was written.
func (r *retries) done(kind, id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.m) > 0 {
		delete(r.m, r.key(kind, id))
	}
}

// count returns how many ids wait. Ids that were not tried for a long time, because they no longer exist or another worker tries them,
// are dropped.
func (r *retries) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	for k, x := range r.m {
		if time.Since(x.until) > longestRetry {
			delete(r.m, k)
		}
	}
	return len(r.m)
}
