package main

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/parley-chat/parley/internal/testenv"
)

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
	"PARLEY_RATE_LIMIT_DEFAULT=off", "PARLEY_RATE_LIMIT_AUTH=off", "PARLEY_RATE_LIMIT_SEND=off", "PARLEY_RATE_LIMIT_SOCKET=off", "PARLEY_RATE_LIMIT_FRAMES=off",
}

func (s *system) process(name string, env ...string) *testenv.Process {
	s.t.Helper()
	return testenv.Start(s.t, testenv.Binary(s.t, name), nil, append(env,
		"PARLEY_DATABASE_URL="+s.pg, "PARLEY_REDIS_URL="+s.redis.URL(), "PARLEY_LOG_FORMAT=text",
		fmt.Sprintf("PARLEY_OPS_ADDR=127.0.0.1:%d", testenv.FreePort(s.t))))
}

// output is what a run printed so far.
type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(b)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

// seeded are the flags of a run whose users are seeded.
func (s *system) seeded(args ...string) []string {
	return append(args, "--database-url", s.pg, "--jwt-secret", secret)
}

// bench runs parley-bench. It answers the exit code, the results if there are some, and what it printed.
func (s *system) bench(ctx context.Context, log *output, args ...string) (int, *results) {
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
func (s *system) fine(log *output, args ...string) *results {
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

func TestSocketsFanoutAndSends(t *testing.T) {
	t.Parallel()
	s := start(t, 2, unlimited...)
	t.Run("sockets", func(t *testing.T) {
		r := s.fine(&output{}, s.seeded("sockets", "--users", "30", "--duration", "2s")...)
		if r.Counters["connects"] != 30 || r.Counters["connect failures"] != 0 || r.Latencies["connect"].Count != 30 {
			t.Errorf("%v %v", r.Counters, r.Latencies)
		}
	})
	for name, args := range map[string][]string{
		"fanout closed": {"fanout", "--members", "10", "--groups", "2", "--in-flight", "4", "--duration", "2s"},
		"fanout open":   {"fanout", "--members", "10", "--groups", "2", "--rate", "40", "--duration", "2s", "--warmup", "1s"},
		"sends closed":  {"sends", "--users", "6", "--duration", "2s"},
		"sends open":    {"sends", "--users", "6", "--rate", "40", "--duration", "2s"},
	} {
		t.Run(name, func(t *testing.T) {
			r := s.fine(&output{}, s.seeded(args...)...)
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
	t.Run("cleanup", func(t *testing.T) {
		if code := run(t.Context(), []string{"cleanup", "--database-url", s.pg}, &output{}, &output{}); code != exitOK {
			t.Fatalf("exit code %d", code)
		}
		if n := s.count(`SELECT (SELECT count(*) FROM users) + (SELECT count(*) FROM conversations) + (SELECT count(*) FROM messages)`); n != 0 {
			t.Errorf("%d rows are left", n)
		}
	})
}
