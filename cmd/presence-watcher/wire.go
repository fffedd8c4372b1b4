package main

import (
	"context"
	"log/slog"

	"github.com/parley-chat/parley/internal/config"
	"github.com/parley-chat/parley/internal/lifecycle"
	"github.com/parley-chat/parley/internal/presence"
	"github.com/parley-chat/parley/internal/process"
	"github.com/parley-chat/parley/internal/redisconn"
)

const (
	databaseConns = 4
	redisConns    = 8
)

// run joins the parts of the presence-watcher and runs them until ctx ends.
func run(ctx context.Context, c *config.Watcher, log *slog.Logger) error {
	base, err := process.Connect(ctx, process.Config{Name: process.Watcher, DatabaseConns: databaseConns, RedisConns: redisConns}, &c.Common, log)
	if err != nil {
		return err
	}
	defer func() { _ = base.Close() }()
	sharding := redisconn.NewSharding(base.Redis, true, base.Registry, log)
	watcher := presence.NewWatcher(base.Redis, sharding, base.RedisDB, base.DB, c.Presence, presence.NewWatcherMetrics(base.Registry), log)
	return base.Run(ctx, lifecycle.Part{Name: "sharding", Run: sharding.Run}, lifecycle.Part{Name: "watcher", Run: watcher.Run})
}
