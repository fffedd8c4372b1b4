package main

import (
	"context"
	"log/slog"
	"net/url"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"

	"github.com/parley-chat/parley/internal/config"
	"github.com/parley-chat/parley/internal/conversation"
	"github.com/parley-chat/parley/internal/outbound"
	"github.com/parley-chat/parley/internal/postgres"
	"github.com/parley-chat/parley/internal/push"
	"github.com/parley-chat/parley/internal/receipt"
)

// openPush makes what decides on pushes and what sends them.
func openPush(c *config.Dispatcher, db *postgres.DB, rdb redis.UniversalClient, store *conversation.Store, r prometheus.Registerer, lag func(float64), log *slog.Logger) (*push.Decider, *push.Sender, error) {
	pending := receipt.NewPending(rdb)
	states := conversation.NewService(db, store, pending, nil, nil) // which changes nothing here
	contents := push.Contents{Hidden: c.Push.NoContent, Unread: func(ctx context.Context, userID string) (push.Unread, error) {
		u, err := states.Unread(ctx, userID, false)
		return push.Unread{Messages: u.Messages, Mentions: u.Mentions}, err
	}}
	providers := map[string]push.Provider{}
	if c.Push.VAPIDPrivateKey != "" {
		hosts := push.Hosts(c.Push.WebPushHosts)
		web, err := push.NewWebPush(c.Push.VAPIDPrivateKey, c.Push.VAPIDSubject, &outbound.Guard{Allow: c.AllowCIDRs, Hosts: hosts.Exact()})
		if err != nil {
			return nil, nil, err
		}
		providers[push.ProviderWebPush] = web
	}
	if f := c.Push.FCM; f != nil {
		fcm := push.FCMConfig{ProjectID: f.ProjectID, ClientEmail: f.ClientEmail, KeyID: f.KeyID, Key: f.Key, TokenURI: f.TokenURI, Endpoint: c.Push.FCMEndpoint}
		providers[push.ProviderFCM] = push.NewFCM(fcm, &outbound.Guard{Allow: c.AllowCIDRs, Hosts: ownHosts(f.TokenURI, c.Push.FCMEndpoint)})
	}
	metrics := push.NewMetrics(r)
	decider := push.NewDecider(c.Push.Delay, db.SQL, pending, push.NewWatch(rdb), contents, metrics, lag, log)
	sender := push.NewSender(db.SQL, providers, contents, metrics, log)
	decider.OnRequest(sender.Wake)
	return decider, sender, nil
}

// ownHosts are the hosts of URLs that the operator chose: those of Google's are on the Internet.
func ownHosts(urls ...string) []string {
	var out []string
	for _, s := range urls {
		if u, err := url.Parse(s); err == nil && !(push.Hosts{"*.googleapis.com"}).Allow(u.Hostname()) {
			out = append(out, u.Hostname())
		}
	}
	return out
}
