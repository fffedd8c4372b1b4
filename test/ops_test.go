package test

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/parley-chat/parley/internal/testenv"
)

// shorter is by how much the tests shorten all times of the rules.
const shorter = 20

var (
	// times are those of a rule: its windows, and how long it has to hold.
	times = regexp.MustCompile(`(\[|for: |interval: )(\d+)([smhd])\b`)
	units = map[string]time.Duration{"s": time.Second, "m": time.Minute, "h": time.Hour, "d": 24 * time.Hour}
	// metricNames are what an expression reads: Parley's metrics, those of its libraries, and what is recorded.
	metricNames = regexp.MustCompile(`\b(?:(?:parley|http|websocket|go|process)_[a-z0-9_]+|parley:[a-z0-9_:]+)\b`)
	// copied are the queries that a runbook gives.
	copied = regexp.MustCompile("(?s)```promql\n(.*?)\n```")
)

// observed is a whole Parley that a Prometheus scrapes, with the project's rules in shortened times.
type observed struct {
	*system
	*testenv.Prometheus
	watcher, worker *testenv.Process
	// pushes is the URL of a push service that one of the people of load uses, "" for none.
	pushes string
}

// observe starts it, with more processes beside the watcher and the worker. No target has a namespace or a pod: what holds here holds
// outside Kubernetes.
func observe(t *testing.T, s *system, more ...string) *observed {
	t.Helper()
	o := &observed{system: s}
	var targets []string
	for _, p := range s.pods {
		targets = append(targets, strings.TrimPrefix(p.ops, "http://"))
	}
	var watcher, worker string
	o.watcher, watcher = s.addBeside("presence-watcher")
	o.worker, worker = s.addBeside("receipt-worker")
	targets = append(targets, strings.TrimPrefix(watcher, "http://"), strings.TrimPrefix(worker, "http://"))
	for _, name := range more {
		_, ops := s.addBeside(name)
		targets = append(targets, strings.TrimPrefix(ops, "http://"))
	}
	config := fmt.Sprintf(`
global: {scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}
rule_files: ["rule-*.yaml"]
scrape_configs: [{job_name: a job, static_configs: [{targets: [%s]}]}]
`, strings.Join(targets, ", "))
	o.Prometheus = testenv.StartPrometheus(t, config, shortened(t))
	return o
}

// shortened are the rule files with times of which those who wait for an alert live to see the end.
func shortened(t *testing.T) map[string][]byte {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(testenv.Root(t), "ops", "rules", "*.yaml"))
	if err != nil || len(found) == 0 {
		t.Fatalf("no rules: %v", err)
	}
	out := map[string][]byte{}
	for _, file := range found {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		out["rule-"+filepath.Base(file)] = times.ReplaceAllFunc(b, func(m []byte) []byte {
			part := times.FindSubmatch(m)
			n, err := strconv.Atoi(string(part[2]))
			if err != nil {
				t.Fatal(err)
			}
			d := max(time.Second, time.Duration(n)*units[string(part[3])]/shorter)
			return fmt.Appendf(nil, "%s%dms", part[1], d.Milliseconds())
		})
	}
	return out
}

// expression is a query of a dashboard, with its variables filled in, or one of a runbook.
type expression struct{ where, text string }

var variables = strings.NewReplacer("$namespace", ".*", "$job", "a job", "$pod", ".*", "$__rate_interval", "10s")

// panels are all queries of all dashboards.
func panels(t *testing.T) (out []expression) {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(testenv.Root(t), "ops", "dashboards", "*.json"))
	if err != nil || len(found) == 0 {
		t.Fatalf("no dashboards: %v", err)
	}
	for _, file := range found {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var d struct {
			UID    string
			Panels []struct {
				Title   string
				Targets []struct{ Expr, LegendFormat string }
			}
		}
		if err := json.Unmarshal(b, &d); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		for _, p := range d.Panels {
			for _, q := range p.Targets {
				out = append(out, expression{d.UID + " / " + p.Title + " / " + q.LegendFormat, variables.Replace(q.Expr)})
			}
		}
	}
	return out
}

// copies are the queries that the runbooks give for copying.
func copies(t *testing.T) (out []expression) {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(testenv.Root(t), "docs", "runbooks", "*.md"))
	if err != nil || len(found) == 0 {
		t.Fatalf("no runbooks: %v", err)
	}
	for _, file := range found {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range copied.FindAllSubmatch(b, -1) {
			out = append(out, expression{filepath.Base(file), string(m[1])})
		}
	}
	return out
}

// silentPanels have no data where all is well.
var silentPanels = map[string]string{
	"parley-overview / Alerts that fire / ": "lists what fires",
}

// load has people chat, come and go until the test ends: requests, sockets, messages, reads, presence.
func (o *observed) load(t *testing.T) {
	t.Helper()
	u := o.pods[0].users(t, 4)
	c := o.pods[0].group(t, u[0], u[1:]...)
	d := o.pods[0].direct(t, u[0], u[1])
	o.pods[0].befriend(t, u[2], u[3])
	if o.pushes != "" {
		o.pods[0].subscribe(t, u[3], o.pushes)
	}
	for i, x := range u[:3] {
		s := o.pods[i%len(o.pods)].open(t, x)
		go func() {
			for range s.frames { // read
			}
		}()
	}
	// What fails is not this test's business: the faults have it fail.
	o.every(t, 100*time.Millisecond, func(p *pod, n int) {
		to := c.ID
		if n%3 == 0 {
			to = d.ID
		}
		p.trySendAndRead(u[:3], to, fmt.Sprint(n))
	})
	o.every(t, 200*time.Millisecond, func(p *pod, _ int) { _, _ = p.try(u[1].token, "GET", "/api/conversations", nil) })
	o.every(t, 500*time.Millisecond, func(p *pod, _ int) { p.tryComeAndGo(t, u[3]) })
}

// every calls do with the pods in turn, and a pause before each call, until the test ends.
func (o *observed) every(t *testing.T, pause time.Duration, do func(p *pod, n int)) {
	t.Helper()
	ctx, done := t.Context(), make(chan struct{})
	t.Cleanup(func() { <-done })
	go func() {
		defer close(done)
		for n := 0; ; n++ {
			select {
			case <-ctx.Done():
				return
			case <-time.After(pause):
				do(o.pods[n%len(o.pods)], n)
			}
		}
	}()
}

// trySendAndRead has the first user send a message and all of them read it, if that succeeds. The sender's own read makes no receipt.
func (p *pod) trySendAndRead(users []user, conversationID, content string) {
	a, err := p.try(users[0].token, "POST", "/api/conversations/"+conversationID+"/messages", map[string]any{"content": content})
	var m message
	if err != nil || a.status != http.StatusCreated || json.Unmarshal(a.body, &m) != nil {
		return
	}
	for _, reader := range users {
		_, _ = p.try(reader.token, "POST", "/api/messages/"+m.ID+"/read", nil)
	}
}

// tryComeAndGo opens a socket for a moment, and then waits until its user is offline.
func (p *pod) tryComeAndGo(t *testing.T, u user) {
	s, err := p.dial(t, "/api/ws?deviceId=now-and-then", http.Header{"Authorization": {"Bearer " + u.token}})
	if err != nil {
		return
	}
	time.Sleep(200 * time.Millisecond)
	s.cut()
	time.Sleep(presenceGrace + time.Second)
}

// TestWhatOnCallSeesHasData asks a real Prometheus every query of the dashboards, the rules and the runbooks, while real processes work.
func TestWhatOnCallSeesHasData(t *testing.T) {
	t.Parallel()
	s := start(t, 2, slices.Concat(newProduct(t).settings("both", presenceTimes...), testenv.Storage(t).Settings(), webhookSettings, pushSettings(t))...)
	s.addWebhook(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusCreated) }))
	t.Cleanup(service.Close)
	o := observe(t, s, "dispatcher")
	o.pushes = service.URL
	o.load(t)
	waiting := panels(t)
	for _, q := range copies(t) {
		if _, err := o.Query(q.text); err != nil {
			t.Errorf("%s: %v: %s", q.where, err, q.text)
		}
	}
	for limit := testenv.NewLimit(2 * time.Minute); len(waiting) > 0 && !limit.Over(); time.Sleep(time.Second) {
		waiting = slices.DeleteFunc(waiting, func(q expression) bool {
			answer, err := o.Query(q.text)
			if err != nil {
				t.Errorf("%s: %v: %s", q.where, err, q.text)
			}
			return err != nil || silentPanels[q.where] != "" || hasNumber(answer)
		})
	}
	for _, q := range waiting {
		t.Errorf("%s has no data: %s", q.where, q.text)
	}
	o.healthy(t)
	o.registered(t)
	// A machine that is busy makes the objectives of time burn, and what was missing at the start may fire and end.
	o.until(t, "all is well, and these fire: %q", func(firing map[string]bool) []string {
		return slices.DeleteFunc(slices.Collect(maps.Keys(firing)), func(a string) bool { return strings.HasSuffix(a, "Burn") })
	})
}

func hasNumber(answer []testenv.Sample) bool {
	return slices.ContainsFunc(answer, func(s testenv.Sample) bool { return !math.IsNaN(s.Value) })
}

// healthy holds that each rule can be evaluated, and its annotations written.
func (o *observed) healthy(t *testing.T) {
	t.Helper()
	for _, r := range o.Rules() {
		if r.Health != "ok" {
			t.Errorf("%s %s is %s: %s", r.Type, r.Name, r.Health, r.LastError)
		}
		for _, a := range r.Alerts {
			for name, text := range a.Annotations {
				if strings.Contains(text, "error expanding") || strings.Contains(text, "<no value>") {
					t.Errorf("the %s of %s is %q", name, r.Name, text)
				}
			}
		}
	}
}

// registered holds that all that is asked for is exported or recorded.
func (o *observed) registered(t *testing.T) {
	t.Helper()
	there := map[string]bool{}
	for _, name := range o.Names() {
		there[name] = true
	}
	asked := append(panels(t), copies(t)...)
	for _, r := range o.Rules() {
		asked = append(asked, expression{r.Name, r.Query})
	}
	for _, q := range asked {
		for _, name := range metricNames.FindAllString(q.text, -1) {
			if !there[name] {
				t.Errorf("%s asks for %s, which nobody exports or records", q.where, name)
			}
		}
	}
}

// alertsWithin bounds the wait for alerts, whose times are shortened.
const alertsWithin = 3 * time.Minute

// fires waits until all the alerts fire.
func (o *observed) fires(t *testing.T, alerts ...string) {
	t.Helper()
	o.until(t, "these do not fire: %q", func(firing map[string]bool) []string {
		return slices.DeleteFunc(slices.Clone(alerts), func(a string) bool { return firing[a] })
	})
}

// ends waits until none of the alerts fires.
func (o *observed) ends(t *testing.T, alerts ...string) {
	t.Helper()
	o.until(t, "these do not end: %q", func(firing map[string]bool) []string {
		return slices.DeleteFunc(slices.Clone(alerts), func(a string) bool { return !firing[a] })
	})
}

// until waits until nothing is missing.
func (o *observed) until(t *testing.T, format string, missing func(firing map[string]bool) []string) {
	t.Helper()
	limit := testenv.NewLimit(alertsWithin)
	for {
		firing := map[string]bool{}
		for _, r := range o.Rules() {
			if r.State == "firing" {
				firing[r.Name] = true
			}
		}
		left := missing(firing)
		if len(left) == 0 {
			return
		}
		if limit.Over() {
			t.Fatalf(format, left)
		}
		time.Sleep(200 * time.Millisecond)
	}
}

// TestAlertsFireForReal takes away what Parley needs, one after the other.
func TestAlertsFireForReal(t *testing.T) {
	t.Parallel()
	pg := testenv.PostgresServer(t)
	s := &system{t: t, pg: pg.URL(), redis: testenv.NewRedis(t), extra: append(presenceTimes, "PARLEY_RATE_LIMIT_DEFAULT=1000000/1m")}
	s.addPod()
	s.addPod()
	o := observe(t, s)
	o.load(t)
	testenv.Eventually(t, time.Minute, func() bool {
		answer, err := o.Query(`count(parley_build_info) == 4`)
		return err == nil && len(answer) == 1
	}, "all four are scraped")

	o.slowReaders(t)
	o.fires(t, "ParleySlowReaders")
	o.ends(t, "ParleySlowReaders")

	// One cause, one page, and the objective that it breaks moves.
	s.redis.Stop()
	o.pagesOnly(t, "ParleyRedisDown")
	o.burns(t, "delivery")
	o.healthy(t)
	s.redis.Start()
	o.pagesOnly(t)

	pg.Stop()
	o.pagesOnly(t, "ParleyPostgresDown")
	o.burns(t, "availability")
	o.healthy(t)
	pg.Start()
	o.pagesOnly(t)

	o.pods[1].Pause()
	o.fires(t, "ParleyTargetDown")
	o.pods[1].Resume()
	o.ends(t, "ParleyTargetDown")

	o.watcher.Pause()
	o.pagesOnly(t, "ParleyProcessMissing")
	o.burns(t, "offline-lag")
	o.watcher.Resume()
	o.pagesOnly(t)
	o.worker.Kill()
	o.pagesOnly(t, "ParleyProcessMissing")
	o.burns(t, "receipt-flush")
	o.healthy(t)
}

// pagesOnly waits until these alerts and no others fire as critical.
func (o *observed) pagesOnly(t *testing.T, alerts ...string) {
	t.Helper()
	slices.Sort(alerts)
	var firing []string
	for limit := testenv.NewLimit(alertsWithin); !limit.Over(); time.Sleep(200 * time.Millisecond) {
		answer, err := o.Query(`count by (alertname) (ALERTS{alertstate="firing", severity="critical"})`)
		if err == nil {
			firing = nil
			for _, sample := range answer {
				firing = append(firing, sample.Metric["alertname"])
			}
			slices.Sort(firing)
			if slices.Equal(firing, alerts) {
				return
			}
		}
	}
	t.Fatalf("these page: %q, want %q", firing, alerts)
}

// burns waits until a tenth of an objective's shortest window is bad.
func (o *observed) burns(t *testing.T, slo string) {
	t.Helper()
	testenv.Eventually(t, alertsWithin, func() bool {
		answer, err := o.Query(`parley:slo_errors:ratio_rate5m{slo="` + slo + `"} > 0.1`)
		return err == nil && len(answer) > 0
	}, "the objective %s burns", slo)
}

// slowReaders opens sockets that nobody reads, and sends what fills them.
func (o *observed) slowReaders(t *testing.T) {
	t.Helper()
	p := o.pods[0]
	u := p.users(t, 3)
	c := p.group(t, u[0], u[1:]...)
	for i := range 20 {
		p.deaf(t, u[1+i%2], fmt.Sprint("deaf-", i))
	}
	text := strings.Repeat("\U0001F40C", 8000) // as many bytes as a message may have
	for limit := testenv.NewLimit(2 * time.Minute); !limit.Over(); {
		p.send(t, u[0], c.ID, text)
		answer, err := o.Query(`sum(parley_sockets_slow_total) > 15`)
		if err == nil && len(answer) == 1 {
			return
		}
	}
	t.Fatal("sockets that nobody reads stay open")
}
