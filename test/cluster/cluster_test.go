// Package cluster tests the chart on a real cluster. make test-cluster builds the images and brings them there; without a
// cluster the tests are skipped.
package cluster

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/parley-chat/parley/internal/client"
	"github.com/parley-chat/parley/internal/testenv"
)

// Names of images that the cluster has: Parley's, a later one with a migration more, and the load's.
const (
	imageVar     = "PARLEY_TEST_IMAGE"
	nextImageVar = "PARLEY_TEST_IMAGE_NEXT"
	loadImageVar = "PARLEY_TEST_IMAGE_LOAD"
	// storageImageVar names an image of the S3 gateway.
	storageImageVar = "PARLEY_TEST_IMAGE_STORAGE"
)

// patience is how long a cluster on a busy machine may take for what has no time of its own.
const patience = 3 * time.Minute

// installTime is how long an installation with bundled databases may take until it is ready.
const installTime = time.Minute

const (
	people = 8
	rate   = 20 // messages a second
)

func TestCluster(t *testing.T) {
	requireCluster(t)
	n := newNamespace(t, "parley-test")
	for _, step := range []struct {
		name string
		test func(t *testing.T, n *namespace)
	}{
		{"install", testInstall},
		{"spread over nodes", testSpread},
		{"two pods talk", testTwoPodsTalk},
		{"network policy", testNetworkPolicy},
		{"scale under load", testScale},
		{"upgrade under load", testUpgrade},
		{"roll back", testRollback},
		{"force delete under load", testForceDelete},
		{"drain", testDrain},
		{"wrong secrets", testWrongSecrets},
		{"wrong password", testWrongPassword},
		{"rotation", testRotation},
		{"runbooks", testRunbooks},
		{"runbooks in an outage", testRunbooksInAnOutage},
		{"ingress", testIngress},
		{"autoscaling", testAutoscaling},
		{"uninstall", testUninstall},
	} {
		if !t.Run(step.name, func(t *testing.T) { step.test(t, n.in(t)) }) && step.name == "install" {
			return
		}
	}
}

func testInstall(t *testing.T, n *namespace) {
	begun := time.Now()
	if r := n.helm(installTime, os.Getenv(imageVar)); r.err != nil {
		t.Fatalf("helm install: %v: %s", r.err, r.out)
	}
	t.Logf("ready after %.1f s", time.Since(begun).Seconds())
	t.Logf("%s", n.must("helm", "-n", n.name, "test", "parley"))
	demo := exec.Command("go", "run", "./scripts/demo")
	demo.Dir = testenv.Root(t)
	demo.Env = append(os.Environ(), "PARLEY_DEMO_URLS="+n.forward("svc/parley-api", 80))
	out, err := demo.CombinedOutput()
	if err != nil {
		t.Errorf("the demo through the Service: %v", err)
	}
	t.Logf("%s", out)
}

func testTwoPodsTalk(t *testing.T, n *namespace) {
	pods := n.pods("api")
	if len(pods) != 2 {
		t.Fatalf("there are %d pods", len(pods))
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var who [2]*client.Person
	for i := range who {
		p, err := client.Join(ctx, n.forward("pod/"+pods[i], 8080), []string{"Ana", "Ben"}[i])
		if err != nil {
			t.Fatal(err)
		}
		defer p.Close()
		who[i] = p
	}
	c, err := who[0].StartConversation(ctx, who[1])
	if err != nil {
		t.Fatal(err)
	}
	for i, text := range []string{"from the first pod", "from the second pod"} {
		from, to := who[i], who[1-i]
		if err := from.Send("message:send", "", map[string]string{"conversationId": c, "content": text, "clientMessageId": text}); err != nil {
			t.Fatal(err)
		}
		if _, err := to.Await(ctx, client.AnswerTime, "message:new", func(f client.Frame) bool { return f.Content() == text }); err != nil {
			t.Error(err)
		}
	}
}

// Whoever is in the namespace reaches the api, and neither the databases nor the ops port.
func testNetworkPolicy(t *testing.T, n *namespace) {
	address := n.kubectl("get", "pod", n.pods("api")[0], "-o", "jsonpath={.status.podIP}")
	for name, c := range map[string]struct {
		target string
		open   bool
	}{
		"dial-api": {"parley-api:80", true}, "dial-ops": {address + ":9090", false},
		"dial-postgres": {"parley-postgres:5432", false}, "dial-redis": {"parley-redis:6379", false},
	} {
		n.runPod(name, "dial", c.target)
		if open, last := n.ended(name); open != c.open {
			t.Errorf("%s: open is %v: %s", c.target, open, last)
		}
	}
}

// Where ingress-nginx runs as it is usually installed: sockets pass, and the metrics do not.
func testIngress(t *testing.T, n *namespace) {
	const controller, service = "ingress-nginx", "ingress-nginx-controller"
	if r := n.try(time.Minute, "kubectl", "-n", controller, "get", "service", service); r.err != nil {
		t.Skip("the cluster has no ingress-nginx")
	}
	r := n.helm(patience, os.Getenv(imageVar), "ingress.enabled=true", "ingress.className=nginx", "config.trustedProxies={10.0.0.0/8,172.16.0.0/12,192.168.0.0/16}",
		"jwt.secret=0123456789abcdef0123456789abcdef")
	if r.err != nil {
		t.Fatalf("helm upgrade: %v: %s", r.err, r.out)
	}
	base := (&namespace{t, controller}).forward("svc/"+service, 80)
	for path, want := range map[string]string{"/api/health": "200", "/api/docs/openapi.json": "200", "/api/metrics": "404", "/metrics": "404", "/readyz": "404"} {
		if got := n.must("curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", base+path); got != want {
			t.Errorf("%s is answered %s, want %s", path, got, want)
		}
	}
	n.startLoadAt("load-ingress", "http://"+service+"."+controller, rate)
	n.goOn("load-ingress")
	nothingLost(t, n.stopLoad("load-ingress"), true)
}

func testAutoscaling(t *testing.T, n *namespace) {
	if r := n.try(time.Minute, "kubectl", "top", "nodes"); r.err != nil {
		t.Skipf("the cluster has no metrics: %s", r.out)
	}
	n.scale(3)
	fewest := make(chan int)
	stop := make(chan struct{})
	go func() {
		least := 3
		for {
			select {
			case <-stop:
				fewest <- least
				return
			case <-time.After(200 * time.Millisecond):
				var wanted int
				if _, err := fmt.Sscan(n.try(time.Minute, "kubectl", "-n", n.name, "get", "deployment/parley-api", "-o", "jsonpath={.spec.replicas}").out, &wanted); err == nil {
					least = min(least, wanted)
				}
			}
		}
	}()
	if r := n.helm(patience, os.Getenv(imageVar), "autoscaling.enabled=true", "autoscaling.targetCPU=50", "autoscaling.maxReplicas=4"); r.err != nil {
		t.Fatalf("helm upgrade: %v: %s", r.err, r.out)
	}
	close(stop)
	if least := <-fewest; least < 3 {
		t.Errorf("the switch to the autoscaler went down to %d pods of 3", least)
	}
	n.startLoad("load-hpa", 10*rate)
	begun := time.Now()
	testenv.Eventually(t, 2*patience, func() bool { return len(n.pods("api")) > 3 }, "there are more pods: %s",
		n.kubectl("get", "hpa"))
	t.Logf("scaled after %.0f s: %s", time.Since(begun).Seconds(), n.kubectl("get", "hpa", "--no-headers"))
	n.kubectl("rollout", "status", "deployment/parley-api", "--timeout", patience.String())
	nothingLost(t, n.stopLoad("load-hpa"), true)
}

func testUninstall(t *testing.T, n *namespace) {
	n.must("helm", "-n", n.name, "uninstall", "parley", "--wait", "--timeout", patience.String())
	kinds := strings.Join(strings.Fields(n.must("kubectl", "api-resources", "--namespaced", "--verbs=list,create", "-o", "name")), ",")
	var left string
	const claims = "persistentvolumeclaim/data-parley-postgres-0\npersistentvolumeclaim/data-parley-redis-0"
	for deadline := time.Now().Add(patience); left != claims; time.Sleep(time.Second) {
		if time.Now().After(deadline) {
			t.Fatalf("more is left than the claims: %s", left)
		}
		left = n.kubectl("get", kinds, "-l", "app.kubernetes.io/instance=parley,app.kubernetes.io/component!=test", "-o", "name", "--ignore-not-found")
	}
	// The next installation finds its data again.
	if r := n.helm(installTime, os.Getenv(imageVar)); r.err != nil {
		t.Errorf("install again: %v: %s", r.err, r.out)
	}
	if v := n.schema(); v != nextSchema {
		t.Errorf("the data is gone: the schema is %q", v)
	}
}

// The API server takes every configuration that the chart's own tests render, those with custom resources of others among them.
func TestTheAPIServerTakesEveryConfiguration(t *testing.T) {
	requireCluster(t)
	n := newNamespace(t, "parley-dry")
	n.customResources()
	chart := testenv.Root(t) + "/test/chart"
	files, err := filepath.Glob(chart + "/testdata/*/values.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no configurations: %v", err)
	}
	version := n.must("kubectl", "version", "-o", "json")
	var v struct{ ServerVersion struct{ GitVersion string } }
	if err := json.Unmarshal([]byte(version), &v); err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		manifest := filepath.Join(t.TempDir(), "manifest.yaml")
		if err := os.WriteFile(manifest, []byte(n.must("helm", "template", "parley", testenv.Root(t)+"/charts/parley", "-n", n.name, "-f", f, "--skip-tests", "--kube-version", v.ServerVersion.GitVersion)), 0o600); err != nil {
			t.Fatal(err)
		}
		out := n.kubectl("apply", "--dry-run=server", "--validate=strict", "-f", manifest)
		t.Logf("%s: %d objects", filepath.Base(filepath.Dir(f)), len(strings.Split(out, "\n")))
	}
}

// customResources adds the definitions of others' resources that the chart uses, where the cluster has none of them, for this test.
func (n *namespace) customResources() {
	n.t.Helper()
	if n.try(time.Minute, "kubectl", "get", "crd", "httproutes.gateway.networking.k8s.io").err == nil {
		return
	}
	cmd := exec.Command("go", "run", "./schemas", "crds")
	cmd.Dir = testenv.Root(n.t) + "/test/chart"
	definitions, err := cmd.Output()
	if err != nil {
		n.t.Fatalf("write the definitions: %v", err)
	}
	file := filepath.Join(n.t.TempDir(), "crds.yaml")
	if err := os.WriteFile(file, definitions, 0o600); err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() { n.must("kubectl", "delete", "-f", file) })
	n.kubectl("apply", "--server-side", "-f", file)
	n.kubectl("wait", "--for=condition=Established", "-f", file)
}
