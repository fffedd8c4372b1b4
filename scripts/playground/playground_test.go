package main

import (
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/parley-chat/parley/internal/testenv"
)

// begin serves the playground over a pod that says hello, with a process of that name and a Redis.
func begin(t *testing.T) (s *server, url string, processes map[string]*exec.Cmd) {
	t.Helper()
	pod := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "hello")
	}))
	t.Cleanup(pod.Close)
	dir := t.TempDir()
	processes = map[string]*exec.Cmd{}
	for _, name := range []string{"api-1", "redis"} {
		c := exec.CommandContext(t.Context(), "sleep", "600")
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		processes[name] = c
		if err := os.WriteFile(filepath.Join(dir, name+".pid"), []byte(strconv.Itoa(c.Process.Pid)+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s, err := newServer(options{pods: []string{"api-1=" + pod.URL, "api-2=" + pod.URL}, dir: dir, redis: "process"})
	if err != nil {
		t.Fatal(err)
	}
	s.faults.pause = time.Hour
	for _, l := range s.lines {
		go func() { _ = l.run(t.Context()) }()
	}
	srv := httptest.NewServer(s)
	t.Cleanup(srv.Close)
	t.Cleanup(s.faults.end)
	return s, srv.URL, processes
}

func post(t *testing.T, url string, headers ...string) int {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
		if headers[i] == "Host" {
			req.Host = headers[i+1]
		}
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close()
	return res.StatusCode
}

func TestOnlyThePageMayAskForFaults(t *testing.T) {
	t.Parallel()
	s, url, processes := begin(t)
	port := url[strings.LastIndex(url, ":"):]
	for name, headers := range map[string][]string{
		"no origin":         nil,
		"another site":      {"Origin", "https://evil.example"},
		"another port":      {"Origin", "http://127.0.0.1:1"},
		"the null origin":   {"Origin", "null"},
		"a name that leads": {"Origin", "http://evil.example" + port, "Host", "evil.example" + port},
	} {
		for _, path := range []string{"/control/kill/0", "/control/redis", "/control/cut/0"} {
			if got := post(t, url+path, headers...); got != http.StatusForbidden {
				t.Errorf("%s may POST %s: %d", name, path, got)
			}
		}
	}
	if s.lines[0].isCut() || s.faults.redisStopped() {
		t.Error("something was done")
	}
	if err := processes["api-1"].Process.Signal(syscall.Signal(0)); err != nil {
		t.Errorf("the pod: %v", err)
	}
	for path, want := range map[string]int{"/control/cut/2": 404, "/control/cut/-1": 404, "/control/cut/x": 404, "/control/kill/1": 502} {
		if got := post(t, url+path, "Origin", url); got != want {
			t.Errorf("POST %s: %d, want %d", path, got, want)
		}
	}
}

func TestALineIsCutAndMended(t *testing.T) {
	t.Parallel()
	s, url, _ := begin(t)
	line := "http://" + s.lines[0].address()
	// A connection of its own each time, but for one that is open when the line is cut.
	fresh := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 10 * time.Second}
	get := func(url string) string {
		res, err := fresh.Get(url)
		if err != nil {
			return "error"
		}
		defer res.Body.Close()
		b, _ := io.ReadAll(res.Body)
		return string(b)
	}
	if got := get(line); got != "hello" {
		t.Fatalf("over the line: %s", got)
	}
	open, err := net.Dial("tcp", s.lines[0].address())
	if err != nil {
		t.Fatal(err)
	}
	defer open.Close()
	testenv.Eventually(t, 10*time.Second, func() bool {
		s.lines[0].mu.Lock()
		defer s.lines[0].mu.Unlock()
		return len(s.lines[0].conns) >= 2
	}, "the open connection reaches the pod")
	if got := post(t, url+"/control/cut/0", "Origin", url); got != 200 {
		t.Fatalf("cut: %d", got)
	}
	if err := open.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := open.Read(make([]byte, 1)); err == nil || os.IsTimeout(err) {
		t.Errorf("the open connection: %v", err)
	}
	if got := get(line); got != "error" {
		t.Errorf("over the cut line: %s", got)
	}
	if got := get("http://" + s.lines[1].address()); got != "hello" {
		t.Errorf("over the other line: %s", got)
	}
	if got := post(t, url+"/control/mend/0", "Origin", url); got != 200 || get(line) != "hello" {
		t.Errorf("mended: %d, %s", got, get(line))
	}
}

func TestFaults(t *testing.T) {
	t.Parallel()
	s, url, processes := begin(t)
	if got := post(t, url+"/control/kill/0", "Origin", url); got != 200 {
		t.Fatalf("kill: %d", got)
	}
	if err := processes["api-1"].Wait(); err == nil || !strings.Contains(err.Error(), "killed") {
		t.Errorf("the pod ended with %v", err)
	}
	if _, err := os.Stat(filepath.Join(s.faults.dir, "api-1.killed")); err != nil {
		t.Error(err)
	}

	redis := processes["redis"].Process.Pid
	if got := post(t, url+"/control/redis", "Origin", url); got != 200 {
		t.Errorf("stop Redis: %d", got)
	}
	testenv.Eventually(t, 10*time.Second, func() bool { return processState(t, redis) == "T" }, "Redis is stopped")
	if got := post(t, url+"/control/redis", "Origin", url); got != 409 {
		t.Errorf("stop it again: %d", got)
	}
	var state struct {
		RedisStopped bool
		People       []struct{ Username, URL string }
	}
	res, err := http.Get(url + "/control")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if err := json.NewDecoder(res.Body).Decode(&state); err != nil || !state.RedisStopped || len(state.People) != 2 {
		t.Errorf("the state: %+v, %v", state, err)
	}
	s.faults.end() // as the timer does
	testenv.Eventually(t, 10*time.Second, func() bool { return processState(t, redis) == "S" }, "Redis goes on")
	if s.faults.redisStopped() {
		t.Error("it counts as stopped")
	}
}

// processState is the letter that ps shows.
func processState(t *testing.T, pid int) string {
	t.Helper()
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		t.Fatal(err)
	}
	_, after, _ := strings.Cut(string(b), ") ")
	return after[:1]
}

func TestThePageHasAStrictPolicy(t *testing.T) {
	t.Parallel()
	s, url, _ := begin(t)
	res, err := http.Get(url + "/demo")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	policy := res.Header.Get("Content-Security-Policy")
	for _, want := range []string{"default-src 'none'", "script-src 'self';", "ws://" + s.lines[1].address(), "require-trusted-types-for 'script'"} {
		if res.StatusCode != 200 || !strings.Contains(policy, want) {
			t.Errorf("%d, the policy %q lacks %q", res.StatusCode, policy, want)
		}
	}
	if strings.Contains(policy, "unsafe") || strings.Contains(policy, "*") {
		t.Errorf("the policy is lax: %s", policy)
	}
}
