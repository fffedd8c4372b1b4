package ratelimit

import (
	"sync"
	"time"
)

// maxBuckets bounds the buckets in a process's memory. Beyond it all new subjects of a rule share one bucket, so that a flood from many
// addresses uses no further memory, and is limited.
const maxBuckets = 100_000

// memory has buckets in the process's memory, with the algorithm of gcra.lua.
type memory struct {
	mu    sync.Mutex           // guards whole
	whole map[bucket]time.Time // when each bucket will be full again
}

type bucket struct {
	rule, subject string
}

func newMemory() *memory { return &memory{whole: map[bucket]time.Time{}} }

func (m *memory) take(t Take, now time.Time) Verdict {
	m.mu.Lock()
	defer m.mu.Unlock()
	b := bucket{t.Rule, t.Subject}
	if _, known := m.whole[b]; !known && len(m.whole) >= maxBuckets {
		b.subject = ""
	}
	step := interval(t.Rate)
	size := time.Duration(t.Rate.Count) * step
	whole := m.whole[b]
	if most := now.Add(size); whole.After(most) { // the clock was set back
		whole = most
	}
	if whole.Before(now) {
		whole = now
	}
	after := whole.Add(time.Duration(t.cost()) * step)
	if after.Before(now) {
		after = now
	}
	v := Verdict{Limit: t.Rate.Count, Reset: whole.Sub(now)}
	if wait := after.Add(-size).Sub(now); t.cost() > 0 && wait > 0 {
		v.RetryAfter = wait
	} else {
		v.Allowed = true
		m.whole[b] = after
		v.Reset = after.Sub(now)
	}
	v.Remaining = int((size - v.Reset) / step)
	return v
}

// forget drops the buckets that are full.
func (m *memory) forget(now time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for b, whole := range m.whole {
		if whole.Before(now) {
			delete(m.whole, b)
		}
	}
}
