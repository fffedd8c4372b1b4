package main

import (
	"context"
	"log/slog"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/parley-chat/parley/internal/config"
	"github.com/parley-chat/parley/internal/httpapi"
	"github.com/parley-chat/parley/internal/identity"
	"github.com/parley-chat/parley/internal/observe"
	"github.com/parley-chat/parley/internal/postgres"
)

// external are the parts that accept tokens of the product's issuer; all are nil if none are accepted.
type external struct {
	source   *identity.Source
	verifier *identity.Verifier
	service  *identity.Service
}

// externalHooks are called by it.
type externalHooks struct {
	standings identity.Standings
	withdrawn func(keys []string)
	profile   func(ctx context.Context, userID string)
}

func newExternal(c config.Identity, db *postgres.DB, r prometheus.Registerer, log *slog.Logger, hooks externalHooks) (external, error) {
	if !c.External() {
		return external{}, nil
	}
	settings := identity.Config{
		Issuer: c.Issuer, Audience: c.Audience, Algorithms: c.Algorithms,
		ClaimUser: c.ClaimUser, ClaimUsername: c.ClaimUsername, ClaimName: c.ClaimName, ClaimAvatar: c.ClaimAvatar,
		Existing: c.Provision == config.ProvisionExisting, Profile: identity.Profile(c.Profile),
		JWKSURL: c.JWKSURL, JWKSFile: c.JWKSFile, Refresh: c.Refresh, MaxStale: c.MaxStale, MaxTTL: c.MaxTTL,
	}
	source := identity.NewSource(settings, log, hooks.withdrawn)
	service, err := identity.NewService(settings, db, hooks.standings, hooks.profile)
	if err != nil {
		return external{}, err
	}
	return external{source, identity.NewVerifier(settings, source, identity.NewMetrics(r, source), log), service}, nil
}

// addTo makes the edge accept external tokens, if there is an issuer. Otherwise the fields stay nil interfaces, which do not hold a nil pointer.
func (e external) addTo(d *httpapi.Deps) {
	if e.source != nil {
		d.Keyset, d.Verifier, d.Identity = e.source, e.verifier, e.service
	}
}

// run keeps the key set fresh until ctx ends.
func (e external) run(ctx context.Context) error {
	if e.source == nil {
		<-ctx.Done()
		return nil
	}
	return e.source.Run(ctx)
}

// health is the state of the key set for the health checks, nil if there is none.
func (e external) health() observe.IdentityCheck {
	if e.source == nil {
		return nil
	}
	return e.source
}
