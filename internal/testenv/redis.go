package testenv

import (
	"context"
	"fmt"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// RedisServer is a redis-server of one test's own.
type RedisServer struct {
	t    testing.TB
	port int
	dir  string
	args []string
	cmd  *exec.Cmd
}

// Redis starts a redis-server. args are added to its command line, such as "--appendonly", "yes"; without them it keeps
// nothing on disk.
func Redis(t testing.TB, args ...string) *RedisServer {
	t.Helper()
	if _, err := exec.LookPath("redis-server"); err != nil {
		t.Fatal("redis-server is not installed: run make test, which sets it up")
	}
	r := &RedisServer{t: t, port: FreePort(t), dir: tempDir(t, "redis"), args: args}
	r.Start()
	t.Cleanup(r.Stop)
	return r
}

// Addr is host and port.
func (r *RedisServer) Addr() string { return fmt.Sprintf("127.0.0.1:%d", r.port) }

// URL is a redis:// URL.
func (r *RedisServer) URL() string { return "redis://" + r.Addr() + "/0" }

// Client connects to it.
func (r *RedisServer) Client(t testing.TB) *redis.Client {
	t.Helper()
	c := redis.NewClient(&redis.Options{Addr: r.Addr(), DialTimeout: time.Second, DialerRetries: 1, MaxRetries: 1})
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// PID is the server's process.
func (r *RedisServer) PID() int { return r.cmd.Process.Pid }

// Start starts it again at the same address.
func (r *RedisServer) Start() {
	r.t.Helper()
	base := []string{"--bind", "127.0.0.1", "--port", fmt.Sprint(r.port), "--dir", r.dir, "--save", "", "--appendonly", "no", "--daemonize", "no"}
	r.cmd = exec.Command("redis-server", append(base, r.args...)...)
	if err := start(r.cmd); err != nil {
		r.t.Fatalf("start redis-server: %v", err)
	}
	c := redis.NewClient(&redis.Options{Addr: r.Addr()})
	defer c.Close()
	Eventually(r.t, 10*time.Second, func() bool { return c.Ping(context.Background()).Err() == nil }, "redis-server answers")
}

// Stop kills it.
func (r *RedisServer) Stop() {
	if r.cmd == nil {
		return
	}
	_ = r.cmd.Process.Kill()
	_ = r.cmd.Wait()
	r.cmd = nil
}

// Pause makes it hang.
func (r *RedisServer) Pause() { _ = r.cmd.Process.Signal(syscall.SIGSTOP) }

// Resume ends the hang.
func (r *RedisServer) Resume() { _ = r.cmd.Process.Signal(syscall.SIGCONT) }
