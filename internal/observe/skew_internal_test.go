package observe

import (
	"bytes"
	"log/slog"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

func TestAWrongClockIsLoggedOnceAndExported(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	m := NewMonitor(&Health{}, prometheus.NewRegistry(), slog.New(slog.NewTextHandler(&log, nil)))
	if !math.IsNaN(testutil.ToFloat64(m.skew)) {
		t.Error("a skew is known before Postgres answered")
	}
	for _, step := range []struct {
		checks        Checks
		gauge         float64
		wrong, agrees int // lines in the log so far
	}{
		{Checks{Skew: time.Second, SkewError: time.Millisecond}, 1, 0, 0},
		{Checks{Skew: -7 * time.Second, SkewError: time.Millisecond}, -7, 1, 0},
		{Checks{Skew: -8 * time.Second, SkewError: time.Millisecond}, -8, 1, 0},
		{Checks{}, -8, 1, 0}, // Postgres did not answer
		{Checks{Skew: 0, SkewError: time.Millisecond}, 0, 1, 1},
		{Checks{Skew: 5500 * time.Millisecond, SkewError: 2 * time.Second}, 5.5, 1, 1}, // within what a slow answer explains
	} {
		m.clock(step.checks)
		wrong, agrees := strings.Count(log.String(), "is wrong"), strings.Count(log.String(), "agrees")
		if got := testutil.ToFloat64(m.skew); got != step.gauge || wrong != step.wrong || agrees != step.agrees {
			t.Errorf("%+v: the gauge is %v, %d lines of a wrong clock, %d of a right one", step.checks, got, wrong, agrees)
		}
	}
}
