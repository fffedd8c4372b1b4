package test

import (
	"database/sql"
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
	if code := m.Wait(time.Minute); code != 0 {
		t.Errorf("exit code %d: %s", code, m.Logs())
	}
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

// A role's own time-outs, which through PgBouncer have to stand in for Parley's, are for statements of pods: a migration may take long.
func TestMigrationsHaveTime(t *testing.T) {
	t.Parallel()
	server := testenv.PostgresServer(t)
	testenv.Exec(t, server.URL(), `DROP SCHEMA public CASCADE; CREATE SCHEMA public;
		ALTER ROLE CURRENT_USER SET statement_timeout = '1ms'; ALTER ROLE CURRENT_USER SET idle_in_transaction_session_timeout = '1ms'`)
	m := testenv.Start(t, testenv.Binary(t, "api"), []string{"migrate"}, []string{"PARLEY_DATABASE_URL=" + server.URL()})
	if code := m.Wait(time.Minute); code != 0 {
		t.Errorf("exit code %d: %s", code, m.Logs())
	}
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
	if out, err := exec.Command(testenv.Binary(t, "api"), "check", s.pods[0].url).CombinedOutput(); err == nil || !strings.Contains(string(out), "no reply from") {
		t.Errorf("without a pod: %v: %s", err, out)
	}
}
