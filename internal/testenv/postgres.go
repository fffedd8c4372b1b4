package testenv

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	_ "github.com/jackc/pgx/v5/stdlib" // the driver

	"github.com/parley-chat/parley/migrations"
)

// postgresURLVar names a Postgres server that tests may make databases on. Without it a test binary starts its own.
const postgresURLVar = "PARLEY_TEST_POSTGRES_URL"

// templateLock keeps two test binaries from making the template at once.
const templateLock = 72_616_104

// Postgres is the URL of a fresh database with the newest schema, dropped after the test.
func Postgres(t testing.TB) string {
	t.Helper()
	server, err := sharedServer()
	if err != nil {
		t.Fatalf("no Postgres server: %v (make test sets one up)", err)
	}
	name := fmt.Sprintf("test_%d_%d", os.Getpid(), databases.Add(1))
	if err := cloneTemplate(server, name); err != nil {
		t.Fatalf("make a database: %v", err)
	}
	t.Cleanup(func() {
		if err := onServer(server, `DROP DATABASE `+name+` WITH (FORCE)`); err != nil {
			t.Errorf("drop the test's database: %v", err)
		}
	})
	return withDatabase(server, name)
}

var databases atomic.Int64

var sharedServer = sync.OnceValues(func() (string, error) {
	if u := os.Getenv(postgresURLVar); u != "" {
		return u, nil
	}
	s, err := newServer()
	if err != nil {
		return "", err
	}
	return s.serverURL(), s.start()
})

// templateName is the template's for these migrations.
var templateName = sync.OnceValue(func() string {
	h := sha256.New()
	names, _ := fs.Glob(migrations.FS, "*.sql")
	slices.Sort(names)
	for _, n := range names {
		b, _ := migrations.FS.ReadFile(n)
		_, _ = fmt.Fprintf(h, "%s %d\n%s", n, len(b), b)
	}
	return "parley_template_" + hex.EncodeToString(h.Sum(nil))[:16]
})

func cloneTemplate(server, name string) error {
	db, err := sql.Open("pgx", withDatabase(server, "postgres"))
	if err != nil {
		return err
	}
	defer db.Close()
	ctx := context.Background()
	c, err := db.Conn(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := ensureTemplate(ctx, c, server); err != nil {
		return fmt.Errorf("make the template: %w", err)
	}
	_, err = c.ExecContext(ctx, `CREATE DATABASE `+name+` TEMPLATE `+templateName())
	return err
}

func ensureTemplate(ctx context.Context, c *sql.Conn, server string) error {
	if there, err := templateThere(ctx, c); there || err != nil {
		return err
	}
	if _, err := c.ExecContext(ctx, `SELECT pg_advisory_lock($1)`, templateLock); err != nil {
		return err
	}
	defer func() { _, _ = c.ExecContext(ctx, `SELECT pg_advisory_unlock($1)`, templateLock) }()
	if there, err := templateThere(ctx, c); there || err != nil {
		return err
	}
	return makeTemplate(ctx, c, server)
}

// templateThere reports whether the template is complete: it is marked as a template then.
func templateThere(ctx context.Context, c *sql.Conn) (there bool, err error) {
	err = c.QueryRowContext(ctx, `SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1 AND datistemplate)`, templateName()).Scan(&there)
	return there, err
}

func makeTemplate(ctx context.Context, c *sql.Conn, server string) error {
	if _, err := c.ExecContext(ctx, `DROP DATABASE IF EXISTS `+templateName()); err != nil {
		return err
	}
	if _, err := c.ExecContext(ctx, `CREATE DATABASE `+templateName()); err != nil {
		return err
	}
	if err := migrations.Up(ctx, withDatabase(server, templateName()), migrations.Progress{}); err != nil {
		return err
	}
	// Nobody may connect: CREATE DATABASE refuses a template that is in use.
	_, err := c.ExecContext(ctx, `UPDATE pg_database SET datistemplate = true, datallowconn = false WHERE datname = $1`, templateName())
	return err
}

func onServer(server, query string) error {
	db, err := sql.Open("pgx", withDatabase(server, "postgres"))
	if err != nil {
		return err
	}
	defer db.Close()
	_, err = db.Exec(query)
	return err
}

func withDatabase(server, name string) string {
	u, err := url.Parse(server)
	if err != nil {
		return server
	}
	u.Path = "/" + name
	return u.String()
}
