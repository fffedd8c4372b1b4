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
	// long that may take. Otherwise a dead connection would cost its caller the statement's whole timeout.
	pingAfter = 1 * time.Second
	pingWait  = 2 * time.Second
	// A peer that acknowledges nothing is given up after ackTimeout while there is something to acknowledge, and by keep-alives
	// while there is nothing.
	ackTimeout        = 10 * time.Second
	keepAliveIdle     = 10 * time.Second
	keepAliveInterval = 5 * time.Second
	keepAliveCount    = 3
	// replanAfter is how often a connection is used before the plans that it keeps are made anew for the first time. Then it is when the
	// number of uses has doubled.
	replanAfter = 64
)

// OpenPool prepares only the pool: a process without plain paths doesn't link GORM. It does not connect: a process starts,
// and reports that it is not ready, while Postgres is unavailable.
//
// The pool recovers from a failover automatically. It uses a connection only if its server accepts writes. One error which says that
// a server is stopping or is a standby, one broken connection, or one that no longer responds, retires all connections that were
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
	g := &guard{identify: c.Identify, replans: !c.PgBouncer}
	g.watch(cfg)
	// The guard pings connections, with its own timeout.
	pool := stdlib.OpenDB(*cfg, stdlib.OptionResetSession(g.reset), stdlib.OptionShouldPing(func(context.Context, stdlib.ShouldPingParams) bool { return false }))
	pool.SetMaxOpenConns(c.MaxConns)
	pool.SetMaxIdleConns(c.MaxConns)
	pool.SetConnMaxLifetime(connLifetime)
	pool.SetConnMaxIdleTime(connIdle)
	return pool, nil
}

// guard keeps connections out of a pool whose server is gone or became a standby. Each connection belongs to the
// generation in which its server was found to accept writes; the first of a generation to find that its server is gone ends the
// generation, and its siblings are closed instead of used. Its methods may be called at any time.
type guard struct {
	generation atomic.Int64
	identify   func(ctx context.Context, c *pgconn.PgConn) (another bool, err error) // nil for nothing
	replans    bool                                                                  // whether connections keep plans
}

// member is the guard's state of a connection, in its CustomData. Only one goroutine at a time uses a connection.
type member struct {
	generation int64
	used       time.Time // when it was last taken out of the pool
	uses       int       // how often it was
	replan     int       // the number of uses at which its plans are made anew
}

const memberKey = "parley"

func memberOf(c *pgconn.PgConn) *member {
	m, _ := c.CustomData()[memberKey].(*member)
	return m
}

// watch installs the guard's hooks in the configuration.
func (g *guard) watch(cfg *pgx.ConnConfig) {
	validate := cfg.ValidateConnect // of a target_session_attrs in the URL
	if validate == nil {
		validate = pgconn.ValidateConnectTargetSessionAttrsReadWrite
	}
	cfg.ValidateConnect = func(ctx context.Context, c *pgconn.PgConn) error {
		m := &member{generation: g.generation.Load(), used: time.Now(), replan: replanAfter} // before the query, so that a change in between retires it
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
		if err := g.ask(ctx, m, c.Ping); err != nil {
			return err
		}
	}
	m.used = time.Now()
	if m.uses++; m.uses < m.replan || !g.replans {
		return nil
	}
	m.replan *= 2
	return g.ask(ctx, m, func(ctx context.Context) error { return discardPlans(ctx, c.PgConn()) })
}

// ask has the server of a connection do something small. If it does not in time, its generation ends: but not because the caller had no
// more time or no more interest.
func (g *guard) ask(caller context.Context, m *member, f func(ctx context.Context) error) error {
	ctx, cancel := context.WithTimeout(caller, pingWait)
	defer cancel()
	if err := f(ctx); err != nil {
		if caller.Err() == nil {
			g.retire(m)
		}
		return driver.ErrBadConn
	}
	return nil
}

// discardPlans has the connection's statements planned anew at their next use. A plan that was made while a table was small can be far too slow
// when it has grown: indexes that begin with the same column cost the same then. Postgres keeps it until the table is analyzed,
// which autovacuum does at most once a minute. Tables grow with the uses of connections, so plans that are renewed whenever the uses
// have doubled fit, and cost a few dozen plannings in a connection's life.
func discardPlans(ctx context.Context, c *pgconn.PgConn) error {
	_, err := c.Exec(ctx, `DISCARD PLANS`).ReadAll()
	return err
}

// TraceQueryStart implements pgx.QueryTracer.
func (*guard) TraceQueryStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryStartData) context.Context {
	return ctx
}

// TraceQueryEnd implements pgx.QueryTracer: it detects connections that were broken by the server or the network. Time-outs are the
// caller's: they end a statement, and the ping before the next use of the other connections finds out about those.
func (g *guard) TraceQueryEnd(_ context.Context, c *pgx.Conn, data pgx.TraceQueryEndData) {
	if data.Err != nil && isBroken(data.Err) {
		g.retire(memberOf(c.PgConn()))
	}
}

// isBroken reports whether an error means that the connection broke without a message from the server.
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
