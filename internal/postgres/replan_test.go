package postgres_test

import (
	"context"
	"database/sql"
	"strings"
	"testing"
	"time"

	"github.com/parley-chat/parley/internal/postgres"
	"github.com/parley-chat/parley/internal/testenv"
)

// A kept plan, here one that was made while indexes could not be used, is made anew after some uses of its connection.
func TestKeptPlansAreMadeAnew(t *testing.T) {
	t.Parallel()
	db, err := postgres.OpenPool(postgres.Config{URL: testenv.Postgres(t), MaxConns: 1, Application: "test"})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	exec := func(query string) {
		t.Helper()
		if _, err := db.ExecContext(t.Context(), query); err != nil {
			t.Fatal(err)
		}
	}
	exec(`CREATE TABLE grown (a int PRIMARY KEY)`)
	exec(`INSERT INTO grown SELECT generate_series(1, 10000)`)
	const statement = `SELECT a FROM grown WHERE a = $1`
	use := func(n int) (plan string) {
		t.Helper()
		for range n {
			var a int
			if err := db.QueryRowContext(t.Context(), statement, 1).Scan(&a); err != nil {
				t.Fatal(err)
			}
		}
		var name, line string
		if err := db.QueryRowContext(t.Context(), `SELECT name FROM pg_prepared_statements WHERE statement = $1`, statement).Scan(&name); err != nil {
			t.Fatal(err)
		}
		if err := db.QueryRowContext(t.Context(), `EXPLAIN EXECUTE `+name+` (1)`).Scan(&line); err != nil {
			t.Fatal(err)
		}
		return line
	}
	exec(`SET enable_indexscan = off`)
	exec(`SET enable_indexonlyscan = off`)
	exec(`SET enable_bitmapscan = off`)
	use(10)
	exec(`RESET ALL`)
	exec(`SET plan_cache_mode = force_generic_plan`)
	if plan := use(1); !strings.Contains(plan, "Seq Scan") {
		t.Fatalf("it is not kept: %s", plan)
	}
	if plan := use(100); !strings.Contains(plan, "Index") {
		t.Errorf("it is kept: %s", plan)
	}
}

// A caller that has no time left while plans are discarded says nothing about the server: the other connections stay.
func TestACallerWithoutTimeRetiresNoConnection(t *testing.T) {
	t.Parallel()
	server := testenv.PostgresServer(t)
	db := pool(t, server.URL(), 2)
	other, err := db.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	pid := func(c *sql.Conn) (n int) {
		t.Helper()
		if err := c.QueryRowContext(t.Context(), `SELECT pg_backend_pid()`).Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	was := pid(other)
	for range 63 { // the next use is the one after which plans are discarded
		if _, err := db.ExecContext(t.Context(), `SELECT 1`); err != nil {
			t.Fatal(err)
		}
	}
	server.Pause()
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if _, err := db.ExecContext(ctx, `SELECT 1`); err == nil {
		t.Error("a server that is paused answered")
	}
	server.Resume()
	if err := other.Close(); err != nil {
		t.Fatal(err)
	}
	if other, err = db.Conn(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if now := pid(other); now != was {
		t.Errorf("the connection of backend %d was replaced by that of %d", was, now)
	}
}
