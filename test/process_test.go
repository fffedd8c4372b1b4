package test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/parley-chat/parley/internal/testenv"
)

// The watcher and the worker start, serve their ops endpoints, report when they are not ready, and stop cleanly.
func TestTheProcessesBesideTheAPI(t *testing.T) {
	t.Parallel()
	pg := testenv.PostgresServer(t)
	redis := testenv.Redis(t)
	for _, name := range []string{"presence-watcher", "receipt-worker"} {
		for _, signal := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
			t.Run(fmt.Sprint(name, " ends on ", signal), func(t *testing.T) { //nolint:paralleltest // they share a Postgres, which each stops
				ops := fmt.Sprintf("127.0.0.1:%d", testenv.FreePort(t))
				p := testenv.Start(t, testenv.Binary(t, name), nil, []string{
					"PARLEY_DATABASE_URL=" + pg.URL(), "PARLEY_REDIS_URL=" + redis.URL(), "PARLEY_OPS_ADDR=" + ops, "PARLEY_LOG_FORMAT=text",
				})
				awaitReadiness(t, ops, 200, "it is ready")
				expectBuildInfo(t, ops)
				pg.Stop()
				awaitReadiness(t, ops, 503, "it is not ready without Postgres")
				if status, body := getOps(ops, "/healthz"); status != 200 {
					t.Errorf("its health without Postgres is %d %s, want 200: nobody need restart it", status, body)
				}
				pg.Start()
				awaitReadiness(t, ops, 200, "it is ready again")
				p.Signal(signal)
				expectExit(t, p, 0, 20*time.Second)
			})
		}
	}
}

// getOps reads a page of a process's ops endpoint. The status is 0 if the process does not listen.
func getOps(addr, path string) (status int, body string) {
	r, err := http.Get("http://" + addr + path)
	if err != nil {
		return 0, ""
	}
	defer r.Body.Close()
	b, _ := io.ReadAll(r.Body)
	return r.StatusCode, string(b)
}

// awaitReadiness waits until /readyz has the status.
func awaitReadiness(t *testing.T, ops string, status int, what string) {
	t.Helper()
	testenv.Eventually(t, 20*time.Second, func() bool { got, _ := getOps(ops, "/readyz"); return got == status }, "%s", what)
}

// expectBuildInfo checks that a process's metrics name its build.
func expectBuildInfo(t *testing.T, ops string) {
	t.Helper()
	if status, body := getOps(ops, "/metrics"); status != 200 || !strings.Contains(body, `parley_build_info{commit=`) {
		t.Errorf("/metrics is %d %.200s, want 200 with parley_build_info", status, body)
	}
}

// expectExit waits for the end of a process, which must have the exit code.
func expectExit(t testing.TB, p *testenv.Process, code int, within time.Duration) {
	t.Helper()
	if got := p.Wait(within); got != code {
		t.Errorf("the process exited with %d, want %d", got, code)
	}
}

func TestEveryProcessRefusesWrongSettings(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"api", "presence-watcher", "receipt-worker"} {
		p := testenv.Start(t, testenv.Binary(t, name), nil, []string{"PARLEY_DATABASE_URL=mysql://u:hunter2@db/x", "PARLEY_SHUTDOWN_TIMEOUT=never"})
		expectExit(t, p, 2, 10*time.Second)
		expectContains(t, "faults of "+name, p.Logs(), "PARLEY_DATABASE_URL", "PARLEY_REDIS_URL", "PARLEY_SHUTDOWN_TIMEOUT")
		if strings.Contains(p.Logs(), "hunter2") {
			t.Errorf("%s shows a password: %s", name, p.Logs())
		}
	}
}

func TestASecondSignalEndsAtOnce(t *testing.T) {
	t.Parallel()
	s := start(t, 1, "PARLEY_DRAIN_DELAY=20s")
	p := s.pods[0]
	p.Signal(syscall.SIGTERM)
	testenv.Eventually(t, 5*time.Second, func() bool { return p.call(t, "", "GET", "/api/health/ready", nil).status == 503 }, "it is not ready at once")
	p.want(t, 200, "", "GET", "/api/health", nil) // and serves during the delay
	p.Signal(syscall.SIGTERM)
	expectExit(t, p.Process, 1, 5*time.Second)
}
