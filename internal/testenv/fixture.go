package testenv

import (
	"database/sql"
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/parley-chat/parley/internal/id"
)

var users atomic.Int64

// User makes a user who can't log in, for tests of what users do. It answers the id.
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
