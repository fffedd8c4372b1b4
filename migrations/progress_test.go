package migrations_test

import (
	"bytes"
	"database/sql"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/parley-chat/parley/internal/testenv"
	"github.com/parley-chat/parley/migrations"
)

// lines is a log that several goroutines use.
type lines struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(b)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// Migrations that take long say what they do and what holds them up. A process that waits for those of another reports the same.
func TestProgress(t *testing.T) {
	t.Parallel()
	url := testenv.Postgres(t)
	db, err := sql.Open("pgx", url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	if _, err := db.Exec(`DELETE FROM goose_db_version WHERE version_id = $1`, migrations.Newest()); err != nil {
		t.Fatal(err)
	}
	// A lock that every migration needs: that of goose's own table.
	tx, err := db.Begin()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(`LOCK TABLE goose_db_version IN SHARE MODE`); err != nil {
		t.Fatal(err)
	}
	const every = migrations.LockTimeout + 2*time.Second // longer than a try
	var logs [2]lines
	ended := make(chan error, len(logs))
	for i := range logs {
		go func() {
			ended <- migrations.Up(t.Context(), url, migrations.Progress{Log: slog.New(slog.NewTextHandler(&logs[i], nil)), Every: every})
		}()
	}
	for i := range logs {
		testenv.Eventually(t, time.Minute, func() bool {
			s := logs[i].String()
			return strings.Contains(s, "migrations run") && strings.Contains(s, "blocked_by=")
		}, "process %d logs what holds the migration up", i)
	}
	if err := tx.Commit(); err != nil {
		t.Fatal(err)
	}
	for range logs {
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
	if n := strings.Count(logs[0].String()+logs[1].String(), "a migration is done"); n != 1 {
		t.Errorf("%d lines say that the migration is done", n)
	}
}
