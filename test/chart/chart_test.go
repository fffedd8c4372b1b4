// Package chart tests the chart without a cluster: what it renders, what it refuses, and whether an API server and Pod
// Security's restricted would take it. It is a module of its own so that Parley's does not need Helm and Kubernetes.
//
//	go test . -update   writes the goldens, the chart's README and its copies of ops/ anew
package chart

import (
	"flag"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"helm.sh/helm/v3/pkg/chart"
	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/engine"
	"helm.sh/helm/v3/pkg/lint"
	"helm.sh/helm/v3/pkg/lint/support"
	"sigs.k8s.io/yaml"
)

var update = flag.Bool("update", false, "write what is compared against")

const (
	root              = "../.."
	chartDir          = root + "/charts/parley"
	kubernetesVersion = "v1.34.4"
)

// configurations are those of testdata: the name of a folder with values.yaml and golden.yaml.
func configurations(t *testing.T) []string {
	t.Helper()
	files, _ := filepath.Glob("testdata/*/values.yaml")
	var names []string
	for _, f := range files {
		names = append(names, filepath.Base(filepath.Dir(f)))
	}
	if len(names) < 6 {
		t.Fatalf("there are %d configurations", len(names))
	}
	return names
}

func load(t *testing.T) *chart.Chart {
	t.Helper()
	c, err := loader.Load(chartDir)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func readValues(t *testing.T, path string) chartutil.Values {
	t.Helper()
	v, err := chartutil.ReadValuesFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// render returns the files that Helm would send, by name.
func render(t *testing.T, values map[string]any) (map[string]string, error) {
	t.Helper()
	return renderChart(t, load(t), values, nil)
}

// mustRender returns the objects that Helm would send.
func mustRender(t *testing.T, values map[string]any) []object {
	t.Helper()
	files, err := render(t, values)
	if err != nil {
		t.Fatal(err)
	}
	return objects(t, files)
}

// valuesOf reads the values of a configuration.
func valuesOf(t *testing.T, configuration string) chartutil.Values {
	t.Helper()
	return readValues(t, filepath.Join("testdata", configuration, "values.yaml"))
}

// renderChart renders a chart whose default values may be others than its own. The cluster, which may be nil, holds what templates
// look up.
func renderChart(t *testing.T, c *chart.Chart, values map[string]any, cluster engine.ClientProvider) (map[string]string, error) {
	t.Helper()
	capabilities := chartutil.DefaultCapabilities.Copy()
	kube, err := chartutil.ParseKubeVersion(kubernetesVersion)
	if err != nil {
		t.Fatal(err)
	}
	capabilities.KubeVersion = *kube
	if !chartutil.IsCompatibleRange(c.Metadata.KubeVersion, kube.Version) {
		t.Errorf("the chart does not want Kubernetes %s", kube.Version)
	}
	release := chartutil.ReleaseOptions{Name: "parley", Namespace: "chat", Revision: 1, IsInstall: true}
	top, err := chartutil.ToRenderValues(c, values, release, capabilities)
	if err != nil {
		return nil, err
	}
	var files map[string]string
	if cluster == nil {
		files, err = engine.Render(c, top)
	} else {
		files, err = engine.RenderWithClientProvider(c, top, cluster)
	}
	if err != nil {
		return nil, err
	}
	for name, text := range files {
		if strings.TrimSpace(text) == "" || strings.HasSuffix(name, ".tpl") {
			delete(files, name)
		}
	}
	return files, nil
}

type object = map[string]any

// objects are what the files hold, NOTES.txt aside.
func objects(t *testing.T, files map[string]string) []object {
	t.Helper()
	var list []object
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if strings.HasSuffix(name, "NOTES.txt") {
			continue
		}
		for _, text := range strings.Split("\n"+files[name], "\n---") {
			var o object
			if err := yaml.UnmarshalStrict([]byte(text), &o); err != nil {
				t.Fatalf("%s: %v\n%s", name, err, text)
			}
			if o != nil {
				list = append(list, o)
			}
		}
	}
	return list
}

// each runs f for what each configuration renders.
func each(t *testing.T, f func(t *testing.T, list []object)) {
	for _, name := range configurations(t) {
		t.Run(name, func(t *testing.T) {
			f(t, mustRender(t, valuesOf(t, name)))
		})
	}
}

func TestGoldens(t *testing.T) {
	for _, name := range configurations(t) {
		t.Run(name, func(t *testing.T) {
			files, err := render(t, valuesOf(t, name))
			if err != nil {
				t.Fatal(err)
			}
			var b strings.Builder
			for _, name := range slices.Sorted(maps.Keys(files)) {
				b.WriteString("# " + name + "\n" + strings.TrimSpace(files[name]) + "\n---\n")
			}
			golden(t, filepath.Join("testdata", name, "golden.yaml"), b.String())
		})
	}
}

// golden compares text with a file's, or writes it.
func golden(t *testing.T, file, text string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatalf("%v (make chart writes it)", err)
	}
	got, want := strings.Split(text, "\n"), strings.Split(string(b), "\n")
	for i := range max(len(got), len(want)) {
		if i >= len(got) || i >= len(want) || got[i] != want[i] {
			t.Fatalf("%s differs from line %d on (make chart writes it anew):\n got %q\nwant %q", file, i+1, line(got, i), line(want, i))
		}
	}
}

func line(lines []string, i int) string {
	if i < len(lines) {
		return lines[i]
	}
	return "(the end)"
}

// helm lint --strict.
func TestLint(t *testing.T) {
	kube, err := chartutil.ParseKubeVersion(kubernetesVersion)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range configurations(t) {
		result := lint.AllWithKubeVersion(chartDir, valuesOf(t, name), "chat", kube)
		for _, m := range result.Messages {
			if m.Severity >= support.WarningSev {
				t.Errorf("%s: %v", name, m)
			}
		}
	}
}

// Rendering twice gives the same: nothing random, nothing of the time.
func TestRenderingRepeats(t *testing.T) {
	for _, name := range configurations(t) {
		a, err := render(t, valuesOf(t, name))
		if err != nil {
			t.Fatal(err)
		}
		b, err := render(t, valuesOf(t, name))
		if err != nil || !maps.Equal(a, b) {
			t.Errorf("%s: the second rendering differs (%v)", name, err)
		}
	}
}
