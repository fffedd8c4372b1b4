package cluster

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/parley-chat/parley/internal/testenv"
	"github.com/parley-chat/parley/test/cluster/report"
)

// startLoad has people chat through the Service, from a pod.
func (n *namespace) startLoad(name string, rate int) {
	n.t.Helper()
	n.startLoadAt(name, "http://parley-api", rate)
}

// startFeatures is startLoad with people who also react, mention, pin, mute and edit.
func (n *namespace) startFeatures(name string, rate int) {
	n.t.Helper()
	n.startLoadAt(name, "http://parley-api", rate, "features")
}

func (n *namespace) startLoadAt(name, base string, rate int, args ...string) {
	n.t.Helper()
	n.runPod(name, append([]string{"run", base, fmt.Sprint(people), fmt.Sprint(rate)}, args...)...)
	testenv.Eventually(n.t, patience, func() bool {
		return strings.Contains(n.try(time.Minute, "kubectl", "-n", n.name, "logs", name).out, "running")
	}, "the load runs")
}

// runPod runs the load's image.
func (n *namespace) runPod(name string, args ...string) {
	n.t.Helper()
	no, yes := false, true
	pod := map[string]any{
		"apiVersion": "v1", "kind": "Pod", "metadata": map[string]any{"name": name},
		"spec": map[string]any{
			"restartPolicy": "Never", "automountServiceAccountToken": no, "enableServiceLinks": no,
			"securityContext": map[string]any{"runAsNonRoot": yes, "seccompProfile": map[string]any{"type": "RuntimeDefault"}},
			"containers": []any{map[string]any{
				"name": "load", "image": os.Getenv(loadImageVar), "imagePullPolicy": "IfNotPresent", "args": args,
				"securityContext": map[string]any{"allowPrivilegeEscalation": no, "capabilities": map[string]any{"drop": []string{"ALL"}}},
				"volumeMounts":    []any{map[string]any{"name": "tmp", "mountPath": "/tmp"}},
			}},
			"volumes": []any{map[string]any{"name": "tmp", "emptyDir": map[string]any{}}},
		},
	}
	b, err := json.Marshal(pod)
	if err != nil {
		n.t.Fatal(err)
	}
	cmd := exec.Command("kubectl", "-n", n.name, "apply", "-f", "-")
	cmd.Stdin = strings.NewReader(string(b))
	if out, err := cmd.CombinedOutput(); err != nil {
		n.t.Fatalf("run the pod %s: %v: %s", name, err, out)
	}
}

// ended waits for a pod of the load's image and reports whether it succeeded, and what it printed last.
func (n *namespace) ended(name string) (succeeded bool, last string) {
	n.t.Helper()
	phase := ""
	testenv.Eventually(n.t, patience, func() bool {
		phase = n.try(time.Minute, "kubectl", "-n", n.name, "get", "pod", name, "-o", "jsonpath={.status.phase}").out
		return phase == "Succeeded" || phase == "Failed"
	}, "%s ends", name)
	return phase == "Succeeded", n.kubectl("logs", name, "--tail=1")
}

// goOn waits until the load has sent some more messages.
func (n *namespace) goOn(name string) {
	n.t.Helper()
	sent := func() int {
		count := 0
		for _, line := range strings.Split(n.kubectl("logs", name), "\n") {
			_, _ = fmt.Sscanf(line, report.Progress+" %d", &count)
		}
		return count
	}
	before := sent()
	testenv.Eventually(n.t, patience, func() bool { return sent() >= before+5*rate }, "the load goes on")
}

// stopLoad ends the chat and answers what came of it.
func (n *namespace) stopLoad(name string) report.Load {
	n.t.Helper()
	n.kubectl("exec", name, "--", "/load", "stop")
	ok, last := n.ended(name)
	var r report.Load
	if err := json.Unmarshal([]byte(last), &r); !ok || err != nil {
		n.t.Fatalf("the load: %v\n%s", err, n.kubectl("logs", name))
	}
	n.kubectl("delete", "pod", name)
	n.t.Logf("load: %s", last)
	return r
}

// nothingLost checks what holds whatever happens. quiet says that no request may have failed either.
func nothingLost(t *testing.T, r report.Load, quiet bool) {
	t.Helper()
	if r.Sent == 0 || r.Lost != 0 || r.Gaps != 0 || r.Doubled != 0 || r.Unseen != 0 {
		t.Errorf("%d sent, %d lost, %d gaps, %d doubled, %d unseen", r.Sent, r.Lost, r.Gaps, r.Doubled, r.Unseen)
	}
	if len(r.Wrong) != 0 {
		t.Errorf("of %d reactions, mentions, pins, mutes and edits these are not there: %v", r.Features, r.Wrong)
	}
	if quiet && r.Failed != 0 {
		t.Errorf("%d of %d requests failed: %v", r.Failed, r.Requests, r.Failures)
	}
}

// closedOnlyBy1012 checks that every socket that was closed got 1012.
func closedOnlyBy1012(t *testing.T, r report.Load) {
	t.Helper()
	for how, count := range r.Closes {
		if how != "1012" {
			t.Errorf("%d sockets were closed with %s instead of 1012", count, how)
		}
	}
}
