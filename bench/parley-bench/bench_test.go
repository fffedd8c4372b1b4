package main

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/parley-chat/parley/internal/testenv"
)

// TestMain keeps the tests off a database that the environment names.
func TestMain(m *testing.M) {
	for _, v := range []string{"PARLEY_DATABASE_URL", "PARLEY_JWT_SECRET", "PARLEY_METRICS_TOKEN"} {
		_ = os.Unsetenv(v) // fails for wrong names alone
	}
	os.Exit(m.Run())
}

const secret = "a secret of at least thirty-two bytes"

// system is Parley with its databases.
type system struct {
	t     testing.TB
	pg    string
	redis *testenv.RedisServer
	pods  []*testenv.Process
	urls  []string
}

func start(t testing.TB, pods int, env ...string) *system {
	t.Helper()
	s := &system{t: t, pg: testenv.Postgres(t), redis: testenv.Redis(t)}
	for range pods {
		url := fmt.Sprintf("127.0.0.1:%d", testenv.FreePort(t))
		s.pods = append(s.pods, s.process("api", append(env, "PARLEY_JWT_SECRET="+secret, "PARLEY_HTTP_ADDR="+url)...))
		s.urls = append(s.urls, "http://"+url)
	}
	for _, u := range s.urls {
		testenv.Eventually(t, 20*time.Second, func() bool {
			r, err := http.Get(u + "/api/health/ready")
			if err != nil {
				return false
			}
			defer r.Body.Close()
			return r.StatusCode == http.StatusOK
		}, "the api is ready")
	}
	return s
}

var unlimited = []string{
	"PARLEY_RATE_LIMIT_DEFAULT=off", "PARLEY_RATE_LIMIT_AUTH=off", "PARLEY_RATE_LIMIT_SEND=off", "PARLEY_RATE_LIMIT_SOCKET=off", "PARLEY_RATE_LIMIT_FRAMES=off", "PARLEY_RATE_LIMIT_SYNC=off",
	"PARLEY_RATE_LIMIT_REACT=off",
}

func (s *system) process(name string, env ...string) *testenv.Process {
	s.t.Helper()
	return testenv.Start(s.t, testenv.Binary(s.t, name), nil, append(env,
		"PARLEY_DATABASE_URL="+s.pg, "PARLEY_REDIS_URL="+s.redis.URL(), "PARLEY_LOG_FORMAT=text",
		fmt.Sprintf("PARLEY_OPS_ADDR=127.0.0.1:%d", testenv.FreePort(s.t))))
}

// seeded are the flags of a run whose users are seeded.
func (s *system) seeded(args ...string) []string {
	return append(args, "--database-url", s.pg, "--jwt-secret", secret)
}

// bench runs parley-bench. It answers the exit code, the results if there are some, and what it printed.
func (s *system) bench(ctx context.Context, log *testenv.Output, args ...string) (int, *results) {
	s.t.Helper()
	file := filepath.Join(s.t.TempDir(), "results.json")
	for _, u := range s.urls {
		args = append(args, "--url", u)
	}
	code := run(ctx, append(args, "--json", file), log, log)
	s.t.Cleanup(func() {
		if s.t.Failed() {
			s.t.Logf("parley-bench %v exited with %d and printed:\n%s", args, code, log)
		}
	})
	raw, err := os.ReadFile(file) //nolint:gosec // a test's own
	if err != nil {
		return code, nil
	}
	var r results
	if err := json.Unmarshal(raw, &r); err != nil {
		s.t.Fatal(err)
	}
	return code, &r
}

// fine runs it and wants no violation.
func (s *system) fine(log *testenv.Output, args ...string) *results {
	s.t.Helper()
	code, r := s.bench(s.t.Context(), log, args...)
	if code != exitOK || r == nil || r.Verdict != verdictOK || len(r.Violations) > 0 {
		s.t.Fatalf("exit code %d, want 0 and no violation", code)
	}
	return r
}

func (s *system) count(query string) (n int64) {
	s.t.Helper()
	db, err := sql.Open("pgx", s.pg)
	if err != nil {
		s.t.Fatal(err)
	}
	defer db.Close()
	if err := db.QueryRow(query).Scan(&n); err != nil {
		s.t.Fatal(err)
	}
	return n
}

func TestScenarios(t *testing.T) {
	t.Parallel()
	s := start(t, 2, unlimited...)
	t.Run("sockets", func(t *testing.T) {
		r := s.fine(&testenv.Output{}, s.seeded("sockets", "--users", "30", "--duration", "2s")...)
		if r.Counters["connects"] != 30 || r.Counters["connect failures"] != 0 || r.Latencies["connect"].Count != 30 {
			t.Errorf("%v %v", r.Counters, r.Latencies)
		}
	})
	for name, args := range map[string][]string{
		"fanout closed": {"fanout", "--members", "10", "--groups", "2", "--in-flight", "4", "--duration", "2s"},
		"fanout open":   {"fanout", "--members", "10", "--groups", "2", "--rate", "40", "--duration", "2s", "--warmup", "1s"},
		"sender closed": {"sender", "--members", "5", "--duration", "2s"},
		"sender open":   {"sender", "--members", "5", "--rate", "40", "--duration", "2s"},
		"sends closed":  {"sends", "--users", "6", "--duration", "2s"},
		"sends open":    {"sends", "--users", "6", "--rate", "40", "--duration", "2s"},
	} {
		t.Run(name, func(t *testing.T) {
			r := s.fine(&testenv.Output{}, s.seeded(args...)...)
			c := r.Counters
			if c["acked"] < 10 || c["acked"] != c["sent"] || c["deliveries"] != c["expected deliveries"] || c["reconnects"] != 0 {
				t.Errorf("%v", c)
			}
			if r.Settings.Warmup == 0 && (r.Latencies["receive"].Count != c["deliveries"] || r.Latencies["ack"].Count != c["acked"]) {
				t.Errorf("not all is timed: %v %v", r.Latencies, c)
			}
			if stored := s.count(`SELECT count(*) FROM messages JOIN users ON users.id = sender_id WHERE username LIKE 'pb\_` + r.Run + `%'`); stored != c["acked"] {
				t.Errorf("%d messages are stored, %d were acknowledged", stored, c["acked"])
			}
		})
	}
	t.Run("reads", func(t *testing.T) {
		r := s.fine(&testenv.Output{}, s.seeded("reads", "--users", "7", "--members", "3", "--messages", "70", "--duration", "2s")...)
		if c := r.Counters; c["reads"] < 7 || c["requests"] < 4*c["reads"] || c["failed requests"] != 0 || r.Latencies["history"].Count < 2*c["reads"] {
			t.Errorf("%v %v", c, r.Latencies)
		}
	})
	t.Run("presence", func(t *testing.T) {
		s.process("presence-watcher")
		r := s.fine(&testenv.Output{}, s.seeded("presence", "--users", "8", "--members", "3", "--duration", "9s")...)
		if c := r.Counters; c["online delivered"] < 12 || c["offline delivered"] < 12 || c["changes"] < 8 {
			t.Errorf("%v", c)
		}
	})
	t.Run("mixed", func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "report.html")
		r := s.fine(&testenv.Output{}, s.seeded("mixed", "--users", "40", "--rate", "100", "--duration", "4s", "--metrics-url", s.urls[0]+"/api/metrics", "--report", file)...)
		c := r.Counters
		if c["acked"] < 50 || c["acked"] != c["sent"] || c["deliveries"] < c["acked"] || c["syncs"] == 0 || c["reads"] == 0 || c["requests"] == 0 {
			t.Errorf("%v", c)
		}
		for _, kind := range []string{"reactions", "message:reacted", "message:updated", "mentions", "pins", "own state", "state:updated"} {
			if c[kind] == 0 {
				t.Errorf("no %s: %v", kind, c)
			}
		}
		if len(r.Pods) != 1 || r.Pods[0].CPUSeconds <= 0 || r.Pods[0].MemoryMiB <= 0 || r.Load.CPUSeconds <= 0 {
			t.Errorf("%v %v", r.Pods, r.Load)
		}
		if r.Latencies["unread"].Count == 0 || r.Latencies["pins"].Count != c["pins"] || c["failed pins"]+c["failed own state"] > 0 {
			t.Errorf("%v %v", r.Latencies, c)
		}
		if r.Pods[0].After[gomaxprocsSeries] < 1 || r.AtTwice.Utilisation <= 0 || len(r.AtTwice.Figures) < 10 {
			t.Errorf("%+v", r.AtTwice)
		}
		checkReport(t, file)
	})
	t.Run("cleanup", func(t *testing.T) {
		if code := run(t.Context(), []string{"cleanup", "--database-url", s.pg}, &testenv.Output{}, &testenv.Output{}); code != exitOK {
			t.Fatalf("exit code %d", code)
		}
		if n := s.count(`SELECT (SELECT count(*) FROM users) + (SELECT count(*) FROM conversations) + (SELECT count(*) FROM messages)`); n != 0 {
			t.Errorf("%d rows are left", n)
		}
	})
}

// A pod that is killed costs its sockets: they go to the other one, ask what they missed, and send again what was not acknowledged.
func TestAKilledPodIsNoViolation(t *testing.T) {
	t.Parallel()
	s := start(t, 2, unlimited...)
	log, done := &testenv.Output{}, make(chan struct{})
	go func() {
		defer close(done)
		testenv.Eventually(t, 30*time.Second, func() bool { return strings.Contains(log.String(), "acked") }, "messages are sent")
		s.pods[0].Kill()
	}()
	r := s.fine(log, s.seeded("sends", "--users", "12", "--duration", "5s")...)
	<-done
	if c := r.Counters; c["reconnects"] < 6 || c["syncs"] < 6 || c["acked"] < c["sent"] || c["deliveries"] < c["expected deliveries"] {
		t.Errorf("%v", c)
	}
}

// A database that leaves out a seq makes the server do so, and the tool has to see it on each socket.
func TestAGapIsSeen(t *testing.T) {
	t.Parallel()
	s := start(t, 1, unlimited...)
	testenv.Exec(t, s.pg, `CREATE FUNCTION skip() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
		UPDATE conversations SET last_seq = last_seq + 1 WHERE id = NEW.conversation_id; RETURN NULL; END $$;
		CREATE TRIGGER skip AFTER INSERT ON messages FOR EACH ROW WHEN (NEW.seq = 20) EXECUTE FUNCTION skip()`)
	code, r := s.bench(t.Context(), &testenv.Output{}, s.seeded("fanout", "--members", "5", "--duration", "2s", "--drain", "1s")...)
	if code != exitViolation || r == nil || r.Verdict != verdictViolated {
		t.Fatalf("exit code %d, want a violation", code)
	}
	want := map[string]int64{"gap": 5, "lost": 5, "more than was sent": 1}
	if !maps.Equal(r.Violations, want) || len(r.Examples) != 11 {
		t.Errorf("found %v, want %v", r.Violations, want)
	}
}

func TestFaultsAreTold(t *testing.T) {
	t.Parallel()
	s := start(t, 1, "PARLEY_RATE_LIMIT_SEND=5/1m")
	other := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(other.Close)
	closed := fmt.Sprintf("http://127.0.0.1:%d", testenv.FreePort(t))
	for name, x := range map[string]struct {
		args []string
		want string
	}{
		"no scenario":      {[]string{"dance"}, `there is no scenario "dance"`},
		"a long warm-up":   {s.seeded("sends", "--url", s.urls[0], "--duration", "2s", "--warmup", "2s"), "--warmup must be"},
		"no url":           {[]string{"sends"}, "--url is missing"},
		"nobody there":     {s.seeded("sends", "--url", closed), "nothing answers at --url " + closed},
		"somebody else":    {s.seeded("sends", "--url", other.URL), "is not Parley's"},
		"a wrong secret":   {[]string{"sends", "--url", s.urls[0], "--database-url", s.pg, "--jwt-secret", strings.Repeat("x", 32)}, "--jwt-secret must be"},
		"no such database": {[]string{"sends", "--url", s.urls[0], "--database-url", "postgres://127.0.0.1:1/x", "--jwt-secret", secret}, "--database-url"},
		"too many sockets": {s.seeded("sockets", "--url", s.urls[0], "--users", "20000000"), "raise its limit"},
		"limits":           {s.seeded("sends", "--url", s.urls[0], "--users", "3"), "PARLEY_RATE_LIMIT_SEND"},
		"no such metrics":  {s.seeded("sends", "--url", s.urls[0], "--metrics-url", closed), "--metrics-url " + closed},
		"no such folder":   {s.seeded("sends", "--url", s.urls[0], "--report", filepath.Join(t.TempDir(), "no", "report.html")), "report.html"},
		"a short prefix":   {[]string{"cleanup", "--database-url", s.pg, "--prefix", "a"}, "--prefix"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			log := &testenv.Output{}
			if code := run(t.Context(), x.args, log, log); code != exitFault || !strings.Contains(log.String(), x.want) {
				t.Errorf("exit code %d, printed %s, want %q", code, log, x.want)
			}
			if early := name != "limits"; early && strings.Contains(log.String(), "preparing") {
				t.Errorf("it is found out late: %s", log)
			}
		})
	}
}

func TestWhoAsksForHelpGetsIt(t *testing.T) {
	t.Parallel()
	log := &testenv.Output{}
	if code := run(t.Context(), []string{"sends", "--help"}, log, log); code != exitOK || !strings.Contains(log.String(), "Scenarios:") {
		t.Errorf("exit code %d, printed %s", code, log)
	}
}

func TestInterruptedItTellsWhatThereWas(t *testing.T) {
	t.Parallel()
	s := start(t, 1, unlimited...)
	ctx, interrupt := context.WithCancel(t.Context())
	log, done := &testenv.Output{}, make(chan struct{})
	go func() {
		defer close(done)
		testenv.Eventually(t, 30*time.Second, func() bool { return strings.Contains(log.String(), "acked") }, "messages are sent")
		interrupt()
	}()
	code, r := s.bench(ctx, log, s.seeded("sends", "--users", "3", "--duration", "10m", "--cleanup")...)
	<-done
	if code != exitOK || r == nil || !r.Interrupted || r.Counters["deliveries"] != r.Counters["expected deliveries"] {
		t.Errorf("exit code %d, %+v", code, r)
	}
	if !strings.Contains(log.String(), "s of load, interrupted") {
		t.Error("it does not say that it was interrupted")
	}
	if n := s.count(`SELECT count(*) FROM users`); n != 0 {
		t.Errorf("%d users are left", n)
	}
}

func TestUsersAreRegisteredWhereThereIsNoDatabase(t *testing.T) {
	t.Parallel()
	s := start(t, 1, unlimited...)
	r := s.fine(&testenv.Output{}, "sends", "--users", "3", "--duration", "2s", "--cleanup")
	if c := r.Counters; c["acked"] == 0 || c["deliveries"] != c["expected deliveries"] {
		t.Errorf("%v", c)
	}
	if n := s.count(`SELECT count(*) FROM users WHERE deleted_at IS NULL`); n != 0 {
		t.Errorf("%d users are left", n)
	}
}

// checkReport checks that the page is complete, has plots, loads nothing from elsewhere and reveals no secret.
func checkReport(t *testing.T, file string) {
	t.Helper()
	raw, err := os.ReadFile(file) //nolint:gosec // a test's own
	if err != nil {
		t.Fatal(err)
	}
	page := string(raw)
	for _, want := range []string{verdictOK, "Messages a second", "Latency over time: receive", "Latency by percentile", "At twice the load", "Postgres cores", "</html>"} {
		if !strings.Contains(page, want) {
			t.Errorf("the report lacks %q", want)
		}
	}
	if n := strings.Count(page, "<svg"); n < 8 {
		t.Errorf("%d plots", n)
	}
	for _, bad := range []string{"src=", "href=", "@import", "url(", secret, "postgres://"} {
		if strings.Contains(page, bad) {
			t.Errorf("the report has %q", bad)
		}
	}
}

// Behind TLS, as ingresses are, and with a limit on registering, which it waits for.
func TestOverTLSWithALimitOnRegistering(t *testing.T) {
	t.Parallel()
	s := start(t, 1, append(unlimited, "PARLEY_RATE_LIMIT_AUTH=1/1s")...)
	to, err := url.Parse(s.urls[0])
	if err != nil {
		t.Fatal(err)
	}
	ingress := httptest.NewTLSServer(httputil.NewSingleHostReverseProxy(to))
	t.Cleanup(ingress.Close)
	s.urls = []string{ingress.URL}
	log := &testenv.Output{}
	if code, _ := s.bench(t.Context(), log, "sends", "--users", "3"); code != exitFault || !strings.Contains(log.String(), "certificate") {
		t.Fatalf("a certificate that nobody knows was taken: exit code %d", code)
	}
	r := s.fine(log, "sends", "--users", "3", "--duration", "1s", "--insecure")
	if c := r.Counters; c["acked"] == 0 || c["deliveries"] != c["expected deliveries"] || !strings.Contains(log.String(), "of 3 users are registered; the next in") {
		t.Errorf("%v", c)
	}
}
