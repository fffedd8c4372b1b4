package main

import (
	"maps"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// Latencies are kept in microseconds with three digits, up to longest; what took longer counts as that.
const (
	longest = 10 * time.Minute
	digits  = 3
)

func newHistogram() *hdrhistogram.Histogram {
	return hdrhistogram.New(1, longest.Microseconds(), digits)
}

// timings are the latencies of one kind. Many goroutines record at once, so each takes one of several parts.
type timings struct{ parts []part }

type part struct {
	mu sync.Mutex
	h  *hdrhistogram.Histogram // of the current second
}

// record notes a latency. who spreads the callers over the parts.
func (t *timings) record(who int, d time.Duration) {
	p := &t.parts[who%len(t.parts)]
	p.mu.Lock()
	_ = p.h.RecordValue(min(max(d, time.Microsecond), longest).Microseconds()) // it is in bounds
	p.mu.Unlock()
}

// take empties the parts into one.
func (t *timings) take() *hdrhistogram.Histogram {
	h := newHistogram()
	for i := range t.parts {
		p := &t.parts[i]
		p.mu.Lock()
		if p.h.TotalCount() > 0 {
			h.Merge(p.h)
			p.h.Reset()
		}
		p.mu.Unlock()
	}
	return h
}

// second is what one second brought.
type second struct {
	// At is when it ended, in seconds since the start.
	At float64 `json:"at"`
	// Counts are what the counters rose by, Levels what the gauges stood at.
	Counts map[string]int64 `json:"counts"`
	Levels map[string]int64 `json:"levels,omitempty"`
	// Latencies are in milliseconds.
	Latencies map[string]quantiles `json:"latencies"`
	// Seconds is its length, Warmup whether it is left out of the totals.
	Seconds float64 `json:"seconds"`
	Warmup  bool    `json:"warmup,omitempty"`
}

// quantiles of latencies, in milliseconds.
type quantiles struct {
	Count int64   `json:"count"`
	Mean  float64 `json:"mean"`
	P50   float64 `json:"p50"`
	P90   float64 `json:"p90"`
	P99   float64 `json:"p99"`
	P999  float64 `json:"p999"`
	Max   float64 `json:"max"`
}

func milliseconds(us int64) float64 { return float64(us) / 1000 }

func quantilesOf(h *hdrhistogram.Histogram) quantiles {
	at := func(p float64) float64 { return milliseconds(h.ValueAtQuantile(p)) }
	return quantiles{h.TotalCount(), h.Mean() / 1000, at(50), at(90), at(99), at(99.9), milliseconds(h.Max())}
}

// stats is what a run counts and times.
type stats struct {
	begun    time.Time
	counters sync.Map // name -> *atomic.Int64, which only rise
	levels   sync.Map // name -> *atomic.Int64
	kinds    sync.Map // name -> *timings

	mu     sync.Mutex // guards what follows, which tick alone writes
	last   map[string]int64
	lastAt time.Time
	totals map[string]*hdrhistogram.Histogram
	series []second
	warm   time.Time // from when on the totals count
}

func newStats(warmup time.Duration) *stats {
	now := time.Now()
	return &stats{begun: now, lastAt: now, warm: now.Add(warmup), last: map[string]int64{}, totals: map[string]*hdrhistogram.Histogram{}}
}

func number(m *sync.Map, name string) *atomic.Int64 {
	if c, ok := m.Load(name); ok {
		return c.(*atomic.Int64)
	}
	c, _ := m.LoadOrStore(name, new(atomic.Int64))
	return c.(*atomic.Int64)
}

func (s *stats) counter(name string) *atomic.Int64 { return number(&s.counters, name) }
func (s *stats) level(name string) *atomic.Int64   { return number(&s.levels, name) }
func (s *stats) add(name string, n int64)          { s.counter(name).Add(n) }

func (s *stats) timings(kind string) *timings {
	if t, ok := s.kinds.Load(kind); ok {
		return t.(*timings)
	}
	fresh := &timings{parts: make([]part, runtime.GOMAXPROCS(0))}
	for i := range fresh.parts {
		fresh.parts[i].h = newHistogram()
	}
	t, _ := s.kinds.LoadOrStore(kind, fresh)
	return t.(*timings)
}

func numbers(m *sync.Map) map[string]int64 {
	out := map[string]int64{}
	m.Range(func(k, v any) bool {
		out[k.(string)] = v.(*atomic.Int64).Load()
		return true
	})
	return out
}

// begin starts the measured time anew: what came before, as the opening of sockets, is neither in the series nor in the totals.
func (s *stats) begin(warmup time.Duration) {
	s.tick()
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	s.begun, s.lastAt, s.warm = now, now, now.Add(warmup)
	s.series, s.totals = nil, map[string]*hdrhistogram.Histogram{}
}

// tick ends a second and answers what it brought.
func (s *stats) tick() second {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	out := second{
		At: now.Sub(s.begun).Seconds(), Seconds: now.Sub(s.lastAt).Seconds(), Warmup: s.lastAt.Before(s.warm),
		Counts: map[string]int64{}, Levels: numbers(&s.levels), Latencies: map[string]quantiles{},
	}
	for k, v := range numbers(&s.counters) {
		if d := v - s.last[k]; d != 0 {
			out.Counts[k] = d
		}
		s.last[k] = v
	}
	s.kinds.Range(func(k, v any) bool {
		h := v.(*timings).take()
		if h.TotalCount() == 0 {
			return true
		}
		out.Latencies[k.(string)] = quantilesOf(h)
		if !out.Warmup {
			if s.totals[k.(string)] == nil {
				s.totals[k.(string)] = newHistogram()
			}
			s.totals[k.(string)].Merge(h)
		}
		return true
	})
	s.lastAt = now
	s.series = append(s.series, out)
	return out
}

// point says that so many percent of the latencies were at most so many milliseconds.
type point struct {
	Percentile   float64 `json:"percentile"`
	Milliseconds float64 `json:"milliseconds"`
	Count        int64   `json:"count"`
}

func distribution(h *hdrhistogram.Histogram) (out []point) {
	for _, b := range h.CumulativeDistributionWithTicks(5) {
		out = append(out, point{b.Quantile, milliseconds(b.ValueAt), b.Count})
	}
	return out
}

// rates are the counters' rises a second after the warm-up, until the load ended.
func (s *stats) rates(end time.Time) map[string]float64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	sum, seconds := map[string]int64{}, 0.0
	for _, x := range s.series {
		if x.Warmup || s.begun.Add(time.Duration(x.At*float64(time.Second))).After(end.Add(time.Second/2)) {
			continue
		}
		seconds += x.Seconds
		for k, v := range x.Counts {
			sum[k] += v
		}
	}
	out := map[string]float64{}
	for k, v := range sum {
		out[k] = float64(v) / max(seconds, 0.001)
	}
	return out
}

func sorted[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
