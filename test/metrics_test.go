package test

import (
	"bytes"
	"cmp"
	"flag"
	"fmt"
	"maps"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fasthttp/websocket"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/parley-chat/parley/internal/id"
	"github.com/parley-chat/parley/internal/testenv"
)

var update = flag.Bool("update", false, "write the goldens")

// families are the metrics of a process, by name.
type families map[string]*dto.MetricFamily

// scrape reads a process's metrics.
func scrape(t testing.TB, base string) families {
	t.Helper()
	r, err := httpClient.Get(base + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	p := expfmt.NewTextParser(model.UTF8Validation)
	f, err := p.TextToMetricFamilies(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// series are the metric's, each as name{label="value",…}.
func (f families) series() map[string]bool {
	out := map[string]bool{}
	for name, family := range f {
		for _, m := range family.Metric {
			var labels []string
			for _, l := range m.Label {
				labels = append(labels, fmt.Sprintf("%s=%q", l.GetName(), l.GetValue()))
			}
			out[name+"{"+strings.Join(labels, ",")+"}"] = true
		}
	}
	return out
}

// value is that of the series with those labels (name, value, …), NaN where there is none: of a histogram its count.
func (f families) value(name string, labels ...string) float64 {
	family := f[name]
	for _, m := range family.GetMetric() {
		has := map[string]string{}
		for _, l := range m.Label {
			has[l.GetName()] = l.GetValue()
		}
		match := true
		for i := 0; i < len(labels); i += 2 {
			match = match && has[labels[i]] == labels[i+1]
		}
		if !match {
			continue
		}
		switch family.GetType() {
		case dto.MetricType_COUNTER:
			return m.GetCounter().GetValue()
		case dto.MetricType_HISTOGRAM:
			return float64(m.GetHistogram().GetSampleCount())
		default:
			return m.GetGauge().GetValue()
		}
	}
	return math.NaN()
}

// Whatever clients send, the series stay as many: names that they make up are no labels.
func TestSeriesAreBounded(t *testing.T) {
	t.Parallel()
	p := start(t, 1, "PARLEY_RATE_LIMIT_SEARCH=1/1h").pods[0]
	u := p.register(t)
	inventNames(t, p, u, 1)
	after := scrape(t, p.ops).series()
	var fresh []string
	for n := 2; n == 2 || n <= 4 && len(fresh) > 0; n++ { // a busy machine may have an answer that there was none of before; not in each wave
		before := after
		inventNames(t, p, u, n)
		after = scrape(t, p.ops).series()
		fresh = slices.DeleteFunc(slices.Sorted(maps.Keys(after)), func(s string) bool { return before[s] })
	}
	if len(fresh) > 0 {
		t.Errorf("each wave brings new series: %q", fresh)
	}
	for s := range after {
		if strings.Contains(strings.ToLower(s), invented) {
			t.Errorf("a client's invention is a label: %s", s)
		}
	}
	if len(after) > 400 {
		t.Errorf("%d series", len(after))
	}
	t.Logf("%d series", len(after))
}

// invented begins all names that the client of inventNames makes up.
const invented = "zqx"

// inventNames sends the n-th wave of requests and frames with names of the client's own wherever there may be one.
func inventNames(t *testing.T, p *pod, u user, n int) {
	t.Helper()
	for i := range 40 {
		junk := fmt.Sprintf("%s-%d-%d", invented, n, i)
		methods := []string{"GET"}
		if i <= 3 {
			methods = []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT"}
		}
		for _, path := range pathsWith(junk) {
			for _, method := range methods {
				_, _ = p.try(u.token, method, path, map[string]any{junk: junk}, "User-Agent", junk, "X-Request-Id", junk, "Origin", "https://"+junk)
			}
		}
		raw(t, p, strings.ToUpper(invented)+" /api/users/me HTTP/1.1\r\nHost: x\r\n\r\n")
		raw(t, p, junk+"\r\n\r\n")
	}
	for i := range 10 {
		sock, err := p.dial(t, "/api/ws", http.Header{"Authorization": {"Bearer " + u.token}})
		if err != nil {
			t.Fatal(err)
		}
		sock.until("ready", time.Minute)
		sock.write(map[string]any{"type": fmt.Sprintf("%s:%d:%d", invented, n, i), "id": "ask"})
		sock.until("error", time.Minute)
		_ = sock.conn.WriteMessage(websocket.CloseMessage, websocket.FormatCloseMessage(4000+10*n+i, invented))
		sock.closed(time.Minute)
	}
	testenv.Eventually(t, time.Minute, func() bool { return scrape(t, p.ops).value("websocket_connections_active") == 0 }, "the sockets are gone")
}

// pathsWith are paths that have the name in each place that takes one.
func pathsWith(name string) []string {
	long := strings.Repeat("9", 200)
	return []string{
		"/" + name, "/api/" + name, "/api/users/" + name, "/api/users/" + long + name, "/api/conversations/" + id.New(),
		"/api/conversations/" + name + "/messages", "/api/conversations/" + name + "/" + name, "/api/docs/" + name, "/api/users/search?q=" + name,
		"/api/presence/" + name, "/api/users/%2e%2e/" + name, "/api/users/me/" + name + "?" + name + "=" + name,
	}
}

// raw sends bytes that no client library would, and waits for the answer's end.
func raw(t *testing.T, p *pod, request string) {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(p.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Write([]byte(request)); err != nil {
		t.Fatal(err)
	}
	_, _ = conn.Read(make([]byte, 1))
}

// webhookSettings let an api have webhooks, and a dispatcher reach receivers on this machine.
var webhookSettings = []string{
	"PARLEY_BOOTSTRAP_KEY=" + bootstrapKey, "PARLEY_SECRETS_KEY=" + strings.Repeat("k", 43) + "=", "PARLEY_WEBHOOK_ALLOW_CIDRS=127.0.0.0/8",
}

// addWebhook makes a webhook for all types, whose receiver is the handler.
func (s *system) addWebhook(t testing.TB, handler http.HandlerFunc) {
	t.Helper()
	receiver := httptest.NewServer(handler)
	t.Cleanup(receiver.Close)
	testenv.Eventually(t, time.Minute, func() bool { return s.pods[0].call(t, bootstrapKey, "GET", "/api/server/keys", nil).status == 200 }, "the key is made")
	s.pods[0].want(t, 201, bootstrapKey, "POST", "/api/server/webhooks", map[string]any{"name": "a", "url": receiver.URL, "types": []string{"*"}})
}

// everything runs one of each process, with traffic that brings up what is counted by what came.
func everything(t *testing.T) map[string]families {
	t.Helper()
	s := start(t, 1, slices.Concat(newProduct(t).settings("both", presenceTimes...), webhookSettings)...)
	p := s.pods[0]
	s.addWebhook(t, http.NotFound)
	u := p.users(t, 2)
	c := p.direct(t, u[0], u[1])
	sock := p.open(t, u[1])
	p.send(t, u[0], c.ID, "hello")
	sock.messages(1, 1, time.Minute)
	out := map[string]families{}
	bases := map[string]string{"api": p.ops}
	for _, name := range []string{"presence-watcher", "receipt-worker", "dispatcher"} {
		_, bases[name] = s.addBeside(name)
	}
	for name, base := range bases {
		testenv.Eventually(t, time.Minute, func() bool {
			out[name] = scrape(t, base)
			return out[name].value("parley_ready") == 1 && (name != "receipt-worker" || out[name]["parley_asynq_tasks"] != nil) &&
				(name != "dispatcher" || out[name]["parley_webhook_attempts_total"] != nil && out[name]["parley_webhook_dead"] != nil)
		}, "%s is ready, and worked", name)
	}
	return out
}

// launchBeside starts a process that is no api, and answers where its own endpoints are.
func (s *system) launchBeside(name string, env ...string) (p *testenv.Process, ops string) {
	s.t.Helper()
	addr := fmt.Sprintf("127.0.0.1:%d", testenv.FreePort(s.t))
	p = testenv.Start(s.t, testenv.Binary(s.t, name), nil, append(append(s.settings(), "PARLEY_OPS_ADDR="+addr), env...))
	return p, "http://" + addr
}

// addBeside starts a process that is no api, and waits until it is ready.
func (s *system) addBeside(name string, env ...string) (p *testenv.Process, ops string) {
	s.t.Helper()
	p, ops = s.launchBeside(name, env...)
	testenv.Eventually(s.t, time.Minute, func() bool {
		r, err := httpClient.Get(ops + "/readyz")
		if err != nil {
			return false
		}
		defer r.Body.Close()
		return r.StatusCode == http.StatusOK
	}, "%s is ready", name)
	return p, ops
}

// docs/metrics.md lists what the processes export. -update writes it anew.
func TestTheListOfMetricsIsCurrent(t *testing.T) {
	t.Parallel()
	path := filepath.Join(testenv.Root(t), "docs", "metrics.md")
	got := metricsPage(everything(t))
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil { //nolint:gosec // a document
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("docs/metrics.md is not what the processes export: go test ./test -run ListOfMetrics -update writes it. They export\n%s", got)
	}
}

const metricsHead = `# Metrics

Each process serves these under ` + "`/metrics`" + ` on ` + "`PARLEY_OPS_ADDR`" + `; the api also serves its own under ` + "`/api/metrics`" + `. In addition there are the collectors of
Go (` + "`go_*`" + `), of the operating system's process (` + "`process_*`" + `) and of the endpoint itself (` + "`promhttp_*`" + `). Times are in seconds.

` + "`go test ./test -run ListOfMetrics -update`" + ` writes this page from the metrics of running processes.

Prometheus requests OpenMetrics, in which the bucket of a whole number is ` + "`le=\"5.0\"`" + `, while the text format has ` + "`le=\"5\"`" + `. In OpenMetrics the
histograms of requests, commits and deliveries have exemplars with the ` + "`trace_id`" + ` of recorded traces.

| metric | type | labels | of | meaning |
| --- | --- | --- | --- | --- |
`

// metricRow is a line of the page: a metric, its labels and the processes that have it.
type metricRow struct {
	family *dto.MetricFamily
	labels map[string]bool
	of     []string
}

// metricRows are the project's own metrics of all processes, by name.
func metricRows(processes map[string]families) map[string]*metricRow {
	rows := map[string]*metricRow{}
	for _, process := range []string{"api", "presence-watcher", "receipt-worker", "dispatcher"} {
		for name, family := range processes[process] {
			if !own(name) {
				continue
			}
			if rows[name] == nil {
				rows[name] = &metricRow{family: family, labels: map[string]bool{}}
			}
			rows[name].add(process, family)
		}
	}
	return rows
}

func (r *metricRow) add(process string, family *dto.MetricFamily) {
	r.of = append(r.of, process)
	for _, m := range family.Metric {
		for _, l := range m.Label {
			r.labels[l.GetName()] = true
		}
	}
}

// meaning is the help text, with the bounds of a histogram.
func (r *metricRow) meaning() string {
	h := r.family.Metric[0].GetHistogram()
	if h == nil {
		return r.family.GetHelp()
	}
	var bounds []string
	for _, x := range h.Bucket {
		if !math.IsInf(x.GetUpperBound(), 1) {
			bounds = append(bounds, fmt.Sprint(x.GetUpperBound()))
		}
	}
	return r.family.GetHelp() + " Buckets " + strings.Join(bounds, " ") + "."
}

// metricsPage is docs/metrics.md: what all processes share comes after what each has of its own.
func metricsPage(processes map[string]families) []byte {
	rows := metricRows(processes)
	var b bytes.Buffer
	b.WriteString(metricsHead)
	for _, name := range slices.SortedFunc(maps.Keys(rows), func(x, y string) int {
		return cmp.Or(strings.Compare(strings.Join(rows[x].of, " "), strings.Join(rows[y].of, " ")), strings.Compare(x, y))
	}) {
		r := rows[name]
		of := strings.Join(r.of, ", ")
		if len(r.of) == len(processes) {
			of = "all"
		}
		labels := strings.Join(slices.Sorted(maps.Keys(r.labels)), ", ")
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %s |\n", name, strings.ToLower(r.family.GetType().String()), labels, of, r.meaning())
	}
	return b.Bytes()
}

// own reports whether a metric is the project's, or one that is read with the project's.
func own(name string) bool {
	for _, prefix := range []string{"parley_", "http_", "websocket_", "go_sql_"} {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return false
}

// risesUnderLoad are counts that a busy machine may raise without a fault: of them TestErrorCountersStartAtZero checks that they exist.
var risesUnderLoad = map[string]bool{
	"parley_rate_limit_fallback": true, "parley_rate_limit_fallbacks_total": true, "go_sql_wait_count_total": true, "parley_redis_pool_timeouts_total": true,
	"parley_presence_sweep_errors_total": true, "parley_receipts_flush_ticks_missed_total": true, "parley_poll_errors_total": true,
}

// What counts errors is there before the first error, so that an alert sees it rise.
func TestErrorCountersStartAtZero(t *testing.T) {
	t.Parallel()
	of := everything(t)
	for process, counters := range map[string][][]string{
		"api": {
			{"parley_panics_total", "part", "request"}, {"parley_panics_total", "part", "socket"}, {"parley_panics_total", "part", "hub"},
			{"parley_panics_total", "part", "committer"}, {"parley_publish_errors_total"}, {"parley_publish_dropped_total"}, {"parley_poll_errors_total"},
			{"parley_sockets_slow_total"}, {"parley_socket_frames_dropped_total"}, {"parley_requests_unavailable_total"},
			{"parley_messages_refused_busy_total"}, {"parley_rate_limited_total", "rule", "frames"}, {"parley_rate_limited_total", "rule", "login"},
			{"parley_rate_limit_fallback"}, {"parley_rate_limit_fallbacks_total"}, {"parley_sockets_closed_total", "code", "4408", "reason", "queue_full"},
			{"parley_sockets_closed_total", "code", "1006", "reason", "lost"}, {"parley_sockets_closed_total", "code", "1012", "reason", "drain"},
			{"parley_log_records_total", "level", "error"}, {"go_sql_wait_count_total"}, {"parley_redis_pool_timeouts_total"},
		},
		"presence-watcher": {
			{"parley_panics_total", "part", "watcher"}, {"parley_presence_sweep_errors_total"}, {"parley_presence_expiries_dropped_total"},
			{"parley_log_records_total", "level", "error"},
		},
		"receipt-worker": {
			{"parley_panics_total", "part", "worker"}, {"parley_log_records_total", "level", "error"}, {"parley_receipts_flush_failures_total"},
			{"parley_receipts_flush_dropped_total"}, {"parley_receipts_flush_ticks_missed_total"},
		},
		"dispatcher": {
			{"parley_panics_total", "part", "dispatcher"}, {"parley_log_records_total", "level", "error"}, {"parley_webhook_dead", "endpoint", "a"},
		},
	} {
		t.Run(process, func(t *testing.T) {
			for _, series := range counters {
				of[process].expectZero(t, series...)
			}
			of[process].expectConnected(t, process)
		})
	}
	if math.IsNaN(of["api"].value("parley_gap_repairs_total")) { // a socket that opens while an event passes has one, without a fault
		t.Error("api: no parley_gap_repairs_total")
	}
}

// expectZero checks that a count (name, label, value, …) is exported, and 0 if nothing but a fault raises it.
func (f families) expectZero(t *testing.T, series ...string) {
	t.Helper()
	if v := f.value(series[0], series[1:]...); v != 0 && !(v > 0 && risesUnderLoad[series[0]]) {
		t.Errorf("%v is %v, want 0", series, v)
	}
}

// expectConnected checks that a process reports what it is, that it reaches what it depends on, and that its pools are bounded.
func (f families) expectConnected(t *testing.T, process string) {
	t.Helper()
	for _, series := range [][]string{
		{"parley_build_info", "process", process}, {"parley_dependency_up", "dependency", "postgres"}, {"parley_dependency_up", "dependency", "redis"},
		{"parley_dependency_up", "dependency", "schema"}, {"parley_redis_noeviction"},
	} {
		if v := f.value(series[0], series[1:]...); v != 1 {
			t.Errorf("%v is %v, want 1", series, v)
		}
	}
	for _, bound := range []string{"go_sql_max_open_connections", "parley_redis_pool_size"} {
		if v := f.value(bound); !(v >= 1) { // NaN without the series
			t.Errorf("%s is %v, want a bound", bound, v)
		}
	}
}

// The end of every socket is counted by its close code and by why it ended, and its frames by type.
func TestSocketsAreCounted(t *testing.T) {
	t.Parallel()
	p := start(t, 1, "PARLEY_RATE_LIMIT_FRAMES=3/1h").pods[0]
	u := p.users(t, 2)
	one := func(act func(*socket)) {
		sock := p.open(t, u[0])
		act(sock)
		sock.closed(time.Minute)
	}
	one(func(s *socket) {
		s.write(map[string]any{"type": "ping"})
		s.until("pong", time.Minute)
		s.write("no frame")
	})
	one(func(s *socket) { s.write(map[string]any{"type": "message:send", "data": strings.Repeat("x", 200_000)}) })
	one(func(s *socket) {
		for range 7 { // six pass, twice the limit
			_ = s.conn.WriteControl(websocket.PingMessage, nil, time.Now().Add(time.Minute))
		}
	})
	one(func(s *socket) {
		_ = s.conn.WriteMessage(websocket.CloseMessage, websocket.FormatCloseMessage(1000, ""))
	})
	one(func(s *socket) { s.cut() })
	one(func(*socket) {
		p.want(t, 204, u[0].token, "POST", "/api/auth/logout", map[string]any{"refreshToken": u[0].refresh})
	})
	counts := func(labels ...string) float64 {
		return scrape(t, p.ops).value("parley_sockets_closed_total", labels...)
	}
	for _, x := range [][2]string{
		{"4400", "bad_frame"}, {"1009", "too_large"}, {"4429", "too_many_frames"}, {"1000", "peer"}, {"1006", "lost"}, {"4401", "session_over"},
	} {
		testenv.Eventually(t, time.Minute, func() bool { return counts("code", x[0], "reason", x[1]) == 1 }, "an end by %s, %s", x[0], x[1])
	}
	m := scrape(t, p.ops)
	for _, x := range []struct {
		name, label, value string
		want               float64
	}{
		{"parley_socket_frames_received_total", "type", "ping", 1}, {"parley_socket_frames_received_total", "type", "unknown", 2},
		{"parley_socket_frames_received_total", "type", "protocol_ping", 7}, {"parley_socket_frames_sent_total", "type", "ready", 6},
		{"parley_socket_frames_sent_total", "type", "pong", 1}, {"parley_socket_frames_sent_total", "type", "protocol_pong", 6},
		{"parley_rate_limited_total", "rule", "frames", 1}, {"parley_sockets_opened_total", "", "", 6},
	} {
		labels := []string{x.label, x.value}
		if x.label == "" {
			labels = nil
		}
		if got := m.value(x.name, labels...); got != x.want {
			t.Errorf("%s %s is %v, want %v", x.name, x.value, got, x.want)
		}
	}
}

// Redis away is seen in the metrics, and that it is back.
func TestRedisAwayIsSeen(t *testing.T) {
	t.Parallel()
	s := start(t, 1, "PARLEY_RATE_LIMIT_DEFAULT=10000/1m")
	p := s.pods[0]
	u := p.register(t)
	see := func(what string, seen func(f families) bool) {
		t.Helper()
		testenv.Eventually(t, time.Minute, func() bool {
			p.want(t, 200, u.token, "GET", "/api/users/me", nil)
			return seen(scrape(t, p.ops))
		}, "%s", what)
	}
	well := func(f families) bool {
		return f.value("parley_pubsub_silence_seconds") < 2 && f.value("parley_subscriber_up") == 1 && f.value("parley_rate_limit_fallback") == 0 &&
			f.value("parley_dependency_up", "dependency", "redis") == 1 && f.value("parley_pubsub_lag_seconds") > 0
	}
	see("all is well", well)
	lags, fell := scrape(t, p.ops).value("parley_pubsub_lag_seconds"), scrape(t, p.ops).value("parley_rate_limit_fallbacks_total")
	s.redis.Stop()
	see("Redis is unavailable", func(f families) bool {
		return f.value("parley_pubsub_silence_seconds") > 3 && f.value("parley_subscriber_up") == 0 && f.value("parley_rate_limit_fallback") == 1 &&
			f.value("parley_rate_limit_fallbacks_total") > fell && f.value("parley_dependency_up", "dependency", "redis") == 0 &&
			f.value("parley_publish_errors_total") > 0 && f.value("parley_ready") == 1
	})
	s.redis.Start()
	see("Redis is back", func(f families) bool { return well(f) && f.value("parley_pubsub_lag_seconds") > lags })
}
