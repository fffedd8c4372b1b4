// Package tracing makes spans with OpenTelemetry. It is off unless the standard variables name an exporter: then a *Tracer is
// nil, which makes no spans and costs nothing.
package tracing

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/exaring/otelpgx"
	"github.com/jackc/pgx/v5"
	"github.com/redis/go-redis/extra/redisotel/v9"
	"github.com/redis/go-redis/v9"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	semconv "go.opentelemetry.io/otel/semconv/v1.37.0"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"
)

const scope = "github.com/parley-chat/parley"

// stopWait bounds the last export.
const stopWait = 2 * time.Second

// Tracer makes the spans of a process.
type Tracer struct {
	provider *sdktrace.TracerProvider
	tracer   trace.Tracer
	log      *slog.Logger
}

// Start makes the process's tracer, nil if tracing is off. Its options (endpoint, headers, sampler, resource, …) are
// read from OpenTelemetry's own variables.
func Start(ctx context.Context, process, version string, on bool, log *slog.Logger) (*Tracer, error) {
	if !on {
		return nil, nil //nolint:nilnil // nil is the tracer that makes no spans
	}
	to, err := newCollector("parley-" + process + "/" + version)
	if err != nil {
		return nil, fmt.Errorf("start tracing: %w", err)
	}
	exporter, err := otlptrace.New(ctx, to)
	if err != nil {
		return nil, fmt.Errorf("start tracing: %w", err)
	}
	// The variables take precedence over the options before them.
	about, err := resource.New(ctx, resource.WithAttributes(semconv.ServiceName("parley-"+process), semconv.ServiceVersion(version)),
		resource.WithHost(), resource.WithProcessPID(), resource.WithTelemetrySDK(), resource.WithFromEnv())
	if err != nil && !errors.Is(err, resource.ErrPartialResource) {
		return nil, fmt.Errorf("start tracing: %w", err)
	}
	otel.SetErrorHandler(&complaints{log: log}) // the only way to learn of failed exports
	p := sdktrace.NewTracerProvider(sdktrace.WithBatcher(exporter), sdktrace.WithResource(about))
	return &Tracer{provider: p, tracer: p.Tracer(scope), log: log}, nil
}

// complaints logs errors of the exporter, once in a while.
type complaints struct {
	log  *slog.Logger
	mu   sync.Mutex // guards next
	next time.Time
}

const complainEvery = time.Minute

// Handle implements otel.ErrorHandler.
func (c *complaints) Handle(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if now := time.Now(); now.After(c.next) {
		c.next = now.Add(complainEvery)
		c.log.Warn("spans could not be exported", "error", err)
	}
}

// Close exports the remaining spans.
func (t *Tracer) Close() {
	if t == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), stopWait)
	defer cancel()
	if err := t.provider.Shutdown(ctx); err != nil {
		t.log.Warn("the last spans could not be exported", "error", err)
	}
}

// On reports whether spans are made.
func (t *Tracer) On() bool { return t != nil }

// Server begins the span of a request, in the trace of parent, or in a new trace if parent is "".
func (t *Tracer) Server(ctx context.Context, name, parent string) (context.Context, trace.Span) {
	return t.begin(ctx, trace.SpanKindServer, name, parent)
}

// Consumer begins the span of processing something that was queued in the trace of parent.
func (t *Tracer) Consumer(ctx context.Context, name, parent string) (context.Context, trace.Span) {
	return t.begin(ctx, trace.SpanKindConsumer, name, parent)
}

// Producer begins the span of queueing something in the trace of parent.
func (t *Tracer) Producer(ctx context.Context, name, parent string) (context.Context, trace.Span) {
	return t.begin(ctx, trace.SpanKindProducer, name, parent)
}

// Enqueue begins the span of queueing a periodic task, in a new trace.
func (t *Tracer) Enqueue(ctx context.Context, name string) (context.Context, trace.Span) {
	return t.begin(ctx, trace.SpanKindProducer, name, "")
}

// Batch begins the span of something that is done for several requests at once: n of them, with these spans. It is in the
// trace of the first that is recorded, and the others point to it.
func Batch(ctx context.Context, name string, n int, spanOf func(i int) trace.Span) (context.Context, trace.Span) {
	var batch trace.Span
	for i := range n {
		s := spanOf(i)
		switch {
		case !s.IsRecording():
		case batch == nil:
			ctx, batch = s.TracerProvider().Tracer(scope).Start(trace.ContextWithSpan(ctx, s), name, trace.WithAttributes(attribute.Int("parley.batch_size", n)))
		default:
			s.AddLink(trace.Link{SpanContext: batch.SpanContext()})
		}
	}
	if batch == nil {
		return ctx, noop.Span{}
	}
	return ctx, batch
}

func (t *Tracer) begin(ctx context.Context, kind trace.SpanKind, name, parent string) (context.Context, trace.Span) {
	if t == nil {
		return ctx, noop.Span{}
	}
	return t.tracer.Start(With(ctx, parent), name, trace.WithSpanKind(kind))
}

// Postgres makes the spans of statements; nil where none are made. Their parameters are not in them.
func (t *Tracer) Postgres() pgx.QueryTracer {
	if t == nil {
		return nil
	}
	return otelpgx.NewTracer(otelpgx.WithTracerProvider(t.provider), otelpgx.WithDisableConnectionDetailsInAttributes())
}

// Redis makes the spans of commands, without their arguments, which contain what users write.
func (t *Tracer) Redis(rdb redis.UniversalClient) error {
	if t == nil {
		return nil
	}
	return redisotel.InstrumentTracing(rdb, redisotel.WithTracerProvider(inTraces{t.provider}), redisotel.WithDBStatement(false), redisotel.WithCallerEnabled(false))
}

// inTraces makes spans only within other spans, so that the commands of background loops make no traces. (otelpgx does the same.)
type inTraces struct {
	trace.TracerProvider
}

type inTrace struct {
	trace.Tracer
}

func (p inTraces) Tracer(name string, o ...trace.TracerOption) trace.Tracer {
	return inTrace{p.TracerProvider.Tracer(name, o...)}
}

func (t inTrace) Start(ctx context.Context, name string, o ...trace.SpanStartOption) (context.Context, trace.Span) {
	if !trace.SpanContextFromContext(ctx).IsSampled() {
		return ctx, noop.Span{}
	}
	return t.Tracer.Start(ctx, name, o...)
}

const header = "traceparent"

// Parent returns the trace of ctx as a traceparent (W3C Trace Context), "" if ctx is in no recorded trace.
func Parent(ctx context.Context) string {
	if !trace.SpanContextFromContext(ctx).IsSampled() {
		return ""
	}
	c := propagation.MapCarrier{}
	propagation.TraceContext{}.Inject(ctx, c)
	return c[header]
}

// With puts ctx into the trace that Parent wrote. What is no traceparent changes nothing.
func With(ctx context.Context, parent string) context.Context {
	if parent == "" {
		return ctx
	}
	return propagation.TraceContext{}.Extract(ctx, propagation.MapCarrier{header: parent})
}

// ID returns the trace's id in a traceparent of Parent, "" if that is "".
func ID(parent string) string {
	const from, to = 3, 35
	if len(parent) < to {
		return ""
	}
	return parent[from:to]
}

// IDOf is the id of the trace that ctx is in, "" if that is not recorded.
func IDOf(ctx context.Context) string {
	if c := trace.SpanContextFromContext(ctx); c.IsSampled() {
		return c.TraceID().String()
	}
	return ""
}

// Failed marks a span as failed if err is not nil. The span has the error's text, as logs do.
func Failed(span trace.Span, err error) {
	if err != nil {
		span.SetStatus(codes.Error, err.Error())
	}
}
