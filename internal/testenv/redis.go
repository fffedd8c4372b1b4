package testenv

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// program is the server's.
func program() string {
	if Engine() == Valkey {
		return "valkey-server"
	}
	return "redis-server"
}

// RedisServer is a redis-server of one test's own.
type RedisServer struct {
	t     testing.TB
	port  int
	dir   string
	args  []string
	child *child
	// sentinel says that it is one, with its settings in its folder.
	sentinel bool
	// bus is the port of a cluster's bus, announced the address of the proxy in front of it, "" for none.
	bus       int
	announced string
}

// Redis starts a redis-server. args are added to its command line, such as "--appendonly", "yes"; without them it keeps
// nothing on disk.
func Redis(t testing.TB, args ...string) *RedisServer {
	t.Helper()
	if _, err := exec.LookPath(program()); err != nil {
		t.Fatalf("%s is not installed: run make test, which sets it up", program())
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
func (r *RedisServer) PID() int { return r.child.cmd.Process.Pid }

// Start starts it again at the same address.
func (r *RedisServer) Start() {
	r.t.Helper()
	base := []string{"--bind", "127.0.0.1", "--port", fmt.Sprint(r.port), "--dir", r.dir, "--save", "", "--appendonly", "no", "--daemonize", "no"}
	args := slices.Concat(base, r.args)
	if r.sentinel {
		args = []string{filepath.Join(r.dir, "sentinel.conf"), "--sentinel"}
	}
	c, err := startChild(exec.Command(program(), args...), r.dir, syscall.SIGKILL)
	if err != nil {
		r.t.Fatal(err)
	}
	r.child = c
	Eventually(r.t, 20*time.Second, func() bool {
		if c.gone() {
			r.t.Fatalf("redis-server did not start:\n%s", c.output())
		}
		return r.answers()
	}, "redis-server answers")
}

// answers asks without a client, which would log each try.
func (r *RedisServer) answers() bool {
	c, err := dial(r.Addr())
	if err != nil {
		return false
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(time.Second))
	_, _ = io.WriteString(c, "PING\r\n")
	answer, _ := bufio.NewReader(c).ReadString('\n')
	return answer == "+PONG\r\n"
}

func dial(addr string) (net.Conn, error) { return net.DialTimeout("tcp", addr, time.Second) }

// Stop kills it.
func (r *RedisServer) Stop() { r.child.end(syscall.SIGKILL) }

// Pause makes it hang, with all its connections.
func (r *RedisServer) Pause() { r.child.pause() }

// Resume ends the hang.
func (r *RedisServer) Resume() { r.child.resume() }
