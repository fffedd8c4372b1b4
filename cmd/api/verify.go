package main

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/parley-chat/parley/internal/config"
	"github.com/parley-chat/parley/internal/redisconn"
	"github.com/parley-chat/parley/migrations"
)

const verifyTimeout = 15 * time.Second

// verify reads the api's settings and logs in to the databases that they name, as the chart does before it installs anything. A
// database that cannot be reached is no fault: it may start later, and the processes wait for it.
func verify() error {
	c, err := config.LoadAPI()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), verifyTimeout)
	defer cancel()
	log := slog.New(slog.NewJSONHandler(os.Stderr, nil))
	redisconn.LogTo(log)
	return errors.Join(verifyPostgres(ctx, c.Database.URL, log), verifyRedis(ctx, c, log))
}

func verifyPostgres(ctx context.Context, url string, log *slog.Logger) error {
	err := migrations.Try(ctx, url)
	if errors.Is(err, migrations.ErrRefused) {
		return config.Fault("DATABASE_URL", "(or its parts) does not work: %v", err)
	}
	reached(log, "postgres", err)
	return nil
}

func verifyRedis(ctx context.Context, c config.API, log *slog.Logger) error {
	rdb, err := redisconn.Open(redisconn.Config{URL: c.Redis.URL, Username: c.Redis.Username, Password: c.Redis.Password, SentinelMaster: c.Redis.SentinelMaster, PoolSize: 1, ClientName: "parley-verify"})
	if err != nil {
		return err
	}
	defer rdb.Close()
	err = rdb.Ping(ctx).Err()
	if redis.IsAuthError(err) || redis.IsPermissionError(err) {
		return config.Fault("REDIS_URL", "(or its password) does not work: %v", err)
	}
	reached(log, "redis", err)
	return nil
}

func reached(log *slog.Logger, what string, err error) {
	if err != nil {
		log.Warn("cannot be reached yet", "what", what, "error", err)
		return
	}
	log.Info("lets us in", "what", what)
}
