package chart

import (
	"os"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"helm.sh/helm/v3/pkg/strvals"
	"sigs.k8s.io/yaml"
)

func readYAML(t *testing.T, path string, v any) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err == nil {
		err = yaml.Unmarshal(b, v)
	}
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
}

func TestSkaffold(t *testing.T) {
	schema, err := jsonschema.NewCompiler().Compile("testdata/skaffold.json")
	if err != nil {
		t.Fatal(err)
	}
	var doc any
	readYAML(t, root+"/skaffold.yaml", &doc)
	if err := schema.Validate(doc); err != nil {
		t.Error(err)
	}
	doc.(object)["deploy"].(object)["helm"].(object)["release"] = []any{}
	if schema.Validate(doc) == nil {
		t.Error("the schema takes what is no field")
	}
	// What it sets are values that the chart has.
	var c struct {
		Deploy struct {
			Helm struct{ Releases []skaffoldRelease }
		}
	}
	readYAML(t, root+"/skaffold.yaml", &c)
	for _, r := range c.Deploy.Helm.Releases {
		if root+"/"+r.ChartPath != chartDir {
			t.Errorf("the chart is %s, want %s", r.ChartPath, chartDir)
		}
		if _, err := render(t, r.values(t)); err != nil {
			t.Error(err)
		}
	}
	if len(c.Deploy.Helm.Releases) == 0 {
		t.Error("it deploys nothing")
	}
}

// skaffoldRelease is one that Skaffold installs with the chart.
type skaffoldRelease struct {
	ChartPath                    string
	SetValues, SetValueTemplates map[string]any
}

// values are those that the release sets. Templates, which Skaffold fills in, are any text.
func (r skaffoldRelease) values(t *testing.T) object {
	t.Helper()
	values := object{}
	set := func(assignment string) {
		if err := strvals.ParseInto(assignment, values); err != nil {
			t.Fatal(err)
		}
	}
	for key, value := range r.SetValues {
		set(key + "=" + text(value))
	}
	for key := range r.SetValueTemplates {
		set(key + "=x")
	}
	return values
}

func text(v any) string {
	b, _ := yaml.Marshal(v)
	return string(b[:len(b)-1])
}
