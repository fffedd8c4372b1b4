package observe

import (
	"context"
	"io"
	"log/slog"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace"
)

// NewLogger makes the process's logger. format is json or text; level one of debug, info, warn, error: an error is something
// that needs action, a warning something that resolves without it. Records that are logged with a context have its
// request and its trace. A warning that repeats is logged once a minute, see repeats; all are counted.
func NewLogger(w io.Writer, process, format string, level slog.Level) *slog.Logger {
	return newLogger(w, process, format, level, time.Now)
}

func newLogger(w io.Writer, process, format string, level slog.Level, now func() time.Time) *slog.Logger {
	opts := &slog.HandlerOptions{Level: level}
	var h slog.Handler = slog.NewJSONHandler(w, opts)
	if format == "text" {
		h = slog.NewTextHandler(w, opts)
	}
	records := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "parley_log_records_total", Help: "Log records, by level. An error needs action.",
	}, []string{"level"})
	for _, l := range []slog.Level{slog.LevelDebug, slog.LevelInfo, slog.LevelWarn, slog.LevelError} {
		records.WithLabelValues(levelLabel(l))
	}
	return slog.New(&handler{h, records, newRepeats(now)}).With("process", process)
}

// handler adds the ids of the context to a record, and counts it.
type handler struct {
	slog.Handler
	records *prometheus.CounterVec
	repeats *repeats
}

func levelLabel(l slog.Level) string { return strings.ToLower(l.String()) }

// Handle logs a record.
func (h *handler) Handle(ctx context.Context, r slog.Record) error {
	h.records.WithLabelValues(levelLabel(r.Level)).Inc()
	if !h.repeats.throttle(&r) {
		return nil
	}
	if id, ok := ctx.Value(requestIDKey{}).(string); ok {
		r.AddAttrs(slog.String("request_id", id))
	}
	if c := trace.SpanContextFromContext(ctx); c.IsValid() {
		r.AddAttrs(slog.String("trace_id", c.TraceID().String()), slog.String("span_id", c.SpanID().String()))
	}
	return h.Handler.Handle(ctx, r)
}

// WithAttrs makes a handler that adds attributes.
func (h *handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &handler{h.Handler.WithAttrs(attrs), h.records, h.repeats}
}

// WithGroup makes a handler that opens a group.
func (h *handler) WithGroup(name string) slog.Handler {
	return &handler{h.Handler.WithGroup(name), h.records, h.repeats}
}

type requestIDKey struct{}

// WithRequestID returns a context with the id of its request.
func WithRequestID(ctx context.Context, id string) context.Context {
	return context.WithValue(ctx, requestIDKey{}, id)
}
