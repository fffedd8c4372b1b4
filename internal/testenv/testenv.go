// Package testenv gives tests real Postgres databases, real Redis servers and real processes of Parley, separate ones for each test.
// Everything that it starts ends with the test binary, and its folders are removed, even if the binary is killed.
package testenv

import (
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// Runs is how often a randomised test repeats itself: PARLEY_TEST_RUNS if that is set, else n.
func Runs(t testing.TB, n int) int {
	t.Helper()
	v := os.Getenv("PARLEY_TEST_RUNS")
	if v == "" {
		return n
	}
	runs, err := strconv.Atoi(v)
	if err != nil {
		t.Fatalf("PARLEY_TEST_RUNS: %v", err)
	}
	return runs
}

// Ports come from below the range that the kernel takes for outgoing connections. From within it, a client that calls a
// stopped server may be given the server's own port, connect to itself, and keep the server from coming back.
const (
	firstPort = 12_000
	ports     = 18_000
)

// FreePort is a port of 127.0.0.1 that nobody listens on, and that no other test gets while this test binary runs.
func FreePort(t testing.TB) int {
	t.Helper()
	port, err := freePort()
	if err != nil {
		t.Fatalf("find a free port: %v", err)
	}
	return port
}

func freePort() (int, error) {
	for range 1000 {
		port := firstPort + rand.IntN(ports) //nolint:gosec // it may be guessed
		if !claimPort(port) {
			continue
		}
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			continue
		}
		return port, l.Close()
	}
	return 0, fmt.Errorf("none from %d to %d", firstPort, firstPort+ports-1)
}

// claimPort keeps the other test binaries off the port by a socket without a file, which is held until the process ends.
func claimPort(port int) bool {
	fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return false
	}
	if err := syscall.Bind(fd, &syscall.SockaddrUnix{Name: fmt.Sprintf("@parley-test-port-%d", port)}); err != nil {
		_ = syscall.Close(fd)
		return false
	}
	return true
}

// Eventually waits until cond holds, and fails the test when it does not within the time, which is a Limit's.
func Eventually(t testing.TB, timeout time.Duration, cond func() bool, format string, args ...any) {
	t.Helper()
	limit := NewLimit(timeout)
	for !cond() {
		if limit.Over() {
			t.Fatalf("not within %s: %s", limit, fmt.Sprintf(format, args...))
		}
		time.Sleep(limit.pause())
	}
}

// VerifyNoLeaks runs a package's tests and fails when they leave goroutines behind. A pool of go-redis whose server was
// away looks a second after its last try whether it was closed, and ends then.
func VerifyNoLeaks(m *testing.M) {
	const pkg, pool = "github.com/parley-chat/parley/internal/testenv.", "github.com/redis/go-redis/v9/internal/pool."
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction(pkg+"serveStarts"), goleak.IgnoreAnyFunction(pkg+"(*child).wait"),
		goleak.IgnoreAnyFunction(pool+"(*ConnPool).tryDial"))
}

// Root is the top folder of the checkout.
func Root(t testing.TB) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
		if dir == filepath.Dir(dir) {
			t.Fatal("no go.mod above the test")
		}
		dir = filepath.Dir(dir)
	}
}
