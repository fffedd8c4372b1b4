package apidoctest

import (
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// walk calls f with every object of the document and its path.
func walk(at []string, v any, f func(at []string, o map[string]any)) {
	switch v := v.(type) {
	case map[string]any:
		f(at, v)
		for k, x := range v {
			if k != "example" {
				walk(append(slices.Clone(at), k), x, f)
			}
		}
	case []any:
		for i, x := range v {
			walk(append(slices.Clone(at), strconv.Itoa(i)), x, f)
		}
	}
}

func document(t *testing.T) *Validator {
	t.Helper()
	v, err := New()
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestReferencesResolveAndObjectsAreClosed(t *testing.T) {
	t.Parallel()
	v := document(t)
	used := map[string]bool{}
	walk(nil, v.doc, func(at []string, o map[string]any) {
		name := strings.Join(at, "/")
		if ref, ok := o["$ref"].(string); ok {
			used[ref] = true
			inside, ok := strings.CutPrefix(ref, "#/")
			if !ok || v.get(strings.Split(inside, "/")...) == nil {
				t.Errorf("%s: %s has no target", name, ref)
			}
			if len(o) > 1 {
				t.Errorf("%s: generators drop what stands beside a $ref", name)
			}
		}
		narrows := len(at) > 1 && at[len(at)-2] == "allOf" // another schema, which is closed
		if o["type"] != "object" || o["properties"] == nil || narrows {
			return
		}
		if o["additionalProperties"] != false {
			t.Errorf("%s: other properties are not excluded", name)
		}
		required, _ := o["required"].([]any)
		properties, _ := o["properties"].(map[string]any)
		for _, r := range required {
			if r, _ := r.(string); properties[r] == nil {
				t.Errorf("%s: requires %s, which it does not have", name, r)
			}
		}
	})
	for _, kind := range []string{"schemas", "responses", "headers"} {
		for name := range v.get("components", kind) {
			byValidator := kind == "responses" && (name == outside[405] || name == outside[501] || slices.ContainsFunc(slices.Collect(maps.Values(anywhere)), func(l []string) bool { return slices.Contains(l, name) }))
			if ref := "#/components/" + kind + "/" + name; !used[ref] && !byValidator {
				t.Errorf("%s is used nowhere", ref)
			}
		}
	}
}

// Swagger UI shows each error by examples of its own, one for each code.
func TestEveryProblemHasItsOwnExamples(t *testing.T) {
	t.Parallel()
	v := document(t)
	for name := range v.get("components", "responses") {
		at := []string{"components", "responses", name, "content", problemMedia}
		if v.get(at...) == nil {
			continue
		}
		examples := v.get(append(slices.Clone(at), "examples")...)
		if len(examples) == 0 {
			t.Errorf("%s has no example", name)
			continue
		}
		s, err := v.schema(append(at, "schema"))
		if err != nil {
			t.Fatal(err)
		}
		for code := range examples {
			example := v.get(append(slices.Clone(at), "examples", code, "value")...)
			if err := s.Validate(example); err != nil || example["code"] != code {
				t.Errorf("the example %s of %s: %v", code, name, err)
			}
		}
	}
}

func TestEveryExampleIsAsItsSchema(t *testing.T) {
	t.Parallel()
	v := document(t)
	walk(nil, v.doc, func(at []string, o map[string]any) {
		name := strings.Join(at, "/")
		example, has := o["example"]
		if !has {
			object := len(at) == 3 && at[1] == "schemas" && o["type"] == "object" && !strings.HasSuffix(at[2], "Result") // those are made of schemas that have one
			body := len(at) > 1 && at[len(at)-1] == "application/json" && slices.Contains(at, "requestBody")
			if object || body {
				t.Errorf("%s has no example", name)
			}
			return
		}
		where := at
		if o["schema"] != nil { // a media type's
			where = append(slices.Clone(at), "schema")
		}
		s, err := v.schema(where)
		if err != nil {
			t.Error(err)
		} else if err := s.Validate(example); err != nil {
			t.Errorf("the example of %s: %v", name, err)
		}
	})
}

func TestOperationsAreWhole(t *testing.T) {
	t.Parallel()
	v := document(t)
	ids := map[string]string{}
	for path := range v.get("paths") {
		for method := range v.get("paths", path) {
			name, o := method+" "+path, v.get("paths", path, method)
			id, _ := o["operationId"].(string)
			if id == "" || ids[id] != "" {
				t.Errorf("%s and %s are both %q", name, ids[id], id)
			}
			ids[id] = name
			checkOperation(t, v, name, path, o)
		}
	}
	if len(ids) < 40 {
		t.Errorf("only %d operations are described", len(ids))
	}
}

func checkOperation(t *testing.T, v *Validator, name, path string, o map[string]any) {
	t.Helper()
	for _, key := range []string{"summary", "description"} {
		if s, _ := o[key].(string); s == "" {
			t.Errorf("%s has no %s", name, key)
		}
	}
	checkTags(t, v, name, o)
	declared := map[string]bool{}
	parameters, _ := o["parameters"].([]any)
	for _, p := range parameters {
		p, _ := p.(map[string]any)
		if n, _ := p["name"].(string); p["in"] == "path" {
			declared["{"+n+"}"] = true
		}
	}
	for _, part := range strings.Split(path, "/") {
		if strings.HasPrefix(part, "{") && !declared[part] {
			t.Errorf("%s does not declare %s", name, part)
		}
		delete(declared, part)
	}
	for part := range declared {
		t.Errorf("%s declares %s, which its path does not have", name, part)
	}
	responses, _ := o["responses"].(map[string]any)
	for status := range responses {
		n, err := strconv.Atoi(status)
		if err != nil {
			t.Errorf("%s answers %s", name, status)
			continue
		}
		method, _, _ := strings.Cut(name, " ")
		checkResponse(t, v, strings.ToUpper(method), path, n)
	}
	for _, status := range expected(o) {
		if responses[status] == nil {
			t.Errorf("%s does not describe %s", name, status)
		}
	}
}

func checkTags(t *testing.T, v *Validator, name string, o map[string]any) {
	t.Helper()
	known, _ := v.doc["tags"].([]any)
	tags, _ := o["tags"].([]any)
	if len(tags) != 1 || !slices.ContainsFunc(known, func(k any) bool {
		k2, _ := k.(map[string]any)
		return k2["name"] == tags[0]
	}) {
		t.Errorf("%s has the tags %v", name, tags)
	}
}

// expected are the statuses that follow from what an operation asks for.
func expected(o map[string]any) []string {
	out := []string{"500", "503"}
	if o["security"] == nil { // the document's own: a token
		out = append(out, "401", "429")
	}
	if o["requestBody"] != nil {
		out = append(out, "400", "413", "415", "429")
	}
	return out
}

// A problem of one status has that status's number and at least one code; an answer without content says so by its status.
func checkResponse(t *testing.T, v *Validator, method, path string, status int) {
	t.Helper()
	name := method + " " + path + " " + strconv.Itoa(status)
	at := v.responses(method, path, status)[0]
	r := v.get(at...)
	problem := v.narrowed(append(slices.Clone(at), "content", problemMedia, "schema")...)
	content, _ := r["content"].(map[string]any)
	switch {
	case problem != nil:
		number, _ := problem["status"].(map[string]any)
		code, _ := problem["code"].(map[string]any)
		if codes, _ := code["enum"].([]any); len(codes) == 0 || jsonNumber(number["const"]) != strconv.Itoa(status) {
			t.Errorf("%s is the problem %v", name, problem)
		}
	case status >= 400 && v.get(append(slices.Clone(at), "content", "application/json")...) == nil:
		t.Errorf("%s is no problem", name)
	case status == 200 || status == 201:
		if len(content) == 0 && path != "/api/docs/{asset}" { // which are of many media types
			t.Errorf("%s has no schema", name)
		}
	}
}

func jsonNumber(v any) string {
	s, ok := v.(interface{ String() string })
	if !ok {
		return ""
	}
	return s.String()
}
