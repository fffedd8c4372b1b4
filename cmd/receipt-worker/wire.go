package main

import (
	"context"
	"log/slog"
	"time"

	"github.com/parley-chat/parley/internal/attachment"
	"github.com/parley-chat/parley/internal/config"
	"github.com/parley-chat/parley/internal/history"
	"github.com/parley-chat/parley/internal/lifecycle"
	"github.com/parley-chat/parley/internal/objectstore"
	"github.com/parley-chat/parley/internal/observe"
	"github.com/parley-chat/parley/internal/periodic"
	"github.com/parley-chat/parley/internal/postgres"
	"github.com/parley-chat/parley/internal/receipt"
	"github.com/parley-chat/parley/internal/redisconn"
	"github.com/parley-chat/parley/internal/tracing"
)

const (
	databaseConns = 4
	redisConns    = 8
	// stopMargin is the part of the stop time that a flush leaves to the parts behind it.
	stopMargin = 500 * time.Millisecond
)

// run joins the parts of the receipt-worker and runs them until ctx ends.
func run(ctx context.Context, c config.Worker, log *slog.Logger) error {
	tracer, err := tracing.Start(ctx, "receipt-worker", observe.Version, c.Tracing, log)
	if err != nil {
		return err
	}
	defer tracer.Close()
	redisconn.LogTo(log)
	registry := observe.NewRegistry("receipt-worker", log)
	epochs := history.New(registry, log)
	db, err := postgres.OpenPool(postgres.Config{URL: c.Database.URL, PgBouncer: c.Database.PgBouncer, MaxConns: databaseConns, Application: "parley-receipt-worker", Identify: epochs.Identify, Tracer: tracer.Postgres()})
	if err != nil {
		return err
	}
	defer db.Close()
	healthDB, err := postgres.OpenPool(postgres.Config{URL: c.Database.URL, PgBouncer: c.Database.PgBouncer, MaxConns: 1, Application: "parley-receipt-worker-health"})
	if err != nil {
		return err
	}
	defer healthDB.Close()
	rdb, err := redisconn.Open(redisconn.Config{URL: c.Redis.URL, Username: c.Redis.Username, Password: c.Redis.Password, SentinelMaster: c.Redis.SentinelMaster, PoolSize: redisConns, ClientName: "parley-receipt-worker"})
	if err != nil {
		return err
	}
	defer rdb.Close()
	if err := tracer.Redis(rdb); err != nil {
		return err
	}

	panics := observe.NewPanicCounter(registry)
	health := &observe.Health{DB: healthDB, Redis: rdb, Stopping: func() bool { return ctx.Err() != nil }}
	objects, err := openStorage(c.Storage, health)
	if err != nil {
		return err
	}
	if objects != nil {
		defer objects.Close()
	}
	metrics := receipt.NewFlushMetrics(registry)
	flusher := receipt.NewFlusher(db, rdb, c.FlushInterval, metrics, log)
	flusher.UseHistory(func() time.Time { return epochs.Current().Since })
	observe.RegisterPools(registry, db, rdb, redisConns)
	monitor := observe.NewMonitor(health, registry, log)
	ops := &observe.Ops{Addr: c.OpsAddr, Registry: registry, Ready: health.Ready, Log: log}
	flush, stop := receipt.FlushTask(flusher, c.FlushInterval, metrics), c.ShutdownTimeout-stopMargin
	parts := []lifecycle.Part{
		{Name: "ops", Run: ops.Run},
		{Name: "monitor", Run: monitor.Run},
		{Name: "sampler", Run: receipt.NewSampler(flusher).Run},
		{Name: "queues", Run: receipt.NewQueues(registry, rdb, log).Run},
		{Name: "worker", Run: periodic.NewWorker(flush, rdb, stop, tracer, log).Run},
		{Name: "schedule", Run: periodic.NewSchedule(flush, rdb, tracer, log).Run},
	}
	uploads := attachment.NewSweepMetrics(registry)
	if objects != nil {
		sweep := attachment.SweepTask(attachment.NewSweeper(db, objects, c.Sweep.UnsentTTL, uploads, log), c.Sweep.Interval)
		parts = append(parts,
			lifecycle.Part{Name: "sweeper", Run: periodic.NewWorker(sweep, rdb, stop, tracer, log).Run},
			lifecycle.Part{Name: "sweeps", Run: periodic.NewSchedule(sweep, rdb, tracer, log).Run})
	}
	return lifecycle.Run(ctx, lifecycle.Config{Log: log, StopTimeout: c.ShutdownTimeout, Panics: panics}, parts...)
}

// openStorage opens the storage for files that the settings name, and has health ask it; nil if they name none.
func openStorage(c config.Storage, health *observe.Health) (*objectstore.Store, error) {
	if !c.Configured() {
		return nil, nil //nolint:nilnil // none is no error
	}
	objects, err := objectstore.New(objectstore.Config(c))
	if err != nil {
		return nil, err
	}
	health.Storage = objects.Check
	return objects, nil
}
