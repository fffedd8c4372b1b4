package chart

import (
	"encoding/json"
	"maps"
	"reflect"
	"slices"
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
		maps.Copy(v, placed)
		maps.Copy(v, more)
		return v
	}
	t.Run("set for all", func(t *testing.T) {
		all := pods(t, mustRender(t, values(nil)))
		if len(all) != 9 { // three processes, migrate, verify, test, two databases, the storage for files
			t.Errorf("there are %d kinds of pods, want 9", len(all))
		}
		for _, p := range all {
			expectPlacement(t, p)
		}
	})
	t.Run("set for each, which comes first", func(t *testing.T) {
		own := object{"nodeSelector": object{"pool": "own"}}
		for _, p := range pods(t, mustRender(t, values(object{
			"api": own, "presenceWatcher": own, "receiptWorker": own, "migrations": own, "verify": own, "tests": own,
			"devDependencies": object{"enabled": true, "postgres": own, "redis": own, "storage": own},
		}))) {
			if want := map[string]string{"pool": "own"}; !reflect.DeepEqual(p.spec.NodeSelector, want) || len(p.spec.Tolerations) != 1 {
				t.Errorf("%s is placed by %v %v, want its own nodeSelector and the toleration of all", p.of, p.spec.NodeSelector, p.spec.Tolerations)
			}
		}
	})
}

// expectPlacement checks that a pod has the placement that is set for all.
func expectPlacement(t *testing.T, p pod) {
	t.Helper()
	s := p.spec
	if s.NodeSelector["pool"] != "chat" || len(s.Tolerations) != 1 || s.Tolerations[0].Key != "dedicated" || s.Affinity == nil || s.PriorityClassName != "important" {
		t.Errorf("%s is placed by %v %v %v %q", p.of, s.NodeSelector, s.Tolerations, s.Affinity, s.PriorityClassName)
	}
}

// A private certificate authority is trusted by every pod that connects to Postgres or Redis, the hooks and the test among them.
func TestTrustedCAReachesEveryPod(t *testing.T) {
	for configuration, source := range map[string]string{"options": "ConfigMap company-ca", "service-monitor": "Secret company-ca"} {
		t.Run(configuration, func(t *testing.T) {
			all := pods(t, mustRender(t, valuesOf(t, configuration)))
			if len(all) != 6 {
				t.Errorf("there are %d kinds of pods, want 6", len(all))
			}
			for _, p := range all {
				expectTrustedCA(t, p, source)
			}
		})
	}
}

// expectTrustedCA checks that a pod mounts the authority's certificate, and that what connects to databases reads it. The test's check does not.
func expectTrustedCA(t *testing.T, p pod, source string) {
	t.Helper()
	c := p.spec.Containers[0]
	if from, dir := mounted(p, "trusted-ca"); from != source || dir != "/etc/parley/ca" {
		t.Errorf("%s mounts %q at %q, want %q at /etc/parley/ca", p.of, from, dir, source)
	}
	connects := len(c.Args) == 0 || c.Args[0] != "check"
	reads := slices.ContainsFunc(c.Env, func(e corev1.EnvVar) bool {
		return e.Name == "SSL_CERT_DIR" && e.Value == "/etc/ssl/certs:/etc/parley/ca"
	})
	if reads != connects {
		t.Errorf("%s has SSL_CERT_DIR: %v, want %v", p.of, reads, connects)
	}
}

// mounted returns the kind and name of what a pod's volume is from, and where its first container mounts it.
func mounted(p pod, volume string) (source, dir string) {
	for _, v := range p.spec.Volumes {
		switch {
		case v.Name != volume:
		case v.ConfigMap != nil:
			source = "ConfigMap " + v.ConfigMap.Name
		case v.Secret != nil:
			source = "Secret " + v.Secret.SecretName
		}
	}
	for _, m := range p.spec.Containers[0].VolumeMounts {
		if m.Name == volume {
			dir = m.MountPath
		}
	}
	return source, dir
}

// With webhooks there is one more process: a Deployment, a budget, an autoscaler, and a policy that lets it alone out. The key
// that encrypts their secrets reaches it and the api, nobody else; credentials of the storage do not reach it.
func TestDispatcher(t *testing.T) {
	list := mustRender(t, valuesOf(t, "dispatcher"))
	t.Run("its objects", func(t *testing.T) {
		expectObjects(t, list, "Deployment parley-dispatcher", "PodDisruptionBudget parley-dispatcher", "HorizontalPodAutoscaler parley-dispatcher",
			"NetworkPolicy parley-dispatcher", "NetworkPolicy parley-dispatcher-egress")
	})
	t.Run("it alone connects to the internet", func(t *testing.T) {
		if got := having(t, list, "NetworkPolicy", "0.0.0.0/0"); !slices.Equal(got, []string{"parley-dispatcher-egress"}) {
			t.Errorf("policies that let pods out: %v, want the dispatcher's alone", got)
		}
	})
	t.Run("the secrets of pods", func(t *testing.T) {
		if got := having(t, list, "Deployment", "PARLEY_SECRETS_KEY"); !slices.Equal(got, []string{"parley-api", "parley-dispatcher"}) {
			t.Errorf("PARLEY_SECRETS_KEY is in %v, want the api and the dispatcher", got)
		}
		if slices.Contains(having(t, list, "", "PARLEY_S3_SECRET_KEY"), "parley-dispatcher") {
			t.Error("the dispatcher has credentials of the storage")
		}
	})
}

// expectObjects checks that objects of these kinds and names are made.
func expectObjects(t *testing.T, list []object, want ...string) {
	t.Helper()
	made := map[string]bool{}
	for _, o := range list {
		made[o["kind"].(string)+" "+name(o)] = true
	}
	for _, w := range want {
		if !made[w] {
			t.Errorf("there is no %s", w)
		}
	}
}

// having returns the names of the objects of a kind, or of any kind if that is empty, that contain a text, sorted.
func having(t *testing.T, list []object, kind, text string) (names []string) {
	t.Helper()
	for _, o := range list {
		if kind != "" && o["kind"] != kind {
			continue
		}
		b, err := json.Marshal(o)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(b), text) {
			names = append(names, name(o))
		}
	}
	slices.Sort(names)
	return names
}

// Off, the dispatcher leaves nothing behind; the api may have the key already.
func TestNoDispatcher(t *testing.T) {
	values := valuesOf(t, "dispatcher")
	values["dispatcher"] = object{"enabled": false}
	delete(values, "push") // which would need it
	list := mustRender(t, values)
	for _, o := range list {
		if strings.Contains(name(o), "dispatcher") {
			t.Errorf("there is %v %s", o["kind"], name(o))
		}
	}
	if got := having(t, list, "Deployment", "PARLEY_SECRETS_KEY"); !slices.Equal(got, []string{"parley-api"}) {
		t.Errorf("PARLEY_SECRETS_KEY is in %v, want the api alone", got)
	}
}
