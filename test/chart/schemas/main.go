// Command schemas writes testdata/schemas.json: what the API server of a Kubernetes holds the chart's objects against, from
// the modules that publish it. Objects are closed, descriptions left out, and so is every kind that the chart has not. Beside
// it goes Skaffold's own schema of skaffold.yaml.
//
//	go run ./schemas
//	go run ./schemas crds    prints the definitions of custom resources, for kubectl apply
package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"sigs.k8s.io/yaml"
)

const (
	out         = "testdata/schemas.json"
	skaffoldOut = "testdata/skaffold.json"
	skaffold    = "github.com/GoogleContainerTools/skaffold/v2@v2.16.1"
	// skaffoldSchema is of the version that skaffold.yaml names.
	skaffoldSchema = "docs-v2/content/en/schemas/v4beta11.json"
)

// kinds are those of Kubernetes itself, by their names in its OpenAPI document.
var kinds = []string{
	"api.core.v1.ConfigMap", "api.core.v1.Secret", "api.core.v1.Service", "api.core.v1.ServiceAccount", "api.core.v1.Pod",
	"api.apps.v1.Deployment", "api.apps.v1.StatefulSet", "api.batch.v1.Job", "api.policy.v1.PodDisruptionBudget",
	"api.networking.v1.Ingress", "api.networking.v1.NetworkPolicy", "api.autoscaling.v2.HorizontalPodAutoscaler",
}

const kubernetes = "k8s.io/kubernetes@v1.34.4"

// crds are files with the definitions of others, by their modules.
var crds = map[string][]string{
	"sigs.k8s.io/gateway-api@v1.4.0":      {"config/crd/standard/gateway.networking.k8s.io_httproutes.yaml"},
	"github.com/kedacore/keda/v2@v2.18.1": {"config/crd/bases/keda.sh_scaledobjects.yaml"},
	"github.com/prometheus-operator/prometheus-operator@v0.85.0": {
		"example/prometheus-operator-crd/monitoring.coreos.com_podmonitors.yaml",
		"example/prometheus-operator-crd/monitoring.coreos.com_servicemonitors.yaml",
		"example/prometheus-operator-crd/monitoring.coreos.com_prometheusrules.yaml",
	},
}

type object = map[string]any

func main() {
	do := run
	if slices.Equal(os.Args[1:], []string{"crds"}) {
		do = printCRDs
	}
	if err := do(); err != nil {
		fmt.Fprintln(os.Stderr, "schemas:", err)
		os.Exit(1)
	}
}

func run() error {
	definitions, byKind := object{}, object{}
	if err := addKubernetes(definitions, byKind); err != nil {
		return err
	}
	for module, files := range crds {
		dir, err := download(module)
		if err != nil {
			return err
		}
		for _, f := range files {
			if err := addCRD(filepath.Join(dir, f), byKind); err != nil {
				return err
			}
		}
	}
	if err := write(out, object{"definitions": definitions, "kinds": byKind}); err != nil {
		return err
	}
	return copySkaffold()
}

func printCRDs() error {
	for module, files := range crds {
		dir, err := download(module)
		if err != nil {
			return err
		}
		for _, f := range files {
			b, err := os.ReadFile(filepath.Join(dir, f))
			if err != nil {
				return err
			}
			fmt.Printf("---\n%s\n", b)
		}
	}
	return nil
}

func write(file string, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return os.WriteFile(file, append(b, '\n'), 0o644)
}

// copySkaffold keeps what it is for, without its texts for readers.
func copySkaffold() error {
	dir, err := download(skaffold)
	if err != nil {
		return err
	}
	b, err := os.ReadFile(filepath.Join(dir, skaffoldSchema))
	if err != nil {
		return err
	}
	var schema any
	if err := json.Unmarshal(b, &schema); err != nil {
		return err
	}
	return write(skaffoldOut, closed(schema))
}

// download answers the folder of a module.
func download(module string) (string, error) {
	cmd := exec.Command("go", "mod", "download", "-json", module)
	cmd.Dir = os.TempDir() // it is no dependency
	b, err := cmd.Output()
	var m struct{ Dir, Error string }
	if uerr := json.Unmarshal(b, &m); uerr != nil || m.Error != "" || m.Dir == "" {
		return "", fmt.Errorf("download %s: %s %v", module, m.Error, err)
	}
	return m.Dir, nil
}

// addKubernetes adds the kinds of Kubernetes itself, and the definitions that they refer to.
func addKubernetes(definitions, byKind object) error {
	from, err := kubernetesDefinitions()
	if err != nil {
		return err
	}
	for _, k := range kinds {
		name := "io.k8s." + k
		if err := addDefinition(definitions, from, name); err != nil {
			return err
		}
		for _, gvk := range from[name]["x-kubernetes-group-version-kind"].([]any) {
			g := gvk.(object)
			byKind[kindName(g["group"].(string), g["version"].(string), g["kind"].(string))] = object{"$ref": "#/definitions/" + name}
		}
	}
	return nil
}

// kubernetesDefinitions reads the definitions of Kubernetes' OpenAPI document.
func kubernetesDefinitions() (map[string]object, error) {
	dir, err := download(kubernetes)
	if err != nil {
		return nil, err
	}
	b, err := os.ReadFile(filepath.Join(dir, "api/openapi-spec/swagger.json"))
	if err != nil {
		return nil, err
	}
	var doc struct{ Definitions map[string]object }
	err = json.Unmarshal(b, &doc)
	return doc.Definitions, err
}

// addDefinition copies a definition, closed, with all that it refers to, unless it is there already.
func addDefinition(definitions object, from map[string]object, name string) error {
	if definitions[name] != nil {
		return nil
	}
	d, ok := from[name]
	if !ok {
		return fmt.Errorf("%s is no definition of %s", name, kubernetes)
	}
	definitions[name] = closed(d)
	for _, n := range references(d) {
		if err := addDefinition(definitions, from, n); err != nil {
			return err
		}
	}
	return nil
}

func kindName(group, version, kind string) string {
	return strings.TrimPrefix(group+"/"+version, "/") + "/" + kind
}

func addCRD(file string, byKind object) error {
	b, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	var crd struct {
		Spec struct {
			Group    string
			Names    struct{ Kind string }
			Versions []struct {
				Name   string
				Schema struct {
					OpenAPIV3Schema object `json:"openAPIV3Schema"`
				}
			}
		}
	}
	if err := yaml.Unmarshal(b, &crd); err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	for _, v := range crd.Spec.Versions {
		s := closed(v.Schema.OpenAPIV3Schema).(object)
		s["properties"].(object)["metadata"] = object{"$ref": "#/definitions/io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"}
		byKind[kindName(crd.Spec.Group, v.Name, crd.Spec.Names.Kind)] = s
	}
	return nil
}

// closed makes a JSON Schema of an OpenAPI one.
func closed(v any) any {
	switch v := v.(type) {
	case []any:
		list := make([]any, len(v))
		for i := range v {
			list[i] = closed(v[i])
		}
		return list
	case object:
		return closedObject(v)
	}
	return v
}

func closedObject(v object) any {
	if v["x-kubernetes-int-or-string"] == true || v["format"] == "int-or-string" {
		return object{"type": []any{"integer", "string"}}
	}
	if d, _ := v["description"].(string); v["type"] == "string" && strings.HasPrefix(d, "Quantity is a fixed-point") {
		return object{"type": []any{"number", "string"}}
	}
	s := object{}
	for key, value := range v {
		switch {
		case strings.HasPrefix(key, "x-"), key == "description", key == "default", key == "format", key == "example":
		case key == "properties":
			properties := object{}
			for name, p := range value.(object) {
				properties[name] = closed(p)
			}
			s[key] = properties
		default:
			s[key] = closed(value)
		}
	}
	if s["properties"] != nil && s["additionalProperties"] == nil && v["x-kubernetes-preserve-unknown-fields"] != true {
		s["additionalProperties"] = false
	}
	return s
}

// references are the definitions that a schema names.
func references(v any) []string {
	found := map[string]bool{}
	var walk func(any)
	walk = func(v any) {
		switch v := v.(type) {
		case []any:
			for _, e := range v {
				walk(e)
			}
		case object:
			if ref, ok := v["$ref"].(string); ok {
				found[strings.TrimPrefix(ref, "#/definitions/")] = true
			}
			for _, e := range v {
				walk(e)
			}
		}
	}
	walk(v)
	return slices.Sorted(maps.Keys(found))
}
