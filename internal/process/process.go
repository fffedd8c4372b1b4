// Package process has the code that Parley's processes share: their start, their connections, and their stop.
//
//	main ── settings ──► Serve: logger, memory limit, signals ──► run
//	run  ── Connect: traces, metrics, Postgres, Redis, health ──► the process's own parts ──► Base.Run
//
// A main package only sets the sizes of its connection pools and wires its own parts.
package process

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"os"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"

	"github.com/parley-chat/parley/internal/config"
	"github.com/parley-chat/parley/internal/history"
	"github.com/parley-chat/parley/internal/lifecycle"
	"github.com/parley-chat/parley/internal/observe"
	"github.com/parley-chat/parley/internal/postgres"
	"github.com/parley-chat/parley/internal/redisconn"
	"github.com/parley-chat/parley/internal/tracing"
)

// The names of the processes, as in the binaries, logs, metrics and application_name of connections.
const (
	API        = "api"
	Watcher    = "presence-watcher"
	Worker     = "receipt-worker"
	Dispatcher = "dispatcher"
)

// Exit codes. ExitSettings says that a setting is at fault and that a restart does not help.
const (
	ExitFailed   = 1
	ExitSettings = 2
)

// Exit prints an error of the process and ends it with one of the codes. It returns if there is none.
func Exit(name string, err error) {
	if err == nil {
		return
	}
	fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
	if config.IsFault(err) {
		os.Exit(ExitSettings)
	}
	os.Exit(ExitFailed)
}

// Serve calls run with the process's logger and a context that SIGTERM and SIGINT end.
func Serve(name string, c *config.Common, run func(ctx context.Context, log *slog.Logger) error) error {
	log := observe.NewLogger(os.Stderr, name, c.LogFormat, c.LogLevel)
	lifecycle.LimitMemory(log)
	ctx, cancel := lifecycle.Signals(log)
	defer cancel()
	return run(ctx, log)
}

// Config is what differs between processes.
type Config struct {
	Name string
	// DatabaseConns and RedisConns are the sizes of the pools. Health has one connection to Postgres of its own beside them, so that a
	// full pool is not taken for a database that is down.
	DatabaseConns, RedisConns int
	// Epochs has each connection to Postgres check the epoch of the database, so that Base.Epochs is set.
	Epochs bool
	// Stopping makes the process unready; nil for one that is unready once its context has ended.
	Stopping func() bool
}

// Base is a process's connections and what observes it. Its fields are set by Connect and not changed then.
type Base struct {
	Registry *prometheus.Registry
	Panics   *prometheus.CounterVec
	Tracer   *tracing.Tracer
	Epochs   *history.Watch // nil without Config.Epochs
	DB       *sql.DB
	Redis    redis.UniversalClient
	// RedisDB is the number of the database of Redis, 0 on a cluster.
	RedisDB int
	// Health may be given more to check until Run.
	Health *observe.Health
	// Outages are logged by the monitor while they last.
	Outages []*observe.Outage

	common *config.Common
	conns  int
	log    *slog.Logger
	closes []func() error
}

// Connect makes a process's connections. It does not wait for Postgres or Redis: a fault is one of the settings. Close ends them.
func Connect(ctx context.Context, c Config, common *config.Common, log *slog.Logger) (*Base, error) {
	b := &Base{common: common, conns: c.RedisConns, log: log}
	if err := b.connect(ctx, c); err != nil {
		return nil, errors.Join(err, b.Close())
	}
	return b, nil
}

func (b *Base) connect(ctx context.Context, c Config) (err error) {
	if b.Tracer, err = tracing.Start(ctx, c.Name, observe.Version, b.common.Tracing, b.log); err != nil {
		return err
	}
	b.closes = append(b.closes, func() error { b.Tracer.Close(); return nil })
	redisconn.LogTo(b.log)
	b.Registry = observe.NewRegistry(c.Name, b.log)
	b.Panics = observe.NewPanicCounter(b.Registry)
	client := "parley-" + c.Name
	pool := postgres.Config{URL: b.common.Database.URL, PgBouncer: b.common.Database.PgBouncer, MaxConns: c.DatabaseConns, Application: client, Tracer: b.Tracer.Postgres()}
	if c.Epochs {
		b.Epochs = history.New(b.Registry, b.log)
		pool.Identify = b.Epochs.Identify
	}
	if b.DB, err = postgres.OpenPool(pool); err != nil {
		return err
	}
	b.closes = append(b.closes, b.DB.Close)
	health, err := postgres.OpenPool(postgres.Config{URL: pool.URL, PgBouncer: pool.PgBouncer, MaxConns: 1, Application: client + "-health"})
	if err != nil {
		return err
	}
	b.closes = append(b.closes, health.Close)
	if err := b.openRedis(client); err != nil {
		return err
	}
	if c.Stopping == nil {
		c.Stopping = func() bool { return ctx.Err() != nil }
	}
	b.Health = &observe.Health{DB: health, Redis: b.Redis, Stopping: c.Stopping}
	return nil
}

func (b *Base) openRedis(client string) error {
	r := b.common.Redis
	c := redisconn.Config{URL: r.URL, Username: r.Username, Password: r.Password, SentinelMaster: r.SentinelMaster, PoolSize: b.conns, ClientName: client}
	options, err := redisconn.Options(c)
	if err != nil {
		return err
	}
	b.RedisDB = options.DB
	if b.Redis, err = redisconn.Open(c); err != nil {
		return err
	}
	// It is closed by the end of the process. asynq, where it could not be stopped because Redis hangs, panics over a closed client
	// (subscriber.go: a message is read from a closed channel).
	return b.Tracer.Redis(b.Redis)
}

// Run runs the parts until ctx ends, behind the process's own endpoints and the monitor of what it depends on.
func (b *Base) Run(ctx context.Context, parts ...lifecycle.Part) error {
	observe.RegisterPools(b.Registry, b.DB, b.Redis, b.conns)
	monitor := observe.NewMonitor(b.Health, b.Registry, b.log)
	monitor.Watch(b.Outages...)
	ops := &observe.Ops{Addr: b.common.OpsAddr, Registry: b.Registry, Ready: b.Health.Ready, Log: b.log}
	own := []lifecycle.Part{{Name: "ops", Run: ops.Run}, {Name: "monitor", Run: monitor.Run}}
	return lifecycle.Run(ctx, lifecycle.Config{Log: b.log, StopTimeout: b.common.ShutdownTimeout, Panics: b.Panics}, append(own, parts...)...)
}

// Close closes the connections to Postgres and flushes the traces, the last one first.
func (b *Base) Close() error {
	var faults []error
	for i := len(b.closes) - 1; i >= 0; i-- {
		faults = append(faults, b.closes[i]())
	}
	b.closes = nil
	return errors.Join(faults...)
}
