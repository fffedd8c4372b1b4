// Package lifecycle runs the long-lived parts of a process and stops them in order.
package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// ErrStopTimeout is returned when the parts did not stop in time.
var ErrStopTimeout = errors.New("the parts did not stop in time")

// Part is a long-lived part of a process. Run runs until ctx ends, then finishes the work in progress and returns. If it returns an error
// other than context.Canceled, the whole process stops.
type Part struct {
	Name string
	Run  func(ctx context.Context) error
}

// Config is the configuration of Run.
type Config struct {
	Log *slog.Logger
	// StopTimeout bounds the stop of all parts together.
	StopTimeout time.Duration
	// Panics, if set, counts the panics that were caught, by part.
	Panics *prometheus.CounterVec
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
// first: a part may rely on those before it until its own Run has returned. A part that panics is run again (Keep).
func Run(ctx context.Context, c Config, parts ...Part) error {
	failed := make(chan error, 1)
	running := make([]*running, len(parts))
	for i, p := range parts {
		if c.Panics != nil {
			c.Panics.WithLabelValues(p.Name) // so that it starts at 0
		}
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
	select {
	case err := <-failed: // a part failed while it was stopping
		return errors.Join(first, err)
	default:
		return first
	}
}

type running struct {
	cancel context.CancelFunc
	done   chan struct{}
}

func start(c Config, p Part, failed chan error) *running {
	k := &keeper{config: c, part: p.Name, failed: failed}
	ctx, cancel := context.WithCancel(context.WithValue(context.Background(), keeperKey{}, k))
	r := &running{cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(r.done)
		if err := Keep(ctx, p.Name, p.Run); err != nil && !errors.Is(err, context.Canceled) {
			k.fail(err)
		}
	}()
	return r
}

// Every calls f at each interval until ctx ends. Calls don't overlap: intervals that pass during a call are skipped.
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

// Gate says whether a process accepts work. The zero value is open. It is closed once, permanently, when the process begins to stop. Safe for
// concurrent use.
type Gate struct {
	mu     sync.Mutex
	closed bool
}

// Close closes the gate: the process is stopping.
func (g *Gate) Close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closed = true
}

// Closed reports whether the process is stopping.
func (g *Gate) Closed() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.closed
}
