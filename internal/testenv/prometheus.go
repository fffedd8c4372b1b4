package testenv

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"
)

// Prometheus is a Prometheus server of one test's own.
type Prometheus struct {
	t     testing.TB
	url   string
	child *child
}

// StartPrometheus starts a server with a configuration, which may name rule files beside it.
func StartPrometheus(t testing.TB, config string, rules map[string][]byte) *Prometheus {
	t.Helper()
	path, err := exec.LookPath("prometheus")
	if err != nil {
		t.Fatal("prometheus is not installed: run make test, which sets it up")
	}
	dir := tempDir(t, "prometheus")
	for name, b := range rules {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	file := filepath.Join(dir, "prometheus.yaml")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	addr := fmt.Sprintf("127.0.0.1:%d", FreePort(t))
	c, err := startChild(exec.Command(path, "--config.file="+file, "--storage.tsdb.path="+filepath.Join(dir, "data"),
		"--web.listen-address="+addr, "--log.level=warn"), dir, syscall.SIGKILL)
	if err != nil {
		t.Fatal(err)
	}
	p := &Prometheus{t: t, url: "http://" + addr, child: c}
	t.Cleanup(func() { c.end(syscall.SIGKILL) })
	Eventually(t, time.Minute, func() bool {
		if c.gone() {
			t.Fatalf("prometheus ended: %s", c.output())
		}
		r, err := http.Get(p.url + "/-/ready")
		if err != nil {
			return false
		}
		defer r.Body.Close()
		return r.StatusCode == http.StatusOK
	}, "prometheus is ready")
	return p
}

// Sample is one series of an answer.
type Sample struct {
	Metric map[string]string
	Value  float64
}

// Query evaluates an expression now. An error is the expression's.
func (p *Prometheus) Query(expr string) ([]Sample, error) {
	p.t.Helper()
	var data struct {
		ResultType string
		Result     json.RawMessage
	}
	if err := p.get("/api/v1/query", url.Values{"query": {expr}}, &data); err != nil {
		return nil, err
	}
	if data.ResultType != "vector" {
		return nil, fmt.Errorf("it is a %s", data.ResultType)
	}
	var series []struct {
		Metric map[string]string
		Value  [2]any
	}
	if err := json.Unmarshal(data.Result, &series); err != nil {
		return nil, err
	}
	out := make([]Sample, len(series))
	for i, s := range series {
		v, err := strconv.ParseFloat(fmt.Sprint(s.Value[1]), 64)
		if err != nil {
			return nil, err
		}
		out[i] = Sample{s.Metric, v}
	}
	return out, nil
}

// Names are those of all metrics that it has.
func (p *Prometheus) Names() []string {
	p.t.Helper()
	var out []string
	if err := p.get("/api/v1/label/__name__/values", nil, &out); err != nil {
		p.t.Fatal(err)
	}
	return out
}

// Rule is a rule as the server evaluates it.
type Rule struct {
	Type, Name, Query, Health, LastError string
	State                                string // of an alert: inactive, pending, firing
	Labels                               map[string]string
	Alerts                               []struct {
		State               string
		Labels, Annotations map[string]string
	}
}

// Rules are all rules with their state.
func (p *Prometheus) Rules() []Rule {
	p.t.Helper()
	var data struct{ Groups []struct{ Rules []Rule } }
	if err := p.get("/api/v1/rules", nil, &data); err != nil {
		p.t.Fatal(err)
	}
	var out []Rule
	for _, g := range data.Groups {
		out = append(out, g.Rules...)
	}
	return out
}

func (p *Prometheus) get(path string, q url.Values, data any) error {
	r, err := http.Get(p.url + path + "?" + q.Encode())
	if err != nil {
		p.t.Fatal(err)
	}
	defer r.Body.Close()
	answer := struct {
		Error string
		Data  any
	}{Data: data}
	if err := json.NewDecoder(r.Body).Decode(&answer); err != nil {
		return err
	}
	if answer.Error != "" {
		return fmt.Errorf("%s", answer.Error)
	}
	return nil
}
