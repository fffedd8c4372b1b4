// Package apidoctest holds real requests and answers against the OpenAPI document.
package apidoctest

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
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
	for path := range v.get("paths") {
		for method := range v.get("paths", path) {
			out = append(out, strings.ToUpper(method)+" "+path)
		}
	}
	slices.Sort(out)
	return out
}

// Codes are the codes of all problems that are described, sorted.
func (v *Validator) Codes() []string {
	var out []string
	for name := range v.get("components", "responses") {
		code, _ := v.narrowed("components", "responses", name, "content", problemMedia, "schema")["code"].(map[string]any)
		list, _ := code["enum"].([]any)
		for _, c := range list {
			out = append(out, fmt.Sprint(c))
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// narrowed are the properties that a schema narrows of the one that it refers to, nil if it does not.
func (v *Validator) narrowed(at ...string) map[string]any {
	parts, _ := v.get(at...)["allOf"].([]any)
	for _, p := range parts {
		part, _ := p.(map[string]any)
		if properties, ok := part["properties"].(map[string]any); ok {
			return properties
		}
	}
	return nil
}

const problemMedia = "application/problem+json"

// anywhere are the answers that every route may give, or every route that wants a token, whatever it says itself; outside are those of
// requests that are no operation's: an unknown path, or a method that a path does not have.
var (
	anywhere = map[int][]string{
		400: {"BadRequest", "InvalidActing"}, 403: {"NotAdmitted"}, 404: {"ActingNotFound"}, 408: {"RequestTimeout"}, 415: {"Unsupported"},
		431: {"HeadersTooLarge"},
	}
	// unknowable are those of anywhere that need no operation.
	unknowable = []int{400, 408, 415, 431}
	outside    = map[int]string{404: "NotFound", 405: "MethodNotAllowed", 413: "TooLarge", 429: "Limited", 500: "Internal", 501: "NotImplemented", 503: "Unavailable"}
)

// Response returns what is wrong with an answer: its operation or status is not described, or its headers or body are not
// as they are. path is the request's own, without the query.
func (v *Validator) Response(method, path string, status int, header http.Header, body []byte) error {
	name := fmt.Sprintf("%s %s %d", method, path, status)
	described := v.responses(method, path, status)
	if len(described) == 0 {
		return fmt.Errorf("%s: the status is not described", name)
	}
	var first error
	for _, at := range described {
		err := v.answers(at, method, status, header, body)
		if err == nil {
			return nil
		}
		if first == nil {
			first = fmt.Errorf("%s: %w", name, err)
		}
	}
	return first
}

// answers returns what is wrong with an answer as the one that is described at a path of the document.
func (v *Validator) answers(at []string, method string, status int, header http.Header, body []byte) error {
	response := v.get(at...)
	if err := v.headers(at, response, header); err != nil {
		return err
	}
	content, _ := response["content"].(map[string]any)
	if len(content) == 0 && len(body) > 0 && status == http.StatusNoContent {
		return errors.New("a body where none is described")
	}
	if len(content) == 0 || method == http.MethodHead {
		return nil
	}
	media, _, _ := strings.Cut(header.Get("Content-Type"), ";")
	if content[media] == nil {
		return fmt.Errorf("%q is not described", media)
	}
	if !strings.HasSuffix(media, "json") {
		return nil
	}
	return v.validate(body, slices.Concat(at, []string{"content", media, "schema"}))
}

// Request returns what is wrong with a body that the server took: the operation is described without one, or otherwise.
func (v *Validator) Request(method, path string, body []byte) error {
	at := []string{"paths", v.template(path), strings.ToLower(method), "requestBody", "content", "application/json", "schema"}
	if v.get(at...) == nil {
		return fmt.Errorf("%s %s: no body is described", method, path)
	}
	if err := v.validate(body, at); err != nil {
		return fmt.Errorf("the body of %s %s: %w", method, path, err)
	}
	return nil
}

// responses finds what is described for an answer, the operation's own first: the paths in the document.
func (v *Validator) responses(method, path string, status int) [][]string {
	if method == http.MethodHead {
		method = http.MethodGet
	}
	at := []string{"paths", v.template(path), strings.ToLower(method)}
	known := v.get(at...) != nil
	var out [][]string
	add := func(at ...string) {
		if response, where := v.follow(at); response != nil {
			out = append(out, where)
		}
	}
	if at = append(at, "responses", strconv.Itoa(status)); known && v.get(at...) != nil {
		add(at...)
	}
	if !known && outside[status] != "" {
		add("components", "responses", outside[status])
	}
	for _, name := range anywhere[status] {
		if !known && !slices.Contains(unknowable, status) {
			continue
		}
		add("components", "responses", name)
	}
	return out
}

// follow gets what is at a path of the document, or where the reference there points.
func (v *Validator) follow(at []string) (object map[string]any, where []string) {
	o := v.get(at...)
	if to, ok := o["$ref"].(string); ok {
		return v.follow(strings.Split(strings.TrimPrefix(to, "#/"), "/"))
	}
	return o, at
}

// limitHeaders come together or, on a route without limit, not at all.
var limitHeaders = []string{"X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset"}

func (v *Validator) headers(at []string, response map[string]any, header http.Header) error {
	described, _ := response["headers"].(map[string]any)
	for name := range described {
		h, where := v.follow(append(slices.Clone(at), "headers", name))
		value := header.Get(name)
		if value == "" {
			if h["required"] == true {
				return fmt.Errorf("without %s", name)
			}
			continue
		}
		schema, err := v.schema(append(slices.Clone(where), "schema"))
		if err != nil {
			return err
		}
		if err := schema.Validate(headerValue(value)); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	n := 0
	for _, name := range limitHeaders {
		if header.Get(name) != "" {
			n++
		}
	}
	if n != 0 && n != len(limitHeaders) {
		return fmt.Errorf("%d of the %d headers of the limit", n, len(limitHeaders))
	}
	return nil
}

func headerValue(s string) any {
	if n, err := strconv.Atoi(s); err == nil {
		return n
	}
	return s
}

func (v *Validator) validate(body []byte, at []string) error {
	schema, err := v.schema(at)
	if err != nil {
		return err
	}
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(body))
	if err != nil {
		return err
	}
	if err := schema.Validate(value); err != nil {
		return fmt.Errorf("%.1000s: %w", body, err)
	}
	return nil
}

// template is the described path that a request's path matches, "" for none. A literal part wins over a parameter.
func (v *Validator) template(path string) string {
	best, bestLiterals := "", -1
	parts := strings.Split(path, "/")
	for template := range v.get("paths") {
		want := strings.Split(template, "/")
		if len(want) != len(parts) {
			continue
		}
		literals := 0
		for i := range want {
			switch {
			case want[i] == parts[i]:
				literals++
			case !strings.HasPrefix(want[i], "{") || parts[i] == "":
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

// Scope is what a server key needs for an operation: "act" if it has to act for a user, "" if the operation wants no token.
func (v *Validator) Scope(operation string) string {
	method, path, _ := strings.Cut(operation, " ")
	security, own := v.get("paths", path, strings.ToLower(method))["security"].([]any)
	if !own {
		security, _ = v.doc["security"].([]any)
	}
	for _, s := range security {
		scheme, _ := s.(map[string]any)
		if scopes, _ := scheme["serverKey"].([]any); len(scopes) == 1 {
			return fmt.Sprint(scopes[0])
		}
	}
	return ""
}
