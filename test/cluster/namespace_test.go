package cluster

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/parley-chat/parley/internal/testenv"
)

// namespace is one that nobody else has.
type namespace struct {
	t    *testing.T
	name string
}

func newNamespace(t *testing.T, name string) *namespace {
	t.Helper()
	n := &namespace{t, fmt.Sprintf("%s-%d", name, time.Now().Unix())}
	n.must("kubectl", "create", "namespace", n.name)
	n.must("kubectl", "label", "namespace", n.name, "pod-security.kubernetes.io/enforce=restricted")
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("%s", n.try(time.Minute, "kubectl", "-n", n.name, "get", "pods,jobs", "-o", "wide").out)
			t.Logf("%s", n.try(time.Minute, "kubectl", "-n", n.name, "get", "events", "--sort-by", ".lastTimestamp").out)
		}
		n.try(patience, "kubectl", "delete", "namespace", n.name)
	})
	return n
}

type result struct {
	out string
	err error
}

// try runs a command. What it prints as an error is kept where it fails.
func (n *namespace) try(timeout time.Duration, args ...string) result {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	var warnings strings.Builder
	cmd.Stderr = &warnings
	b, err := cmd.Output()
	out := string(b)
	if err != nil {
		out += warnings.String()
	}
	return result{strings.TrimSpace(out), err}
}

// must runs a command that has to succeed.
func (n *namespace) must(args ...string) string {
	n.t.Helper()
	r := n.try(2*patience, args...)
	if r.err != nil {
		n.t.Fatalf("%s: %v\n%s", strings.Join(args, " "), r.err, r.out)
	}
	return r.out
}

func (n *namespace) kubectl(args ...string) string {
	n.t.Helper()
	return n.must(append([]string{"kubectl", "-n", n.name}, args...)...)
}

// in makes the namespace report to a subtest.
func (n *namespace) in(t *testing.T) *namespace { return &namespace{t, n.name} }

// helm installs or upgrades the release parley.
func (n *namespace) helm(timeout time.Duration, image string, set ...string) result {
	return n.try(timeout+time.Minute, n.helmArgs(timeout, image, set...)...)
}

func (n *namespace) helmArgs(timeout time.Duration, image string, set ...string) []string {
	repository, tag, _ := strings.Cut(image, ":")
	args := []string{
		"helm", "upgrade", "--install", "parley", testenv.Root(n.t) + "/charts/parley", "-n", n.name, "--wait", "--wait-for-jobs",
		"--timeout", timeout.String(), "--set", "devDependencies.enabled=true,image.repository=" + repository + ",image.tag=" + tag,
		// The load is one address that makes many people.
		"--set", "config.rateLimitDefault=off,config.rateLimitAuth=off,config.rateLimitSend=off,config.rateLimitSocket=off",
		// Less than the default, so that all of it fits on a small node.
		"--set", "api.resources.requests.cpu=50m",
	}
	for _, s := range set {
		args = append(args, "--set", s)
	}
	return args
}

// pods are the names of a component's pods that are not going away.
func (n *namespace) pods(component string) []string {
	n.t.Helper()
	out := n.kubectl("get", "pods", "-l", "app.kubernetes.io/component="+component, "-o",
		`jsonpath={range .items[*]}{.metadata.name}{" "}{.metadata.deletionTimestamp}{"\n"}{end}`)
	var names []string
	for _, line := range strings.Split(out, "\n") {
		if f := strings.Fields(line); len(f) == 1 {
			names = append(names, f[0])
		}
	}
	return names
}

// forward makes a port of a pod or Service one of 127.0.0.1, until the test ends.
func (n *namespace) forward(what string, port int) string {
	n.t.Helper()
	local := testenv.FreePort(n.t)
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, "kubectl", "-n", n.name, "port-forward", what, fmt.Sprintf("%d:%d", local, port))
	if err := cmd.Start(); err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() {
		cancel()
		_ = cmd.Wait()
	})
	base := fmt.Sprintf("http://127.0.0.1:%d", local)
	testenv.Eventually(n.t, time.Minute, func() bool {
		return n.try(10*time.Second, "curl", "-sf", base+"/api/health").err == nil
	}, "%s answers", what)
	return base
}

func requireCluster(t *testing.T) {
	t.Helper()
	for _, v := range []string{imageVar, nextImageVar, loadImageVar} {
		if os.Getenv(v) == "" {
			t.Skip("no cluster: make test-cluster runs this on the one that KUBECONFIG names")
		}
	}
}
