package tracing_test

import (
	"context"
	"log/slog"
	"testing"

	"go.opentelemetry.io/otel/trace"

	"github.com/parley-chat/parley/internal/tracing"
)

const parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

func TestATraceIsCarriedAsText(t *testing.T) {
	t.Parallel()
	ctx := tracing.With(t.Context(), parent)
	if got := tracing.Parent(ctx); got != parent {
		t.Errorf("got %s", got)
	}
	const id = "0af7651916cd43dd8448eb211c80319c"
	if tracing.ID(parent) != id || tracing.IDOf(ctx) != id {
		t.Errorf("the id is %s and %s", tracing.ID(parent), tracing.IDOf(ctx))
	}
	for _, nothing := range []string{"", "x", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00", "00-zz-zz-01"} {
		if got := tracing.Parent(tracing.With(t.Context(), nothing)); got != "" {
			t.Errorf("%q is carried as %q", nothing, got)
		}
	}
	if tracing.ID("") != "" || tracing.IDOf(t.Context()) != "" {
		t.Error("no trace has an id")
	}
}

// A process without an exporter makes no spans, whatever it is sent, and pays nothing. (Allocations are not counted in parallel.)
func TestNoTracerMakesNoSpans(t *testing.T) {
	tr, err := tracing.Start(t.Context(), "x", "v", false, slog.New(slog.DiscardHandler))
	if err != nil || tr.On() || tr.Postgres() != nil || tr.Redis(nil) != nil {
		t.Fatalf("it is on: %v", err)
	}
	ctx, span := tr.Consumer(t.Context(), "x", parent)
	if span.IsRecording() || tracing.Parent(ctx) != "" {
		t.Error("a span is made")
	}
	n := testing.AllocsPerRun(100, func() {
		ctx, span := tr.Server(context.Background(), "x", "")
		_, batch := tracing.Batch(ctx, "x", 1, func(int) trace.Span { return trace.SpanFromContext(ctx) })
		batch.End()
		span.End()
	})
	if n > 0 {
		t.Errorf("%v allocations", n)
	}
	tr.Close()
}
