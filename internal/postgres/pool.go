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
	// A connection that was idle for longer than pingAfter is pinged before it is used, within pingWait. Otherwise a dead connection would
	// cost its caller the whole timeout of a statement.
	pingAfter = 1 * time.Second
	pingWait  = 2 * time.Second
	// ackTimeout bounds how long sent data may remain unacknowledged. While nothing was sent, keep-alives detect a dead peer.
	ackTimeout        = 10 * time.Second
	keepAliveIdle     = 10 * time.Second
	keepAliveInterval = 5 * time.Second
	keepAliveCount    = 3
	// replanAfter is the number of uses of a connection after which its plans are discarded for the first time. Then they are discarded
	// whenever the number of uses has doubled.
	replanAfter = 64
)

// OpenPool prepares a pool without GORM, for processes that don't need GORM. It does not connect, so that a process can start, and report that it is
// not ready, while Postgres is unavailable.
//
// The pool recovers from a failover automatically. It uses a connection only if its server accepts writes. A single error that a server is
// stopping or is a standby, a single broken connection, or one that no longer responds, retires all connections that were opened before (guard).
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
		// JIT compilation and starting workers take longer than any of Parley's statements.
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

// guard removes connections from the pool whose server has gone or has become a standby.
//
//	generation 4     conn a, conn b, conn c: their server accepted writes when they were opened
//	                 conn b fails: the generation ends
//	generation 5     a and c are closed when they are next taken from the pool; new connections are opened
//
// Safe for concurrent use.
type guard struct {
	generation atomic.Int64
	identify   func(ctx context.Context, c *pgconn.PgConn) (another bool, err error) // Config.Identify; nil for none
	replans    bool                                                                  // whether plans have to be discarded
}

// member is the guard's state of a connection, stored in its CustomData. Only one goroutine at a time uses a connection.
type member struct {
	generation int64
	used       time.Time // when it was last taken from the pool
	uses       int       // how often it was taken from the pool
	replan     int       // the number of uses at which its plans are discarded next
}

const memberKey = "parley"

func memberOf(c *pgconn.PgConn) *member {
	m, _ := c.CustomData()[memberKey].(*member)
	return m
}

// watch installs the guard's hooks in the configuration.
func (g *guard) watch(cfg *pgx.ConnConfig) {
	validate := cfg.ValidateConnect // set if the URL has target_session_attrs
	if validate == nil {
		validate = pgconn.ValidateConnectTargetSessionAttrsReadWrite
	}
	cfg.ValidateConnect = func(ctx context.Context, c *pgconn.PgConn) error {
		// The generation is read before the checks, so that its end during the checks retires this connection.
		m := &member{generation: g.generation.Load(), used: time.Now(), replan: replanAfter}
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

// end ends a generation once, however many of its connections report the failover.
func (g *guard) end(generation int64) { g.generation.CompareAndSwap(generation, generation+1) }

// reset is called when a connection is taken from the pool. It returns driver.ErrBadConn if the connection must not be used.
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

// ask runs f, a small request to a connection's server, within pingWait. If f fails, the generation ends, unless the cause may be that the
// caller's context has ended.
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

// discardPlans makes the connection's statements be planned again at their next use. A plan that was made for a small table can be far too slow once
// the table has grown, because all indexes that begin with the same column cost the same for a small table. Postgres keeps the plan until
// the table is analyzed, which autovacuum does at most once a minute. Tables grow as connections are used, so plans that are discarded
// whenever the uses have doubled remain suitable. That costs a few dozen plannings during a connection's life.
func discardPlans(ctx context.Context, c *pgconn.PgConn) error {
	_, err := c.Exec(ctx, `DISCARD PLANS`).ReadAll()
	return err
}

// TraceQueryStart implements pgx.QueryTracer.
func (*guard) TraceQueryStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryStartData) context.Context {
	return ctx
}

// TraceQueryEnd implements pgx.QueryTracer. It detects connections that were broken by the server or the network. A timeout ends only the statement:
// whether the server still responds is found by the ping before the next use of each other connection.
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
