package receipt

import (
	"context"
	_ "embed"
	"fmt"
	"time"

	"github.com/parley-chat/parley/internal/rediskey"
)

//go:embed lease.lua
var leaseSource string

// leaseFor is the time after which another worker may flush if the holder of the lease died.
const leaseFor = 5 * time.Second

// takeLease takes the lease and renews it until release is called:
//
//	free ── SET NX ──► held ── release ─────────────────► free
//	                    │ ▲ └── the worker died, 5 s ───► free
//	                    └─┘ renewed every 1.25 s
//
// The returned context is nil if another worker holds the lease. It ends if the lease is lost, for example because the process was
// paused; then two workers may do the same work, which does no harm (written-before-removed, in the package comment).
func (f *Flusher) takeLease(ctx context.Context) (held context.Context, release func(), err error) {
	got, err := f.rdb.SetNX(ctx, rediskey.FlushLease, f.holder, leaseFor).Result()
	if err != nil {
		f.metrics.failures.Inc()
		return nil, nil, fmt.Errorf("take the lease of the flush: %w", err)
	}
	if !got {
		return nil, nil, nil
	}
	held, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		t := time.NewTicker(leaseFor / 4)
		defer t.Stop()
		for {
			select {
			case <-held.Done():
				return
			case <-t.C:
			}
			if n, err := f.keepLease(held, leaseFor); err == nil && n == 0 {
				f.log.Warn("the lease of the flush is lost; it stops")
				cancel()
			}
		}
	}()
	return held, func() {
		cancel()
		<-done
		_, _ = f.keepLease(context.Background(), 0) // otherwise it expires
	}, nil
}

// keepLease extends the lease to d from now, or ends it with 0. It returns 0 if another worker holds it.
func (f *Flusher) keepLease(ctx context.Context, d time.Duration) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, redisWait)
	defer cancel()
	return f.lease.Run(ctx, f.rdb, []string{rediskey.FlushLease}, f.holder, d.Milliseconds()).Int64()
}
