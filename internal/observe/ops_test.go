package observe_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/parley-chat/parley/internal/observe"
	"github.com/parley-chat/parley/internal/testenv"
)

// serveOps runs a process's ops server, and returns its address and its stop.
func serveOps(t *testing.T, registry *prometheus.Registry, ready func(context.Context) error) (addr string, stop func()) {
	t.Helper()
	out := &testenv.Output{}
	o := &observe.Ops{Addr: "127.0.0.1:0", Registry: registry, Ready: ready, Log: slog.New(slog.NewTextHandler(out, nil))}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- o.Run(ctx) }()
	served := regexp.MustCompile(`addr=(\S+)`)
	testenv.Eventually(t, time.Minute, func() bool { return served.MatchString(out.String()) }, "it serves")
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-done; err != nil {
			t.Errorf("it ended with %v", err)
		}
		http.DefaultClient.CloseIdleConnections()
	}
	t.Cleanup(stop)
	return served.FindStringSubmatch(out.String())[1], stop
}

func get(t *testing.T, url, accept string) (status int, contentType, body string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Accept", accept)
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, res.Header.Get("Content-Type"), testenv.Body(t, res)
}

// A probe gets the reason why the process is not ready; the process lives meanwhile.
func TestProbesAreAnswered(t *testing.T) {
	t.Parallel()
	var reason atomic.Pointer[error]
	addr, stop := serveOps(t, prometheus.NewRegistry(), func(context.Context) error {
		if err := reason.Load(); err != nil {
			return *err
		}
		return nil
	})
	if status, _, body := get(t, "http://"+addr+"/readyz", ""); status != http.StatusOK || body != "ok\n" {
		t.Errorf("ready: %d %s", status, body)
	}
	away := errors.New("postgres is down")
	reason.Store(&away)
	if status, _, body := get(t, "http://"+addr+"/readyz", ""); status != http.StatusServiceUnavailable || !strings.Contains(body, "postgres is down") {
		t.Errorf("not ready: %d %s", status, body)
	}
	if status, _, body := get(t, "http://"+addr+"/healthz", ""); status != http.StatusOK || body != "ok\n" {
		t.Errorf("alive: %d %s", status, body)
	}
	stop()
	if conn, err := net.Dial("tcp", addr); err == nil {
		_ = conn.Close()
		t.Error("it still listens after its stop")
	}
}

// A port that is taken ends the process with that error, at its start.
func TestAPortThatIsTakenIsAnError(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	o := &observe.Ops{Addr: l.Addr().String(), Registry: prometheus.NewRegistry(), Log: slog.New(slog.DiscardHandler)}
	if err := o.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "address already in use") {
		t.Errorf("got %v", err)
	}
}

// A scrape has what every dashboard and alert starts from: the build, the log's records, the panics, the pools. Exemplars name the trace.
func TestAScrapeHasTheMetricsOfTheProcess(t *testing.T) {
	t.Parallel()
	h := health(t, testenv.Postgres(t))
	ask(t, h) // opens a connection of each pool
	log := observe.NewLogger(io.Discard, "api", "json", slog.LevelInfo)
	registry := observe.NewRegistry("api", log)
	observe.RegisterPools(registry, h.DB, h.Redis, 7)
	observe.NewPanicCounter(registry).WithLabelValues("flusher").Inc()
	took := prometheus.NewHistogram(prometheus.HistogramOpts{Name: "took_seconds", Help: "A time.", Buckets: []float64{1, 2}})
	registry.MustRegister(took)
	const trace = "0af7651916cd43dd8448eb211c80319c"
	observe.Exemplar(took, 1.5, trace)
	observe.Exemplar(took, .5, "") // of a request that is in no trace
	log.Warn("a warning")
	addr, _ := serveOps(t, registry, nil)
	status, contentType, body := get(t, "http://"+addr+"/metrics", "application/openmetrics-text; version=1.0.0")
	if status != http.StatusOK || !strings.HasPrefix(contentType, "application/openmetrics-text") {
		t.Fatalf("%d %s", status, contentType)
	}
	for _, line := range []string{
		`parley_build_info{commit="unknown",process="api",version="dev"} 1.0`,
		`parley_log_records_total{level="warn"} 1.0`,
		`parley_panics_total{part="flusher"} 1.0`,
		`parley_redis_pool_size 7.0`,
		`parley_redis_pool_connections{state="idle"} 1.0`,
		`parley_redis_pool_connections{state="used"} 0.0`,
		`go_sql_max_open_connections{db_name="parley"} 1.0`,
		`took_seconds_bucket{le="2.0"} 2 # {trace_id="` + trace + `"} 1.5`,
		`took_seconds_bucket{le="1.0"} 1`,
	} {
		if !strings.Contains(body, line) {
			t.Errorf("there is no %s", line)
		}
	}
	if _, contentType, _ := get(t, "http://"+addr+"/metrics", "text/plain"); !strings.HasPrefix(contentType, "text/plain") {
		t.Errorf("plain text is %s", contentType)
	}
}
