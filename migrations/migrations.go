// Package migrations holds Parley's schema as goose migrations and brings a database up to it.
package migrations

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"
)

// FS holds the migrations in goose's format.
//
//go:embed *.sql
var FS embed.FS

// LockTimeout bounds how long a statement of a migration waits for a lock. Statements of pods that queue behind it wait no longer, which
// is less than their own timeout. After retryPause, in which they proceed, the migration is tried again.
const (
	LockTimeout = 3 * time.Second
	retryPause  = 1 * time.Second
)

// One process at a time migrates. The others check every lockEvery whether it is done, without a limit: an index on a large table
// takes hours.
const (
	lockEvery = 1 * time.Second
	lockTries = math.MaxInt64
)

// SQLSTATEs. undefinedTable is that of a query on a table that does not exist.
const (
	undefinedTable   = "42P01"
	lockNotAvailable = "55P03"
	deadlockDetected = "40P01"
)

// Up brings the database at the URL to the newest schema. It may run from several processes at once: a session advisory
// lock lets one work and the others find nothing left to do. If a lock is not available in time, as behind a backup, it tries again
// until ctx ends; what was done until then stays done. It takes as long as the tables need: progress shows that it works.
func Up(ctx context.Context, databaseURL string, progress Progress) error {
	cfg, err := pgx.ParseConfig(databaseURL)
	if err != nil {
		return fmt.Errorf("migrate: parse the database URL: %w", err)
	}
	cfg.RuntimeParams["lock_timeout"] = fmt.Sprint(LockTimeout.Milliseconds())
	cfg.RuntimeParams["statement_timeout"] = "0" // the role may have one
	cfg.RuntimeParams["idle_in_transaction_session_timeout"] = "0"
	cfg.RuntimeParams["application_name"] = application
	defer progress.follow(ctx, *cfg)()
	for {
		err := upOnce(ctx, *cfg, progress)
		if pg, ok := errors.AsType[*pgconn.PgError](err); !ok || pg.Code != lockNotAvailable && pg.Code != deadlockDetected {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(retryPause):
		}
	}
}

// application is the name of the migrations' sessions in pg_stat_activity.
const application = "parley-migrate"

// upOnce migrates in a session of its own: a migration that fails may leave settings behind.
func upOnce(ctx context.Context, cfg pgx.ConnConfig, progress Progress) error {
	db := stdlib.OpenDB(cfg)
	defer db.Close()
	locker, err := lock.NewPostgresSessionLocker(lock.WithLockTimeout(uint64(lockEvery/time.Second), lockTries))
	if err != nil {
		return fmt.Errorf("migrate: make the lock: %w", err)
	}
	p, err := goose.NewProvider(goose.DialectPostgres, db, FS, goose.WithSessionLocker(locker))
	if err != nil {
		return fmt.Errorf("migrate: read the migrations: %w", err)
	}
	for {
		r, err := p.UpByOne(ctx)
		if errors.Is(err, goose.ErrNoNextVersion) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("migrate: %w", err)
		}
		progress.done(ctx, r)
	}
}

// awaitEvery is the pause between two tries to reach the database.
const awaitEvery = time.Second

// ErrRefused says that the database answered and refused the login: waiting does not help.
var ErrRefused = errors.New("refused")

// Await waits until the database lets itself be used: it may start at the same time.
func Await(ctx context.Context, databaseURL string, log *slog.Logger) error {
	for tries := 1; ; tries++ {
		err := Try(ctx, databaseURL)
		if err == nil || errors.Is(err, ErrRefused) || errors.Is(err, errUnreadable) {
			return err
		}
		if tries == 1 {
			log.Info("the database cannot be reached yet", "error", err)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the database cannot be reached: %w", err)
		case <-time.After(awaitEvery):
		}
	}
}

var errUnreadable = errors.New("the connection string cannot be read") // pgx's error may show the password

// Try logs in to the database, once.
func Try(ctx context.Context, databaseURL string) error {
	cfg, err := pgx.ParseConfig(databaseURL)
	if err != nil {
		return errUnreadable
	}
	cfg.ConnectTimeout = 5 * time.Second
	c, err := pgx.ConnectConfig(ctx, cfg)
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok && refusals[pg.Code[:2]] {
		return fmt.Errorf("%w by %s: %s", ErrRefused, cfg.Host, pg.Message)
	}
	if err != nil {
		return err
	}
	return c.Close(ctx)
}

// refusals are the classes of SQLSTATEs that stay: wrong logins, no such database, no permission.
var refusals = map[string]bool{"28": true, "3D": true, "42": true}

// Newest is the version of the newest migration in this binary.
func Newest() int64 {
	names, err := fs.Glob(FS, "*.sql")
	if err != nil || len(names) == 0 {
		return 0
	}
	v, err := goose.NumericComponent(names[len(names)-1])
	if err != nil {
		return 0
	}
	return v
}

// Querier is what Current needs of a database.
type Querier interface {
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// Current is the version of the schema that the database has, 0 where none was ever applied.
func Current(ctx context.Context, db Querier) (int64, error) {
	var v int64
	err := db.QueryRowContext(ctx, `SELECT coalesce(max(version_id), 0) FROM goose_db_version WHERE is_applied`).Scan(&v)
	var pg *pgconn.PgError
	if errors.As(err, &pg) && pg.Code == undefinedTable {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("read the schema's version: %w", err)
	}
	return v, nil
}
