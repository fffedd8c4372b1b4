package main

import (
	"context"
	"log/slog"
	"time"

	"github.com/parley-chat/parley/internal/audit"
	"github.com/parley-chat/parley/internal/auth"
	"github.com/parley-chat/parley/internal/budget"
	"github.com/parley-chat/parley/internal/config"
	"github.com/parley-chat/parley/internal/conversation"
	"github.com/parley-chat/parley/internal/directory"
	"github.com/parley-chat/parley/internal/friend"
	"github.com/parley-chat/parley/internal/history"
	"github.com/parley-chat/parley/internal/httpapi"
	"github.com/parley-chat/parley/internal/journal"
	"github.com/parley-chat/parley/internal/lifecycle"
	"github.com/parley-chat/parley/internal/message"
	"github.com/parley-chat/parley/internal/observe"
	"github.com/parley-chat/parley/internal/outbound"
	"github.com/parley-chat/parley/internal/postgres"
	"github.com/parley-chat/parley/internal/presence"
	"github.com/parley-chat/parley/internal/process"
	"github.com/parley-chat/parley/internal/push"
	"github.com/parley-chat/parley/internal/ratelimit"
	"github.com/parley-chat/parley/internal/realtime"
	"github.com/parley-chat/parley/internal/receipt"
	"github.com/parley-chat/parley/internal/redisconn"
	"github.com/parley-chat/parley/internal/serverkey"
	"github.com/parley-chat/parley/internal/user"
	"github.com/parley-chat/parley/internal/webhook"
)

const (
	databaseConns = 20
	redisConns    = 20
	// stopMargin is the part of the stop time that the edge leaves to the parts behind it, at most a quarter of it.
	stopMargin = 3 * time.Second
)

// run joins the parts of the api and runs them until ctx ends.
func run(ctx context.Context, c *config.API, log *slog.Logger) error {
	gate := &lifecycle.Gate{}
	base, err := process.Connect(ctx, process.Config{
		Name: process.API, DatabaseConns: databaseConns, RedisConns: redisConns, Epochs: true, Stopping: gate.Closed,
	}, &c.Common, log)
	if err != nil {
		return err
	}
	defer func() { _ = base.Close() }()
	db, err := postgres.Over(base.DB)
	if err != nil {
		return err
	}
	rdb, registry, tracer, epochs, health := base.Redis, base.Registry, base.Tracer, base.Epochs, base.Health

	memory := budget.OfProcess()
	metrics := realtime.NewMetrics(registry)
	sharding := redisconn.NewSharding(rdb, !c.Redis.Plain, registry, log)
	publisher := realtime.NewPublisher(realtime.PublisherConfig{Redis: rdb, History: epochs, Sharding: sharding, Metrics: metrics, Tracer: tracer, Log: log})
	messageStore := message.NewStore(db)
	messageMetrics := message.NewMetrics(registry)
	committer := message.NewCommitter(messageStore, publisher, publisher.Notify, log, messageMetrics)
	reactor := message.NewReactor(messageStore, publisher, messageMetrics)
	messages := message.NewService(db, messageStore, committer, reactor, publisher)
	conversationStore := conversation.NewStore(db, messageStore)
	feed := journal.NewFeed(db.SQL, conversationStore)

	channels := realtime.NewChannels()
	presences := presence.NewService(db.SQL, rdb)
	heartbeat := presence.NewHeartbeat(rdb, sharding, c.Presence, presence.NewHeartbeatMetrics(registry), log, publisher.Replace)
	limiter := ratelimit.New(rdb, registry, log)
	users := user.NewService(db, publisher, limiter) // profiles that a key changes the pods find in Postgres, every two seconds
	heard := receipt.NewMemory()
	hub := realtime.NewHub(realtime.HubConfig{
		Memberships: conversationStore, Feed: feed, Channels: channels, Presence: presences, Heartbeats: heartbeat, Profiles: users,
		Sent: heard.Sent, History: epochs, Sessions: auth.NewLookup(db), Memory: memory, Metrics: metrics, Log: log,
	})
	watch := auth.NewWatch(db, c.AccessTTL, log, hub.EndSessions)
	probe := realtime.NewProbe(publisher, channels, registry)
	subscriber := realtime.NewSubscriber(realtime.SubscriberConfig{
		Redis: rdb, Channels: channels, Hub: hub, Sharding: sharding, Publisher: publisher, Probe: probe, Ended: watch.Note, Metrics: metrics,
		Tracer: tracer, Log: log,
	})
	receipts := receipt.NewService(db.SQL, rdb, publisher, heard, hub, c.MarkersMaxMembers, receipt.NewMetrics(registry), log)
	conversations := conversation.NewService(db, conversationStore, receipts, publisher, publisher)
	standings := directory.NewWatch(db, c.AccessTTL, log, func(userID string, err error) { hub.EndUser(userID, httpapi.CloseCodeOf(err)) })
	external, err := newExternal(c.Identity, db, registry, log, externalHooks{
		standings: standings, withdrawn: func(keys []string) { hub.EndSigners(keys...) }, profile: users.Report,
	})
	if err != nil {
		return err
	}
	health.Identity = external.health()
	keys := serverkey.NewService(db, c.BootstrapKey, log)
	auditLog := audit.NewLog(db, c.AuditKeep, log)
	sessions, err := auth.NewService(auth.Config{RefreshTTL: c.RefreshTTL, SessionMaxAge: c.SessionMaxAge, Grace: c.RefreshGrace}, db,
		auth.NewTokens(c.JWTSecrets, c.AccessTTL), publisher, watch, conversations, standings)
	if err != nil {
		return err
	}
	epochs.OnChange(func(e history.Epoch) { receipts.NewHistory(e.ID, e.Since) })

	syncer := message.NewSyncer(feed, messageStore, conversations, hub.Epoch)
	refusals := observe.NewOutage(log, "requests are refused with 503", "requests are served again")
	attachments, closeStorage, err := openAttachments(c, db.SQL, health, registry, log)
	if err != nil {
		return err
	}
	defer closeStorage()
	friends := friend.NewService(db, publisher, publisher)
	stop := c.ShutdownTimeout - c.DrainDelay
	webhooks, err := openWebhooks(db, c.Webhooks)
	if err != nil {
		return err
	}
	attention := push.NewAttention(db.SQL, rdb, log)
	pushes, err := openPush(db, c)
	if err != nil {
		return err
	}
	deps := httpapi.Deps{
		Auth: sessions, Watch: watch, Keys: keys,
		Directory: directory.NewService(db, standings, users.Mark), Standings: standings, Audit: auditLog, Push: pushes, Attention: attention, Users: users, Friends: friends,
		Conversations: conversations, Messages: messages, Receipts: receipts, Attachments: attachments,
		Syncer: syncer, Presence: presences, Hub: hub, Limiter: limiter, Publisher: publisher, Health: health, Gate: gate,
		Memory:   memory,
		Registry: registry, Panics: base.Panics, Tracer: tracer, Refusals: refusals, Log: log,
	}
	external.addTo(&deps)
	if webhooks != nil {
		deps.Webhooks = webhooks
	}
	server, err := httpapi.New(httpapi.Config{
		Addr: c.HTTPAddr, TrustedProxies: c.TrustedProxies, AllowedOrigins: c.AllowedOrigins, MetricsTokens: c.MetricsTokens,
		ForwardedHeader: c.ForwardedHeader, ConnectionsPerAddress: c.ConnectionsPerAddress, Docs: c.Docs, Web: c.Web, Storage: c.Storage,
		DrainDelay: c.DrainDelay, StopTimeout: stop - min(stopMargin, stop/4), Limits: c.Limits, AuthMode: c.Identity.Mode, ProfileSync: c.Identity.External() && c.Identity.Profile == config.ProfileSync,
	}, deps)
	if err != nil {
		return err
	}
	base.Outages = []*observe.Outage{refusals}
	return base.Run(ctx,
		epochs.Part(db.SQL),
		lifecycle.Part{Name: "publisher", Run: publisher.Run},
		lifecycle.Part{Name: "subscriber", Run: subscriber.Run},
		lifecycle.Part{Name: "sharding", Run: sharding.Run},
		lifecycle.Part{Name: "probe", Run: probe.Run},
		lifecycle.Part{Name: "heartbeat", Run: heartbeat.Run},
		lifecycle.Part{Name: "hub", Run: hub.Run},
		lifecycle.Part{Name: "sessions", Run: watch.Run},
		lifecycle.Part{Name: "standings", Run: standings.Run},
		lifecycle.Part{Name: "keyset", Run: external.run},
		lifecycle.Part{Name: "keys", Run: keys.Run},
		lifecycle.Part{Name: "audit", Run: auditLog.Run},
		lifecycle.Part{Name: "limiter", Run: limiter.Run},
		lifecycle.Part{Name: "committer", Run: committer.Run},
		lifecycle.Part{Name: "reactor", Run: reactor.Run},
		lifecycle.Part{Name: "receipts", Run: receipts.Run},
		lifecycle.Part{Name: "attention", Run: attention.Run},
		lifecycle.Part{Name: "http", Run: server.Run},
	)
}

// openWebhooks makes the management of webhooks, nil without a key for their secrets.
func openWebhooks(db *postgres.DB, c config.Webhooks) (*webhook.Service, error) {
	if len(c.SecretsKeys) == 0 {
		return nil, nil //nolint:nilnil // none is no error
	}
	sealer, err := webhook.NewSealer(c.SecretsKeys)
	if err != nil {
		return nil, err
	}
	return webhook.NewService(db, sealer, &outbound.Guard{Allow: c.AllowCIDRs}, c.Timeout), nil
}
