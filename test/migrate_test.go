package test

import (
	"database/sql"
	"fmt"
	"net/url"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/parley-chat/parley/internal/testenv"
)

// With a new cluster the migrations may run before the database does.
func TestMigrationsWaitForTheDatabase(t *testing.T) {
	t.Parallel()
	server := testenv.PostgresServer(t)
	testenv.Exec(t, server.URL(), `DROP SCHEMA public CASCADE; CREATE SCHEMA public`)
	server.Stop()
	m := testenv.Start(t, testenv.Binary(t, "api"), []string{"migrate"}, []string{"PARLEY_DATABASE_URL=" + server.URL()})
	testenv.Eventually(t, time.Minute, func() bool { return strings.Contains(m.Logs(), "cannot be reached yet") }, "it says that it waits")
	server.Start()
	expectExit(t, m, 0, time.Minute)
}

// Waiting does not help against a wrong password: the message says what is wrong, and the exit code that it stays so.
func TestMigrationsTellOfARefusedLogin(t *testing.T) {
	t.Parallel()
	server := testenv.PostgresServer(t)
	testenv.Exec(t, server.URL(), `CREATE ROLE locked NOLOGIN`)
	for user, want := range map[string]string{"nobody": `role "nobody" does not exist`, "locked": `role "locked" is not permitted to log in`} {
		u, err := url.Parse(server.URL())
		if err != nil {
			t.Fatal(err)
		}
		u.User = url.UserPassword(user, "a-secret")
		m := testenv.Start(t, testenv.Binary(t, "api"), []string{"migrate"}, []string{"PARLEY_DATABASE_URL=" + u.String()})
		code, logs := m.Wait(time.Minute), m.Logs()
		if code != 2 || !strings.Contains(logs, "PARLEY_DATABASE_URL") || !strings.Contains(logs, want) || strings.Contains(logs, "a-secret") {
			t.Errorf("%s: exit code %d: %s", user, code, logs)
		}
	}
}

// tablesOfPods are those of the first release that its pods lock, several in a transaction and in any order.
var tablesOfPods = []string{
	"users", "sessions", "friendships", "blocks", "conversations", "conversation_members", "messages", "conversation_changes", "read_receipts",
}

// Migrations run beside pods, whose transactions lock several tables. No migration may wait for one table while it holds another, or
// one of the two dies of a deadlock. Each transaction here locks one table, waits until the migrations wait for it, and locks the rest.
func TestMigrationsBesideTransactions(t *testing.T) {
	t.Parallel()
	s, db := firstRelease(t)
	m := testenv.Start(t, testenv.Binary(t, "api"), []string{"migrate"}, []string{"PARLEY_DATABASE_URL=" + s.URL()})
	waits := 0
	for _, first := range []string{"messages", "sessions", "conversations", "users", "conversations", "users", "sessions"} {
		if transactAgainst(t, db, m, first) {
			waits++
		}
	}
	expectExit(t, m, 0, time.Minute)
	if waits == 0 { // how often depends on the machine
		t.Error("the migrations waited for no transaction: that says nothing")
	}
	if n := (&system{pg: s.URL()}).count(t, `SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()`); n != 0 {
		t.Errorf("%d deadlocks", n)
	}
}

// transactAgainst locks the first table, waits until the migrations wait for it, and locks the rest. It reports whether the migrations waited: they
// may end before.
func transactAgainst(t *testing.T, db *sql.DB, migrations *testenv.Process, first string) (waited bool) {
	t.Helper()
	tx, err := db.Begin()
	if err != nil {
		t.Fatal(err)
	}
	for i, table := range append([]string{first}, tablesOfPods...) {
		if _, err := tx.Exec(`LOCK TABLE ` + table + ` IN ROW EXCLUSIVE MODE`); err != nil {
			t.Fatalf("a transaction that has locked %s locks %s: %v", first, table, err)
		}
		if i == 0 {
			waited = awaitWaiting(t, db, migrations, first)
		}
	}
	if err := tx.Commit(); err != nil {
		t.Fatal(err)
	}
	return waited
}

// awaitWaiting waits until the migrations wait for a lock of the table, or end, and reports which.
func awaitWaiting(t *testing.T, db *sql.DB, migrations *testenv.Process, table string) (waited bool) {
	t.Helper()
	testenv.Eventually(t, time.Minute, func() bool {
		select {
		case <-migrations.Done():
			return true
		default:
		}
		waited = waiting(t, db) != 0
		return waited
	}, "the migrations wait for %s, or end", table)
	return waited
}

// A lock that somebody holds for long, as a backup does, costs pods no more than a moment, and the migrations nothing but time.
func TestMigrationsBesideABackup(t *testing.T) {
	t.Parallel()
	s, db := firstRelease(t)
	tx, err := db.Begin()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(`LOCK TABLE ` + strings.Join(tablesOfPods, ", ") + ` IN ACCESS SHARE MODE`); err != nil {
		t.Fatal(err)
	}
	m := testenv.Start(t, testenv.Binary(t, "api"), []string{"migrate"}, []string{"PARLEY_DATABASE_URL=" + s.URL()})
	var first int
	testenv.Eventually(t, time.Minute, func() bool { first = waiting(t, db); return first != 0 }, "the migrations wait for the lock")
	testenv.Eventually(t, time.Minute, func() bool { now := waiting(t, db); return now != 0 && now != first }, "they try again")
	if _, err := db.Exec(`INSERT INTO users (id, username, display_name, password_hash) VALUES (gen_random_uuid(), 'somebody', 'Somebody', '!')`); err != nil {
		t.Error(err)
	}
	if err := tx.Commit(); err != nil {
		t.Fatal(err)
	}
	expectExit(t, m, 0, time.Minute)
}

// A migration that was interrupted runs again, whatever it had done, and builds the indexes again whose build was interrupted: those are
// there and not valid.
func TestMigrationsRunAgain(t *testing.T) {
	t.Parallel()
	s := testenv.PostgresServer(t)
	testenv.Exec(t, s.URL(), `UPDATE pg_index SET indisvalid = false
		WHERE indexrelid IN ('users_external_id_key'::regclass, 'messages_pins_idx'::regclass, 'conversations_updated_idx'::regclass, 'outbox_oldest_idx'::regclass)`)
	testenv.Exec(t, s.URL(), fmt.Sprintf(`DELETE FROM goose_db_version WHERE version_id > %d`, testenv.FirstReleaseVersion))
	m := testenv.Start(t, testenv.Binary(t, "api"), []string{"migrate"}, []string{"PARLEY_DATABASE_URL=" + s.URL()})
	expectExit(t, m, 0, time.Minute)
	if n := (&system{pg: s.URL()}).count(t, `SELECT count(*) FROM pg_index WHERE NOT indisvalid`); n != 0 {
		t.Errorf("%d indexes are not valid", n)
	}
}

// firstRelease is a server with the schema of the first release.
func firstRelease(t *testing.T) (*testenv.PGServer, *sql.DB) {
	t.Helper()
	s := testenv.PostgresServer(t)
	return s, testenv.FirstRelease(t, s.URL())
}

// waiting is the process id of the migrations' connection if it waits for a lock, else 0.
func waiting(t *testing.T, db *sql.DB) (pid int) {
	t.Helper()
	err := db.QueryRow(`SELECT coalesce(max(l.pid), 0) FROM pg_locks l JOIN pg_stat_activity a USING (pid)
		WHERE a.application_name = 'parley-migrate' AND NOT l.granted`).Scan(&pid)
	if err != nil {
		t.Fatal(err)
	}
	return pid
}

// A role's own time-outs, which through PgBouncer have to stand in for Parley's, are for statements of pods: a migration may take long.
func TestMigrationsHaveTime(t *testing.T) {
	t.Parallel()
	server := testenv.PostgresServer(t)
	testenv.Exec(t, server.URL(), `DROP SCHEMA public CASCADE; CREATE SCHEMA public;
		ALTER ROLE CURRENT_USER SET statement_timeout = '1ms'; ALTER ROLE CURRENT_USER SET idle_in_transaction_session_timeout = '1ms'`)
	m := testenv.Start(t, testenv.Binary(t, "api"), []string{"migrate"}, []string{"PARLEY_DATABASE_URL=" + server.URL()})
	expectExit(t, m, 0, time.Minute)
}

// What helm test runs.
func TestCheck(t *testing.T) {
	t.Parallel()
	s := start(t, 1)
	out, err := exec.Command(testenv.Binary(t, "api"), "check", s.pods[0].url).CombinedOutput()
	if err != nil || !strings.Contains(string(out), "chatted") {
		t.Errorf("%v: %s", err, out)
	}
	db, err := sql.Open("pgx", s.pg)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	var left int
	if err := db.QueryRow(`SELECT count(*) FROM sessions WHERE ended_at IS NULL`).Scan(&left); err != nil || left != 0 {
		t.Errorf("%d sessions are left, %v", left, err)
	}
	s.pods[0].Kill()
	if out, err := exec.Command(testenv.Binary(t, "api"), "check", s.pods[0].url).CombinedOutput(); err == nil || !strings.Contains(string(out), "no response from") {
		t.Errorf("without a pod: %v: %s", err, out)
	}
}
