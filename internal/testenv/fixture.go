package testenv

import (
	"database/sql"
	"fmt"
	"os"
	"sync/atomic"
	"testing"

	"github.com/parley-chat/parley/internal/id"
)

var users atomic.Int64

// User creates a user who can't log in, and returns the id.
func User(t testing.TB, db *sql.DB) string {
	t.Helper()
	u, n := id.New(), users.Add(1)
	_, err := db.Exec(`INSERT INTO users (id, username, display_name, password_hash) VALUES ($1, $2, $3, '!')`,
		u, fmt.Sprintf("user_%d", n), fmt.Sprintf("User %d", n))
	if err != nil {
		t.Fatalf("make a user: %v", err)
	}
	return u
}

// Users makes several.
func Users(t testing.TB, db *sql.DB, n int) []string {
	t.Helper()
	out := make([]string, n)
	for i := range out {
		out[i] = User(t, db)
	}
	return out
}

// Exec runs a statement on a database.
func Exec(t testing.TB, url, query string) {
	t.Helper()
	db, err := sql.Open("pgx", url)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.Exec(query); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
}

// EmptyPostgres is the URL of a fresh database that nothing was migrated in, dropped after the test.
func EmptyPostgres(t testing.TB) string {
	t.Helper()
	server, err := sharedServer()
	if err != nil {
		t.Fatalf("no Postgres server: %v (make test sets one up)", err)
	}
	name := fmt.Sprintf("test_empty_%d_%d", os.Getpid(), databases.Add(1))
	Exec(t, server, `CREATE DATABASE `+name)
	t.Cleanup(func() { Exec(t, server, `DROP DATABASE `+name+` WITH (FORCE)`) })
	return withDatabase(server, name)
}
