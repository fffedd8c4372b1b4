// Package lifecycle runs the long-lived parts of a process and stops them in order.
package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"runtime/debug"
	"sync"
	"syscall"
	"time"
)

// ErrStopTimeout is returned when the parts did not stop in time.
var ErrStopTimeout = errors.New("the parts did not stop in time")

// Part is something long-lived. Run blocks until ctx ends, finishes what it began and returns; any error but the
// context's own stops the whole process.
type Part struct {
	Name string
	Run  func(ctx context.Context) error
}

// restartDelay is the pause before a part that panicked runs again.
const restartDelay = time.Second

// Config is what Run needs besides the parts.
type Config struct {
	Log *slog.Logger
	// StopTimeout bounds the stop of all parts together.
	StopTimeout time.Duration
	// OnPanic, if set, is told of a part that panicked and will be run again.
	OnPanic func(part string)
}

// Signals returns a context that ends with the first SIGTERM or SIGINT. A second one ends the process at once.
func Signals(log *slog.Logger) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(context.Background())
	c := make(chan os.Signal, 2)
	signal.Notify(c, syscall.SIGTERM, syscall.SIGINT)
	go func() {
		select {
		case s := <-c:
			log.Info("stopping", "signal", s.String())
			cancel()
		case <-ctx.Done():
			return
		}
		s := <-c
		log.Warn("stopped at once by a second signal", "signal", s.String())
		os.Exit(1)
	}()
	return ctx, cancel
}

// Run runs the parts until ctx ends or one of them fails. Then it stops them one after the other, the last of the list
// first: a part may rely on those before it until its own Run has returned.
func Run(ctx context.Context, c Config, parts ...Part) error {
	failed := make(chan error, len(parts))
	running := make([]*running, len(parts))
	for i, p := range parts {
		running[i] = start(c, p, failed)
	}
	var first error
	select {
	case <-ctx.Done():
	case first = <-failed:
		c.Log.Error("a part failed, the process stops", "error", first)
	}
	deadline := time.NewTimer(c.StopTimeout)
	defer deadline.Stop()
	for i := len(running) - 1; i >= 0; i-- {
		running[i].cancel()
		select {
		case <-running[i].done:
		case <-deadline.C:
			return errors.Join(first, fmt.Errorf("%w: %s after %s", ErrStopTimeout, parts[i].Name, c.StopTimeout))
		}
	}
	return first
}

type running struct {
	cancel context.CancelFunc
	done   chan struct{}
}

func start(c Config, p Part, failed chan<- error) *running {
	ctx, cancel := context.WithCancel(context.Background())
	r := &running{cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(r.done)
		for {
			err, panicked := guarded(ctx, c.Log, p)
			if !panicked {
				if err != nil && !errors.Is(err, context.Canceled) {
					failed <- fmt.Errorf("%s: %w", p.Name, err)
				}
				return
			}
			if c.OnPanic != nil {
				c.OnPanic(p.Name)
			}
			select {
			case <-ctx.Done():
				return
			case <-time.After(restartDelay):
			}
		}
	}()
	return r
}

func guarded(ctx context.Context, log *slog.Logger, p Part) (err error, panicked bool) { //nolint:revive // the panic is the rarer of the two
	defer func() {
		if v := recover(); v != nil {
			panicked = true
			log.Error("a part panicked and is run again", "part", p.Name, "panic", fmt.Sprint(v), "stack", string(debug.Stack()))
		}
	}()
	return p.Run(ctx), false
}

// Every calls f each interval until ctx ends: the loop of a part that has a rhythm.
func Every(ctx context.Context, interval time.Duration, f func(ctx context.Context)) error {
	t := time.NewTicker(interval)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
			f(ctx)
		}
	}
}

// Gate is whether a process wants work. It opens once and closes for good when the process begins to stop.
type Gate struct {
	mu     sync.Mutex
	closed bool
}

// Close says that the process is going away.
func (g *Gate) Close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closed = true
}

// Closed tells whether the process is going away.
func (g *Gate) Closed() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.closed
}
