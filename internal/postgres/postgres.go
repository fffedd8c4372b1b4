// Package postgres opens Parley's database, and has helpers for transactions, queries and errors. One pool of connections is used in two ways: through
// GORM where speed does not matter, and directly on frequent paths.
package postgres

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	gormpg "gorm.io/driver/postgres"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"
)

// StatementTimeout bounds one statement. Polls for commits that may have been missed (realtime, webhook, push) must look back further than this.
const StatementTimeout = 5 * time.Second

// Config has the address of the database and the options of the pool.
type Config struct {
	// URL is a connection string of any form that pgx knows.
	URL string
	// PgBouncer is set for a pooler in transaction mode: named statements and session state are then avoided.
	PgBouncer bool
	// MaxConns bounds the pool.
	MaxConns int
	// Application is sent to Postgres as application_name.
	Application string
	// Identify, if not nil, is called with every new connection whose server accepts writes, before the connection is used. If it reports that the
	// server is another one than before, connections that were opened before are no longer used.
	Identify func(ctx context.Context, c *pgconn.PgConn) (another bool, err error)
	// Tracer makes spans of statements; nil for none.
	Tracer pgx.QueryTracer
}

// DB is the database. Gorm and SQL share one pool.
type DB struct {
	// Gorm is for paths where speed does not matter. It runs a single statement without a transaction.
	Gorm *gorm.DB
	// SQL is for frequent paths. Slices are passed to Postgres as arrays.
	SQL *sql.DB
}

// Open prepares the pool, and GORM over it.
func Open(c Config) (*DB, error) {
	pool, err := OpenPool(c)
	if err != nil {
		return nil, err
	}
	return Over(pool)
}

// Over puts GORM over a pool of OpenPool.
func Over(pool *sql.DB) (*DB, error) {
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

// Close closes the pool.
func (db *DB) Close() error { return db.SQL.Close() }

// Tx runs f in a transaction, which is committed if f returns nil. StatementTimeout bounds the whole transaction. If f returns ErrUnchanged, the
// transaction is rolled back and Tx returns nil. The companion of the context is committed with it (WithCompanion).
func (db *DB) Tx(ctx context.Context, f func(tx *gorm.DB) error) error {
	c := companionOf(ctx)
	ctx, cancel := context.WithTimeout(ctx, StatementTimeout)
	defer cancel()
	err := db.Gorm.WithContext(ctx).Transaction(func(tx *gorm.DB) error {
		if err := f(tx); err != nil || c == nil {
			return err
		}
		return c.write(ctx, In(tx))
	})
	switch {
	case err == nil && c != nil:
		c.done.Store(true)
	case errors.Is(err, ErrUnchanged):
		return nil
	}
	return err
}
