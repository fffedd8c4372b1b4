// Package bench measures what Parley costs: real api processes, built without the race detector, on a Postgres that syncs
// each commit and a Redis of their own. CPU is counted by process, so that what the load itself uses stands apart, and
// each benchmark proves that what it counted was right: a delivery that is missing, doubled or out of order fails it.
//
//	go test -run '^$' -bench . ./bench/
//
// Larger runs are had by the environment: PARLEY_BENCH_SOCKETS, PARLEY_BENCH_DEPTH, PARLEY_BENCH_SECONDS.
// PARLEY_BENCH_PROFILES names a folder for heap, CPU and goroutine profiles of the first api process.
package bench

import (
	"database/sql"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib" // the driver

	"github.com/parley-chat/parley/bench/meter"
	"github.com/parley-chat/parley/internal/auth"
	"github.com/parley-chat/parley/internal/id"
	"github.com/parley-chat/parley/internal/testenv"
)

const secret = "a secret of at least thirty-two bytes"

// system is Parley with its databases.
type system struct {
	pg    *testenv.PGServer
	db    *sql.DB
	redis *testenv.RedisServer
	pods  []*pod
	extra []string // settings of the pods besides
}

// pod is an api process.
type pod struct {
	*testenv.Process
	port    int
	path    string                                          // of its sockets
	greet   func(*socket, person) (ready string, err error) // says what follows the upgrade, nil for nothing
	profile string                                          // where its profiles are served, "" without
}

func (p *pod) url() string { return fmt.Sprintf("http://127.0.0.1:%d", p.port) }

// start starts n api processes on databases of their own. env are further settings.
func start(b *testing.B, n int, env ...string) *system {
	b.Helper()
	raiseFiles(b)
	s := &system{
		pg: testenv.PostgresServer(b, "-c", "fsync=on", "-c", "shared_buffers=256MB", "-c", "max_wal_size=4GB"), redis: testenv.Redis(b), extra: env,
	}
	db, err := sql.Open("pgx", s.pg.URL())
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = db.Close() })
	s.db = db
	for range n {
		s.addPod(b)
	}
	return s
}

func (s *system) addPod(b *testing.B) {
	b.Helper()
	p := &pod{port: testenv.FreePort(b), path: "/api/ws?deviceId=bench"}
	env := []string{
		"PARLEY_DATABASE_URL=" + s.pg.URL(), "PARLEY_REDIS_URL=" + s.redis.URL(), "PARLEY_JWT_SECRET=" + secret, "PARLEY_LOG_FORMAT=text",
		"PARLEY_RATE_LIMIT_DEFAULT=off", "PARLEY_RATE_LIMIT_SEND=off", "PARLEY_RATE_LIMIT_SOCKET=off", "PARLEY_RATE_LIMIT_FRAMES=off", "PARLEY_RATE_LIMIT_SYNC=off",
		"PARLEY_RATE_LIMIT_REACT=off",
		fmt.Sprintf("PARLEY_HTTP_ADDR=127.0.0.1:%d", p.port), fmt.Sprintf("PARLEY_OPS_ADDR=127.0.0.1:%d", testenv.FreePort(b)),
	}
	if os.Getenv("PARLEY_BENCH_PROFILES") != "" && len(s.pods) == 0 {
		p.profile = fmt.Sprintf("127.0.0.1:%d", testenv.FreePort(b))
		env = append(env, "BENCH_PROFILE_ADDR="+p.profile)
	}
	p.Process = testenv.Start(b, apiBinary(b), nil, append(env, s.extra...))
	testenv.Eventually(b, 20*time.Second, func() bool {
		r, err := http.Get(p.url() + "/api/health/ready")
		if err != nil {
			return false
		}
		defer r.Body.Close()
		return r.StatusCode == http.StatusOK
	}, "the api is ready")
	s.pods = append(s.pods, p)
}

// awaitPort waits until the pod takes connections.
func (p *pod) awaitPort(b *testing.B) {
	b.Helper()
	testenv.Eventually(b, 20*time.Second, func() bool {
		c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", p.port))
		if err == nil {
			_ = c.Close()
		}
		return err == nil
	}, "a pod is served")
}

// raiseFiles lets this process, and those that it starts, have a descriptor for each socket.
func raiseFiles(b *testing.B) {
	b.Helper()
	var l syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l); err != nil {
		b.Fatal(err)
	}
	l.Cur = l.Max
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &l); err != nil {
		b.Fatal(err)
	}
}

var built sync.Map

// apiVar is the path of another version's api, for comparing the two in turns.
const apiVar = "PARLEY_BENCH_API"

// apiBinary is the api as it is shipped; where profiles are wanted, with a server for them.
func apiBinary(b *testing.B) string {
	b.Helper()
	if path := os.Getenv(apiVar); path != "" {
		return path
	}
	if os.Getenv("PARLEY_BENCH_PROFILES") == "" {
		return testenv.ReleaseBinary(b, "api")
	}
	root := testenv.Root(b)
	build, _ := built.LoadOrStore("api", sync.OnceValues(func() (string, error) {
		dir, err := os.MkdirTemp("", "parley-bench-")
		if err != nil {
			return "", err
		}
		overlay, err := profileOverlay(dir, root)
		if err != nil {
			return "", err
		}
		return filepath.Join(dir, "api"), testenv.BuildRelease(root, dir, []string{"-overlay", overlay}, "api")
	}))
	path, err := build.(func() (string, error))()
	if err != nil {
		b.Fatalf("build the api: %v", err)
	}
	return path
}

// TestMain takes the binary away again. Where a benchmark starts it so, it is the bare broadcaster.
func TestMain(m *testing.M) {
	if addr := os.Getenv(bareVar); addr != "" {
		fmt.Fprintln(os.Stderr, serveBare(addr, os.Getenv(bareRedisVar)))
		os.Exit(1)
	}
	code := m.Run()
	if build, ok := built.Load("api"); ok {
		if path, err := build.(func() (string, error))(); err == nil {
			_ = os.RemoveAll(filepath.Dir(path))
		}
	}
	os.Exit(code)
}

// person is a user with a session.
type person struct{ id, token string }

// people makes users who can't log in, each with a session and a good access token.
func (s *system) people(b *testing.B, n int) []person {
	b.Helper()
	tokens := auth.NewTokens([][]byte{[]byte(secret)}, time.Hour)
	out := make([]person, n)
	users, sessions := make([]string, n), make([]string, n)
	for i := range out {
		users[i], sessions[i] = id.New(), id.New()
		token, err := tokens.Issue(users[i], sessions[i])
		if err != nil {
			b.Fatal(err)
		}
		out[i] = person{users[i], token}
	}
	s.exec(b, `INSERT INTO users (id, username, display_name, password_hash)
		SELECT u::uuid, 'u' || right(replace(u, '-', ''), 24), 'Somebody', '!' FROM unnest($1::text[]) u`, users)
	s.exec(b, `INSERT INTO sessions (id, user_id, expires_at)
		SELECT s::uuid, u::uuid, now() + interval '1 day' FROM unnest($1::text[], $2::text[]) x (s, u)`, sessions, users)
	return out
}

// group puts people into a group that is an hour old. It answers the id.
func (s *system) group(b *testing.B, members []person) string {
	b.Helper()
	g, users := id.New(), make([]string, len(members))
	for i, m := range members {
		users[i] = m.id
	}
	s.exec(b, `INSERT INTO conversations (id, type, name, last_message_at, member_count, created_at, changed_at)
		VALUES ($1, 'group', 'a group', now() - interval '1 hour', $2, now() - interval '1 hour', now() - interval '1 hour')`, g, len(users))
	s.exec(b, `INSERT INTO conversation_members (conversation_id, user_id, role, joined_at)
		SELECT $1, u::uuid, 'member', now() - interval '1 hour' FROM unnest($2::text[]) u`, g, users)
	s.exec(b, `INSERT INTO conversation_changes (conversation_id, revision, last_seq, kind, user_ids, created_at)
		VALUES ($1, 1, 0, 'created', $2::text[]::uuid[], now() - interval '1 hour')`, g, users)
	return g
}

func (s *system) exec(b *testing.B, query string, args ...any) {
	b.Helper()
	if _, err := s.db.Exec(query, args...); err != nil {
		b.Fatalf("%s: %v", query, err)
	}
}

// podCPU is what all api processes have used.
func (s *system) podCPU() (sum float64) {
	for _, p := range s.pods {
		sum += meter.CPU(p.PID())
	}
	return sum
}

// allCPU is what Parley and its databases have used.
func (s *system) allCPU() float64 {
	return s.podCPU() + meter.CPU(s.pg.PID()) + meter.CPU(s.redis.PID())
}

// profileOverlay adds a file to cmd/api that serves profiles, without the checkout having it.
func profileOverlay(dir, root string) (string, error) {
	file, overlay := filepath.Join(dir, "profile.go"), filepath.Join(dir, "overlay.json")
	const code = `package main

import (
	"net/http"
	_ "net/http/pprof"
	"os"
	"runtime"
)

func init() {
	runtime.MemProfileRate = 4096
	if addr := os.Getenv("BENCH_PROFILE_ADDR"); addr != "" {
		go http.ListenAndServe(addr, nil)
	}
}
`
	if err := os.WriteFile(file, []byte(code), 0o600); err != nil {
		return "", err
	}
	j, err := json.Marshal(map[string]any{"Replace": map[string]string{filepath.Join(root, "cmd/api/profile.go"): file}})
	if err != nil {
		return "", err
	}
	return overlay, os.WriteFile(overlay, j, 0o600)
}
