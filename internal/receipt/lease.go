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

// leaseFor is after what time another worker flushes, where one died.
const leaseFor = 5 * time.Second

// hold takes the lease, so that no two workers do the same work, and keeps it. ctx is nil where another has it, and ends
// where it is lost; nothing but work is lost then.
func (f *Flusher) hold(ctx context.Context) (held context.Context, release func(), err error) {
	got, err := f.rdb.SetNX(ctx, rediskey.FlushLease, f.holder, leaseFor).Result()
	if err != nil {
		f.metrics.failures.Inc()
		return nil, nil, fmt.Errorf("take the lease of flushing: %w", err)
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
		_, _ = f.keepLease(context.Background(), 0) // it ends by itself
	}, nil
}

func (f *Flusher) keepLease(ctx context.Context, d time.Duration) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, redisWait)
	defer cancel()
	return f.lease.Run(ctx, f.rdb, []string{rediskey.FlushLease}, f.holder, d.Milliseconds()).Int64()
}
