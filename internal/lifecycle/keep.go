package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/parley-chat/parley/internal/backoff"
)

// A loop that panics is run again after a pause, and after twice as long each time that it panics again. One that
// panicked restartTries times, and never ran restartHealthy in between, is given up, and the process with it: the platform that
// runs processes starts another, which is better than one that lives and does not work.
const (
	restartTries   = 7
	restartHealthy = time.Minute
)

var restarts = backoff.Policy{First: 100 * time.Millisecond, Most: restartHealthy}

// ErrPanics is returned when a loop panicked too often.
var ErrPanics = errors.New("it panicked too often")

// keeper is the part to which panics are attributed: in logs, in metrics, and in the error that stops the process.
type keeper struct {
	config Config
	part   string
	failed chan error
}

type keeperKey struct{}

// keeperOf is the keeper of the part whose Run was given ctx. Panics are caught with any other context too: they are logged as
// nobody's, and a loop that is given up returns ErrPanics alone.
func keeperOf(ctx context.Context) *keeper {
	if k, ok := ctx.Value(keeperKey{}).(*keeper); ok {
		return k
	}
	return &keeper{config: Config{Log: slog.Default()}, part: "unknown"}
}

// Within attributes work with ctx to the part whose Run got the context part. It is for work that has its own context.
func Within(ctx, part context.Context) context.Context {
	return context.WithValue(ctx, keeperKey{}, keeperOf(part))
}

// fail stops the process. The first failure is the one that is reported.
func (k *keeper) fail(err error) {
	select {
	case k.failed <- fmt.Errorf("%s: %w", k.part, err):
	default:
	}
}

// Keep runs a loop until it returns, again and again if it panics. ctx is the one that the part's Run was given, so that the
// panics are attributed to it. A loop that panicked too often stops the process and returns ErrPanics.
func Keep(ctx context.Context, loop string, f func(ctx context.Context) error) (err error) {
	k := keeperOf(ctx)
	for tries := 1; ; tries++ {
		begun := time.Now()
		if !Caught(ctx, loop, func() { err = f(ctx) }) {
			return err
		}
		if time.Since(begun) > restartHealthy {
			tries = 1
		}
		if tries == restartTries {
			err := fmt.Errorf("%s: %w", loop, ErrPanics)
			k.fail(err) // now: the part may wait for its other loops before it returns the error
			return err
		}
		if !backoff.Wait(ctx, restarts.After(tries)) {
			return nil
		}
	}
}

// Caught runs f and reports whether it panicked. ctx is as Keep's.
func Caught(ctx context.Context, loop string, f func()) (panicked bool) {
	k := keeperOf(ctx)
	defer func() {
		if v := recover(); v != nil {
			panicked = true
			k.config.Log.Error("a background loop panicked", "part", k.part, "loop", loop, "panic", fmt.Sprint(v), "stack", string(debug.Stack()))
			if k.config.Panics != nil {
				k.config.Panics.WithLabelValues(k.part).Inc()
			}
		}
	}()
	f()
	return false
}

// Group is the loops of a part. Each is kept running separately.
type Group struct {
	ctx context.Context
	g   errgroup.Group
}

// NewGroup makes a group of the part whose Run was given ctx.
func NewGroup(ctx context.Context) *Group { return &Group{ctx: ctx} }

// Go runs a loop, which ends when the context does.
func (g *Group) Go(loop string, f func(ctx context.Context) error) {
	g.g.Go(func() error { return Keep(g.ctx, loop, f) })
}

// Wait waits for all loops, and returns the first error.
func (g *Group) Wait() error { return g.g.Wait() }
