package main

import (
	"context"
	"log/slog"
	"time"

	"github.com/parley-chat/parley/internal/attachment"
	"github.com/parley-chat/parley/internal/config"
	"github.com/parley-chat/parley/internal/lifecycle"
	"github.com/parley-chat/parley/internal/objectstore"
	"github.com/parley-chat/parley/internal/observe"
	"github.com/parley-chat/parley/internal/periodic"
	"github.com/parley-chat/parley/internal/process"
	"github.com/parley-chat/parley/internal/receipt"
)

const (
	databaseConns = 4
	redisConns    = 8
	// stopMargin is the part of the stop time that a flush leaves to the parts behind it.
	stopMargin = 500 * time.Millisecond
)

// run joins the parts of the receipt-worker and runs them until ctx ends.
func run(ctx context.Context, c *config.Worker, log *slog.Logger) error {
	base, err := process.Connect(ctx, process.Config{Name: process.Worker, DatabaseConns: databaseConns, RedisConns: redisConns, Epochs: true}, &c.Common, log)
	if err != nil {
		return err
	}
	defer func() { _ = base.Close() }()
	objects, err := openStorage(c.Storage, base.Health)
	if err != nil {
		return err
	}
	if objects != nil {
		defer objects.Close()
	}
	metrics := receipt.NewFlushMetrics(base.Registry)
	began := func() time.Time { return base.Epochs.Current().Since }
	flusher := receipt.NewFlusher(base.DB, base.Redis, c.FlushInterval, began, metrics, log)
	flush, stop := receipt.FlushTask(flusher, c.FlushInterval, metrics), c.ShutdownTimeout-stopMargin
	parts := []lifecycle.Part{
		{Name: "sampler", Run: receipt.NewSampler(flusher).Run},
		{Name: "queues", Run: receipt.NewQueues(base.Registry, base.Redis, log).Run},
		{Name: "worker", Run: periodic.NewWorker(flush, base.Redis, stop, base.Tracer, log).Run},
		{Name: "schedule", Run: periodic.NewSchedule(flush, base.Redis, base.Tracer, log).Run},
	}
	uploads := attachment.NewSweepMetrics(base.Registry)
	if objects != nil {
		sweep := attachment.SweepTask(attachment.NewSweeper(base.DB, objects, c.Sweep.UnsentTTL, uploads, log), c.Sweep.Interval)
		parts = append(parts,
			lifecycle.Part{Name: "sweeper", Run: periodic.NewWorker(sweep, base.Redis, stop, base.Tracer, log).Run},
			lifecycle.Part{Name: "sweeps", Run: periodic.NewSchedule(sweep, base.Redis, base.Tracer, log).Run})
	}
	return base.Run(ctx, parts...)
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
