package main

import (
	"context"
	"log/slog"
	"time"

	"github.com/parley-chat/parley/internal/config"
	"github.com/parley-chat/parley/internal/lifecycle"
	"github.com/parley-chat/parley/internal/observe"
	"github.com/parley-chat/parley/internal/postgres"
	"github.com/parley-chat/parley/internal/receipt"
	"github.com/parley-chat/parley/internal/redisconn"
)

const (
	databaseConns = 4
	redisConns    = 8
	// stopMargin is what a flush leaves of the time to stop for the parts behind it.
	stopMargin = 500 * time.Millisecond
)

// run joins the parts of the receipt-worker and runs them until ctx ends.
func run(ctx context.Context, c config.Worker, log *slog.Logger) error {
	db, err := postgres.Open(postgres.Config{URL: c.Database.URL, PgBouncer: c.Database.PgBouncer, MaxConns: databaseConns, Application: "parley-receipt-worker"})
	if err != nil {
		return err
	}
	defer db.Close()
	rdb, err := redisconn.Open(redisconn.Config{URL: c.Redis.URL, Username: c.Redis.Username, Password: c.Redis.Password, SentinelMaster: c.Redis.SentinelMaster, PoolSize: redisConns, ClientName: "parley-receipt-worker"})
	if err != nil {
		return err
	}
	defer rdb.Close()

	registry := observe.NewRegistry("receipt-worker")
	panics := observe.NewPanicCounter(registry)
	health := &observe.Health{DB: db.SQL, Redis: rdb, Stopping: func() bool { return ctx.Err() != nil }}
	metrics := receipt.NewFlushMetrics(registry)
	receipt.RegisterQueues(registry, rdb)
	flusher := receipt.NewFlusher(db, rdb, c.FlushInterval, metrics, log)
	ops := &observe.Ops{Addr: c.OpsAddr, Registry: registry, Ready: health.Ready, Log: log}
	return lifecycle.Run(ctx, lifecycle.Config{
		Log: log, StopTimeout: c.ShutdownTimeout, OnPanic: func(part string) { panics.WithLabelValues(part).Inc() },
	},
		lifecycle.Part{Name: "ops", Run: ops.Run},
		lifecycle.Part{Name: "sampler", Run: receipt.NewSampler(flusher).Run},
		lifecycle.Part{Name: "worker", Run: receipt.NewWorker(flusher, c.ShutdownTimeout-stopMargin).Run},
		lifecycle.Part{Name: "schedule", Run: receipt.NewSchedule(rdb, c.FlushInterval, metrics, log).Run},
	)
}
