package chart

import (
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

// The README lists every value.
func TestReadme(t *testing.T) {
	cmd := exec.Command("go", "tool", "helm-docs", "--chart-search-root", chartDir, "--dry-run", "--log-level", "error")
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("helm-docs: %v: %s", err, stderr.String())
	}
	golden(t, chartDir+"/README.md", strings.TrimRight(string(out), "\n")+"\n")
}

// The chart's copies are what ops/ has: a chart is packed without what is beside it.
func TestFilesAreThoseOfOps(t *testing.T) {
	copies := 0
	for _, pattern := range []string{"rules/*.yaml", "dashboards/*.json"} {
		from, _ := filepath.Glob(root + "/ops/" + pattern)
		for _, f := range from {
			b, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			to := filepath.Join(chartDir, "files", filepath.Dir(pattern), filepath.Base(f))
			makeDirToUpdate(t, filepath.Dir(to))
			golden(t, to, string(b))
		}
		have, _ := filepath.Glob(chartDir + "/files/" + pattern)
		if len(have) != len(from) {
			t.Errorf("the chart has %d of %s, ops %d: %v", len(have), pattern, len(from), have)
		}
		copies += len(have)
	}
	if copies == 0 {
		t.Error("there is none")
	}
}

// makeDirToUpdate makes the folder of a golden, if goldens are to be written.
func makeDirToUpdate(t *testing.T, dir string) {
	t.Helper()
	if !*update {
		return
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
}

// Each rule and each dashboard is rendered as it is in ops/.
func TestMonitoringIsWhole(t *testing.T) {
	list := renderMonitoring(t, nil)
	rules, dashboards := 0, 0
	for _, o := range list {
		switch {
		case o["kind"] == "PrometheusRule":
			rules += len(rulesOf(o))
		case o["kind"] == "ConfigMap" && strings.Contains(name(o), "-dashboard-"):
			dashboards++
			expectDashboardsOfOps(t, o)
		}
	}
	want, _ := filepath.Glob(root + "/ops/dashboards/*.json")
	if dashboards != len(want) {
		t.Errorf("%d dashboards of %d", dashboards, len(want))
	}
	if all := opsRules(t); rules != len(all) || rules == 0 {
		t.Errorf("%d rules of %d", rules, len(all))
	}
}

// rulesOf are the rules of a PrometheusRule.
func rulesOf(o object) (rules []object) {
	for _, g := range o["spec"].(object)["groups"].([]any) {
		for _, r := range g.(object)["rules"].([]any) {
			rules = append(rules, r.(object))
		}
	}
	return rules
}

// expectDashboardsOfOps checks that each dashboard of a ConfigMap is the one of that name in ops/.
func expectDashboardsOfOps(t *testing.T, o object) {
	t.Helper()
	for file, text := range o["data"].(object) {
		b, err := os.ReadFile(root + "/ops/dashboards/" + file)
		if err != nil || strings.TrimSpace(string(b)) != strings.TrimSpace(text.(string)) {
			t.Errorf("%s is another than that of ops: %v", file, err)
		}
	}
}

func renderMonitoring(t *testing.T, prometheusRule object) []object {
	t.Helper()
	rule := object{"enabled": true}
	maps.Copy(rule, prometheusRule)
	return mustRender(t, object{"devDependencies": object{"enabled": true}, "prometheusRule": rule, "dashboards": object{"enabled": true}})
}

// opsRules are the rules of ops/, in order.
func opsRules(t *testing.T) []object {
	t.Helper()
	var all []object
	files, _ := filepath.Glob(root + "/ops/rules/*.yaml")
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		var doc struct{ Groups []struct{ Rules []object } }
		if err := yaml.Unmarshal(b, &doc); err != nil {
			t.Fatalf("%s: %v", f, err)
		}
		for _, g := range doc.Groups {
			all = append(all, g.Rules...)
		}
	}
	return all
}

// An alert can be left out, and changed.
func TestAlertsAreDisabledAndOverridden(t *testing.T) {
	var names []string
	for _, r := range opsRules(t) {
		if n, ok := r["alert"].(string); ok {
			names = append(names, n)
		}
	}
	if len(names) < 2 {
		t.Fatalf("there are %d alerts", len(names))
	}
	gone, changed := names[0], names[len(names)-1]
	list := renderMonitoring(t, object{
		"disabled": []any{gone}, "overrides": object{changed: object{"for": "42m", "labels": object{"severity": "info"}}},
	})
	if rules := alertsOf(list, gone); len(rules) > 0 {
		t.Errorf("%s is there, and was left out", gone)
	}
	rules := alertsOf(list, changed)
	if len(rules) == 0 {
		t.Errorf("%s is gone", changed)
	}
	for _, rule := range rules {
		if rule["for"] != "42m" || rule["labels"].(object)["severity"] != "info" || rule["expr"] == nil {
			t.Errorf("%s is %v, want its expression with the changed time and label", changed, rule)
		}
	}
}

// alertsOf are the rules of an alert.
func alertsOf(list []object, alert string) (rules []object) {
	for _, o := range list {
		if o["kind"] != "PrometheusRule" {
			continue
		}
		for _, r := range rulesOf(o) {
			if r["alert"] == alert {
				rules = append(rules, r)
			}
		}
	}
	return rules
}

// What the chart sets by other values than config.
var otherwise = regexp.MustCompile(`^PARLEY_(HTTP_ADDR|OPS_ADDR|CONFIG|DATABASE_\w+|MIGRATE_DATABASE_URL|REDIS_\w+|JWT_SECRET|METRICS_TOKEN|BOOTSTRAP_KEY|SECRETS_KEY|PUSH_VAPID_PRIVATE_KEY|PUSH_FCM_CREDENTIALS|S3_\w+|SHUTDOWN_TIMEOUT|DRAIN_DELAY)$`)

var secretSetting = regexp.MustCompile(`(?m)^([\w.]+): \{ variable: PARLEY_`)

// docs/operating.md describes the rotation of each secret that the chart has.
func TestEverySecretHasItsRotation(t *testing.T) {
	t.Parallel()
	read := func(path string) string {
		b, err := os.ReadFile(filepath.Join(chartDir, path))
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	_, section, _ := strings.Cut(read("../../docs/operating.md"), "\n## Rotating secrets\n")
	section, _, _ = strings.Cut(section, "\n## ")
	secrets := secretSetting.FindAllStringSubmatch(read("templates/_helpers.tpl"), -1)
	if len(secrets) < 6 {
		t.Errorf("the chart has %d secrets", len(secrets))
	}
	names := []string{"database.", "redis.", "`storage`", "`trustedCA`"}
	for _, m := range secrets {
		names = append(names, m[1])
	}
	for _, name := range names {
		if !strings.Contains(section, name) {
			t.Errorf("the rotation of %s is not described", name)
		}
	}
}

// Every setting of docs/settings.md can be set.
func TestEverySettingCanBeSet(t *testing.T) {
	b, err := os.ReadFile(root + "/docs/settings.md")
	if err != nil {
		t.Fatal(err)
	}
	s, err := os.ReadFile(chartDir + "/values.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	var schema struct {
		Properties struct {
			Config struct{ Properties map[string]any }
		}
	}
	if err := yaml.Unmarshal(s, &schema); err != nil {
		t.Fatal(err)
	}
	known := map[string]bool{}
	for key := range schema.Properties.Config.Properties {
		known["PARLEY_"+strings.ToUpper(regexp.MustCompile(`([A-Z])`).ReplaceAllString(key, "_$1"))] = true
	}
	settings := map[string]bool{}
	for _, n := range regexp.MustCompile("`(PARLEY_[A-Z0-9_]+)`").FindAllStringSubmatch(string(b), -1) {
		settings[n[1]] = true
	}
	if len(settings) < 20 || len(known) < 10 {
		t.Fatalf("%d settings, %d known", len(settings), len(known))
	}
	for n := range settings {
		if !known[n] && !otherwise.MatchString(n) {
			t.Errorf("%s cannot be set by the chart's config", n)
		}
	}
	for n := range known {
		if !settings[n] {
			t.Errorf("config sets %s, which is no setting", n)
		}
	}
}
