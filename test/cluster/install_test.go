package cluster

import (
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/parley-chat/parley/internal/testenv"
)

// Where the older release is: its image, and the folder of its chart. make test-cluster takes them from a commit.
const (
	oldImageVar = "PARLEY_TEST_IMAGE_OLD"
	oldChartVar = "PARLEY_TEST_CHART_OLD"
)

// An installation of an older release, by its own chart, is upgraded by each documented command, and rolled back, under load.
func TestUpgradeFromAnOlderRelease(t *testing.T) {
	requireCluster(t)
	if os.Getenv(oldImageVar) == "" {
		t.Skip("no older release: its commit is not in this checkout")
	}
	n := newNamespace(t, "parley-older")
	install := n.helmArgs(installTime, os.Getenv(oldImageVar))
	install[4] = os.Getenv(oldChartVar)
	if r := n.try(installTime+time.Minute, install...); r.err != nil {
		t.Fatalf("install the older release: %v: %s", r.err, r.out)
	}
	n.startLoad("load-older", rate)
	repository, tag, _ := strings.Cut(os.Getenv(imageVar), ":")
	upgrade := func(keep string) {
		t.Helper()
		begun, before := time.Now(), n.pods("api")
		r := n.try(2*patience, "helm", "upgrade", "parley", testenv.Root(t)+"/charts/parley", "-n", n.name, keep, "--wait", "--wait-for-jobs",
			"--timeout", patience.String(), "--set", "image.repository="+repository+",image.tag="+tag)
		if r.err != nil {
			t.Fatalf("helm upgrade %s: %v: %s", keep, r.err, r.out)
		}
		n.awaitGone(before)
		t.Logf("%s took %.1f s", keep, time.Since(begun).Seconds())
	}
	upgrade("--reuse-values")
	before := n.pods("api")
	n.must("helm", "-n", n.name, "rollback", "parley", "1", "--wait", "--timeout", patience.String())
	n.awaitGone(before)
	upgrade("--reset-then-reuse-values")
	n.goOn("load-older")
	r := n.stopLoad("load-older")
	nothingLost(t, r, true)
	t.Logf("%s", n.must("helm", "-n", n.name, "test", "parley"))
}

// external installs with databases outside the release. Nothing runs at the addresses unless a test sets them otherwise.
func (n *namespace) external(timeout time.Duration, image string, set ...string) result {
	repository, tag, _ := strings.Cut(image, ":")
	args := []string{"helm", "upgrade", "--install", "parley", testenv.Root(n.t) + "/charts/parley", "-n", n.name, "--timeout", timeout.String(),
		"--set", "image.repository=" + repository + ",image.tag=" + tag + ",jwt.secret=0123456789abcdef0123456789abcdef",
		"--set", "database.url=postgres://parley:p@no-such-postgres/parley,redis.url=redis://no-such-redis:6379",
	}
	for _, s := range set {
		args = append(args, "--set", s)
	}
	return n.try(timeout+time.Minute, args...)
}

// Databases that cannot be reached stop Helm, which prints both and installs nothing.
func TestUnreachableDatabases(t *testing.T) {
	requireCluster(t)
	n := newNamespace(t, "parley-away")
	begun := time.Now()
	r := n.external(patience, os.Getenv(imageVar), "verify.waitSeconds=5")
	t.Logf("helm stopped after %.1f s: %s", time.Since(begun).Seconds(), r.out)
	if r.err == nil {
		t.Fatal("helm says that it is installed")
	}
	for _, want := range []string{"postgres cannot be reached", "redis cannot be reached", "lookup no-such-redis"} {
		if !strings.Contains(r.out, want) {
			t.Errorf("helm does not print %q", want)
		}
	}
	if left := n.kubectl("get", "deployments", "-o", "name"); left != "" {
		t.Errorf("it installed %s", left)
	}
	if r := n.external(patience, os.Getenv(imageVar), "verify.waitSeconds=5", "verify.unreachable=warn"); r.err != nil {
		t.Errorf("with verify.unreachable=warn: %v: %s", r.err, r.out)
	}
}

// What keeps the hook's pod from starting stops Helm by the hook's own deadline, and the documented command shows the cause.
func TestWhatTheHookCannotSay(t *testing.T) {
	requireCluster(t)
	shown := documented(t, "## Upgrades", "get events")
	for name, c := range map[string]struct {
		set  []string
		want string
	}{
		"an image that cannot be pulled": {[]string{"image.tag=no-such-tag"}, "pull image"},
		"a Secret without the key":       {[]string{"jwt.secret=,jwt.existingSecret.name=jwt,jwt.existingSecret.key=misspelt"}, "couldn't find key misspelt"},
		"a node that is not there":       {[]string{"nodeSelector.pool=none"}, "didn't match Pod's node affinity/selector"},
	} {
		t.Run(name, func(t *testing.T) {
			n := newNamespace(t, "parley-silent")
			n.kubectl("create", "secret", "generic", "jwt", "--from-literal=secret=0123456789abcdef0123456789abcdef")
			r := n.external(patience, os.Getenv(imageVar), append(c.set, "verify.activeDeadlineSeconds=20", "verify.waitSeconds=5")...)
			if r.err == nil || !strings.Contains(r.out, "DeadlineExceeded") {
				t.Errorf("helm: %v: %s", r.err, r.out)
			}
			out := n.run(shown[0])
			t.Logf("%s", out)
			if !strings.Contains(out, c.want) {
				t.Errorf("the documented command does not show %q", c.want)
			}
		})
	}
}

// documented returns the commands of docs/operating.md after a text, up to the next heading, that hold another, one per line.
func documented(t *testing.T, after, with string) []string {
	t.Helper()
	b, err := os.ReadFile(testenv.Root(t) + "/docs/operating.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, ok := strings.Cut(string(b), "\n"+after)
	if !ok {
		t.Fatalf("there is no %s", after)
	}
	section, _, _ = strings.Cut(section, "\n## ")
	var out []string
	for line := range strings.Lines(section) {
		if command, ok := strings.CutPrefix(line, "    "); ok && strings.Contains(command, with) {
			out = append(out, strings.TrimSpace(command))
		}
	}
	if len(out) == 0 {
		t.Fatalf("after %s is no command with %q", after, with)
	}
	return out
}

var documentedNamespace = regexp.MustCompile(`(-n|namespaces/)( ?)chat\b`)

// run runs a documented command, whose release is parley in the namespace chat, in this namespace.
func (n *namespace) run(command string) string {
	n.t.Helper()
	out, err := n.bash(command)
	if err != nil {
		n.t.Errorf("%s: %v: %s", command, err, out)
	}
	return out
}

// attempt runs a documented command that may fail.
func (n *namespace) attempt(command string) string {
	out, _ := n.bash(command)
	return out
}

func (n *namespace) bash(command string) (string, error) {
	command = documentedNamespace.ReplaceAllString(command, "${1}${2}"+n.name)
	command = strings.ReplaceAll(command, "charts/parley", testenv.Root(n.t)+"/charts/parley")
	out, err := exec.Command("bash", "-o", "pipefail", "-c", command).CombinedOutput()
	return string(out), err
}

// The passwords of the bundled databases are rotated as documented, and nothing is lost.
func testRotation(t *testing.T, n *namespace) {
	n.startLoad("load-rotation", rate)
	// And back, for the tests that follow.
	for _, password := range []string{"new-password", "parley"} {
		for _, command := range documented(t, "**The bundled databases**", "") {
			t.Log(command)
			n.run(strings.ReplaceAll(command, "NEW", password))
		}
	}
	n.kubectl("rollout", "status", "deployment/parley-api", "--timeout", patience.String())
	n.goOn("load-rotation")
	// Redis restarts: requests that need it may fail meanwhile, what was accepted may not be lost.
	nothingLost(t, n.stopLoad("load-rotation"), false)
	n.must("helm", "-n", n.name, "test", "parley", "--logs")
	if out := n.kubectl("exec", "parley-redis-0", "--", "redis-cli", "--no-auth-warning", "-a", "new-password", "ping"); strings.Contains(out, "PONG") {
		t.Error("redis takes the old password")
	}
}

// On a tainted node everything runs if the values tolerate the taint once: processes, hooks, databases and the test.
func TestTaintedNode(t *testing.T) {
	requireCluster(t)
	n := newNamespace(t, "parley-taint")
	node := n.kubectl("get", "nodes", "-o", "jsonpath={.items[0].metadata.name}")
	n.must("kubectl", "taint", "node", node, "dedicated=chat:NoSchedule", "--overwrite")
	t.Cleanup(func() { n.must("kubectl", "taint", "node", node, "dedicated=chat:NoSchedule-") })
	if r := n.helm(patience, os.Getenv(imageVar), "tolerations[0].key=dedicated,tolerations[0].operator=Exists"); r.err != nil {
		t.Fatalf("helm install: %v: %s", r.err, r.out)
	}
	t.Logf("%s", n.must("helm", "-n", n.name, "test", "parley", "--logs"))
}
