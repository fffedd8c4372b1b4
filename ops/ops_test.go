package ops_test

import (
	"bytes"
	"encoding/json"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

type rule struct {
	Alert, Record, Expr string
	Labels, Annotations map[string]string
}

// alerts are all rules with a name to alert by.
func alerts(t *testing.T) []rule {
	t.Helper()
	var out []rule
	for _, file := range files(t, "rules/*.yaml") {
		var f struct{ Groups []struct{ Rules []rule } }
		if err := yaml.Unmarshal(read(t, file), &f); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		for _, g := range f.Groups {
			for _, r := range g.Rules {
				if r.Alert != "" {
					out = append(out, r)
				}
			}
		}
	}
	return out
}

func files(t *testing.T, pattern string) []string {
	t.Helper()
	found, err := filepath.Glob(pattern)
	if err != nil || len(found) == 0 {
		t.Fatalf("%s: no file, %v", pattern, err)
	}
	return found
}

func read(t *testing.T, file string) []byte {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func promtool(t *testing.T, args ...string) {
	t.Helper()
	path, err := exec.LookPath("promtool")
	if err != nil {
		t.Fatal("promtool is not installed: run make test, which sets it up")
	}
	if out, err := exec.Command(path, args...).CombinedOutput(); err != nil {
		t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

func TestDashboardsAreCurrent(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if out, err := exec.Command("go", "run", "./build", dir).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	names := func(folder string) []string {
		found := files(t, filepath.Join(folder, "*.json"))
		for i := range found {
			found[i] = filepath.Base(found[i])
		}
		return found
	}
	made, kept := names(dir), names("dashboards")
	if !slices.Equal(made, kept) {
		t.Errorf("dashboards are %q, the builder makes %q", kept, made)
	}
	for _, name := range made {
		if !bytes.Equal(read(t, filepath.Join(dir, name)), read(t, filepath.Join("dashboards", name))) {
			t.Errorf("%s is not what the builder makes: go generate ./ops", name)
		}
	}
}

func TestRulesAreRules(t *testing.T) {
	t.Parallel()
	promtool(t, append([]string{"check", "rules", "--lint=all", "--lint-fatal"}, files(t, "rules/*.yaml")...)...)
}

func TestRules(t *testing.T) {
	t.Parallel()
	for _, file := range files(t, "rules/tests/*.yaml") {
		t.Run(filepath.Base(file), func(t *testing.T) {
			t.Parallel()
			promtool(t, "test", "rules", file)
		})
	}
}

// TestEveryAlertIsTested holds that each alert, at each severity, is seen to fire and to be silent in the tests of the rules. A test
// bears the alert's name.
func TestEveryAlertIsTested(t *testing.T) {
	t.Parallel()
	fires, silent := map[string]bool{}, map[string]bool{}
	for _, file := range files(t, "rules/tests/*.yaml") {
		var f struct {
			Tests []struct {
				Name string
				Expr []struct {
					Samples []struct{ Labels string } `yaml:"exp_samples"`
				} `yaml:"promql_expr_test"`
			}
		}
		if err := yaml.Unmarshal(read(t, file), &f); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		for _, test := range f.Tests {
			alert, _, _ := strings.Cut(test.Name, ",")
			for _, e := range test.Expr {
				silent[alert] = silent[alert] || len(e.Samples) == 0
				for _, s := range e.Samples {
					fires[s.Labels] = true
				}
			}
		}
	}
	for _, a := range alerts(t) {
		if !silent[a.Alert] {
			t.Errorf("no test sees %s silent", a.Alert)
		}
		if labels := `{alertname="` + a.Alert + `", severity="` + a.Labels["severity"] + `"}`; !fires[labels] {
			t.Errorf("no test sees %s fire", labels)
		}
	}
}

// wants are the annotations that the person on call needs.
var wants = map[string]*regexp.Regexp{
	"summary": regexp.MustCompile(`^[A-Z]`), "description": regexp.MustCompile(`\.$`),
	"dashboard": regexp.MustCompile(`^/d/(parley-\w+)\?var-namespace=`), "runbook_url": regexp.MustCompile(`/docs/runbooks/(\w+)\.md$`),
}

func TestAlertsLeadOn(t *testing.T) {
	t.Parallel()
	boards := map[string]bool{}
	for _, d := range dashboards(t) {
		boards[d.UID] = true
	}
	runbooks := map[string]bool{}
	for _, file := range files(t, "../docs/runbooks/*.md") {
		name := strings.TrimSuffix(filepath.Base(file), ".md")
		runbooks[name] = false
		var titles []string
		for line := range strings.Lines(string(read(t, file))) {
			if strings.HasPrefix(line, "# Parley") || strings.HasPrefix(line, "## ") {
				titles = append(titles, strings.TrimSpace(line))
			}
		}
		if want := []string{"# " + name, "## Meaning", "## Impact", "## Diagnose", "## Mitigate", "## Over"}; !slices.Equal(titles, want) {
			t.Errorf("%s has the parts %q, want %q", file, titles, want)
		}
	}
	for _, a := range alerts(t) {
		if s := a.Labels["severity"]; s != "critical" && s != "warning" {
			t.Errorf("%s has the severity %q", a.Alert, s)
		}
		found := map[string][]string{}
		for name, form := range wants {
			if found[name] = form.FindStringSubmatch(a.Annotations[name]); found[name] == nil {
				t.Errorf("%s has the %s %q, want %s", a.Alert, name, a.Annotations[name], form)
			}
		}
		if d := found["dashboard"]; d != nil && !boards[d[1]] {
			t.Errorf("%s leads to the dashboard %s, which is not there", a.Alert, d[1])
		}
		if r := found["runbook_url"]; r != nil && r[1] != a.Alert {
			t.Errorf("%s leads to the runbook of %s", a.Alert, r[1])
		}
		if _, ok := runbooks[a.Alert]; !ok {
			t.Errorf("%s has no runbook", a.Alert)
		}
		runbooks[a.Alert] = true
		if strings.Contains(a.Expr, "job=") {
			t.Errorf("%s names a job, which is another in another deployment", a.Alert)
		}
	}
	for name, has := range runbooks {
		if !has {
			t.Errorf("the runbook %s has no alert", name)
		}
	}
}

type dashboardFile struct {
	UID, Title, Description string
	Templating              struct{ List []struct{ Name string } }
	Links                   []struct{ Type string }
	Panels                  []panelFile
}

type panelFile struct {
	ID                       int
	Type, Title, Description string
	GridPos                  struct{ X, Y, W, H int }
	FieldConfig              struct{ Defaults struct{ Unit string } }
	Targets                  []struct{ Expr string }
	Links                    []struct{ URL string }
}

func dashboards(t *testing.T) []dashboardFile {
	t.Helper()
	var out []dashboardFile
	for _, file := range files(t, "dashboards/*.json") {
		var d dashboardFile
		if err := json.Unmarshal(read(t, file), &d); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		out = append(out, d)
	}
	return out
}

func TestDashboardsAreWhole(t *testing.T) {
	t.Parallel()
	known := map[string]bool{}
	for _, a := range alerts(t) {
		known[a.Alert] = true
	}
	uids := map[string]bool{}
	for _, d := range dashboards(t) {
		if d.Description == "" || uids[d.UID] || len(d.Links) == 0 {
			t.Errorf("%s: its description is %q, its links %v, or its uid is another's", d.UID, d.Description, d.Links)
		}
		uids[d.UID] = true
		var variables []string
		for _, v := range d.Templating.List {
			variables = append(variables, v.Name)
		}
		if want := []string{"datasource", "namespace", "job", "pod"}; !slices.Equal(variables, want) {
			t.Errorf("%s has the variables %q", d.UID, variables)
		}
		taken := map[[2]int]string{}
		for _, p := range d.Panels {
			for x := p.GridPos.X; x < p.GridPos.X+p.GridPos.W; x++ {
				for y := p.GridPos.Y; y < p.GridPos.Y+p.GridPos.H; y++ {
					if other := taken[[2]int{x, y}]; other != "" || x >= 24 {
						t.Fatalf("%s: %q lies on %q or outside", d.UID, p.Title, other)
					}
					taken[[2]int{x, y}] = p.Title
				}
			}
			if p.Type == "row" {
				continue
			}
			if p.Description == "" || p.FieldConfig.Defaults.Unit == "" || len(p.Targets) == 0 {
				t.Errorf("%s: %q lacks a description, a unit or a query", d.UID, p.Title)
			}
			for _, q := range p.Targets {
				if !strings.Contains(q.Expr, "$namespace") {
					t.Errorf("%s: a query of %q is not narrowed by the variables: %s", d.UID, p.Title, q.Expr)
				}
			}
			for _, l := range p.Links {
				if name := strings.TrimSuffix(filepath.Base(l.URL), ".md"); !known[name] {
					t.Errorf("%s: %q leads to the runbook %s, which is not there; known are %q", d.UID, p.Title, name, slices.Sorted(maps.Keys(known)))
				}
			}
		}
	}
}
