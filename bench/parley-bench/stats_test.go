package main

import (
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

func TestStatsCountWhatCameAfterTheWarmup(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newStats(0)
		s.timings("ack").record(0, time.Hour) // before the load
		s.add("acked", 7)
		s.begin(2 * time.Second)
		for i, ms := range []int{1000, 500, 10, 20, 30} {
			time.Sleep(time.Second)
			s.timings("ack").record(i, time.Duration(ms)*time.Millisecond)
			s.add("acked", 5)
			s.tick()
		}
		if got := quantilesOf(s.totals["ack"]); got.Count != 3 || got.P50 < 19.9 || got.P50 > 20.1 || got.Max < 29.9 || got.Max > 30.1 {
			t.Errorf("%+v", got)
		}
		if got := numbers(&s.counters)["acked"]; got != 32 {
			t.Errorf("%d acked in all, want 32", got)
		}
		if got := s.rates(time.Now())["acked"]; got != 5 {
			t.Errorf("%g acked a second, want 5", got)
		}
		if len(s.series) != 5 || !s.series[1].Warmup || s.series[2].Warmup || s.series[0].Counts["acked"] != 5 || s.series[0].Latencies["ack"].Max < 999 {
			t.Errorf("%+v", s.series)
		}
	})
}

// What comes after the load is counted, but is no part of its rate.
func TestRatesEndWithTheLoad(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newStats(0)
		s.begin(0)
		for range 4 {
			s.add("sent", 10)
			time.Sleep(time.Second)
			s.tick()
		}
		end := time.Now()
		for range 6 {
			time.Sleep(time.Second)
			s.tick()
		}
		if got := s.rates(end)["sent"]; got != 10 {
			t.Errorf("%g a second, want 10", got)
		}
	})
}

func TestADistributionRises(t *testing.T) {
	t.Parallel()
	h := newHistogram()
	for range 10_000 {
		if err := h.RecordValue(rand.Int64N(1_000_000)); err != nil {
			t.Fatal(err)
		}
	}
	d := distribution(h)
	if len(d) < 20 || d[len(d)-1].Percentile != 100 || d[len(d)-1].Count != 10_000 {
		t.Fatalf("%v", d)
	}
	if !slices.IsSortedFunc(d, func(a, b point) int { return int(a.Milliseconds*1000 - b.Milliseconds*1000) }) {
		t.Error("it falls")
	}
}

func TestTheDayIsABell(t *testing.T) {
	t.Parallel()
	if bell(0.5) != 1 || bell(0) > 0.2 || bell(1) > 0.2 || bell(0.3) > bell(0.4) || bell(0) < night {
		t.Errorf("%g %g %g", bell(0), bell(0.5), bell(1))
	}
	sizes := groupSizes(10_000, rand.New(rand.NewPCG(1, 1))) //nolint:gosec // the same each time
	slices.Sort(sizes)
	if middle := sizes[len(sizes)/2]; middle < 5 || middle > 8 || sizes[0] < 3 || sizes[len(sizes)-1] < 50 {
		t.Errorf("from %d over %d to %d", sizes[0], middle, sizes[len(sizes)-1])
	}
}
