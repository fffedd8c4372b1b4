package main

import (
	"context"
	"errors"
	"flag"
	"log/slog"
	"os"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/parley-chat/parley/internal/config"
	"github.com/parley-chat/parley/internal/redisconn"
	"github.com/parley-chat/parley/migrations"
)

const (
	// verifyTry bounds one attempt to reach a database, and verifyPause is the time between two.
	verifyTry   = 10 * time.Second
	verifyPause = time.Second
)

// errUnreachable says that a database could not be reached: neither its settings nor its login were found wrong.
var errUnreachable = errors.New("cannot be reached")

// verify checks the api's settings and logs in to the databases and the storage that they name, as the chart does before it installs anything. A
// wrong setting or a refused login is a fault. A database that stays unreachable for -wait is errUnreachable, or a warning with
// -unreachable=warn, for databases that start after Parley.
func verify(args []string) error {
	flags := flag.NewFlagSet("verify", flag.ExitOnError)
	wait := flags.Duration("wait", 0, "how long to try again while a database cannot be reached")
	unreachable := flags.String("unreachable", "fail", "fail, or warn if a database may start later")
	_ = flags.Parse(args) // ExitOnError
	if flags.NArg() > 0 || *unreachable != "fail" && *unreachable != "warn" {
		usage()
	}
	c, err := config.LoadAPI()
	if err != nil {
		return err
	}
	log := slog.New(slog.NewJSONHandler(os.Stderr, nil))
	redisconn.LogTo(log)
	v := verifier{log: log, until: time.Now().Add(*wait), tolerant: *unreachable == "warn"}
	databases := []struct {
		name string
		try  func(ctx context.Context) error
	}{
		{"postgres", func(ctx context.Context) error { return verifyPostgres(ctx, c.Database.URL) }},
		{"redis", func(ctx context.Context) error { return verifyRedis(ctx, c.Redis) }},
	}
	if c.Storage.Configured() {
		databases = append(databases, struct {
			name string
			try  func(ctx context.Context) error
		}{"storage", func(ctx context.Context) error { return verifyStorage(ctx, &c) }})
	}
	results := make(chan error, len(databases))
	for _, d := range databases {
		go func() { results <- v.reach(d.name, d.try) }()
	}
	var faults []error
	for range databases {
		faults = append(faults, <-results)
	}
	return errors.Join(faults...)
}

// verifier tries databases until a time.
type verifier struct {
	log      *slog.Logger
	until    time.Time
	tolerant bool
}

// reach tries one database until it can be reached, refuses the login, or the time is up.
func (v verifier) reach(name string, try func(ctx context.Context) error) error {
	for {
		ctx, cancel := context.WithTimeout(context.Background(), verifyTry)
		err := try(ctx)
		cancel()
		switch {
		case err == nil:
			v.log.Info("login succeeded", "database", name)
			return nil
		case config.IsFault(err):
			return err
		case time.Now().Add(verifyPause).Before(v.until):
			time.Sleep(verifyPause)
		case v.tolerant:
			v.log.Warn("cannot be reached yet", "database", name, "error", err)
			return nil
		default:
			return unreachableError{name, err}
		}
	}
}

// unreachableError names a database and the reason why it could not be reached.
type unreachableError struct {
	database string
	cause    error
}

func (e unreachableError) Error() string {
	return e.database + " cannot be reached: " + e.cause.Error() + " (is its address right, does it run, may this pod connect to it?)"
}

func (e unreachableError) Unwrap() []error { return []error{errUnreachable, e.cause} }

func verifyPostgres(ctx context.Context, url string) error {
	err := migrations.Try(ctx, url)
	if errors.Is(err, migrations.ErrRefused) {
		return config.Fault("DATABASE_URL", "(or its parts) does not work: %v", err)
	}
	return err
}

func verifyRedis(ctx context.Context, c config.Redis) error {
	rdb, err := redisconn.Open(redisconn.Config{URL: c.URL, Username: c.Username, Password: c.Password, SentinelMaster: c.SentinelMaster, PoolSize: 1, ClientName: "parley-verify"})
	if err != nil {
		return config.Fault("REDIS_URL", "does not work: %v", err)
	}
	defer rdb.Close()
	err = rdb.Ping(ctx).Err()
	if redis.IsAuthError(err) || redis.IsPermissionError(err) {
		return config.Fault("REDIS_URL", "(or its password) does not work: %v", err)
	}
	return err
}
