package observe_test

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace"

	"github.com/parley-chat/parley/internal/observe"
)

func TestARecordNamesItsRequestAndItsTrace(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	log := observe.NewLogger(&b, "api", "json", slog.LevelInfo).With("part", "x")
	ctx := observe.WithRequestID(t.Context(), "r1")
	ctx = trace.ContextWithSpanContext(ctx, trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID{1}, SpanID: trace.SpanID{2}}))
	log.WarnContext(ctx, "hello")
	var r map[string]any
	if err := json.Unmarshal(b.Bytes(), &r); err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]string{
		"level": "WARN", "msg": "hello", "process": "api", "part": "x", "request_id": "r1",
		"trace_id": "01000000000000000000000000000000", "span_id": "0200000000000000",
	} {
		if r[key] != want {
			t.Errorf("%s is %v, want %s", key, r[key], want)
		}
	}
}

func TestRecordsAreCountedByLevel(t *testing.T) {
	t.Parallel()
	log := observe.NewLogger(&bytes.Buffer{}, "api", "text", slog.LevelInfo)
	registry := observe.NewRegistry("api", log)
	log.Debug("not shown, not counted")
	log.WithGroup("g").Warn("one")
	log.With("a", 1).Warn("two")
	want := map[string]float64{"debug": 0, "info": 0, "warn": 2, "error": 0}
	for level, n := range want {
		if got := value(t, registry, "parley_log_records_total", level); got != n {
			t.Errorf("%s is %v, want %v", level, got, n)
		}
	}
}

// value is a counter's or gauge's whose one label has that value.
func value(t *testing.T, g prometheus.Gatherer, name, label string) float64 {
	t.Helper()
	families, err := g.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.Metric {
			if f.GetName() == name && (label == "" || m.Label[0].GetValue() == label) {
				return m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	t.Fatalf("there is no %s of %q", name, label)
	return 0
}
