package chart

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"
)

// schemas answers the schema of a kind.
func schemas(t *testing.T) func(o object) (*jsonschema.Schema, error) {
	t.Helper()
	b, err := os.ReadFile("testdata/schemas.json")
	if err != nil {
		t.Fatal(err)
	}
	doc, err := jsonschema.UnmarshalJSON(strings.NewReader(string(b)))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft7)
	if err := c.AddResource("schemas.json", doc); err != nil {
		t.Fatal(err)
	}
	return func(o object) (*jsonschema.Schema, error) {
		kind := fmt.Sprintf("%v/%v", o["apiVersion"], o["kind"])
		return c.Compile("schemas.json#/kinds/" + strings.ReplaceAll(kind, "/", "~1"))
	}
}

// Everything is as the API's schemas want it: no unknown field, none that is missing, none empty.
func TestTheAPIServerTakesIt(t *testing.T) {
	schema := schemas(t)
	kinds := map[string]bool{}
	validate := func(t *testing.T, list []object) {
		for _, o := range list {
			kind := fmt.Sprint(o["kind"])
			kinds[kind] = true
			s, err := schema(o)
			if err != nil {
				t.Fatalf("no schema of %v %s (go run ./schemas makes them): %v", o["apiVersion"], kind, err)
			}
			if err := s.Validate(o); err != nil {
				t.Errorf("%s %s: %v", kind, name(o), err)
			}
		}
	}
	each(t, validate)
	validate(t, renderMonitoring(t, nil))
	if want := 17; len(kinds) < want {
		t.Errorf("the configurations have %d kinds, want all %d that the chart can make: %v", len(kinds), want, slices.Sorted(maps.Keys(kinds)))
	}
}

// A field that no API has, or that is missing, is reported.
func TestTheSchemasBite(t *testing.T) {
	schema := schemas(t)
	for _, o := range []object{
		{"apiVersion": "v1", "kind": "Service", "spec": object{"ports": []any{object{"name": "no number"}}}},
		{"apiVersion": "v1", "kind": "ConfigMap", "dataa": object{}},
		{"apiVersion": "v1", "kind": "ConfigMap", "metadata": object{"annotations": nil}},
		{"apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", "spec": object{"parentRef": []any{}}},
		{"apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject", "spec": object{"triggers": []any{}}},
	} {
		s, err := schema(o)
		if err != nil {
			t.Fatal(err)
		}
		if s.Validate(o) == nil {
			t.Errorf("%v is taken", o)
		}
	}
}

func name(o object) string {
	n, _ := o["metadata"].(object)["name"].(string)
	return n
}

// pod is what an object would run.
type pod struct {
	of   string
	meta metav1.ObjectMeta
	spec corev1.PodSpec
}

func pods(t *testing.T, list []object) []pod {
	t.Helper()
	var out []pod
	for _, o := range list {
		from := o
		if spec, ok := o["spec"].(object); ok && spec["template"] != nil {
			from = spec["template"].(object)
		} else if o["kind"] != "Pod" {
			continue
		}
		b, err := json.Marshal(from)
		if err != nil {
			t.Fatal(err)
		}
		var p corev1.PodTemplateSpec
		if err := json.Unmarshal(b, &p); err != nil {
			t.Fatal(err)
		}
		out = append(out, pod{fmt.Sprintf("%v %s", o["kind"], name(o)), p.ObjectMeta, p.Spec})
	}
	return out
}

func TestPodSecurityRestricted(t *testing.T) {
	version, err := api.ParseVersion("v1.34")
	if err != nil {
		t.Fatal(err)
	}
	evaluator, err := policy.NewEvaluator(policy.DefaultChecks(), nil)
	if err != nil {
		t.Fatal(err)
	}
	restricted := api.LevelVersion{Level: api.LevelRestricted, Version: version}
	if policy.AggregateCheckResults(evaluator.EvaluatePod(restricted, &metav1.ObjectMeta{}, &corev1.PodSpec{Containers: []corev1.Container{{}}})).Allowed {
		t.Fatal("a pod that says nothing is allowed")
	}
	each(t, func(t *testing.T, list []object) {
		for _, p := range pods(t, list) {
			if r := policy.AggregateCheckResults(evaluator.EvaluatePod(restricted, &p.meta, &p.spec)); !r.Allowed {
				t.Errorf("%s: %s", p.of, r.ForbiddenDetail())
			}
		}
	})
}

// What restricted does not ask for.
func TestPodsAreLockedDown(t *testing.T) {
	each(t, func(t *testing.T, list []object) {
		all := pods(t, list)
		if len(all) < 4 {
			t.Fatalf("there are %d kinds of pods", len(all))
		}
		for _, p := range all {
			expectLockedDown(t, p)
		}
	})
}

// expectLockedDown checks what a pod and its containers may do beyond what restricted allows, and that they have requests and limits.
func expectLockedDown(t *testing.T, p pod) {
	t.Helper()
	if p.spec.AutomountServiceAccountToken == nil || *p.spec.AutomountServiceAccountToken {
		t.Errorf("%s has a token of its service account", p.of)
	}
	// A Service called parley-redis would set PARLEY_REDIS_PORT.
	if p.spec.EnableServiceLinks == nil || *p.spec.EnableServiceLinks {
		t.Errorf("%s has the environment of services", p.of)
	}
	for _, c := range slices.Concat(p.spec.InitContainers, p.spec.Containers) {
		if c.SecurityContext.ReadOnlyRootFilesystem == nil || !*c.SecurityContext.ReadOnlyRootFilesystem {
			t.Errorf("%s may write its root", p.of)
		}
		if c.Resources.Requests.Cpu().IsZero() || c.Resources.Limits.Memory().IsZero() {
			t.Errorf("%s has no requests or limits", p.of)
		}
	}
}

// A selector that selects nothing is a typing error that Kubernetes does not show.
func TestSelectorsSelect(t *testing.T) {
	each(t, func(t *testing.T, list []object) {
		all := pods(t, list)
		seen := 0
		for _, o := range list {
			s := selector(t, o)
			if s == nil {
				continue
			}
			seen++
			if s.Empty() || !slices.ContainsFunc(all, func(p pod) bool { return s.Matches(labels.Set(p.meta.Labels)) }) {
				t.Errorf("%v %s selects %s, which no pod has", o["kind"], name(o), s)
			}
		}
		if seen < 6 {
			t.Errorf("there are %d selectors", seen)
		}
	})
}

// selector returns the selector of pods that an object has, nil if objects of its kind have none.
func selector(t *testing.T, o object) labels.Selector {
	t.Helper()
	spec, _ := o["spec"].(object)
	var from any
	switch o["kind"] {
	case "Service":
		from = object{"matchLabels": spec["selector"]}
	case "Deployment", "StatefulSet", "PodDisruptionBudget", "PodMonitor":
		from = spec["selector"]
	case "NetworkPolicy":
		from = spec["podSelector"]
	default:
		return nil
	}
	var parsed metav1.LabelSelector
	b, err := json.Marshal(from)
	if err == nil {
		err = json.Unmarshal(b, &parsed)
	}
	if err != nil {
		t.Fatal(err)
	}
	s, err := metav1.LabelSelectorAsSelector(&parsed)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// The ops port and /api/metrics cannot be reached from outside. A ServiceMonitor's Service only lists the pods: it has no address.
func TestNoServiceShowsTheOpsPort(t *testing.T) {
	each(t, func(t *testing.T, list []object) {
		for _, o := range list {
			b, err := json.Marshal(o["spec"])
			if err != nil {
				t.Fatal(err)
			}
			kind := o["kind"]
			if kind == "Service" && o["spec"].(object)["clusterIP"] == "None" {
				continue
			}
			if (kind == "Service" || kind == "Ingress" || kind == "HTTPRoute") && (strings.Contains(string(b), `"ops"`) || strings.Contains(string(b), "9090")) {
				t.Errorf("%v %s shows it: %s", kind, name(o), b)
			}
		}
	})
}
