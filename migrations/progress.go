package migrations

import (
	"context"
	"database/sql"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
)

// Progress is the log of migrations: a line for each one that is done, and a line every Every while they run. The zero value logs nothing.
type Progress struct {
	Log   *slog.Logger
	Every time.Duration
}

// follow logs what the migrations' session does until the returned function is called. It uses a connection of its own.
func (p Progress) follow(ctx context.Context, cfg pgx.ConnConfig) (stop func()) {
	if p.Log == nil || p.Every <= 0 {
		return func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		db := stdlib.OpenDB(cfg)
		defer db.Close()
		begun := time.Now()
		ticker := time.NewTicker(p.Every)
		defer ticker.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
				p.line(ctx, db, begun)
			}
		}
	}()
	return func() {
		cancel()
		<-done
	}
}

// done logs a migration that is done.
func (p Progress) done(ctx context.Context, r *goose.MigrationResult) {
	if p.Log != nil {
		p.Log.InfoContext(ctx, "a migration is done", "version", r.Source.Version, "seconds", r.Duration.Round(time.Millisecond).Seconds())
	}
}

// running selects the statement of the session that migrates, which may be that of another process. An index build also has its phase and
// the share of the table's blocks that it has read. A session whose user is hidden from this one is left out.
const running = `SELECT left(regexp_replace(a.query, '\s+', ' ', 'g'), 100), extract(epoch FROM clock_timestamp() - a.query_start)::int,
		coalesce(p.phase, ''), coalesce(100 * p.blocks_done / nullif(p.blocks_total, 0), 0), array_to_string(pg_blocking_pids(a.pid), ',')
	FROM pg_stat_activity a LEFT JOIN pg_stat_progress_create_index p USING (pid)
	WHERE a.application_name = '` + application + `' AND a.datname = current_database() AND a.pid <> pg_backend_pid()
		AND a.state <> 'idle' AND a.query NOT LIKE '%pg_try_advisory_lock%'
	ORDER BY a.query_start LIMIT 1`

// line logs where the migrations are.
func (p Progress) line(ctx context.Context, db *sql.DB, begun time.Time) {
	var (
		statement, phase, blockedBy string
		seconds, percent            int64
	)
	attributes := []any{"elapsed", time.Since(begun).Round(time.Second).String()}
	if err := db.QueryRowContext(ctx, running).Scan(&statement, &seconds, &phase, &percent, &blockedBy); err == nil {
		attributes = append(attributes, "statement", statement, "statement_seconds", seconds)
	}
	if phase != "" {
		attributes = append(attributes, "phase", phase, "percent", percent)
	}
	if blockedBy != "" {
		attributes = append(attributes, "blocked_by", blockedBy)
	}
	p.Log.InfoContext(ctx, "migrations run", attributes...)
}
