package main

import (
	"database/sql"
	"log/slog"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/parley-chat/parley/internal/attachment"
	"github.com/parley-chat/parley/internal/config"
	"github.com/parley-chat/parley/internal/objectstore"
	"github.com/parley-chat/parley/internal/observe"
)

// openAttachments makes the domain of files, over the storage that the settings name, if they name one. health asks that storage then.
func openAttachments(c *config.API, db *sql.DB, health *observe.Health, r prometheus.Registerer, log *slog.Logger) (*attachment.Service, func(), error) {
	rules := attachment.Config{MaxSize: c.Uploads.MaxSize, Types: c.Uploads.Types, Denied: c.Uploads.DenyTypes}
	if rules.Denied == nil {
		rules.Denied = attachment.DefaultDenied
	}
	metrics := attachment.NewMetrics(r, attachment.RequestStates...)
	if !c.Storage.Configured() {
		return attachment.NewService(rules, db, nil, metrics, log), func() {}, nil
	}
	objects, err := objectstore.New(objectstore.Config(c.Storage))
	if err != nil {
		return nil, nil, err
	}
	health.Storage = objects.Check
	return attachment.NewService(rules, db, objects, metrics, log), objects.Close, nil
}
