package postgres_test

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/parley-chat/parley/internal/postgres"
	"github.com/parley-chat/parley/internal/testenv"
)

func TestMain(m *testing.M) { testenv.VerifyNoLeaks(m) }

// pool opens a pool of n connections and uses all of them once.
func pool(t *testing.T, url string, n int) *sql.DB {
	t.Helper()
	db, err := postgres.OpenPool(postgres.Config{URL: url, MaxConns: n, Application: "test"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	conns := make([]*sql.Conn, n)
	for i := range conns {
		if conns[i], err = db.Conn(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range conns {
		_ = c.Close()
	}
	return db
}

// write makes a write as a request would, within a statement's time.
func write(db *sql.DB) error {
	ctx, cancel := context.WithTimeout(context.Background(), postgres.StatementTimeout)
	defer cancel()
	_, err := db.ExecContext(ctx, `INSERT INTO marks DEFAULT VALUES`)
	return err
}

// alwaysUnavailable writes until it succeeds. Every failure on the way must be one that clients get 503 for.
func alwaysUnavailable(t *testing.T, db *sql.DB, until string) {
	t.Helper()
	testenv.Eventually(t, time.Minute, func() bool {
		err := write(db)
		if err != nil && !postgres.IsUnavailable(err) {
			t.Fatalf("not unavailable: %v", err)
		}
		return err == nil
	}, "%s", until)
}

const marks = `CREATE TABLE IF NOT EXISTS marks (at timestamptz DEFAULT clock_timestamp())`

// A planned switchover: the primary is shut down, the proxy leads to the standby, which is promoted a moment later.
func TestAPoolFollowsASwitchover(t *testing.T) {
	t.Parallel()
	primary := testenv.PostgresServer(t)
	testenv.Exec(t, primary.URL(), marks)
	standby := primary.Replica(t)
	proxy := testenv.NewProxy(t, primary.Addr())
	db := pool(t, primary.URLAt(proxy.Addr()), 5)
	if err := write(db); err != nil {
		t.Fatal(err)
	}
	proxy.Lead(standby.Addr())
	primary.Shutdown()
	for range 10 {
		if err := write(db); err == nil || !postgres.IsUnavailable(err) {
			t.Fatalf("a write to a standby: %v", err)
		}
	}
	standby.Promote(t)
	for range 5 { // no connection to the standby as it was is left
		if err := write(db); err != nil {
			t.Fatalf("a write after the promotion: %v", err)
		}
	}
}

// A server that takes no writes any more, as a managed one does when its disk is full, keeps its connections. They are given up,
// and new ones lead to the server that the proxy knows by then.
func TestAPoolLeavesAServerThatTakesNoWritesAnyMore(t *testing.T) {
	t.Parallel()
	primary := testenv.PostgresServer(t)
	testenv.Exec(t, primary.URL(), marks)
	standby := primary.Replica(t)
	proxy := testenv.NewProxy(t, primary.Addr())
	db := pool(t, primary.URLAt(proxy.Addr()), 5)
	standby.Promote(t)
	testenv.Exec(t, primary.URL(), `ALTER SYSTEM SET default_transaction_read_only = on`)
	testenv.Exec(t, primary.URL(), `SELECT pg_reload_conf()`)
	var err error
	testenv.Eventually(t, time.Minute, func() bool { err = write(db); return err != nil }, "the primary takes no writes")
	if !postgres.IsUnavailable(err) {
		t.Fatalf("a write that was refused: %v", err)
	}
	proxy.Lead(standby.Addr())
	for range 5 {
		if err := write(db); err != nil {
			t.Fatalf("after the proxy leads elsewhere: %v", err)
		}
	}
}

// A crash of the server costs at most the statements that run; no idle connection gives one an error afterwards.
func TestAPoolForgetsTheConnectionsOfAServerThatCrashed(t *testing.T) {
	t.Parallel()
	server := testenv.PostgresServer(t)
	testenv.Exec(t, server.URL(), marks)
	db := pool(t, server.URL(), 5)
	server.Stop()
	if err := write(db); err == nil || !postgres.IsUnavailable(err) {
		t.Fatalf("a write without a server: %v", err)
	}
	server.Start()
	for range 5 {
		if err := write(db); err != nil {
			t.Fatalf("a write after the start: %v", err)
		}
	}
}

// Connections that lead nowhere are replaced, all of them for the price of one ping.
func TestAPoolReplacesBlackHoles(t *testing.T) {
	t.Parallel()
	server := testenv.PostgresServer(t)
	testenv.Exec(t, server.URL(), marks)
	for name, fault := range map[string]func(p *testenv.Proxy){"swallowed": (*testenv.Proxy).Swallow, "halved": (*testenv.Proxy).Halve} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			proxy := testenv.NewProxy(t, server.Addr())
			db := pool(t, server.URLAt(proxy.Addr()), 5)
			time.Sleep(1100 * time.Millisecond) // the guard trusts connections that were used a moment ago
			fault(proxy)
			for range 5 {
				if err := write(db); err != nil {
					t.Fatalf("a write: %v", err)
				}
			}
		})
	}
}

// While a statement waits in a black hole its caller gets an error in time, and the next one another connection.
func TestAStatementInABlackHoleEndsInTime(t *testing.T) {
	t.Parallel()
	server := testenv.PostgresServer(t)
	testenv.Exec(t, server.URL(), marks)
	proxy := testenv.NewProxy(t, server.Addr())
	db := pool(t, server.URLAt(proxy.Addr()), 1)
	proxy.SwallowAll()
	if err := write(db); err == nil || !postgres.IsUnavailable(err) {
		t.Fatalf("a write into a black hole: %v", err)
	}
	proxy.Mend()
	alwaysUnavailable(t, db, "the connection is replaced")
}

// secured is a server that asks for a password.
func secured(t *testing.T, args ...string) *testenv.PGServer {
	t.Helper()
	dir := t.TempDir()
	hba := filepath.Join(dir, "pg_hba.conf")
	rules := "host all parley 127.0.0.1/32 trust\nhost all all 127.0.0.1/32 scram-sha-256\n"
	if err := os.WriteFile(hba, []byte(rules), 0o644); err != nil { //nolint:gosec // Postgres runs as another user
		t.Fatal(err)
	}
	for _, d := range []string{dir, filepath.Dir(dir)} {
		if err := os.Chmod(d, 0o755); err != nil { //nolint:gosec // the same
			t.Fatal(err)
		}
	}
	s := testenv.PostgresServer(t, append([]string{"-c", "hba_file=" + hba}, args...)...)
	testenv.Exec(t, s.URL(), `CREATE ROLE app LOGIN PASSWORD 'first'`)
	testenv.Exec(t, s.URL(), marks)
	testenv.Exec(t, s.URL(), `GRANT ALL ON marks TO app`)
	return s
}

// With a changed password the connections that are open serve on, and others are unavailable until the password is right again.
func TestAChangedPasswordIsUnavailable(t *testing.T) {
	t.Parallel()
	server := secured(t)
	url := fmt.Sprintf("postgres://app:first@%s/postgres?sslmode=disable", server.Addr())
	open, fresh := pool(t, url, 2), pool(t, url, 0)
	testenv.Exec(t, server.URL(), `ALTER ROLE app PASSWORD 'second'`)
	if err := write(open); err != nil {
		t.Errorf("on an open connection: %v", err)
	}
	if err := write(fresh); err == nil || !postgres.IsUnavailable(err) {
		t.Fatalf("on a new connection: %v", err)
	}
	testenv.Exec(t, server.URL(), `ALTER ROLE app PASSWORD 'first'`)
	alwaysUnavailable(t, fresh, "the password is right again")
}

// Where the server takes no more connections the pool goes on with those that it has.
func TestTooManyConnectionsAreUnavailable(t *testing.T) {
	t.Parallel()
	server := secured(t)
	testenv.Exec(t, server.URL(), `ALTER ROLE app CONNECTION LIMIT 2`)
	url := fmt.Sprintf("postgres://app:first@%s/postgres?sslmode=disable", server.Addr())
	open, fresh := pool(t, url, 2), pool(t, url, 0)
	if err := write(fresh); err == nil || !postgres.IsUnavailable(err) {
		t.Fatalf("one too many: %v", err)
	}
	for range 5 {
		if err := write(open); err != nil {
			t.Fatalf("on a connection of the pool: %v", err)
		}
	}
	_ = open.Close()
	alwaysUnavailable(t, fresh, "there is room")
}

// What a migration does to statements that run beside it: locks that are not had in time, and plans that are out of date.
func TestAMigrationBesideStatementsIsUnavailable(t *testing.T) {
	t.Parallel()
	url := testenv.Postgres(t)
	testenv.Exec(t, url, marks)
	db := pool(t, url, 1)
	read := func() error {
		rows, err := db.QueryContext(t.Context(), `SELECT * FROM marks`)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() { //nolint:revive // the error is what matters
		}
		return rows.Err()
	}
	if err := read(); err != nil {
		t.Fatal(err)
	}
	testenv.Exec(t, url, `ALTER TABLE marks ALTER at TYPE text USING at::text`)
	if err := read(); err != nil && !postgres.IsUnavailable(err) {
		t.Errorf("a plan that is out of date: %v", err)
	}
	if err := read(); err != nil {
		t.Errorf("the same statement again: %v", err)
	}

	other := pool(t, url, 1)
	tx, err := other.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback() }()
	if _, err := tx.ExecContext(t.Context(), `LOCK TABLE marks IN ACCESS EXCLUSIVE MODE`); err != nil {
		t.Fatal(err)
	}
	if _, err := db.ExecContext(t.Context(), `SET lock_timeout = '10ms'`); err != nil {
		t.Fatal(err)
	}
	if err := write(db); err == nil || !postgres.IsUnavailable(err) || !postgres.IsLocked(err) {
		t.Errorf("behind a lock: %v", err)
	}
	if _, err := db.ExecContext(t.Context(), `SET lock_timeout = 0; SET statement_timeout = '10ms'`); err != nil {
		t.Fatal(err)
	}
	if err := write(db); err == nil || !postgres.IsUnavailable(err) {
		t.Errorf("a statement that took too long: %v", err)
	}
}

// The target that the URL names is obeyed; pools that write are never satisfied with a standby.
func TestAStandbyAloneIsUnavailable(t *testing.T) {
	t.Parallel()
	primary := testenv.PostgresServer(t)
	testenv.Exec(t, primary.URL(), marks)
	standby := primary.Replica(t)
	db := pool(t, standby.URL(), 0)
	if err := db.PingContext(t.Context()); err == nil || !postgres.IsUnavailable(err) {
		t.Errorf("a standby: %v", err)
	}
	both := pool(t, fmt.Sprintf("postgres://parley@%s,%s/postgres?sslmode=disable", standby.Addr(), primary.Addr()), 0)
	if err := write(both); err != nil {
		t.Errorf("a standby first, then its primary: %v", err)
	}
}
