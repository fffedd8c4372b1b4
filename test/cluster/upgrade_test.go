package cluster

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/parley-chat/parley/internal/testenv"
)

func (n *namespace) scale(replicas int) {
	n.t.Helper()
	n.kubectl("scale", "deployment/parley-api", fmt.Sprintf("--replicas=%d", replicas))
	testenv.Eventually(n.t, patience, func() bool {
		return len(strings.Fields(n.kubectl("get", "endpointslices", "-l", "kubernetes.io/service-name=parley-api", "-o",
			`jsonpath={range .items[*].endpoints[?(@.conditions.ready==true)]}{.targetRef.name} {end}`))) == replicas &&
			len(n.pods("api")) == replicas
	}, "there are %d pods", replicas)
}

func testScale(t *testing.T, n *namespace) {
	n.startFeatures("load-scale", rate)
	n.scale(4)
	four := n.pods("api")
	n.scale(2)
	two := n.pods("api")
	n.awaitGone(slices.DeleteFunc(four, func(p string) bool { return slices.Contains(two, p) }))
	r := n.stopLoad("load-scale")
	nothingLost(t, r, true)
}

// The next image has a migration more: the old pods go on while and after it runs.
func testUpgrade(t *testing.T, n *namespace) {
	before := n.pods("api")
	n.startFeatures("load-upgrade", rate)
	upgraded := make(chan result, 1)
	begun := time.Now()
	go func() { upgraded <- n.helm(patience, os.Getenv(nextImageVar)) }()
	testenv.Eventually(t, patience, func() bool { return n.schema() == nextSchema }, "the schema is the next one")
	left := 0
	for _, p := range n.pods("api") {
		for _, old := range before {
			if p == old {
				left++
			}
		}
	}
	r := <-upgraded
	if r.err != nil {
		t.Errorf("helm upgrade: %v: %s", r.err, r.out)
	}
	t.Logf("upgraded after %.1f s; when the schema was the next one, %d of %d old pods served", time.Since(begun).Seconds(), left, len(before))
	if left == 0 {
		t.Error("no old pod met the new schema")
	}
	n.awaitGone(before)
	l := n.stopLoad("load-upgrade")
	nothingLost(t, l, true)
	if l.Features == 0 {
		t.Error("nobody reacted, mentioned, pinned, muted or edited")
	}
	if l.Reconnects < people {
		t.Errorf("%d sockets came back, of %d that were open", l.Reconnects, people)
	}
	closedOnlyBy1012(t, l)
}

// awaitGone waits until the pods are no more.
func (n *namespace) awaitGone(pods []string) {
	n.t.Helper()
	for _, p := range pods {
		n.kubectl("wait", "--for=delete", "pod/"+p, "--timeout="+patience.String())
	}
}

// nextSchema is the version of the migration that the next image has more.
const nextSchema = "99999"

func (n *namespace) schema() string {
	return n.try(time.Minute, "kubectl", "-n", n.name, "exec", "parley-postgres-0", "--", "psql", "-U", "parley", "-d", "parley", "-Atc",
		"SELECT max(version_id) FROM goose_db_version WHERE is_applied").out
}

// The old image runs on the newer schema.
func testRollback(t *testing.T, n *namespace) {
	before := n.pods("api")
	n.startFeatures("load-rollback", rate)
	n.must("helm", "-n", n.name, "rollback", "parley", "1", "--wait", "--wait-for-jobs", "--timeout", patience.String())
	if v := n.schema(); v != nextSchema {
		t.Errorf("the schema is %s", v)
	}
	n.awaitGone(before)
	r := n.stopLoad("load-rollback")
	nothingLost(t, r, true)
	closedOnlyBy1012(t, r)
	n.must("helm", "-n", n.name, "test", "parley")
}

// What was answered is kept, whichever process dies; requests in flight to a pod that dies may fail.
func testForceDelete(t *testing.T, n *namespace) {
	n.startFeatures("load-force", rate)
	for _, component := range []string{"api", "presence-watcher", "receipt-worker"} {
		n.kubectl("delete", "pod", n.pods(component)[0], "--force", "--grace-period=0")
	}
	n.kubectl("rollout", "status", "deployment/parley-api", "--timeout", patience.String())
	n.goOn("load-force")
	r := n.stopLoad("load-force")
	nothingLost(t, r, false)
	if r.Reconnects == 0 {
		t.Error("no socket had to come back")
	}
}

// A drain takes one pod at a time. On one node the other has nowhere to go: the drain waits.
func testDrain(t *testing.T, n *namespace) {
	node := n.kubectl("get", "pod", n.pods("api")[0], "-o", "jsonpath={.spec.nodeName}")
	t.Cleanup(func() { n.must("kubectl", "uncordon", node) })
	n.startLoad("load-drain", rate)
	r := n.try(2*time.Minute, "kubectl", "drain", node, "--ignore-daemonsets", "--delete-emptydir-data", "--timeout=30s",
		"--pod-selector", "app.kubernetes.io/name=parley,app.kubernetes.io/component=api")
	ready := n.kubectl("get", "deployment/parley-api", "-o", "jsonpath={.status.readyReplicas}")
	if ready == "" || ready == "0" {
		t.Errorf("the drain left no pod: %s", r.out)
	}
	if r.err != nil && !strings.Contains(r.out, "disruption budget") {
		t.Errorf("the drain: %v: %s", r.err, r.out)
	}
	n.must("kubectl", "uncordon", node)
	n.kubectl("rollout", "status", "deployment/parley-api", "--timeout", patience.String())
	n.goOn("load-drain")
	nothingLost(t, n.stopLoad("load-drain"), true)
}
