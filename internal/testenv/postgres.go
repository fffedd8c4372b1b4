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
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

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
	t.Cleanup(func() { _ = onServer(server, "postgres", `DROP DATABASE IF EXISTS `+name+` WITH (FORCE)`) })
	return withDatabase(server, name)
}

var databases atomic.Int64

var sharedServer = sync.OnceValues(func() (string, error) {
	if u := os.Getenv(postgresURLVar); u != "" {
		return u, nil
	}
	dir, err := os.MkdirTemp("", "parley-test-postgres-")
	if err != nil {
		return "", err
	}
	s := &PGServer{dir: dir}
	if err := s.init(); err != nil {
		return "", err
	}
	err = s.start()
	return s.serverURL(), err
})

// templateName is the template's for these migrations.
var templateName = sync.OnceValue(func() string {
	h := sha256.New()
	names, _ := fs.Glob(migrations.FS, "*.sql")
	slices.Sort(names)
	for _, n := range names {
		b, _ := migrations.FS.ReadFile(n)
		h.Write(b)
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
	if _, err := c.ExecContext(ctx, `SELECT pg_advisory_lock($1)`, templateLock); err != nil {
		return err
	}
	defer func() { _, _ = c.ExecContext(ctx, `SELECT pg_advisory_unlock($1)`, templateLock) }()
	var there bool
	if err := c.QueryRowContext(ctx, `SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1 AND datistemplate)`, templateName()).Scan(&there); err != nil {
		return err
	}
	if !there {
		if err := makeTemplate(ctx, c, server); err != nil {
			return err
		}
	}
	_, err = c.ExecContext(ctx, `CREATE DATABASE `+name+` TEMPLATE `+templateName())
	return err
}

func makeTemplate(ctx context.Context, c *sql.Conn, server string) error {
	if _, err := c.ExecContext(ctx, `DROP DATABASE IF EXISTS `+templateName()); err != nil {
		return err
	}
	if _, err := c.ExecContext(ctx, `CREATE DATABASE `+templateName()); err != nil {
		return err
	}
	if err := migrations.Up(ctx, withDatabase(server, templateName())); err != nil {
		return err
	}
	_, err := c.ExecContext(ctx, `UPDATE pg_database SET datistemplate = true, datallowconn = false WHERE datname = $1`, templateName())
	return err
}

func onServer(server, database, query string) error {
	db, err := sql.Open("pgx", withDatabase(server, database))
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

// PGServer is a Postgres server of one test's own, for tests in which it goes away.
type PGServer struct {
	t    testing.TB
	dir  string
	port int
	cmd  *exec.Cmd
}

// PostgresServer starts a server with one database that has the newest schema.
func PostgresServer(t testing.TB) *PGServer {
	t.Helper()
	s := &PGServer{t: t, dir: tempDir(t, "postgres")}
	if err := s.init(); err != nil {
		t.Fatalf("make a Postgres server: %v", err)
	}
	s.Start()
	t.Cleanup(s.Stop)
	if err := migrations.Up(context.Background(), s.URL()); err != nil {
		t.Fatal(err)
	}
	return s
}

// URL is the database's.
func (s *PGServer) URL() string { return withDatabase(s.serverURL(), "postgres") }

func (s *PGServer) serverURL() string {
	return fmt.Sprintf("postgres://parley@127.0.0.1:%d/postgres?sslmode=disable", s.port)
}

// Start starts it again at the same address with the same data.
func (s *PGServer) Start() {
	s.t.Helper()
	if err := s.start(); err != nil {
		s.t.Fatalf("start Postgres: %v", err)
	}
}

// Stop ends it at once, as a crash would.
func (s *PGServer) Stop() {
	if s.cmd == nil {
		return
	}
	_ = s.cmd.Process.Signal(syscall.SIGQUIT)
	_ = s.cmd.Wait()
	s.cmd = nil
}

// Pause makes it hang, with all its connections.
func (s *PGServer) Pause() { signalTree(s.cmd.Process.Pid, syscall.SIGSTOP) }

// Resume ends the hang.
func (s *PGServer) Resume() { signalTree(s.cmd.Process.Pid, syscall.SIGCONT) }

// binary finds one of Postgres's programs.
func binary(name string) (string, error) {
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/" + name)
	if len(found) > 0 {
		return found[len(found)-1], nil
	}
	return exec.LookPath(name)
}

// unprivileged is whom Postgres runs as when the test runs as root, which it refuses; nil otherwise.
func unprivileged() (*syscall.SysProcAttr, int, error) {
	if os.Geteuid() != 0 {
		return &syscall.SysProcAttr{}, os.Geteuid(), nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, _ := strconv.Atoi(u.Uid)
		gid, _ := strconv.Atoi(u.Gid)
		return &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}, uid, nil //nolint:gosec // ids are small
	}
	return nil, 0, fmt.Errorf("no user to run Postgres as")
}

func (s *PGServer) init() error {
	initdb, err := binary("initdb")
	if err != nil {
		return err
	}
	attr, uid, err := unprivileged()
	if err != nil {
		return err
	}
	if err := os.Chown(s.dir, uid, -1); err != nil {
		return err
	}
	cmd := exec.Command(initdb, "-D", filepath.Join(s.dir, "data"), "-U", "parley", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync")
	cmd.SysProcAttr, cmd.Dir = attr, s.dir
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("initdb: %w: %s", err, out)
	}
	return nil
}

func (s *PGServer) start() error {
	postgres, err := binary("postgres")
	if err != nil {
		return err
	}
	attr, _, err := unprivileged()
	if err != nil {
		return err
	}
	if s.port == 0 {
		if s.port, err = freePort(); err != nil {
			return err
		}
	}
	s.cmd = exec.Command(postgres, "-D", filepath.Join(s.dir, "data"), "-p", strconv.Itoa(s.port), "-k", s.dir,
		"-c", "listen_addresses=127.0.0.1", "-c", "fsync=off", "-c", "max_connections=300", "-c", "shared_buffers=64MB",
		"-c", "log_min_messages=fatal")
	s.cmd.SysProcAttr, s.cmd.Dir = attr, s.dir
	if err := start(s.cmd); err != nil {
		return err
	}
	deadline := time.Now().Add(30 * time.Second)
	for {
		err := onServer(s.serverURL(), "postgres", `SELECT 1`)
		if err == nil {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("it does not answer: %s", strings.TrimSpace(err.Error()))
		}
		time.Sleep(20 * time.Millisecond)
	}
}
