package ratelimit

import (
	"sync"
	"time"
)

// maxBuckets bounds the buckets in a process's memory. If there are that many, new subjects share one bucket per rule: a
// flood of addresses limits itself, and costs no memory.
const maxBuckets = 100_000

// memory counts as gcra.lua does.
type memory struct {
	mu    sync.Mutex // guards whole
	whole map[bucket]time.Time
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
	if most := now.Add(size); whole.After(most) { // of a former clock
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

// forget drops the buckets that are whole.
func (m *memory) forget(now time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for b, whole := range m.whole {
		if whole.Before(now) {
			delete(m.whole, b)
		}
	}
}
