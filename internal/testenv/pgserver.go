package testenv

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/parley-chat/parley/migrations"
)

const postgresStartup = 30 * time.Second

// PGServer is a separate Postgres server for one test, which may stop it.
type PGServer struct {
	t     testing.TB
	dir   string
	port  int
	args  []string
	attr  *syscall.SysProcAttr // as whom it runs
	child *child
	// disk holds the data or the log; nil if neither. dataDir is where the data is if not in dir.
	disk    *Disk
	dataDir string
}

// PostgresServer starts a server with one database that has the newest schema. args are added to its command line, such as
// "-c", "fsync=on", which it has off.
func PostgresServer(t testing.TB, args ...string) *PGServer {
	t.Helper()
	s, err := newServer()
	if err != nil {
		t.Fatalf("make a Postgres server: %v", err)
	}
	s.t, s.args = t, args
	s.run(t)
	return s
}

// run starts a new server until the test's end, and makes the schema.
func (s *PGServer) run(t testing.TB) {
	t.Helper()
	t.Cleanup(func() { _ = os.RemoveAll(s.dir) })
	s.Start()
	t.Cleanup(s.Stop)
	if err := migrations.Up(context.Background(), s.URL(), migrations.Progress{}); err != nil {
		t.Fatal(err)
	}
}

// PostgresWithDataOn is PostgresServer with the data on the disk, and PostgresWithLogOn with the write-ahead log there, in segments of 1 MB.
func PostgresWithDataOn(t testing.TB, d *Disk, args ...string) *PGServer {
	t.Helper()
	return onDisk(t, d, func(s *PGServer) []string {
		s.dataDir = filepath.Join(d.Path, "data")
		return []string{"--waldir", filepath.Join(s.dir, "wal")}
	}, args)
}

// PostgresWithLogOn is described there.
func PostgresWithLogOn(t testing.TB, d *Disk, args ...string) *PGServer {
	t.Helper()
	return onDisk(t, d, func(*PGServer) []string {
		return []string{"--waldir", filepath.Join(d.Path, "wal"), "--wal-segsize", "1"}
	},
		append([]string{"-c", "min_wal_size=2MB", "-c", "max_wal_size=8MB"}, args...))
}

func onDisk(t testing.TB, d *Disk, place func(s *PGServer) []string, args []string) *PGServer {
	t.Helper()
	s := &PGServer{t: t, disk: d, args: args}
	if err := s.create(place); err != nil {
		t.Fatalf("make a Postgres server: %v", err)
	}
	s.run(t)
	return s
}

// URL is the database's.
func (s *PGServer) URL() string { return s.serverURL() }

// PID is the server's first process, the parent of all its others.
func (s *PGServer) PID() int { return s.child.cmd.Process.Pid }

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
func (s *PGServer) Stop() { s.child.end(syscall.SIGQUIT) }

// Pause makes it hang, with all its connections.
func (s *PGServer) Pause() { s.child.pause() }

// Resume ends the hang.
func (s *PGServer) Resume() { s.child.resume() }

// Gone reports whether it ended, as it does when its log can't be written any more.
func (s *PGServer) Gone() bool { return s.child.gone() }

// newServer creates a server's data in a new folder. It does not start the server.
func newServer() (*PGServer, error) {
	s := &PGServer{}
	return s, s.create(func(*PGServer) []string { return nil })
}

// create creates the server's data. place says where, once there is a folder, by arguments to initdb besides.
func (s *PGServer) create(place func(*PGServer) []string) error {
	initdb, err := postgresProgram("initdb")
	if err != nil {
		return err
	}
	if s.dir, err = makeDir("postgres"); err != nil {
		return err
	}
	if s.attr, err = unprivileged(s.dir); err != nil {
		return err
	}
	if s.port, err = freePort(); err != nil {
		return err
	}
	besides := place(s)
	cmd := exec.Command(initdb, append([]string{"-D", s.data(), "-U", "parley", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync"}, besides...)...)
	cmd.SysProcAttr, cmd.Dir = s.attr, s.dir
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("initdb: %w: %s", err, out)
	}
	return nil
}

func (s *PGServer) data() string {
	if s.dataDir != "" {
		return s.dataDir
	}
	return filepath.Join(s.dir, "data")
}

func (s *PGServer) start() error {
	postgres, err := postgresProgram("postgres")
	if err != nil {
		return err
	}
	base := []string{"-D", s.data(), "-p", strconv.Itoa(s.port), "-k", s.dir,
		"-c", "listen_addresses=127.0.0.1", "-c", "fsync=off", "-c", "max_connections=300", "-c", "shared_buffers=64MB",
		"-c", "log_min_messages=fatal"}
	cmd := exec.Command(postgres, append(base, s.args...)...)
	attr := *s.attr
	cmd.SysProcAttr, cmd.Dir = &attr, s.dir
	if s.disk != nil {
		cmd.Env = append(os.Environ(), s.disk.env()...)
	}
	// SIGQUIT lets it give its shared memory back.
	c, err := startChild(cmd, s.dir, syscall.SIGQUIT)
	if err != nil {
		return err
	}
	s.child = c
	deadline := time.Now().Add(postgresStartup)
	for {
		err := onServer(s.serverURL(), `SELECT 1`)
		switch {
		case err == nil:
			return nil
		case c.gone():
			return fmt.Errorf("it ended: %s", c.output())
		case time.Now().After(deadline):
			return fmt.Errorf("no answer within %s: %w", postgresStartup, err)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// postgresProgram finds one of Postgres's programs: Debian keeps them off the PATH.
func postgresProgram(name string) (string, error) {
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/" + name)
	if len(found) > 0 {
		return found[len(found)-1], nil
	}
	return exec.LookPath(name)
}

// unprivileged gives the folder to the user that Postgres runs as, and returns the attributes of the process: Postgres refuses to run as root.
func unprivileged(dir string) (*syscall.SysProcAttr, error) {
	if os.Geteuid() != 0 {
		return &syscall.SysProcAttr{}, nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, _ := strconv.Atoi(u.Uid)
		gid, _ := strconv.Atoi(u.Gid)
		c := &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)} //nolint:gosec // ids fit
		return &syscall.SysProcAttr{Credential: c}, os.Chown(dir, uid, gid)
	}
	return nil, fmt.Errorf("root has no other user to run Postgres as")
}
