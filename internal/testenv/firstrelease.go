package testenv

import (
	"database/sql"
	"testing"

	"github.com/pressly/goose/v3"

	"github.com/parley-chat/parley/migrations"
)

// FirstReleaseVersion is the newest migration of version 0.1.0.
const FirstReleaseVersion = 2

// FirstRelease replaces what is in a database by the empty schema of version 0.1.0, and returns the database, which is closed after the test.
func FirstRelease(t testing.TB, url string) *sql.DB {
	t.Helper()
	Exec(t, url, `DROP SCHEMA public CASCADE; CREATE SCHEMA public`)
	db, err := sql.Open("pgx", url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	p, err := goose.NewProvider(goose.DialectPostgres, db, migrations.FS)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.UpTo(t.Context(), FirstReleaseVersion); err != nil {
		t.Fatal(err)
	}
	return db
}
