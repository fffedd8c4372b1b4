package ratelimit_test

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"

	"github.com/parley-chat/parley/internal/config"
	"github.com/parley-chat/parley/internal/ratelimit"
)

// Two messages a minute. No Redis runs at this address, so the process counts in its own memory.
func ExampleLimiter_Allow() {
	rdb := redis.NewClient(&redis.Options{Addr: "127.0.0.1:1", MaxRetries: -1})
	defer rdb.Close()
	l := ratelimit.New(rdb, prometheus.NewRegistry(), slog.New(slog.DiscardHandler))
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = l.Run(ctx) }()
	defer func() { stop(); <-done }()

	send := ratelimit.Take{Rule: "send", Subject: "user:anna", Rate: config.Rate{Count: 2, Window: time.Minute}}
	for range 3 {
		v := l.Allow(ctx, send)[0]
		fmt.Println(v.Allowed, v.Remaining, v.RetryAfter.Round(10*time.Second))
	}

	send.Cost = -1 // gives one back
	l.Allow(ctx, send)
	send.Cost = 1
	fmt.Println(l.Allow(ctx, send)[0].Allowed)
	// Output:
	// true 1 0s
	// true 0 0s
	// false 0 30s
	// true
}
