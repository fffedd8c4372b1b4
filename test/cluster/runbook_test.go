package cluster

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/parley-chat/parley/internal/testenv"
)

var shellBlocks = regexp.MustCompile("(?s)```sh\n(.*?)\n```")

// runbook returns the commands of a runbook under a heading, a block each.
func runbook(t *testing.T, alert, heading string) []string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(testenv.Root(t), "docs/runbooks", alert+".md"))
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(b), "\n## "+heading+"\n")
	section, _, _ = strings.Cut(section, "\n## ")
	var out []string
	for _, m := range shellBlocks.FindAllStringSubmatch(section, -1) {
		out = append(out, m[1])
	}
	if len(out) == 0 {
		t.Fatalf("%s has no commands under %s", alert, heading)
	}
	return out
}

// bundled are the functions of docs/on-call.md for the bundled databases.
func bundled(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(testenv.Root(t), "docs/on-call.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range shellBlocks.FindAllStringSubmatch(strings.ReplaceAll(string(b), "\n   ", "\n"), -1) {
		if strings.Contains(m[1], "psql()") {
			return m[1]
		}
	}
	t.Fatal("docs/on-call.md has no functions for the bundled databases")
	return ""
}

// diagnose runs all commands of a runbook's diagnosis, each as pasted after those of docs/on-call.md, and returns what they print.
func (n *namespace) diagnose(alert string) string {
	n.t.Helper()
	var out strings.Builder
	for _, command := range runbook(n.t, alert, "Diagnose") {
		out.WriteString("$ " + command + "\n" + n.run("DATABASE_URL=- REDIS_URL=-\n"+bundled(n.t)+"\n"+command))
	}
	return out.String()
}

// The commands of every runbook's diagnosis run where all is well.
func testRunbooks(t *testing.T, n *namespace) {
	files, _ := filepath.Glob(filepath.Join(testenv.Root(t), "docs/runbooks/*.md"))
	for _, f := range files {
		n.diagnose(strings.TrimSuffix(filepath.Base(f), ".md"))
	}
}

// The runbooks of an outage are followed during it: the diagnosis shows the cause, the mitigation ends it.
func testRunbooksInAnOutage(t *testing.T, n *namespace) {
	ready := runbook(t, "ParleyNotReady", "Diagnose")[1]
	for _, c := range []struct{ alert, cause, shows, mend string }{
		{"ParleyRedisDown", "scale statefulset/parley-redis --replicas=0", `"redis":"down"`, "scale statefulset/parley-redis --replicas=1"},
		{"ParleyProcessMissing", "scale deploy/parley-presence-watcher --replicas=0", "0/0", ""},
	} {
		n.kubectl(strings.Fields(c.cause)...)
		testenv.Eventually(t, patience, func() bool {
			// Commands for a database that is gone fail, which is what they show.
			var out strings.Builder
			for _, command := range runbook(t, c.alert, "Diagnose") {
				out.WriteString(n.attempt("DATABASE_URL=- REDIS_URL=-\n" + bundled(t) + "\n" + command))
			}
			return strings.Contains(out.String(), c.shows)
		}, "%s shows %s", c.alert, c.shows)
		if c.mend != "" {
			n.kubectl(strings.Fields(c.mend)...)
		} else {
			n.run(runbook(t, c.alert, "Mitigate")[0])
		}
		testenv.Eventually(t, patience, func() bool { return strings.Contains(n.attempt(ready), `"status":"ok"`) }, "all is well after %s", c.alert)
	}
	n.kubectl("rollout", "status", "deployment/parley-presence-watcher", "--timeout", patience.String())
	n.must("helm", "-n", n.name, "test", "parley")
}
