package chart

import "testing"

// Without samples, because pods are not scraped, KEDA must not take the number of sockets for zero and remove pods.
func TestKedaKeepsThePodsWithoutSamples(t *testing.T) {
	files, err := render(t, object{
		"devDependencies": object{"enabled": true},
		"autoscaling":     object{"enabled": true, "kind": "keda", "targetSockets": 100, "keda": object{"prometheus": "http://prometheus:9090"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	found := false
	for _, o := range objects(t, files) {
		if o["kind"] != "ScaledObject" {
			continue
		}
		for _, trigger := range o["spec"].(object)["triggers"].([]any) {
			if trigger := trigger.(object); trigger["type"] == "prometheus" {
				found = true
				if got := trigger["metadata"].(object)["ignoreNullValues"]; got != "false" {
					t.Errorf("ignoreNullValues is %v", got)
				}
			}
		}
	}
	if !found {
		t.Fatal("there is no trigger by Prometheus")
	}
}

// Helm creates the ScaledObject before it deletes the HorizontalPodAutoscaler, and KEDA refuses a workload that has one without this.
func TestTheAutoscalerCanBecomeKedas(t *testing.T) {
	files, err := render(t, object{"devDependencies": object{"enabled": true}, "autoscaling": object{"enabled": true}})
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range objects(t, files) {
		if o["kind"] == "HorizontalPodAutoscaler" {
			annotations, _ := o["metadata"].(object)["annotations"].(object)
			if annotations["validations.keda.sh/hpa-ownership"] != "false" {
				t.Errorf("%s has the annotations %v", name(o), annotations)
			}
			return
		}
	}
	t.Fatal("there is no HorizontalPodAutoscaler")
}
