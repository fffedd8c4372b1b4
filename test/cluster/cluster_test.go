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
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/parley-chat/parley/internal/client"
	"github.com/parley-chat/parley/internal/testenv"
	"github.com/parley-chat/parley/test/cluster/report"
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

func requireCluster(t *testing.T) {
	t.Helper()
	for _, v := range []string{imageVar, nextImageVar, loadImageVar} {
		if os.Getenv(v) == "" {
			t.Skip("no cluster: make test-cluster runs this on the one that KUBECONFIG names")
		}
	}
}

func TestCluster(t *testing.T) {
	requireCluster(t)
	n := newNamespace(t, "parley-test")
	for _, step := range []struct {
		name string
		test func(t *testing.T, n *namespace)
	}{
		{"install", testInstall},
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

// closedOnlyBy1012 checks that every socket that was closed got 1012.
func closedOnlyBy1012(t *testing.T, r report.Load) {
	t.Helper()
	for how, count := range r.Closes {
		if how != "1012" {
			t.Errorf("%d sockets were closed with %s instead of 1012", count, how)
		}
	}
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
