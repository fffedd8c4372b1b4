package receipt

import (
	"sync"
	"time"
)

const (
	// maxRetries bounds the ids that wait; further failing ids are tried by every flush.
	maxRetries   = 10_000
	longestRetry = 10 * time.Minute
)

// retries are the ids that can't be written, each with the time of its next attempt. The pauses double up to longestRetry. Safe for
// concurrent use.
type retries struct {
	interval time.Duration

	mu sync.Mutex // guards m
	m  map[string]*retry
}

type retry struct {
	wait  time.Duration
	until time.Time
}

func newRetries(interval time.Duration) *retries {
	return &retries{interval: interval, m: map[string]*retry{}}
}

func (r *retries) key(src source, id string) string { return src.name() + ":" + id }

// waits reports whether an id has to be skipped for now.
func (r *retries) waits(src source, id string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	x := r.m[r.key(src, id)]
	return x != nil && time.Now().Before(x.until)
}

// failed records a failure and returns how long the id waits.
func (r *retries) failed(src source, id string) time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	k := r.key(src, id)
	x := r.m[k]
	if x == nil {
		x = &retry{wait: r.interval}
		if len(r.m) < maxRetries {
			r.m[k] = x
		}
	}
	x.wait = min(2*x.wait, longestRetry)
	x.until = time.Now().Add(x.wait)
	return x.wait
}

// done removes ids that were written.
func (r *retries) done(src source, rows []row) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := 0; i < len(rows) && len(r.m) > 0; i++ {
		delete(r.m, r.key(src, rows[i].id))
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
