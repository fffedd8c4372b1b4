package abuse

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	mathrand "math/rand/v2"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/parley-chat/parley/internal/client"
	"github.com/parley-chat/parley/internal/testenv"
)

func TestMain(m *testing.M) { testenv.VerifyNoLeaks(m) }

const (
	// attackers attack at the same time.
	attackers = 40
	smoke     = 5 * time.Second
	// every is how often the well-behaved client sends and asks: within its limits.
	every = 700 * time.Millisecond
	// slack is what a pod may have more after it all than before, in MiB: Go gives memory back over minutes.
	slack = 150
)

// report is what was seen.
type report struct {
	mu        sync.Mutex // guards what follows
	latencies []time.Duration
	failed    []string
}

func (r *report) add(d time.Duration, failure string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.latencies = append(r.latencies, d)
	if failure != "" {
		r.failed = append(r.failed, failure)
	}
}

// quantile returns how long that share of the requests took at most.
func (r *report) quantile(q float64) time.Duration {
	sorted := slices.Sorted(slices.Values(r.latencies))
	return sorted[int(float64(len(sorted)-1)*q)]
}

func (r *report) String() string {
	return fmt.Sprintf("%d requests, p50 %s, p99 %s, worst %s, %d failed", len(r.latencies), r.quantile(0.5), r.quantile(0.99), r.quantile(1), len(r.failed))
}

// TestAbuse attacks two pods, for PARLEY_ABUSE (a duration) or a few seconds. None may die, and in the end nothing is held any
// more. In a run of that variable's length the well-behaved client's messages all go through, quickly.
//
//nolint:paralleltest // it takes the whole machine
func TestAbuse(t *testing.T) {
	length, long := attackTime(t)
	s := startSystem(t, 62)
	good := newGoodClient(t, s)
	s.group = good.fill(t)
	calm := &report{}
	for range 10 {
		good.turn(calm)
	}
	t.Logf("before: %s", calm)
	floor := []int{s.pods[0].rss(), s.pods[1].rss()}
	ctx, cancel := context.WithTimeout(t.Context(), length)
	defer cancel()
	end := s.attack(ctx)
	r, peak := good.chat(t, ctx)
	for name, n := range end() {
		t.Logf("%-15s %d", name, n.Load())
	}
	t.Logf("meanwhile: %s; the pods took %.1f and %.1f CPU s", r, s.pods[0].metric("process_cpu_seconds_total"), s.pods[1].metric("process_cpu_seconds_total"))
	for i, p := range s.pods {
		awaitRelease(t, i, p, floor[i])
		t.Logf("pod %d: %d MiB before, %d at most, %d after", i, floor[i], peak[i], p.rss())
	}
	if n := len(r.failed); n > 0 {
		t.Logf("%d requests of the well-behaved client failed, the first: %s", n, r.failed[0])
	}
	if p99 := r.quantile(0.99); long && (p99 > time.Second || len(r.failed) > 0) { // a short run shares its machine with other tests
		t.Errorf("the well-behaved client's p99 is %s, and %d requests failed", p99, len(r.failed))
	}
}

// attackTime returns how long to attack, and whether PARLEY_ABUSE sets that.
func attackTime(t *testing.T) (length time.Duration, long bool) {
	t.Helper()
	v := os.Getenv("PARLEY_ABUSE")
	if v == "" {
		return smoke, false
	}
	d, err := time.ParseDuration(v)
	if err != nil {
		t.Fatal(err)
	}
	return d, true
}

// attack has all attackers attack at random until ctx ends, or only with the attack of PARLEY_ABUSE_ONLY. end waits for them, and returns
// how many attacks of each kind there were.
func (s *system) attack(ctx context.Context) (end func() map[string]*atomic.Int64) {
	counts := map[string]*atomic.Int64{}
	only := os.Getenv("PARLEY_ABUSE_ONLY")
	for name := range attacks {
		if only == "" || name == only {
			counts[name] = &atomic.Int64{}
		}
	}
	names := slices.Collect(maps.Keys(counts))
	var wg sync.WaitGroup
	for n := range attackers {
		wg.Go(func() {
			a := &attacker{mathrand.New(mathrand.NewPCG(uint64(n), uint64(time.Now().UnixNano()))), s} //nolint:gosec // not for secrets
			for ctx.Err() == nil {
				name := names[a.IntN(len(names))]
				attacks[name](a, ctx)
				counts[name].Add(1)
			}
		})
	}
	return func() map[string]*atomic.Int64 {
		wg.Wait()
		return counts
	}
}

// awaitRelease waits until a pod holds nothing of the attacks any more, neither of requests nor, if its memory is measured, beyond the slack.
func awaitRelease(t *testing.T, i int, p *pod, floor int) {
	t.Helper()
	testenv.Eventually(t, 3*time.Minute, func() bool {
		return p.metric("parley_unread_bytes") == 0 && p.metric("parley_http_connections_open") < 10
	}, "pod %d holds nothing any more", i)
	if p.group != "" {
		testenv.Eventually(t, 10*time.Minute, func() bool { return p.rss() < floor+slack }, "pod %d gave its memory back", i)
	}
}

// goodClient is one that keeps to its limits, with an address of its own.
type goodClient struct {
	s            *system
	http         *http.Client
	token        string
	conversation string
	n            int
}

func newGoodClient(t *testing.T, s *system) *goodClient {
	t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 1, 1)}}
	g := &goodClient{s: s, token: s.accounts[0].token, http: &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{DialContext: d.DialContext}}}
	var c struct{ ID string }
	status, b, err := g.call(0, "POST", "/api/conversations", map[string]any{"type": "direct", "memberIds": []string{s.accounts[1].id}})
	if err != nil || status != http.StatusCreated || json.Unmarshal(b, &c) != nil {
		t.Fatalf("%d %s, %v", status, b, err)
	}
	g.conversation = c.ID
	return g
}

// fill makes a group of ten attackers, with messages that a sync answers by a megabyte.
func (g *goodClient) fill(t *testing.T) string {
	t.Helper()
	var members []string
	for _, a := range g.s.accounts[3:13] {
		members = append(members, a.id)
	}
	owner := *g
	owner.token = g.s.accounts[2].token
	var c struct{ ID string }
	status, b, err := owner.call(0, "POST", "/api/conversations", map[string]any{"type": "group", "name": "a group", "memberIds": members})
	if err != nil || status != http.StatusCreated || json.Unmarshal(b, &c) != nil {
		t.Fatalf("%d %s, %v", status, b, err)
	}
	for range 36 {
		if status, b, err := owner.call(0, "POST", "/api/conversations/"+c.ID+"/messages", map[string]any{"content": strings.Repeat("\U0001f600", 8000)}); err != nil || status != http.StatusCreated {
			t.Fatalf("%d %s, %v", status, b, err)
		}
	}
	return c.ID
}

// call makes a request.
func (g *goodClient) call(pod int, method, path string, body any) (status int, answer []byte, err error) {
	r, err := client.Server{Base: "http://" + g.s.pods[pod].addr, Token: g.token, HTTP: g.http}.Do(context.Background(), method, path, body)
	return r.Status, r.Body, err
}

// chat takes turns until ctx ends, and returns what was seen, and the most memory of each pod in MiB. No pod may die.
func (g *goodClient) chat(t *testing.T, ctx context.Context) (r *report, peak []int) { //nolint:revive // a test comes first
	t.Helper()
	r, peak = &report{}, make([]int, len(g.s.pods))
	for ctx.Err() == nil {
		next := time.After(every)
		g.turn(r)
		for i, p := range g.s.pods {
			peak[i] = max(peak[i], p.rss())
			if p.dead() {
				t.Fatalf("pod %d died", i)
			}
		}
		<-next
	}
	return r, peak
}

// turn sends a message by one pod and reads the newest by the other.
func (g *goodClient) turn(r *report) {
	g.n++
	content := fmt.Sprint("message ", g.n)
	step := func(pod, want int, method, path string, body any) []byte {
		start := time.Now()
		status, b, err := g.call(pod, method, path, body)
		failure := ""
		if err != nil || status != want {
			failure = fmt.Sprintf("%s: %d %.200s, %v", method, status, b, err)
		}
		r.add(time.Since(start), failure)
		return b
	}
	path := "/api/conversations/" + g.conversation + "/messages"
	step(g.n%2, http.StatusCreated, "POST", path, map[string]any{"content": content})
	if b := step((g.n+1)%2, http.StatusOK, "GET", path+"?limit=1", nil); !bytes.Contains(b, []byte(content)) {
		r.add(0, fmt.Sprintf("message %d is not the newest: %.200s", g.n, b))
	}
}
