package cluster

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/parley-chat/parley/internal/testenv"
)

// Helm stops at secrets that the databases refuse, before it has changed anything, and prints what is wrong.
func testWrongSecrets(t *testing.T, n *namespace) {
	const all = "deployments,statefulsets,configmaps,secrets,services"
	versions := func() string {
		return n.kubectl("get", all, "-l", "app.kubernetes.io/instance=parley", "-o", `jsonpath={range .items[*]}{.kind}/{.metadata.name} {.metadata.uid}{"\n"}{end}`)
	}
	before := versions()
	begun := time.Now()
	r := n.helm(patience, os.Getenv(imageVar), "devDependencies.postgres.password=wrong,devDependencies.redis.password=wrong")
	t.Logf("helm stopped after %.1f s: %s", time.Since(begun).Seconds(), r.out)
	if r.err == nil {
		t.Error("helm says that it is ready")
	}
	for _, shown := range []string{"PARLEY_DATABASE_URL", "password authentication failed", "PARLEY_REDIS_URL", "WRONGPASS"} {
		if !strings.Contains(r.out, shown) {
			t.Errorf("helm does not show %s", shown)
		}
	}
	if after := versions(); after != before {
		t.Errorf("it changed something: %s, and before %s", after, before)
	}
}

// With a password that Postgres refuses the migration fails at once, for good, and says why; what runs goes on.
func testWrongPassword(t *testing.T, n *namespace) {
	deployed := n.kubectl("get", "secrets", "-l", "owner=helm,name=parley,status=deployed", "-o", "jsonpath={.items[*].metadata.labels.version}")
	n.startLoad("load-wrong", rate)
	upgraded := make(chan result, 1)
	begun := time.Now()
	go func() {
		upgraded <- n.helm(45*time.Second, os.Getenv(imageVar), "devDependencies.postgres.password=wrong", "verify.enabled=false")
	}()
	testenv.Eventually(t, patience, func() bool {
		return strings.Contains(n.kubectl("get", "jobs", "-l", "app.kubernetes.io/component=migrate", "-o", `jsonpath={.items[*].status.conditions[?(@.type=="Failed")].reason}`), "PodFailurePolicy")
	}, "the migration fails for good")
	t.Logf("failed after %.1f s", time.Since(begun).Seconds())
	shown := n.kubectl("get", "pods", "-l", "app.kubernetes.io/component=migrate", "-o",
		`jsonpath={.items[*].status.containerStatuses[*].state.terminated.message}`)
	if !strings.Contains(shown, "PARLEY_DATABASE_URL") || !strings.Contains(shown, "password authentication failed") {
		t.Errorf("the pods show %q", shown)
	}
	t.Logf("its pod shows: %s", shown)
	if r := <-upgraded; r.err == nil {
		t.Error("helm says that it is ready")
	}
	n.must("helm", "-n", n.name, "rollback", "parley", deployed, "--wait", "--timeout", patience.String())
	r := n.stopLoad("load-wrong")
	nothingLost(t, r, true)
	closedOnlyBy1012(t, r)
}

// A secret that is wrong from the start is printed by Helm, which installs nothing; without that the pods name it within seconds.
func TestWrongSecret(t *testing.T) {
	requireCluster(t)
	n := newNamespace(t, "parley-wrong")
	n.kubectl("create", "secret", "generic", "jwt", "--from-literal=secret=too-short")
	begun := time.Now()
	set := []string{"jwt.existingSecret.name=jwt", "jwt.existingSecret.key=secret"}
	r := n.helm(patience, os.Getenv(imageVar), set...)
	t.Logf("helm stopped after %.1f s: %s", time.Since(begun).Seconds(), r.out)
	if r.err == nil || !strings.Contains(r.out, "PARLEY_JWT_SECRET") || strings.Contains(r.out, "too-short") {
		t.Errorf("helm: %v", r.err)
	}
	if left := n.kubectl("get", "deployments", "-o", "name"); left != "" {
		t.Errorf("it installed %s", left)
	}
	done := make(chan result, 1)
	go func() { done <- n.helm(30*time.Second, os.Getenv(imageVar), append(set, "verify.enabled=false")...) }()
	begun = time.Now()
	var shown string
	testenv.Eventually(t, patience, func() bool {
		shown = n.kubectl("get", "pods", "-l", "app.kubernetes.io/component=api", "-o",
			`jsonpath={.items[*].status.containerStatuses[*].state.terminated.message}{.items[*].status.containerStatuses[*].lastState.terminated.message}`)
		return strings.Contains(shown, "PARLEY_JWT_SECRET")
	}, "the pods report it")
	t.Logf("reported after %.1f s: %s", time.Since(begun).Seconds(), shown)
	if !strings.Contains(shown, "at least 32 bytes") || strings.Contains(shown, "too-short") {
		t.Errorf("the pods show %q", shown)
	}
	if r := <-done; r.err == nil {
		t.Error("helm says that it is ready")
	}
}
