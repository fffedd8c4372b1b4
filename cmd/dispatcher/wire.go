package main

import (
	"context"
	"log/slog"

	"github.com/parley-chat/parley/internal/config"
	"github.com/parley-chat/parley/internal/conversation"
	"github.com/parley-chat/parley/internal/journal"
	"github.com/parley-chat/parley/internal/lifecycle"
	"github.com/parley-chat/parley/internal/message"
	"github.com/parley-chat/parley/internal/observe"
	"github.com/parley-chat/parley/internal/outbound"
	"github.com/parley-chat/parley/internal/postgres"
	"github.com/parley-chat/parley/internal/redisconn"
	"github.com/parley-chat/parley/internal/tracing"
	"github.com/parley-chat/parley/internal/webhook"
)

const (
	databaseConns = 16
	redisConns    = 4
)

// run joins the parts of the dispatcher and runs them until ctx ends.
func run(ctx context.Context, c config.Dispatcher, log *slog.Logger) error {
	tracer, err := tracing.Start(ctx, "dispatcher", observe.Version, c.Tracing, log)
	if err != nil {
		return err
	}
	defer tracer.Close()
	redisconn.LogTo(log)
	db, err := postgres.Open(postgres.Config{URL: c.Database.URL, PgBouncer: c.Database.PgBouncer, MaxConns: databaseConns, Application: "parley-dispatcher", Tracer: tracer.Postgres()})
	if err != nil {
		return err
	}
	defer db.Close()
	healthDB, err := postgres.OpenPool(postgres.Config{URL: c.Database.URL, PgBouncer: c.Database.PgBouncer, MaxConns: 1, Application: "parley-dispatcher-health"})
	if err != nil {
		return err
	}
	defer healthDB.Close()
	rdb, err := redisconn.Open(redisconn.Config{URL: c.Redis.URL, Username: c.Redis.Username, Password: c.Redis.Password, SentinelMaster: c.Redis.SentinelMaster, PoolSize: redisConns, ClientName: "parley-dispatcher"})
	if err != nil {
		return err
	}
	defer rdb.Close()

	registry := observe.NewRegistry("dispatcher", log)
	panics := observe.NewPanicCounter(registry)
	health := &observe.Health{DB: healthDB, Redis: rdb, Stopping: func() bool { return ctx.Err() != nil }}
	sealer, err := webhook.NewSealer(c.Webhooks.SecretsKeys)
	if err != nil {
		return err
	}
	conversations := conversation.NewStore(db, message.NewStore(db))
	feed := journal.NewFeed(db.SQL, conversations)
	metrics := webhook.NewMetrics(registry)
	decider, pusher, err := openPush(&c, db, rdb, conversations, registry, func(seconds float64) { metrics.Lag("push", seconds) }, log)
	if err != nil {
		return err
	}
	dispatcher := webhook.NewDispatcher(webhook.Config{
		Timeout: c.Webhooks.Timeout, Retries: c.Retries, DisableAfter: c.DisableAfter, OutboxKeep: c.OutboxKeep,
	}, db.SQL, feed, sealer, &outbound.Guard{Allow: c.Webhooks.AllowCIDRs}, metrics, log)
	observe.RegisterPools(registry, db.SQL, rdb, redisConns)
	monitor := observe.NewMonitor(health, registry, log)
	ops := &observe.Ops{Addr: c.OpsAddr, Registry: registry, Ready: health.Ready, Log: log}
	return lifecycle.Run(ctx, lifecycle.Config{Log: log, StopTimeout: c.ShutdownTimeout, Panics: panics},
		lifecycle.Part{Name: "ops", Run: ops.Run},
		lifecycle.Part{Name: "monitor", Run: monitor.Run},
		lifecycle.Part{Name: "dispatcher", Run: dispatcher.Run},
		lifecycle.Part{Name: "pushes", Run: decider.Run},
		lifecycle.Part{Name: "push sender", Run: pusher.Run},
	)
}
