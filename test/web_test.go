package test

import (
	"bufio"
	"bytes"
	"context"
	"database/sql"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/parley-chat/parley/internal/testenv"
	"github.com/parley-chat/parley/scripts/playground/seed"
)

// The page in a real Chromium, by two people on two pods, with the faults that it must outlive; web/test has the scenarios. Pictures
// of each view are among the test's artifacts (go test -artifacts). PARLEY_TEST_BROWSER=long keeps the faults up for as long as people
// would meet them; =off skips it all.
func TestThePageInABrowser(t *testing.T) {
	t.Parallel()
	b := newBrowserRun(t, "run.mjs", "PARLEY_TEST_CHROMIUM="+lookUp(t, "chromium"))
	vapid, _ := vapidKey(t)
	s := startWithPage(t, "PARLEY_BOOTSTRAP_KEY="+bootstrapKey, "PARLEY_PUSH_VAPID_PRIVATE_KEY="+vapid, "PARLEY_PUSH_VAPID_SUBJECT=mailto:ops@example.com")
	if _, err := (&seed.Seeder{URL: s.pods[0].url, Key: bootstrapKey, History: 40}).Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.run(s, s.playground(t))
}

// Two people write to each other in Firefox, as Debian ships it: sign-up, search, messages, typing, an edit by Up, a reaction, a reload. It
// runs with PARLEY_TEST_FIREFOX=on.
func TestThePageInFirefox(t *testing.T) {
	t.Parallel()
	if os.Getenv("PARLEY_TEST_FIREFOX") != "on" {
		t.Skip("PARLEY_TEST_FIREFOX is not on")
	}
	firefox, err := exec.LookPath("firefox-esr")
	if err != nil {
		t.Fatal(err)
	}
	b := newBrowserRun(t, "firefox.mjs", "PARLEY_TEST_FIREFOX_PATH="+firefox)
	b.run(startWithPage(t), nil)
}

// startWithPage starts two pods that serve the page, with tokens that live for ten seconds, and what it needs beside them.
func startWithPage(t *testing.T, env ...string) *system {
	t.Helper()
	s := start(t, 2, slices.Concat(testenv.Storage(t).Settings(), []string{"PARLEY_WEB=on", "PARLEY_ACCESS_TOKEN_TTL=10s", "PARLEY_ALLOWED_ORIGINS=http://127.0.0.1:*"}, env)...)
	s.addWatcher()
	s.addWorker()
	return s
}

// browserRun is a run of one of the scripts in web/test.
type browserRun struct {
	t   *testing.T
	cmd *exec.Cmd
}

// newBrowserRun skips the test if something is missing for it.
func newBrowserRun(t *testing.T, script string, env ...string) *browserRun {
	t.Helper()
	if os.Getenv("PARLEY_TEST_BROWSER") == "off" {
		t.Skip("PARLEY_TEST_BROWSER=off")
	}
	clients := os.Getenv("PARLEY_TEST_CLIENTS")
	if clients == "" {
		clients = filepath.Join("..", "clients")
	}
	clients, err := filepath.Abs(clients)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(clients, "node_modules", "playwright-core")); err != nil {
		if os.Getenv("PARLEY_TEST_FIREFOX") == "on" {
			t.Fatal("PARLEY_TEST_FIREFOX is on, and the packages of clients/ are not installed: scripts/clients.sh does it")
		}
		t.Skip("playwright-core is not installed: scripts/clients.sh does it")
	}
	node := lookUp(t, "node")
	limit := 10 * time.Minute
	if os.Getenv("PARLEY_TEST_BROWSER") == "long" {
		limit = 30 * time.Minute
	}
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, node, filepath.Join("..", "web", "test", script))
	cmd.Env = slices.Concat(os.Environ(), env, []string{"PARLEY_TEST_TOOLS=" + clients, "PARLEY_TEST_PICTURES=" + t.ArtifactDir()})
	return &browserRun{t, cmd}
}

// lookUp returns the path of a program. It skips the test if there is none.
func lookUp(t *testing.T, program string) string {
	t.Helper()
	path, err := exec.LookPath(program)
	if err != nil {
		t.Skip("there is no " + program)
	}
	return path
}

// run runs the scenarios and brings about what they ask for: a line "@what" of theirs is answered by one on their input.
func (b *browserRun) run(s *system, p *playground) {
	t := b.t
	t.Helper()
	b.cmd.Env = append(b.cmd.Env, "PARLEY_TEST_URLS="+s.pods[0].url+","+s.pods[1].url)
	if p != nil {
		b.cmd.Env = append(b.cmd.Env, "PARLEY_TEST_DEMO="+p.url)
	}
	var faults bytes.Buffer
	b.cmd.Stderr = &faults
	in, err := b.cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := b.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := b.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	last := ""
	for lines := bufio.NewScanner(out); lines.Scan(); {
		last = lines.Text()
		if what, ok := strings.CutPrefix(last, "@"); ok {
			s.bringAbout(t, p, strings.Fields(what))
			_, _ = fmt.Fprintln(in, "done")
			continue
		}
		t.Log(last)
	}
	if err := b.cmd.Wait(); err != nil || last != "all as promised" {
		t.Fatalf("the browser ended with %v after %q:\n%s", err, last, faults.String())
	}
}

func (s *system) bringAbout(t *testing.T, p *playground, what []string) {
	t.Helper()
	switch strings.Join(what[:min(2, len(what))], " ") {
	case "kill 0", "kill 1":
		n, _ := strconv.Atoi(what[1])
		s.pods[n].Kill()
		s.revive(t, p, n)
	case "revive 0", "revive 1": // the page killed it
		n, _ := strconv.Atoi(what[1])
		s.revive(t, p, n)
	case "redis stop":
		s.redis.Stop()
	case "redis start":
		s.redis.Start()
		p.write(t, "redis", s.redisPID(t))
	default:
		if what[0] != "history" {
			t.Fatalf("the browser asks for %q", what)
		}
		s.longHistory(t, what[1], what[2], what[3])
	}
}

// revive starts a pod again that was killed, as make run does.
func (s *system) revive(t *testing.T, p *playground, n int) {
	t.Helper()
	pod := s.pods[n]
	<-pod.Done()
	pod.Process = testenv.Start(t, testenv.Binary(t, "api"), nil, pod.env)
	p.write(t, fmt.Sprint("api-", n+1), pod.PID())
}

// longHistory fills a conversation with messages of several lengths, by SQL.
func (s *system) longHistory(t *testing.T, conversation, sender, messages string) {
	t.Helper()
	db, err := sql.Open("pgx", s.pg)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for _, q := range []string{
		`INSERT INTO messages (id, conversation_id, seq, revision, sender_id, content, created_at)
			SELECT overlay(gen_random_uuid()::text PLACING '7' FROM 15 FOR 1)::uuid, '` + conversation + `', n, n + 1, '` + sender + `',
				n || ' ' || repeat('of a long history, in which no two are alike ', (n * 7 % 11)::int / 2), now() - interval '20 days' + n * interval '1 minute'
			FROM generate_series(1, ` + messages + `::bigint) n`,
		`UPDATE conversations c SET last_seq = m.seq, revision = m.revision, last_message_id = m.id, last_message_at = m.created_at
			FROM messages m WHERE m.conversation_id = c.id AND m.seq = ` + messages + ` AND c.id = '` + conversation + `'`,
	} {
		if _, err := db.ExecContext(t.Context(), q); err != nil {
			t.Fatal(err)
		}
	}
}

// redisPID is the id of the server's process.
func (s *system) redisPID(t *testing.T) int {
	t.Helper()
	info, err := s.redis.Client(t).Info(t.Context(), "server").Result()
	if err != nil {
		t.Fatal(err)
	}
	_, after, _ := strings.Cut(info, "process_id:")
	pid, err := strconv.Atoi(strings.Fields(after)[0])
	if err != nil {
		t.Fatal(err)
	}
	return pid
}

// playground is what make run has beside Parley.
type playground struct{ url, dir string }

func (p *playground) write(t *testing.T, name string, pid int) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(p.dir, name+".pid"), []byte(strconv.Itoa(pid)), 0o600); err != nil {
		t.Fatal(err)
	}
}

// playground starts it over the first two pods.
func (s *system) playground(t *testing.T) *playground {
	t.Helper()
	p := &playground{dir: t.TempDir()}
	bin := filepath.Join(p.dir, "playground")
	if out, err := exec.Command("go", "build", "-buildvcs=false", "-o", bin, "../scripts/playground").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	p.write(t, "redis", s.redisPID(t))
	for i, pod := range s.pods[:2] {
		p.write(t, fmt.Sprint("api-", i+1), pod.PID())
	}
	addr := fmt.Sprintf("127.0.0.1:%d", testenv.FreePort(t))
	p.url = "http://" + addr + "/demo"
	cmd := exec.CommandContext(t.Context(), bin, "-addr", addr, "-dir", p.dir, "-redis", "process", "-pods", "api-1="+s.pods[0].url+",api-2="+s.pods[1].url)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 5 * time.Second
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Wait() })
	testenv.Eventually(t, 20*time.Second, func() bool {
		res, err := http.Get(p.url)
		if err == nil {
			_ = res.Body.Close()
		}
		return err == nil
	}, "the playground serves")
	return p
}
