package lifecycle_test

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"go.uber.org/goleak"

	"github.com/parley-chat/parley/internal/lifecycle"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func config() lifecycle.Config {
	return lifecycle.Config{Log: slog.New(slog.DiscardHandler), StopTimeout: 5 * time.Second}
}

// count has panics counted, and reads the count of a part.
func count(c *lifecycle.Config) func(part string) float64 {
	c.Panics = prometheus.NewCounterVec(prometheus.CounterOpts{Name: "panics"}, []string{"part"})
	return func(part string) float64 {
		var m dto.Metric
		_ = c.Panics.WithLabelValues(part).Write(&m)
		return m.GetCounter().GetValue()
	}
}

func TestPartsStopLastFirstAndEachIsWaitedFor(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var order []string
	part := func(name string) lifecycle.Part {
		return lifecycle.Part{Name: name, Run: func(ctx context.Context) error {
			<-ctx.Done()
			mu.Lock()
			defer mu.Unlock()
			order = append(order, name)
			return ctx.Err()
		}}
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := lifecycle.Run(ctx, config(), part("pool"), part("hub"), part("http")); err != nil {
		t.Fatal(err)
	}
	if want := []string{"http", "hub", "pool"}; !slices.Equal(order, want) {
		t.Errorf("stopped in order %v, want %v", order, want)
	}
}

func TestOneFailureStopsAll(t *testing.T) {
	t.Parallel()
	boom := errors.New("boom")
	stopped := false
	err := lifecycle.Run(context.Background(), config(),
		lifecycle.Part{Name: "other", Run: func(ctx context.Context) error { <-ctx.Done(); stopped = true; return nil }},
		lifecycle.Part{Name: "bad", Run: func(context.Context) error { return boom }})
	if !errors.Is(err, boom) || !strings.Contains(err.Error(), "bad") || !stopped {
		t.Errorf("Run = %v, the other stopped: %v", err, stopped)
	}
}

func TestAFailureWhileStoppingIsReturned(t *testing.T) {
	t.Parallel()
	boom := errors.New("boom")
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	err := lifecycle.Run(ctx, config(), lifecycle.Part{Name: "bad", Run: func(ctx context.Context) error { <-ctx.Done(); return boom }})
	if !errors.Is(err, boom) {
		t.Errorf("Run = %v", err)
	}
}

func TestAPanicRunsThePartAgain(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(context.Background())
	runs := 0
	c := config()
	panics := count(&c)
	err := lifecycle.Run(ctx, c, lifecycle.Part{Name: "shaky", Run: func(ctx context.Context) error {
		runs++
		if runs == 1 {
			panic("oh")
		}
		cancel()
		<-ctx.Done()
		return nil
	}})
	if err != nil || runs != 2 || panics("shaky") != 1 {
		t.Errorf("Run = %v after %d runs, %v panics", err, runs, panics("shaky"))
	}
}

func TestAPartThatHangsIsGivenUp(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	defer close(release)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	c := config()
	c.StopTimeout = 20 * time.Millisecond
	err := lifecycle.Run(ctx, c, lifecycle.Part{Name: "stuck", Run: func(context.Context) error { <-release; return nil }})
	if !errors.Is(err, lifecycle.ErrStopTimeout) || !strings.Contains(err.Error(), "stuck") {
		t.Errorf("Run = %v", err)
	}
}

// One loop of several panics: it alone is run again, and the others go on.
func TestAPanicRunsTheLoopAgain(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	c := config()
	panics := count(&c)
	var steady, shaky atomic.Int32
	err := lifecycle.Run(ctx, c, lifecycle.Part{Name: "part", Run: func(ctx context.Context) error {
		g := lifecycle.NewGroup(ctx)
		g.Go("steady", func(ctx context.Context) error {
			steady.Add(1)
			<-ctx.Done()
			return nil
		})
		g.Go("shaky", func(ctx context.Context) error {
			if shaky.Add(1) < 3 {
				panic("oh")
			}
			cancel()
			<-ctx.Done()
			return nil
		})
		return g.Wait()
	}})
	if err != nil || steady.Load() != 1 || shaky.Load() != 3 || panics("part") != 2 {
		t.Errorf("Run = %v; %d and %d runs, %v panics", err, steady.Load(), shaky.Load(), panics("part"))
	}
}

// A loop that always panics ends the process, though the other loops of its part would go on.
func TestALoopThatPanicsForEverEndsTheProcess(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		err := lifecycle.Run(t.Context(), config(), lifecycle.Part{Name: "part", Run: func(ctx context.Context) error {
			g := lifecycle.NewGroup(ctx)
			g.Go("steady", func(ctx context.Context) error { <-ctx.Done(); return nil })
			g.Go("broken", func(context.Context) error { panic("oh") })
			return g.Wait()
		}})
		if !errors.Is(err, lifecycle.ErrPanics) || !strings.Contains(err.Error(), "part: broken") {
			t.Errorf("Run = %v", err)
		}
	})
}

// One that panics now and then is no such loop.
func TestALoopThatPanicsSeldomIsKept(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		runs := 0
		err := lifecycle.Run(ctx, config(), lifecycle.Part{Name: "part", Run: func(ctx context.Context) error {
			if runs++; runs == 20 {
				cancel()
				<-ctx.Done()
				return nil
			}
			time.Sleep(2 * time.Minute)
			panic("oh")
		}})
		if err != nil || runs != 20 {
			t.Errorf("Run = %v after %d runs", err, runs)
		}
	})
}
