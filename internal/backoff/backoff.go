// Package backoff computes and waits for the pauses between attempts. Pauses vary at random, so that processes that failed at the same time, for
// example because a dependency stopped, don't all try again at once.
package backoff

import (
	"context"
	"math/rand/v2"
	"time"
)

// Policy is a pause that doubles with each further failure. First must be above 0.
type Policy struct {
	First, Most time.Duration
}

// After returns the pause after a number of failures in a row, 1 or more: First, doubled for each further one and Most at most, spread.
func (p Policy) After(failures int) time.Duration {
	d := p.First
	for ; failures > 1 && d < p.Most; failures-- {
		d *= 2
	}
	return Spread(min(d, p.Most))
}

// Spread returns d, give or take a fifth.
func Spread(d time.Duration) time.Duration {
	return time.Duration(float64(d) * (0.8 + 0.4*rand.Float64())) //nolint:gosec // it may be guessed
}

// Wait waits for d. It returns false, at once, if ctx ends before.
func Wait(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
