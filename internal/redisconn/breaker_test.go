package redisconn_test

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/parley-chat/parley/internal/redisconn"
)

func TestBreakerOpensOnAFailureAndClosesOnAProbe(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var back atomic.Bool
		var changes []bool
		b := redisconn.NewBreaker(redisconn.BreakerConfig{
			Probe: func(context.Context) error {
				if back.Load() {
					return nil
				}
				return errors.New("away")
			},
			Every: time.Second, Wait: time.Second, Log: slog.New(slog.DiscardHandler), OnChange: func(open bool) { changes = append(changes, open) },
		})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); _ = b.Run(ctx) }()
		if b.Open() {
			t.Error("it is open at first")
		}
		b.Fail(errors.New("one"))
		b.Fail(errors.New("two"))
		time.Sleep(3 * time.Second)
		if !b.Open() {
			t.Error("it closes without Redis")
		}
		back.Store(true)
		time.Sleep(2 * time.Second)
		if b.Open() {
			t.Error("it stays open")
		}
		cancel()
		<-done
		if len(changes) != 2 || !changes[0] || changes[1] {
			t.Errorf("it changed %v", changes)
		}
	})
}
