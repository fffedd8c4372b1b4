package testenv

import (
	"fmt"
	"os/exec"
	"strconv"
	"syscall"
	"testing"
	"time"
)

// replicaWait bounds the copying of a server and its promotion.
const replicaWait = 30 * time.Second

// Replica starts a streaming, asynchronous standby of the server. args are added to its command line.
func (s *PGServer) Replica(t testing.TB, args ...string) *PGServer {
	t.Helper()
	r := &PGServer{t: t, args: args}
	var err error
	if r.dir, err = makeDir("postgres"); err != nil {
		t.Fatal(err)
	}
	if r.attr, err = unprivileged(r.dir); err != nil {
		t.Fatal(err)
	}
	if r.port, err = freePort(); err != nil {
		t.Fatal(err)
	}
	program, err := postgresProgram("pg_basebackup")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, "-h", "127.0.0.1", "-p", strconv.Itoa(s.port), "-U", "parley", "-D", r.data(), "-R", "-c", "fast",
		"-X", "stream", "--no-sync")
	attr := *r.attr
	cmd.SysProcAttr, cmd.Dir = &attr, r.dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("pg_basebackup: %v: %s", err, out)
	}
	r.Start()
	t.Cleanup(r.Stop)
	return r
}

// Promote makes a standby a primary, and returns once it accepts writes.
func (s *PGServer) Promote(t testing.TB) {
	t.Helper()
	program, err := postgresProgram("pg_ctl")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, "promote", "-w", "-t", strconv.Itoa(int(replicaWait/time.Second)), "-D", s.data())
	attr := *s.attr
	cmd.SysProcAttr, cmd.Dir = &attr, s.dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("pg_ctl promote: %v: %s", err, out)
	}
	Eventually(t, replicaWait, func() bool { return onServer(s.serverURL(), `CREATE TEMPORARY TABLE writable (x int)`) == nil }, "the promoted server takes writes")
}

// Shutdown ends the server as an operator does: sessions are ended with 57P01 and everything is written.
func (s *PGServer) Shutdown() { s.child.end(syscall.SIGINT) }

// Addr is host and port.
func (s *PGServer) Addr() string { return fmt.Sprintf("127.0.0.1:%d", s.port) }

// URLAt is the database's URL through another address, such as a proxy's.
func (s *PGServer) URLAt(addr string) string {
	return fmt.Sprintf("postgres://parley@%s/postgres?sslmode=disable", addr)
}

// Follow makes a standby receive everything that its primary has written so far.
func (s *PGServer) Follow(t testing.TB, primary *PGServer) {
	t.Helper()
	Eventually(t, replicaWait, func() bool {
		return onServer(primary.serverURL(), `DO $$ BEGIN
			IF NOT EXISTS (SELECT FROM pg_stat_replication WHERE replay_lsn >= pg_current_wal_flush_lsn()) THEN RAISE 'behind'; END IF; END $$`) == nil
	}, "the standby has everything")
}

// Unfollow stops a standby's replication: a promotion loses everything that its primary writes from now on.
func (s *PGServer) Unfollow(t testing.TB, primary *PGServer) {
	t.Helper()
	Exec(t, s.URL(), `ALTER SYSTEM SET primary_conninfo = ''`)
	Exec(t, s.URL(), `SELECT pg_reload_conf()`)
	Eventually(t, replicaWait, func() bool {
		return onServer(primary.serverURL(), `DO $$ BEGIN
			IF EXISTS (SELECT FROM pg_stat_replication) THEN RAISE 'connected'; END IF; END $$`) == nil
	}, "the standby receives nothing")
}
