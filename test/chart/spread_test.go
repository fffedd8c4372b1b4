package chart

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
)

const (
	zoneKey = "topology.kubernetes.io/zone"
	nodeKey = "kubernetes.io/hostname"
)

func deploymentPods(t *testing.T, values object) []pod {
	t.Helper()
	var out []pod
	for _, o := range mustRender(t, values) {
		if o["kind"] == "Deployment" {
			out = append(out, pods(t, []object{o})...)
		}
	}
	if len(out) == 0 {
		t.Fatal("there are no Deployments")
	}
	return out
}

// zones returns the terms by which a pod avoids the zones of its like.
func zones(p pod) []corev1.PodAffinityTerm {
	var out []corev1.PodAffinityTerm
	if p.spec.Affinity == nil || p.spec.Affinity.PodAntiAffinity == nil {
		return nil
	}
	for _, term := range p.spec.Affinity.PodAntiAffinity.PreferredDuringSchedulingIgnoredDuringExecution {
		if term.PodAffinityTerm.TopologyKey == zoneKey {
			out = append(out, term.PodAffinityTerm)
		}
	}
	return out
}

// Pods are spread over nodes even if nodes have no zone. The scheduler disregards all soft constraints of a pod on a node that lacks the
// label of one of them, so the zone must not be a constraint beside the node's.
func TestPodsSpreadOverNodesWithoutZones(t *testing.T) {
	for _, p := range deploymentPods(t, valuesOf(t, "dispatcher")) {
		if len(p.spec.TopologySpreadConstraints) != 1 || p.spec.TopologySpreadConstraints[0].TopologyKey != nodeKey {
			t.Errorf("%s is spread by %v", p.of, p.spec.TopologySpreadConstraints)
			continue
		}
		node, terms := p.spec.TopologySpreadConstraints[0], zones(p)
		if node.WhenUnsatisfiable != corev1.ScheduleAnyway {
			t.Errorf("%s is %s if there is one node", p.of, node.WhenUnsatisfiable)
		}
		if len(terms) != 1 {
			t.Errorf("%s avoids zones by %v", p.of, terms)
			continue
		}
		expectLikePods(t, p, node.LabelSelector.MatchLabels, node.MatchLabelKeys)
		expectLikePods(t, p, terms[0].LabelSelector.MatchLabels, terms[0].MatchLabelKeys)
	}
}

// expectLikePods checks that a constraint of a pod counts those of its process, release and version.
func expectLikePods(t *testing.T, p pod, labels map[string]string, keys []string) {
	t.Helper()
	for _, key := range []string{"app.kubernetes.io/name", "app.kubernetes.io/instance", "app.kubernetes.io/component"} {
		if labels[key] == "" || labels[key] != p.meta.Labels[key] {
			t.Errorf("%s counts pods with %s=%q, want %q", p.of, key, labels[key], p.meta.Labels[key])
		}
	}
	if len(keys) != 1 || keys[0] != "pod-template-hash" {
		t.Errorf("%s counts the pods of other versions too: %v", p.of, keys)
	}
}

// An affinity for nodes is added to the spreading; podAntiAffinity and topologySpreadConstraints replace it.
func TestSpreadingGivesWay(t *testing.T) {
	preferred := func(key string) object {
		return object{"preferredDuringSchedulingIgnoredDuringExecution": []any{object{"weight": 1, "podAffinityTerm": object{"topologyKey": key}}}}
	}
	nodes := object{"nodeAffinity": object{"preferredDuringSchedulingIgnoredDuringExecution": []any{
		object{"weight": 1, "preference": object{"matchExpressions": []any{object{"key": "disk", "operator": "Exists"}}}},
	}}}
	for name, c := range map[string]struct {
		values object
		zones  int
		nodes  bool // whether the affinity for nodes is there
	}{
		"an affinity of all pods":      {object{"affinity": nodes}, 1, true},
		"an affinity of the api":       {object{"api": object{"affinity": nodes}}, 1, true},
		"an anti-affinity of all pods": {object{"affinity": object{"podAntiAffinity": preferred("rack")}}, 0, false},
		"an anti-affinity of the api":  {object{"api": object{"affinity": object{"podAntiAffinity": preferred("rack")}}}, 0, false},
		"constraints":                  {object{"api": object{"topologySpreadConstraints": []any{}, "affinity": nodes}}, 0, true},
	} {
		c.values["devDependencies"] = object{"enabled": true}
		for _, p := range deploymentPods(t, c.values) {
			if p.meta.Labels["app.kubernetes.io/component"] != "api" {
				continue
			}
			if got := len(zones(p)); got != c.zones {
				t.Errorf("%s: %d terms for zones, want %d", name, got, c.zones)
			}
			if got := p.spec.Affinity != nil && p.spec.Affinity.NodeAffinity != nil; got != c.nodes {
				t.Errorf("%s: affinity for nodes is %v", name, got)
			}
		}
	}
}
