package chart

import (
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	helmchart "helm.sh/helm/v3/pkg/chart"
	"helm.sh/helm/v3/pkg/chartutil"
	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/dynamic/fake"
	"sigs.k8s.io/yaml"
)

// releases are older versions of the chart, of which testdata keeps the default values. The first is the oldest that an upgrade
// may come from.
var releases = []string{"first", "dc26b3d"}

func releaseDefaults(t *testing.T, release string) object {
	t.Helper()
	return object(readValues(t, filepath.Join("testdata/releases", release, "defaults.yaml")))
}

// lacks returns what a map has and another lacks, at every depth.
func lacks(have, lack object) object {
	out := object{}
	for key, value := range have {
		other, ok := lack[key]
		if !ok {
			out[key] = value
			continue
		}
		inner, isMap := value.(object)
		innerOther, otherIsMap := other.(object)
		if !isMap || !otherIsMap || key == "resources" {
			continue
		}
		if d := lacks(inner, innerOther); len(d) > 0 {
			out[key] = d
		}
	}
	return out
}

// The chart carries the defaults that its oldest release lacks: helm upgrade --reuse-values leaves this chart's own out.
func TestAddedValues(t *testing.T) {
	b, err := yaml.Marshal(lacks(object(readValues(t, chartDir+"/values.yaml")), releaseDefaults(t, releases[0])))
	if err != nil {
		t.Fatal(err)
	}
	golden(t, chartDir+"/files/added.yaml", "# Written by make chart: the default values that the oldest release of the chart lacks.\n"+string(b))
}

// The chart knows the names of all settings, to refuse a misspelt one in extraEnv.
func TestSettingsList(t *testing.T) {
	b, err := os.ReadFile(root + "/docs/settings.md")
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{}
	for _, m := range regexp.MustCompile("`(PARLEY_[A-Z0-9_]+)`").FindAllStringSubmatch(string(b), -1) {
		names[m[1]] = true
	}
	golden(t, chartDir+"/files/settings.yaml", "# Written by make chart: the settings of docs/settings.md.\n- "+strings.Join(slices.Sorted(maps.Keys(names)), "\n- ")+"\n")
}

func TestEveryTemplateFillsInValues(t *testing.T) {
	files, _ := filepath.Glob(chartDir + "/templates/*")
	inner, _ := filepath.Glob(chartDir + "/templates/*/*")
	seen := 0
	for _, f := range append(files, inner...) {
		if ext := filepath.Ext(f); ext != ".yaml" && ext != ".txt" {
			continue
		}
		seen++
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(string(b), `{{- include "parley.init" . -}}`) {
			t.Errorf("%s does not start with parley.init: it would fail after --reuse-values", f)
		}
	}
	if seen < 10 {
		t.Errorf("there are %d templates", seen)
	}
}

// An upgrade from an older release renders by either way of keeping its values, and gives the same except where a default changed.
func TestUpgradeFromOlderReleases(t *testing.T) {
	for _, release := range releases {
		old := releaseDefaults(t, release)
		for _, name := range configurations(t) {
			file := filepath.Join("testdata/releases", release, name+".yaml")
			if _, err := os.Stat(file); err != nil {
				continue // the release did not have this configuration
			}
			t.Run(release+"/"+name, func(t *testing.T) {
				config := readValues(t, file)
				reused := renderReused(t, old, config)
				reset, err := renderChart(t, load(t), config, nil) // the new chart's defaults, the old configuration
				if err != nil {
					t.Fatalf("--reset-then-reuse-values: %v", err)
				}
				expectSameFiles(t, reused, reset)
			})
		}
	}
}

// renderReused renders as --reuse-values does: the values that the old chart and its configuration came to are the new chart's defaults.
func renderReused(t *testing.T, old object, config chartutil.Values) map[string]string {
	t.Helper()
	reused := load(t)
	computed, err := chartutil.CoalesceValues(withValues(t, old), config)
	if err != nil {
		t.Fatal(err)
	}
	reused.Values = computed
	files, err := renderChart(t, reused, config, nil)
	if err != nil {
		t.Fatalf("--reuse-values: %v", err)
	}
	return files
}

// expectSameFiles checks that both ways of keeping values render the same, but for the notes.
func expectSameFiles(t *testing.T, reused, reset map[string]string) {
	t.Helper()
	if len(reused) != len(reset) {
		t.Errorf("%d files with --reuse-values, %d with --reset-then-reuse-values", len(reused), len(reset))
	}
	for name, text := range reset {
		if reused[name] != text && name != "parley/templates/NOTES.txt" {
			t.Errorf("%s differs between --reuse-values and --reset-then-reuse-values:\n%s", name, firstDifference(reused[name], text))
		}
	}
}

func firstDifference(a, b string) string {
	x, y := strings.Split(a, "\n"), strings.Split(b, "\n")
	for i := range max(len(x), len(y)) {
		if line(x, i) != line(y, i) {
			return line(x, i) + "\n" + line(y, i)
		}
	}
	return ""
}

// withValues is a chart of nothing but default values.
func withValues(t *testing.T, values object) *helmchart.Chart {
	t.Helper()
	return &helmchart.Chart{Metadata: &helmchart.Metadata{Name: "parley"}, Values: values}
}

// liveDeployments is a cluster that has Deployments.
type liveDeployments struct{ client dynamic.Interface }

func (l liveDeployments) GetClientFor(apiVersion, kind string) (dynamic.NamespaceableResourceInterface, bool, error) {
	gv, err := schema.ParseGroupVersion(apiVersion)
	return l.client.Resource(gv.WithResource(strings.ToLower(kind) + "s")), true, err
}

func newLiveDeployment(t *testing.T, name string, replicas int32) liveDeployments {
	t.Helper()
	scheme := runtime.NewScheme()
	if err := appsv1.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	d := &appsv1.Deployment{TypeMeta: metav1.TypeMeta{APIVersion: "apps/v1", Kind: "Deployment"}, ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "chat"}, Spec: appsv1.DeploymentSpec{Replicas: &replicas}}
	content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(d)
	if err != nil {
		t.Fatal(err)
	}
	return liveDeployments{fake.NewSimpleDynamicClient(scheme, &unstructured.Unstructured{Object: content})}
}

// With autoscaling the Deployment keeps the pods that it has: a manifest without replicas would make Helm remove the field, and
// Kubernetes go to one pod, on the upgrade that switches the autoscaler on.
func TestAutoscalingKeepsThePods(t *testing.T) {
	for label, c := range map[string]struct {
		live int32
		want any
	}{"none yet": {0, nil}, "fewer than the least": {1, 2.0}, "within": {4, 4.0}, "more than the most": {12, 10.0}} {
		t.Run(label, func(t *testing.T) {
			other := "another"
			if c.live > 0 {
				other = "parley-api"
			}
			files, err := renderChart(t, load(t), object{"devDependencies": object{"enabled": true}, "autoscaling": object{"enabled": true}}, newLiveDeployment(t, other, c.live))
			if err != nil {
				t.Fatal(err)
			}
			expectAPIReplicas(t, objects(t, files), c.want)
		})
	}
}

// expectAPIReplicas checks how many replicas the Deployment of the api asks for; nil is no number.
func expectAPIReplicas(t *testing.T, list []object, want any) {
	t.Helper()
	found := false
	for _, o := range list {
		if o["kind"] != "Deployment" || !strings.HasSuffix(name(o), "-api") {
			continue
		}
		found = true
		if got := o["spec"].(object)["replicas"]; got != want {
			t.Errorf("replicas are %v, want %v", got, want)
		}
	}
	if !found {
		t.Error("there is no Deployment of the api")
	}
}
