package redisconn

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/parley-chat/parley/internal/lifecycle"
)

// Breaker keeps callers from waiting for a Redis that does not respond. A failed call opens it; while it is open callers go
// another way, and Run probes Redis until it responds again.
//
//	closed ──── Fail ────► open
//	   ▲                     │ every interval: Probe
//	   └────── it succeeds ──┘
//
// It is safe for concurrent use.
type Breaker struct {
	c    BreakerConfig
	open atomic.Bool
}

// BreakerConfig configures a Breaker.
type BreakerConfig struct {
	// Probe tries the operation that callers need, within Wait; Every is the pause between two probes.
	Probe       func(ctx context.Context) error
	Every, Wait time.Duration
	// Opened and Closed are logged when the breaker opens and closes. OnChange, if set, is called too.
	Opened, Closed string
	OnChange       func(open bool)
	Log            *slog.Logger
}

// NewBreaker makes a closed breaker; its Run closes it again after a failure.
func NewBreaker(c BreakerConfig) *Breaker { return &Breaker{c: c} }

// Open reports whether Redis is taken to be unavailable.
func (b *Breaker) Open() bool { return b.open.Load() }

// Fail opens the breaker because of an error of Redis's.
func (b *Breaker) Fail(err error) {
	if b.open.CompareAndSwap(false, true) {
		b.c.Log.Warn(b.c.Opened, "error", err)
		b.changed(true)
	}
}

func (b *Breaker) changed(open bool) {
	if b.c.OnChange != nil {
		b.c.OnChange(open)
	}
}

// Run probes while the breaker is open, until ctx ends.
func (b *Breaker) Run(ctx context.Context) error {
	return lifecycle.Every(ctx, b.c.Every, func(ctx context.Context) {
		if !b.open.Load() {
			return
		}
		ctx, cancel := context.WithTimeout(ctx, b.c.Wait)
		defer cancel()
		if b.c.Probe(ctx) == nil {
			b.changed(false)
			b.open.Store(false)
			b.c.Log.Info(b.c.Closed)
		}
	})
}
