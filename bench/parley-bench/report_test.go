package main

import (
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/parley-chat/parley/internal/testenv"
)

// A run that was interrupted early, or had a low rate, has next to nothing to plot.
func TestAReportOfFewLatencies(t *testing.T) {
	t.Parallel()
	for n := range 3 {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			t.Parallel()
			b := newBench(&settings{Scenario: "sends", URLs: list{"http://127.0.0.1"}, Users: 3}, &testenv.Output{})
			before := time.Now().Add(-time.Second)
			b.stats.begun, b.stats.lastAt, b.stats.warm = before, before, before
			for i := range n {
				b.acked.record(i, 5*time.Millisecond)
			}
			b.stats.tick()
			r := b.results(time.Now(), nil, nil)
			if got := r.Latencies["ack"].Count; got != int64(n) {
				t.Fatalf("%d latencies, want %d", got, n)
			}
			if err := r.writeReport(filepath.Join(t.TempDir(), "report.html")); err != nil {
				t.Error(err)
			}
		})
	}
}
