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
			ops := fmt.Sprintf("127.0.0.1:%d", testenv.FreePort(t))
			p := testenv.Start(t, testenv.Binary(t, name), nil, []string{
				"PARLEY_DATABASE_URL=" + pg.URL(), "PARLEY_REDIS_URL=" + redis.URL(), "PARLEY_OPS_ADDR=" + ops, "PARLEY_LOG_FORMAT=text",
			})
			get := func(path string) (int, string) {
				r, err := http.Get("http://" + ops + path)
				if err != nil {
					return 0, ""
				}
				defer r.Body.Close()
				b, _ := io.ReadAll(r.Body)
				return r.StatusCode, string(b)
			}
			ready := func(want int) func() bool {
				return func() bool { status, _ := get("/readyz"); return status == want }
			}
			testenv.Eventually(t, 20*time.Second, ready(200), "%s is ready", name)
			if status, body := get("/metrics"); status != 200 || !strings.Contains(body, `parley_build_info{commit=`) {
				t.Errorf("%s: metrics are %d %.200s", name, status, body)
			}
			pg.Stop()
			testenv.Eventually(t, 20*time.Second, ready(503), "%s is not ready without Postgres", name)
			if status, _ := get("/healthz"); status != 200 {
				t.Errorf("%s does not live without Postgres: %d", name, status)
			}
			pg.Start()
			testenv.Eventually(t, 20*time.Second, ready(200), "%s is ready again", name)
			p.Signal(signal)
			if code := p.Wait(20 * time.Second); code != 0 {
				t.Errorf("%s exited with %d after %s", name, code, signal)
			}
		}
	}
}

func TestEveryProcessRefusesWrongSettings(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"api", "presence-watcher", "receipt-worker"} {
		p := testenv.Start(t, testenv.Binary(t, name), nil, []string{"PARLEY_DATABASE_URL=mysql://u:hunter2@db/x", "PARLEY_SHUTDOWN_TIMEOUT=never"})
		if code := p.Wait(10 * time.Second); code != 2 {
			t.Errorf("%s exited with %d, want 2", name, code)
		}
		for _, want := range []string{"PARLEY_DATABASE_URL", "PARLEY_REDIS_URL", "PARLEY_SHUTDOWN_TIMEOUT"} {
			if !strings.Contains(p.Logs(), want) {
				t.Errorf("%s does not report %s: %s", name, want, p.Logs())
			}
		}
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
	if code := p.Wait(5 * time.Second); code != 1 {
		t.Errorf("exited with %d, want 1", code)
	}
}
