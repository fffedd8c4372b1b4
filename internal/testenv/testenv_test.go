package testenv_test

import (
	"context"
	"database/sql"
	"testing"
	"time"

	"github.com/parley-chat/parley/internal/testenv"
	"github.com/parley-chat/parley/migrations"
)

func TestDatabasesAreSeparateAndMigrated(t *testing.T) {
	t.Parallel()
	a, b := open(t, testenv.Postgres(t)), open(t, testenv.Postgres(t))
	if v, err := migrations.Current(context.Background(), a); err != nil || v != migrations.Newest() {
		t.Fatalf("schema %d, %v", v, err)
	}
	if _, err := a.Exec(`CREATE TABLE only_here ()`); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Exec(`SELECT FROM only_here`); err == nil {
		t.Error("a table of one database is in the other")
	}
}

func TestPostgresServerStopsAndStarts(t *testing.T) {
	t.Parallel()
	s := testenv.PostgresServer(t)
	db := open(t, s.URL())
	if _, err := db.Exec(`CREATE TABLE kept ()`); err != nil {
		t.Fatal(err)
	}
	s.Stop()
	if err := db.Ping(); err == nil {
		t.Fatal("a stopped server answers")
	}
	s.Start()
	if _, err := db.Exec(`SELECT FROM kept`); err != nil {
		t.Fatal(err)
	}
	s.Pause()
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	if _, err := db.ExecContext(ctx, `SELECT 1`); err == nil {
		t.Error("a paused server answers")
	}
	s.Resume()
	testenv.Eventually(t, 5*time.Second, func() bool { return db.Ping() == nil }, "it answers again")
}

func TestRedisStopsAndStarts(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	r := testenv.Redis(t, "--appendonly", "yes", "--appendfsync", "always")
	c := r.Client(t)
	if err := c.Set(ctx, "k", "v", 0).Err(); err != nil {
		t.Fatal(err)
	}
	r.Stop()
	if err := c.Get(ctx, "k").Err(); err == nil {
		t.Fatal("a stopped server answers")
	}
	r.Start()
	if v, err := c.Get(ctx, "k").Result(); err != nil || v != "v" {
		t.Errorf("after a restart with append-only: %q, %v", v, err)
	}
}

func open(t *testing.T, url string) *sql.DB {
	t.Helper()
	db, err := sql.Open("pgx", url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db
}
