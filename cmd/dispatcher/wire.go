package main

import (
	"context"
	"log/slog"

	"github.com/parley-chat/parley/internal/config"
	"github.com/parley-chat/parley/internal/conversation"
	"github.com/parley-chat/parley/internal/journal"
	"github.com/parley-chat/parley/internal/lifecycle"
	"github.com/parley-chat/parley/internal/message"
	"github.com/parley-chat/parley/internal/outbound"
	"github.com/parley-chat/parley/internal/postgres"
	"github.com/parley-chat/parley/internal/process"
	"github.com/parley-chat/parley/internal/webhook"
)

const (
	databaseConns = 16
	redisConns    = 4
)

// run joins the parts of the dispatcher and runs them until ctx ends.
func run(ctx context.Context, c *config.Dispatcher, log *slog.Logger) error {
	base, err := process.Connect(ctx, process.Config{Name: process.Dispatcher, DatabaseConns: databaseConns, RedisConns: redisConns}, &c.Common, log)
	if err != nil {
		return err
	}
	defer func() { _ = base.Close() }()
	db, err := postgres.Over(base.DB)
	if err != nil {
		return err
	}
	sealer, err := webhook.NewSealer(c.Webhooks.SecretsKeys)
	if err != nil {
		return err
	}
	conversations := conversation.NewStore(db, message.NewStore(db))
	feed := journal.NewFeed(db.SQL, conversations)
	metrics := webhook.NewMetrics(base.Registry)
	decider, pusher, err := openPush(c, db, base.Redis, conversations, base.Registry, func(seconds float64) { metrics.Lag("push", seconds) }, log)
	if err != nil {
		return err
	}
	hints := webhook.NewHints(base.Redis, log)
	dispatcher := webhook.NewDispatcher(webhook.Config{
		Timeout: c.Webhooks.Timeout, Retries: c.Retries, DisableAfter: c.DisableAfter, OutboxKeep: c.OutboxKeep,
	}, db.SQL, feed, sealer, &outbound.Guard{Allow: c.Webhooks.AllowCIDRs}, hints, metrics, log)
	return base.Run(ctx,
		lifecycle.Part{Name: "hints", Run: hints.Run},
		lifecycle.Part{Name: "dispatcher", Run: dispatcher.Run},
		lifecycle.Part{Name: "pushes", Run: decider.Run},
		lifecycle.Part{Name: "push sender", Run: pusher.Run},
	)
}
