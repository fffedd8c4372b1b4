// Package apidoctest holds real answers against the OpenAPI document.
package apidoctest

import (
	"bytes"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/parley-chat/parley/internal/httpapi/apidoc"
)

const location = "openapi.json"

// Validator knows the document.
type Validator struct {
	doc      map[string]any
	compiler *jsonschema.Compiler

	mu      sync.Mutex // guards what follows
	schemas map[string]*jsonschema.Schema
}

// New reads the document.
func New() (*Validator, error) {
	b, err := apidoc.JSON()
	if err != nil {
		return nil, err
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(b))
	if err != nil {
		return nil, err
	}
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft2020) // which OpenAPI 3.1's schemas are
	if err := c.AddResource(location, doc); err != nil {
		return nil, err
	}
	top, _ := doc.(map[string]any)
	return &Validator{doc: top, compiler: c, schemas: map[string]*jsonschema.Schema{}}, nil
}

// Operations are all that the document describes, as "GET /api/users/{id}", sorted.
func (v *Validator) Operations() []string {
	var out []string
	for path, item := range v.doc["paths"].(map[string]any) { //nolint:forcetypeassert // a test pins the document's form
		for method := range item.(map[string]any) { //nolint:forcetypeassert // as above
			out = append(out, strings.ToUpper(method)+" "+path)
		}
	}
	slices.Sort(out)
	return out
}

// Response returns what is wrong with an answer: its operation or status is not described, or its body is not as it is.
// path is the request's own, without the query. A path that no operation has is answered with a problem.
func (v *Validator) Response(method, path string, status int, header http.Header, body []byte) error {
	template := v.template(path)
	at := []string{"paths", template, strings.ToLower(method), "responses", fmt.Sprint(status)}
	response := v.get(at...)
	if anywhere := status == http.StatusRequestHeaderFieldsTooLarge || status == http.StatusRequestTimeout; template == "" ||
		v.get("paths", template, strings.ToLower(method)) == nil || response == nil && anywhere {
		at = []string{"components", "responses", "Internal"}
		response = v.get(at...)
	}
	if response == nil {
		return fmt.Errorf("%s %s: the status %d is not described", method, template, status)
	}
	if to, ok := response["$ref"].(string); ok {
		at = strings.Split(strings.TrimPrefix(to, "#/"), "/")
		response = v.get(at...)
	}
	media, _, _ := strings.Cut(header.Get("Content-Type"), ";")
	content, _ := response["content"].(map[string]any)
	if len(content) == 0 {
		return nil
	}
	if content[media] == nil {
		return fmt.Errorf("%s %s %d: %q is not described", method, template, status, media)
	}
	schema, err := v.schema(append(at, "content", media, "schema"))
	if err != nil {
		return err
	}
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("%s %s %d: %w", method, template, status, err)
	}
	if err := schema.Validate(value); err != nil {
		return fmt.Errorf("%s %s %d: %s: %w", method, template, status, body, err)
	}
	return nil
}

// template is the described path that a request's path matches, "" for none. A literal part wins over a parameter.
func (v *Validator) template(path string) string {
	best, bestLiterals := "", -1
	parts := strings.Split(path, "/")
	for template := range v.doc["paths"].(map[string]any) { //nolint:forcetypeassert // a test pins the document's form
		want := strings.Split(template, "/")
		if len(want) != len(parts) {
			continue
		}
		literals := 0
		for i := range want {
			switch {
			case want[i] == parts[i]:
				literals++
			case !strings.HasPrefix(want[i], "{"):
				literals = -len(parts) - 1
			}
		}
		if literals > bestLiterals {
			best, bestLiterals = template, literals
		}
	}
	return best
}

func (v *Validator) get(path ...string) map[string]any {
	at := v.doc
	for _, p := range path {
		at, _ = at[p].(map[string]any)
	}
	return at
}

// Schema compiles a named schema of the document.
func (v *Validator) Schema(name string) (*jsonschema.Schema, error) {
	return v.schema([]string{"components", "schemas", name})
}

func (v *Validator) schema(at []string) (*jsonschema.Schema, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	escape := strings.NewReplacer("~", "~0", "/", "~1", "{", "%7B", "}", "%7D")
	pointer := ""
	for _, p := range at {
		pointer += "/" + escape.Replace(p)
	}
	if s := v.schemas[pointer]; s != nil {
		return s, nil
	}
	s, err := v.compiler.Compile(location + "#" + pointer)
	if err != nil {
		return nil, fmt.Errorf("compile %s: %w", pointer, err)
	}
	v.schemas[pointer] = s
	return s, nil
}

// Walk calls f with every object of the document and its path.
func (v *Validator) Walk(f func(path string, o map[string]any)) { walk("#", v.doc, f) }

func walk(path string, v any, f func(string, map[string]any)) {
	switch v := v.(type) {
	case map[string]any:
		f(path, v)
		for k, x := range v {
			walk(path+"/"+k, x, f)
		}
	case []any:
		for i, x := range v {
			walk(fmt.Sprintf("%s/%d", path, i), x, f)
		}
	}
}

// Resolves tells whether a reference within the document has a target.
func (v *Validator) Resolves(ref string) bool {
	inside, ok := strings.CutPrefix(ref, "#/")
	return ok && v.get(strings.Split(inside, "/")...) != nil
}
