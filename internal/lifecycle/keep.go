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

// A loop that panics is run again after a pause, which doubles with each further panic. If a loop has panicked restartTries times without
// running for restartHealthy in between, the process stops, and the platform starts a new one. That is better than a process that is alive
// but does not work.
const (
	restartTries   = 7
	restartHealthy = time.Minute
)

var restarts = backoff.Policy{First: 100 * time.Millisecond, Most: restartHealthy}

// ErrPanics is returned when a loop panicked too often.
var ErrPanics = errors.New("it panicked too often")

// keeper is the part to which panics of its loops are attributed in logs, in metrics, and in the error that stops the process.
type keeper struct {
	config Config
	part   string
	failed chan error
}

type keeperKey struct{}

// keeperOf returns the keeper of the part whose Run was called with ctx. For any other context it returns one with the part "unknown", which logs
// panics but does not stop the process: a loop that panicked too often then only returns ErrPanics.
func keeperOf(ctx context.Context) *keeper {
	if k, ok := ctx.Value(keeperKey{}).(*keeper); ok {
		return k
	}
	return &keeper{config: Config{Log: slog.Default()}, part: "unknown"}
}

// Within returns ctx with the part of another context: panics of loops that run with it are attributed to the part whose Run was called with
// the context part.
func Within(ctx, part context.Context) context.Context {
	return context.WithValue(ctx, keeperKey{}, keeperOf(part))
}

// fail stops the process. Only the first failure is reported.
func (k *keeper) fail(err error) {
	select {
	case k.failed <- fmt.Errorf("%s: %w", k.part, err):
	default:
	}
}

// Keep runs a loop until it returns, and runs it again whenever it panics. ctx is the context of the part's Run, so that panics are attributed
// to the part. If the loop panics too often, Keep stops the process and returns ErrPanics.
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
			k.fail(err) // at once, because the part may wait for its other loops before it returns the error
			return err
		}
		if !backoff.Wait(ctx, restarts.After(tries)) {
			return nil
		}
	}
}

// Caught runs f and reports whether it panicked. The panic is logged and counted. ctx is as in Keep.
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

// Group runs the loops of a part, each with Keep.
type Group struct {
	ctx context.Context
	g   errgroup.Group
}

// NewGroup makes a group for the part whose Run was called with ctx.
func NewGroup(ctx context.Context) *Group { return &Group{ctx: ctx} }

// Go runs a loop on a new goroutine. The loop has to return when its context ends.
func (g *Group) Go(loop string, f func(ctx context.Context) error) {
	g.g.Go(func() error { return Keep(g.ctx, loop, f) })
}

// Wait waits for all loops, and returns the first error.
func (g *Group) Wait() error { return g.g.Wait() }
