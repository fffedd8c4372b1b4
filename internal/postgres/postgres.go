// Package postgres opens Parley's database: GORM for the plain paths and the same pool underneath for the hot ones.
package postgres

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
	gormpg "gorm.io/driver/postgres"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"
)

// StatementTimeout is the longest that one statement of a pod may take. What looks back in time for commits that it may
// have missed (realtime) looks back further than this.
const StatementTimeout = 5 * time.Second

const (
	dialTimeout  = 2 * time.Second
	connLifetime = 30 * time.Minute
	connIdle     = 5 * time.Minute
)

// Config is how to reach the database.
type Config struct {
	// URL is a connection string of any form that pgx knows.
	URL string
	// PgBouncer avoids named statements and session state, for a pooler in transaction mode.
	PgBouncer bool
	// MaxConns bounds the pool.
	MaxConns int
	// Application is told to Postgres as application_name.
	Application string
	// Tracer makes spans of statements; nil for none.
	Tracer pgx.QueryTracer
}

// DB is the database. The two share one pool.
type DB struct {
	// Gorm is for the plain paths. It opens no transaction around a single statement.
	Gorm *gorm.DB
	// SQL is for the hot paths, where slices go to Postgres as arrays.
	SQL *sql.DB
}

// Open prepares the pool, and GORM over it.
func Open(c Config) (*DB, error) {
	pool, err := OpenPool(c)
	if err != nil {
		return nil, err
	}
	g, err := gorm.Open(gormpg.New(gormpg.Config{Conn: pool}), &gorm.Config{
		SkipDefaultTransaction: true,
		DisableAutomaticPing:   true,
		Logger:                 logger.Discard,
		NowFunc:                func() time.Time { return time.Now().UTC() },
	})
	if err != nil {
		return nil, fmt.Errorf("open postgres: %w", err)
	}
	return &DB{Gorm: g, SQL: pool}, nil
}

// OpenPool prepares the pool alone: a process that has no plain paths doesn't link GORM. It does not connect: a process starts,
// and says that it is not ready, while Postgres is away.
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
	pool := stdlib.OpenDB(*cfg)
	pool.SetMaxOpenConns(c.MaxConns)
	pool.SetMaxIdleConns(c.MaxConns)
	pool.SetConnMaxLifetime(connLifetime)
	pool.SetConnMaxIdleTime(connIdle)
	return pool, nil
}

// Close closes the pool.
func (db *DB) Close() error { return db.SQL.Close() }

// Tx runs f in a transaction that is committed if f returns nil. It is bounded by StatementTimeout as a whole.
func (db *DB) Tx(ctx context.Context, f func(tx *gorm.DB) error) error {
	ctx, cancel := context.WithTimeout(ctx, StatementTimeout)
	defer cancel()
	return db.Gorm.WithContext(ctx).Transaction(f)
}

// IsUniqueViolation tells whether err is a violation of the named unique constraint or index.
func IsUniqueViolation(err error, constraint string) bool {
	pg, ok := errors.AsType[*pgconn.PgError](err)
	return ok && pg.Code == "23505" && pg.ConstraintName == constraint
}

// IsRefused tells whether err means that the database answered no, so that nothing of the statement was done and it need not be
// tried again.
func IsRefused(err error) bool {
	_, ok := errors.AsType[*pgconn.PgError](err)
	return ok && !IsUnavailable(err)
}

// IsLocked tells whether err means that a row was locked for longer than lock_timeout.
func IsLocked(err error) bool {
	pg, ok := errors.AsType[*pgconn.PgError](err)
	return ok && pg.Code == "55P03"
}

// IsUnavailable tells whether err means that the database could not be asked, rather than that it answered no.
func IsUnavailable(err error) bool {
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok {
		switch pg.Code[:2] {
		case "08", "53", "57", "55": // connection, resources, operator intervention (with statement time-outs), lock time-out
			return true
		}
		return false
	}
	if _, ok := errors.AsType[*pgconn.ConnectError](err); ok {
		return true
	}
	if _, ok := errors.AsType[net.Error](err); ok {
		return true
	}
	for _, broken := range []error{io.EOF, io.ErrUnexpectedEOF, driver.ErrBadConn, sql.ErrConnDone, context.DeadlineExceeded} {
		if errors.Is(err, broken) {
			return true
		}
	}
	return pgconn.SafeToRetry(err)
}
