package test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/parley-chat/parley/internal/testenv"
)

// runbookCommand is a block of commands that a runbook gives for pasting.
type runbookCommand struct{ runbook, text string }

var shellBlocks = regexp.MustCompile("(?s)```sh\n(.*?)\n```")

func runbookCommands(t *testing.T) []runbookCommand {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(testenv.Root(t), "docs/runbooks/*.md"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no runbooks: %v", err)
	}
	var out []runbookCommand
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		blocks := shellBlocks.FindAllSubmatch(b, -1)
		if len(blocks) < 2 {
			t.Errorf("%s has %d commands", filepath.Base(file), len(blocks))
		}
		for _, m := range blocks {
			out = append(out, runbookCommand{filepath.Base(file), string(m[1])})
		}
	}
	return out
}

var (
	// objectName is how a command names an object of the release, componentName how it selects pods, settingName a setting.
	objectName    = regexp.MustCompile(`\b(deploy|deployment|statefulset|svc|configmap|networkpolicy)[/ ](parley[\w-]*)|\bservices/(parley[\w-]*):|exec -i (parley[\w-]*)-0\b`)
	componentName = regexp.MustCompile(`app\.kubernetes\.io/component=([\w-]+)`)
	chartValue    = regexp.MustCompile(`--set "?([\w.]+)=`)
	settingName   = regexp.MustCompile(`\bPARLEY_[A-Z0-9_]+\b`)
)

// existing is what commands may name.
type existing struct {
	rendered string // manifests
	values   string // the chart's README
	settings string // the list of settings
}

// Every command parses, and names what the chart renders, the values that it has and settings that exist.
func TestRunbookCommandsNameWhatExists(t *testing.T) {
	t.Parallel()
	root := testenv.Root(t)
	read := func(path string) string {
		b, err := os.ReadFile(filepath.Join(root, path))
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	e := existing{
		rendered: read("test/chart/testdata/bundled/golden.yaml") + read("test/chart/testdata/dispatcher/golden.yaml"),
		values:   read("charts/parley/README.md"), settings: read("docs/settings.md"),
	}
	for _, c := range runbookCommands(t) {
		if out, err := exec.Command("bash", "-n", "-c", c.text).CombinedOutput(); err != nil {
			t.Errorf("%s: %v: %s\n%s", c.runbook, err, out, c.text)
		}
		for _, line := range strings.Split(c.text, "\n") {
			c.programs(t, line)
		}
		e.objects(t, c)
		e.chartValues(t, c)
	}
	files, _ := filepath.Glob(filepath.Join(root, "docs/runbooks/*.md"))
	for _, file := range files {
		for _, setting := range settingName.FindAllString(read("docs/runbooks/"+filepath.Base(file)), -1) {
			if !strings.Contains(e.settings, "`"+setting+"`") {
				t.Errorf("%s names %s, which is no setting", filepath.Base(file), setting)
			}
		}
	}
}

// programs checks that a line starts a program that on-call has, and that kubectl and helm get a namespace.
func (c runbookCommand) programs(t *testing.T, line string) {
	t.Helper()
	program, _, _ := strings.Cut(line, " ")
	if !slices.Contains([]string{"kubectl", "helm", "psql", "redis-cli"}, program) {
		t.Errorf("%s: %q is no command that on-call has", c.runbook, line)
	}
	if program != "kubectl" && program != "helm" || strings.Contains(line, "--raw") || strings.Contains(line, "kubectl drain") {
		return
	}
	if !strings.Contains(line, "-n chat") && !strings.Contains(line, "-n ingress-nginx") {
		t.Errorf("%s: %q names no namespace", c.runbook, line)
	}
}

// objects checks the names and components of a command against what the chart renders.
func (e existing) objects(t *testing.T, c runbookCommand) {
	t.Helper()
	for _, m := range objectName.FindAllStringSubmatch(c.text, -1) {
		if name := strings.Join(m[2:], ""); !strings.Contains(e.rendered, "\n  name: "+name+"\n") {
			t.Errorf("%s names %s, which the chart does not render", c.runbook, name)
		}
	}
	for _, m := range componentName.FindAllStringSubmatch(c.text, -1) {
		if !strings.Contains(e.rendered, "app.kubernetes.io/component: "+m[1]+"\n") {
			t.Errorf("%s selects the component %s, which the chart does not render", c.runbook, m[1])
		}
	}
}

// chartValues checks the values that a command sets.
func (e existing) chartValues(t *testing.T, c runbookCommand) {
	t.Helper()
	for _, m := range chartValue.FindAllStringSubmatch(c.text, -1) {
		top, rest, _ := strings.Cut(m[1], ".")
		if !strings.Contains(e.values, "| "+m[1]+" |") && top != "config" && !strings.Contains(e.values, "| "+top+"."+strings.Split(rest, ".")[0]+".") {
			t.Errorf("%s sets %s, which is no value of the chart", c.runbook, m[1])
		}
	}
}

// Every command for Postgres and Redis works on those that Parley uses.
func TestRunbookCommandsForDatabasesWork(t *testing.T) {
	t.Parallel()
	env := append(os.Environ(), "DATABASE_URL="+testenv.Postgres(t), "REDIS_URL="+testenv.Redis(t).URL())
	ran := 0
	for _, c := range runbookCommands(t) {
		for _, line := range strings.Split(c.text, "\n") {
			if !strings.HasPrefix(line, "psql ") && !strings.HasPrefix(line, "redis-cli ") {
				continue
			}
			ran++
			cmd := exec.Command("bash", "-o", "pipefail", "-c", "set -e; psql() { command psql -v ON_ERROR_STOP=1 \"$@\"; }; redis-cli() { command redis-cli -e \"$@\"; }\n"+line)
			cmd.Env = env
			var errs bytes.Buffer
			cmd.Stderr = &errs
			out, err := cmd.Output()
			if err != nil || strings.Contains(string(out), "ERR ") {
				t.Errorf("%s: %s\n%v: %s%s", c.runbook, line, err, out, errs.String())
			}
		}
	}
	if ran < 40 {
		t.Errorf("there are %d such commands", ran)
	}
}
