package postgres

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/multitracer"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
)

const (
	dialTimeout  = 2 * time.Second
	connLifetime = 30 * time.Minute
	connIdle     = 5 * time.Minute
	// pingAfter is how long a connection may have been idle before it is used without a round trip to its server, and pingWait how
	// long that may take. A connection that leads nowhere would otherwise cost its caller all of the statement's time.
	pingAfter = 1 * time.Second
	pingWait  = 2 * time.Second
	// A peer that acknowledges nothing is given up after ackTimeout while there is something to acknowledge, and by keep-alives
	// while there is nothing.
	ackTimeout        = 10 * time.Second
	keepAliveIdle     = 10 * time.Second
	keepAliveInterval = 5 * time.Second
	keepAliveCount    = 3
)

// OpenPool prepares the pool alone: a process that has no plain paths doesn't link GORM. It does not connect: a process starts,
// and reports that it is not ready, while Postgres is unavailable.
//
// The pool gets over a failover by itself. A connection is taken into it only if its server takes writes; one error that says that
// a server stops or is a standby, one connection that breaks, or one that no longer answers, retires all connections that were
// opened before it (guard).
func OpenPool(c Config) (*sql.DB, error) {
	cfg, err := pgx.ParseConfig(c.URL)
	if err != nil {
		return nil, errors.New("open postgres: the connection string cannot be read") // pgx's error may show the password
	}
	cfg.ConnectTimeout = dialTimeout
	if cfg.RuntimeParams["application_name"] == "" {
		cfg.RuntimeParams["application_name"] = c.Application
	}
	cfg.Tracer = c.Tracer
	if c.PgBouncer {
		cfg.DefaultQueryExecMode = pgx.QueryExecModeExec
	} else {
		// Compiling, or starting workers, takes longer than any statement of ours.
		cfg.RuntimeParams["jit"] = "off"
		cfg.RuntimeParams["max_parallel_workers_per_gather"] = "0"
		cfg.RuntimeParams["statement_timeout"] = fmt.Sprint(StatementTimeout.Milliseconds())
		cfg.RuntimeParams["idle_in_transaction_session_timeout"] = fmt.Sprint(2 * StatementTimeout.Milliseconds())
	}
	g := &guard{identify: c.Identify}
	g.watch(cfg)
	// The guard pings by itself, within a bound of its own.
	pool := stdlib.OpenDB(*cfg, stdlib.OptionResetSession(g.reset), stdlib.OptionShouldPing(func(context.Context, stdlib.ShouldPingParams) bool { return false }))
	pool.SetMaxOpenConns(c.MaxConns)
	pool.SetMaxIdleConns(c.MaxConns)
	pool.SetConnMaxLifetime(connLifetime)
	pool.SetConnMaxIdleTime(connIdle)
	return pool, nil
}

// guard keeps connections out of a pool that lead to a server that went away or became a standby. Each connection is of the
// generation in which its server was seen to take writes; the first of a generation to find that its server is gone ends the
// generation, and its siblings are closed instead of used. Its methods may be called at any time.
type guard struct {
	generation atomic.Int64
	identify   func(ctx context.Context, c *pgconn.PgConn) (another bool, err error) // nil for nothing
}

// member is what the guard knows of a connection, in its CustomData. The pool lets one goroutine at a time use a connection.
type member struct {
	generation int64
	used       time.Time // when it was last taken out of the pool
}

const memberKey = "parley"

func memberOf(c *pgconn.PgConn) *member {
	m, _ := c.CustomData()[memberKey].(*member)
	return m
}

// watch has the guard hear of everything that happens to connections of the configuration.
func (g *guard) watch(cfg *pgx.ConnConfig) {
	validate := cfg.ValidateConnect // of a target_session_attrs in the URL
	if validate == nil {
		validate = pgconn.ValidateConnectTargetSessionAttrsReadWrite
	}
	cfg.ValidateConnect = func(ctx context.Context, c *pgconn.PgConn) error {
		m := &member{generation: g.generation.Load(), used: time.Now()} // before the question: what changes meanwhile retires it
		if err := validate(ctx, c); err != nil {
			return err
		}
		if g.identify != nil {
			another, err := g.identify(ctx, c)
			if err != nil {
				return err
			}
			if another {
				m.generation = g.generation.Add(1)
			}
		}
		c.CustomData()[memberKey] = m
		return nil
	}
	closeFatal := cfg.OnPgError
	cfg.OnPgError = func(c *pgconn.PgConn, err *pgconn.PgError) bool {
		if isFailover(err) {
			g.retire(memberOf(c))
			return false
		}
		return closeFatal(c, err)
	}
	dialer := &net.Dialer{
		KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: keepAliveIdle, Interval: keepAliveInterval, Count: keepAliveCount},
		Control:         limitUnacknowledged,
	}
	cfg.DialFunc = dialer.DialContext
	if cfg.Tracer == nil {
		cfg.Tracer = g
	} else {
		cfg.Tracer = multitracer.New(g, cfg.Tracer)
	}
}

// retire ends the generation of a connection whose server is gone.
func (g *guard) retire(m *member) {
	if m != nil {
		g.end(m.generation)
	}
}

// end ends a generation, once, however many of its connections report the same failover.
func (g *guard) end(generation int64) { g.generation.CompareAndSwap(generation, generation+1) }

// reset decides, when a connection is taken out of the pool, whether it may be used again.
func (g *guard) reset(ctx context.Context, c *pgx.Conn) error {
	m := memberOf(c.PgConn())
	if m == nil || m.generation != g.generation.Load() {
		return driver.ErrBadConn
	}
	if now := time.Now(); now.Sub(m.used) > pingAfter {
		ctx, cancel := context.WithTimeout(ctx, pingWait)
		defer cancel()
		if err := c.Ping(ctx); err != nil {
			if ctx.Err() != context.Canceled { //nolint:errorlint // it is returned as it is
				g.retire(m)
			}
			return driver.ErrBadConn
		}
	}
	m.used = time.Now()
	return nil
}

// TraceQueryStart implements pgx.QueryTracer.
func (*guard) TraceQueryStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryStartData) context.Context {
	return ctx
}

// TraceQueryEnd implements pgx.QueryTracer: it hears of connections that the server, or something between, broke. Time-outs are the
// caller's: they end a statement, and the ping before the next use of the other connections finds out about those.
func (g *guard) TraceQueryEnd(_ context.Context, c *pgx.Conn, data pgx.TraceQueryEndData) {
	if data.Err != nil && isBroken(data.Err) {
		g.retire(memberOf(c.PgConn()))
	}
}

// isBroken reports whether an error is of a connection that ended without a word.
func isBroken(err error) bool {
	if _, answered := errors.AsType[*pgconn.PgError](err); answered {
		return false
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, net.ErrClosed) {
		return false
	}
	broken, ok := errors.AsType[net.Error](err)
	return ok && !broken.Timeout() || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
}
