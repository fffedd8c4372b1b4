package testenv_test

import (
	"bufio"
	"context"
	"database/sql"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/parley-chat/parley/internal/testenv"
	"github.com/parley-chat/parley/migrations"
)

func TestMain(m *testing.M) { testenv.VerifyNoLeaks(m) }

func TestDatabasesAreSeparateAndMigrated(t *testing.T) {
	t.Parallel()
	a, b := open(t, testenv.Postgres(t)), open(t, testenv.Postgres(t))
	if v, err := migrations.Current(context.Background(), a); err != nil || v != migrations.Newest() {
		t.Fatalf("schema %d, %v", v, err)
	}
	if _, err := a.Exec(`CREATE TABLE only_here ()`); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Exec(`SELECT FROM only_here`); err == nil {
		t.Error("a table of one database is in the other")
	}
}

func TestPostgresServerStopsAndStarts(t *testing.T) {
	t.Parallel()
	s := testenv.PostgresServer(t)
	db := open(t, s.URL())
	if _, err := db.Exec(`CREATE TABLE kept ()`); err != nil {
		t.Fatal(err)
	}
	s.Stop()
	if err := db.Ping(); err == nil {
		t.Fatal("a stopped server answers")
	}
	s.Start()
	if _, err := db.Exec(`SELECT FROM kept`); err != nil {
		t.Fatal(err)
	}
	s.Pause()
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	if _, err := db.ExecContext(ctx, `SELECT 1`); err == nil {
		t.Error("a paused server answers")
	}
	s.Resume()
	testenv.Eventually(t, 5*time.Second, func() bool { return db.Ping() == nil }, "it answers again")
	s.Pause()
	s.Stop() // ends a paused one as well
}

func TestRedisStopsAndStarts(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	r := testenv.Redis(t, "--appendonly", "yes", "--appendfsync", "always")
	c := r.Client(t)
	if err := c.Set(ctx, "k", "v", 0).Err(); err != nil {
		t.Fatal(err)
	}
	r.Stop()
	if err := c.Get(ctx, "k").Err(); err == nil {
		t.Fatal("a stopped server answers")
	}
	r.Start()
	if v, err := c.Get(ctx, "k").Result(); err != nil || v != "v" {
		t.Errorf("after a restart with append-only: %q, %v", v, err)
	}
	r.Pause()
	short, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
	defer cancel()
	if err := r.Client(t).Get(short, "k").Err(); err == nil {
		t.Error("a paused server answers")
	}
	r.Resume()
	testenv.Eventually(t, 5*time.Second, func() bool { return c.Ping(ctx).Err() == nil }, "it answers again")
}

func TestFreePortIsGivenOnce(t *testing.T) {
	t.Parallel()
	seen := map[int]bool{}
	for range 200 {
		p := testenv.FreePort(t)
		if seen[p] {
			t.Fatalf("port %d was given twice", p)
		}
		seen[p] = true
	}
}

func TestProcess(t *testing.T) {
	t.Parallel()
	script := `trap 'echo stopping; exit 3' TERM; echo "setting $SETTING"; while :; do sleep 0.01; done`
	p := testenv.Start(t, "/bin/sh", []string{"-c", script}, []string{"SETTING=on"})
	testenv.Eventually(t, 10*time.Second, func() bool { return strings.Contains(p.Logs(), "setting on") }, "it prints")
	p.Signal(syscall.SIGTERM)
	if code := p.Wait(10 * time.Second); code != 3 {
		t.Errorf("exit code %d", code)
	}
	if !strings.HasSuffix(p.Logs(), "stopping\n") {
		t.Errorf("it printed %q", p.Logs())
	}

	p = testenv.Start(t, "/bin/sh", []string{"-c", script}, nil)
	p.Kill()
	if code := p.Wait(time.Second); code != -1 {
		t.Errorf("exit code of a killed one %d", code)
	}
}

// orphanVar makes the test binary start one of everything, say so, and hang.
const orphanVar = "TESTENV_ORPHAN"

// TestOrphansGo kills a test binary that holds servers and looks for what it left.
func TestOrphansGo(t *testing.T) {
	if os.Getenv(orphanVar) != "" {
		testenv.PostgresServer(t)
		testenv.Redis(t)
		testenv.Start(t, "/bin/sleep", []string{"600"}, nil)
		_, _ = fmt.Fprintln(os.Stdout, "ready")
		select {}
	}
	t.Parallel()
	tmp, err := os.MkdirTemp("", "parley-orphan-") // t.TempDir is not for other users
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(tmp) })
	if err := os.Chmod(tmp, 0o755); err != nil { //nolint:gosec // the user that runs Postgres has to get in
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestOrphansGo$", "-test.v")
	cmd.Env = append(os.Environ(), orphanVar+"=1", "TMPDIR="+tmp)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	for lines.Scan() && lines.Text() != "ready" {
	}
	dirs, _ := filepath.Glob(filepath.Join(tmp, "parley-test-*"))
	if len(dirs) != 3 || processesIn(tmp) < 3 {
		t.Fatalf("folders %q, %d processes", dirs, processesIn(tmp))
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	testenv.Eventually(t, 10*time.Second, func() bool { return processesIn(tmp) == 0 }, "the servers are gone")
	testenv.Eventually(t, 10*time.Second, func() bool {
		left, _ := filepath.Glob(filepath.Join(tmp, "*"))
		return len(left) == 0
	}, "their folders are gone")
}

// processesIn counts the processes that print into the folder.
func processesIn(dir string) int {
	outputs, _ := filepath.Glob("/proc/[0-9]*/fd/1")
	n := 0
	for _, o := range outputs {
		if to, err := os.Readlink(o); err == nil && strings.HasPrefix(to, dir+"/") {
			n++
		}
	}
	return n
}

func open(t *testing.T, url string) *sql.DB {
	t.Helper()
	db, err := sql.Open("pgx", url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db
}
