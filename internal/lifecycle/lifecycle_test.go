package lifecycle_test

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/parley-chat/parley/internal/lifecycle"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func config() lifecycle.Config {
	return lifecycle.Config{Log: slog.New(slog.DiscardHandler), StopTimeout: 5 * time.Second}
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

func TestAPanicRunsThePartAgain(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(context.Background())
	runs := 0
	c := config()
	var told string
	c.OnPanic = func(part string) { told = part }
	err := lifecycle.Run(ctx, c, lifecycle.Part{Name: "shaky", Run: func(ctx context.Context) error {
		runs++
		if runs == 1 {
			panic("oh")
		}
		cancel()
		<-ctx.Done()
		return nil
	}})
	if err != nil || runs != 2 || told != "shaky" {
		t.Errorf("Run = %v after %d runs, told of %q", err, runs, told)
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
