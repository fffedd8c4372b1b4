package cluster

import (
	"strings"
	"testing"
)

// On two nodes or more, no node has all pods of a process, also if nodes have no zone. A loss of one node then leaves some.
func testSpread(t *testing.T, n *namespace) {
	nodes := 0
	for _, line := range strings.Split(n.kubectl("get", "nodes", "-o", `jsonpath={range .items[*]}{.metadata.name} {.spec.taints[*].key}{"\n"}{end}`), "\n") {
		if len(strings.Fields(line)) == 1 { // without a taint, such as that of a control plane or of a node that is not ready
			nodes++
		}
	}
	if nodes < 2 {
		t.Skipf("pods can run on %d nodes", nodes)
	}
	for _, component := range []string{"api", "presence-watcher", "receipt-worker"} {
		used := map[string]bool{}
		out := n.kubectl("get", "pods", "-l", "app.kubernetes.io/component="+component, "-o",
			`jsonpath={range .items[?(@.status.phase=="Running")]}{.spec.nodeName}{"\n"}{end}`)
		for _, node := range strings.Fields(out) {
			used[node] = true
		}
		if len(used) < 2 {
			t.Errorf("all pods of %s are on one node: %s", component, out)
		}
	}
}
