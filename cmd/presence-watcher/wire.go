package main

import (
	"context"
	"log/slog"

	"github.com/parley-chat/parley/internal/config"
	"github.com/parley-chat/parley/internal/lifecycle"
	"github.com/parley-chat/parley/internal/observe"
	"github.com/parley-chat/parley/internal/postgres"
	"github.com/parley-chat/parley/internal/presence"
	"github.com/parley-chat/parley/internal/redisconn"
	"github.com/parley-chat/parley/internal/tracing"
)

const (
	databaseConns = 4
	redisConns    = 8
)

// run joins the parts of the presence-watcher and runs them until ctx ends.
func run(ctx context.Context, c config.Watcher, log *slog.Logger) error {
	tracer, err := tracing.Start(ctx, "presence-watcher", observe.Version, c.Tracing, log)
	if err != nil {
		return err
	}
	defer tracer.Close()
	redisconn.LogTo(log)
	db, err := postgres.OpenPool(postgres.Config{URL: c.Database.URL, PgBouncer: c.Database.PgBouncer, MaxConns: databaseConns, Application: "parley-presence-watcher", Tracer: tracer.Postgres()})
	if err != nil {
		return err
	}
	defer db.Close()
	healthDB, err := postgres.OpenPool(postgres.Config{URL: c.Database.URL, PgBouncer: c.Database.PgBouncer, MaxConns: 1, Application: "parley-presence-watcher-health"})
	if err != nil {
		return err
	}
	defer healthDB.Close()
	redisConfig := redisconn.Config{URL: c.Redis.URL, Username: c.Redis.Username, Password: c.Redis.Password, SentinelMaster: c.Redis.SentinelMaster, PoolSize: redisConns, ClientName: "parley-presence-watcher"}
	redisOptions, err := redisconn.Options(redisConfig)
	if err != nil {
		return err
	}
	rdb, err := redisconn.Open(redisConfig)
	if err != nil {
		return err
	}
	defer rdb.Close()
	if err := tracer.Redis(rdb); err != nil {
		return err
	}

	registry := observe.NewRegistry("presence-watcher", log)
	panics := observe.NewPanicCounter(registry)
	health := &observe.Health{DB: healthDB, Redis: rdb, Stopping: func() bool { return ctx.Err() != nil }}
	watcher := presence.NewWatcher(rdb, redisOptions.DB, db, c.Presence, presence.NewWatcherMetrics(registry), log)
	observe.RegisterPools(registry, db, rdb, redisConns)
	monitor := observe.NewMonitor(health, registry, log)
	ops := &observe.Ops{Addr: c.OpsAddr, Registry: registry, Ready: health.Ready, Log: log}
	return lifecycle.Run(ctx, lifecycle.Config{Log: log, StopTimeout: c.ShutdownTimeout, Panics: panics},
		lifecycle.Part{Name: "ops", Run: ops.Run},
		lifecycle.Part{Name: "monitor", Run: monitor.Run},
		lifecycle.Part{Name: "watcher", Run: watcher.Run},
	)
}
