package testenv

import (
	"cmp"
	"testing"

	"github.com/parley-chat/parley/internal/postgres"
)

// Open opens a pool of connections, which is closed at the end of the test. Without MaxConns it has 4, and without Application it is "test".
func Open(t testing.TB, c postgres.Config) *postgres.DB {
	t.Helper()
	c.MaxConns, c.Application = cmp.Or(c.MaxConns, 4), cmp.Or(c.Application, "test")
	db, err := postgres.Open(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db
}
