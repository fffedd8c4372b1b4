package chart

import (
	"encoding/json"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

// Where pods may run is set once for all of them: processes, hooks, the test and the bundled databases. A pod that lacks the
// toleration stays pending on a tainted node, and Helm waits.
func TestSchedulingReachesEveryPod(t *testing.T) {
	placed := object{
		"nodeSelector":      object{"pool": "chat"},
		"tolerations":       []any{object{"key": "dedicated", "operator": "Exists"}},
		"affinity":          object{"nodeAffinity": object{"preferredDuringSchedulingIgnoredDuringExecution": []any{object{"weight": 1, "preference": object{"matchExpressions": []any{object{"key": "disk", "operator": "Exists"}}}}}}},
		"priorityClassName": "important",
	}
	values := func(more object) object {
		v := object{"devDependencies": object{"enabled": true, "storage": object{"enabled": true}}}
		for _, m := range []object{placed, more} {
			for k, x := range m {
				v[k] = x
			}
		}
		return v
	}
	check := func(t *testing.T, list []object, want int) {
		t.Helper()
		all := pods(t, list)
		if len(all) != want {
			t.Errorf("there are %d kinds of pods, want %d", len(all), want)
		}
		for _, p := range all {
			s := p.spec
			if s.NodeSelector["pool"] != "chat" || len(s.Tolerations) != 1 || s.Tolerations[0].Key != "dedicated" || s.Affinity == nil || s.PriorityClassName != "important" {
				t.Errorf("%s is placed by %v %v %v %q", p.of, s.NodeSelector, s.Tolerations, s.Affinity, s.PriorityClassName)
			}
		}
	}
	files, err := render(t, values(nil))
	if err != nil {
		t.Fatal(err)
	}
	check(t, objects(t, files), 9) // three processes, migrate, verify, test, two databases, the storage for files

	// Each kind of pod has its own, which comes first.
	own := object{"nodeSelector": object{"pool": "own"}}
	files, err = render(t, values(object{
		"api": own, "presenceWatcher": own, "receiptWorker": own, "migrations": own, "verify": own, "tests": own,
		"devDependencies": object{"enabled": true, "postgres": own, "redis": own, "storage": own},
	}))
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range pods(t, objects(t, files)) {
		if want := map[string]string{"pool": "own"}; !reflect.DeepEqual(p.spec.NodeSelector, want) || len(p.spec.Tolerations) != 1 {
			t.Errorf("%s is placed by %v %v", p.of, p.spec.NodeSelector, p.spec.Tolerations)
		}
	}
}

// A private certificate authority is trusted by every pod that connects to Postgres or Redis, the hooks and the test among them.
func TestTrustedCAReachesEveryPod(t *testing.T) {
	for configuration, volume := range map[string]func(v corev1.Volume) string{
		"options":         func(v corev1.Volume) string { return v.ConfigMap.Name },
		"service-monitor": func(v corev1.Volume) string { return v.Secret.SecretName },
	} {
		files, err := render(t, readValues(t, filepath.Join("testdata", configuration, "values.yaml")))
		if err != nil {
			t.Fatal(err)
		}
		all := pods(t, objects(t, files))
		if len(all) != 6 {
			t.Errorf("%s has %d kinds of pods", configuration, len(all))
		}
		for _, p := range all {
			dir, trusted := "", ""
			for _, v := range p.spec.Volumes {
				if v.Name == "trusted-ca" {
					trusted = volume(v)
				}
			}
			for _, m := range p.spec.Containers[0].VolumeMounts {
				if m.Name == "trusted-ca" {
					dir = m.MountPath
				}
			}
			if trusted != "company-ca" || dir != "/etc/parley/ca" {
				t.Errorf("%s of %s mounts %q at %q", p.of, configuration, trusted, dir)
			}
			connects := len(p.spec.Containers[0].Args) == 0 || p.spec.Containers[0].Args[0] != "check"
			found := false
			for _, e := range p.spec.Containers[0].Env {
				found = found || e.Name == "SSL_CERT_DIR" && e.Value == "/etc/ssl/certs:/etc/parley/ca"
			}
			if found != connects {
				t.Errorf("%s of %s has SSL_CERT_DIR: %v", p.of, configuration, found)
			}
		}
	}
}

// With webhooks there is one more process: a Deployment, a budget, an autoscaler, and a policy that lets it alone out. The key
// that encrypts their secrets reaches it and the api, nobody else; credentials of the storage do not reach it.
func TestDispatcher(t *testing.T) {
	values := readValues(t, "testdata/dispatcher/values.yaml")
	files, err := render(t, values)
	if err != nil {
		t.Fatal(err)
	}
	made, holders := map[string]bool{}, map[string]bool{}
	for _, o := range objects(t, files) {
		made[o["kind"].(string)+" "+name(o)] = true
		b, err := json.Marshal(o)
		if err != nil {
			t.Fatal(err)
		}
		text := string(b)
		if o["kind"] == "NetworkPolicy" && name(o) != "parley-dispatcher-egress" && strings.Contains(text, "0.0.0.0/0") {
			t.Errorf("%s lets others out", name(o))
		}
		if o["kind"] == "Deployment" && strings.Contains(text, "PARLEY_SECRETS_KEY") {
			holders[name(o)] = true
		}
		if name(o) == "parley-dispatcher" && strings.Contains(text, "PARLEY_S3_SECRET_KEY") {
			t.Error("the dispatcher has credentials of the storage")
		}
	}
	for _, want := range []string{
		"Deployment parley-dispatcher", "PodDisruptionBudget parley-dispatcher", "HorizontalPodAutoscaler parley-dispatcher",
		"NetworkPolicy parley-dispatcher", "NetworkPolicy parley-dispatcher-egress",
	} {
		if !made[want] {
			t.Errorf("there is no %s", want)
		}
	}
	if len(holders) != 2 || !holders["parley-api"] || !holders["parley-dispatcher"] {
		t.Errorf("PARLEY_SECRETS_KEY is in %v", holders)
	}
}

// Off, the dispatcher leaves nothing behind; the api may have the key already.
func TestNoDispatcher(t *testing.T) {
	values := readValues(t, "testdata/dispatcher/values.yaml")
	values["dispatcher"] = object{"enabled": false}
	delete(values, "push") // which would need it
	files, err := render(t, values)
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range objects(t, files) {
		if strings.Contains(name(o), "dispatcher") {
			t.Errorf("there is %v %s", o["kind"], name(o))
		}
		if o["kind"] == "Deployment" {
			b, err := json.Marshal(o)
			if err != nil {
				t.Fatal(err)
			}
			if has := strings.Contains(string(b), "PARLEY_SECRETS_KEY"); has != (name(o) == "parley-api") {
				t.Errorf("%s has PARLEY_SECRETS_KEY: %v", name(o), has)
			}
		}
	}
}
