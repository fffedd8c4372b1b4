package apidoctest_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/parley-chat/parley/internal/httpapi/apidoc/apidoctest"
)

func TestTheDocumentIsWhole(t *testing.T) {
	t.Parallel()
	v, err := apidoctest.New()
	if err != nil {
		t.Fatal(err)
	}
	ids := map[string]string{}
	v.Walk(func(path string, o map[string]any) {
		if ref, ok := o["$ref"].(string); ok && !v.Resolves(ref) {
			t.Errorf("%s: %s has no target", path, ref)
		}
		if o["type"] == "object" && o["properties"] != nil && o["additionalProperties"] != false {
			t.Errorf("%s: other properties are not excluded", path)
		}
		if id, ok := o["operationId"].(string); ok {
			if ids[id] != "" {
				t.Errorf("%s and %s are both %s", path, ids[id], id)
			}
			ids[id] = path
			checkOperation(t, path, o)
		}
		if at, ok := strings.CutPrefix(path, "#/components/schemas/"); ok && !strings.Contains(at, "/") {
			s, err := v.Schema(at)
			if err != nil {
				t.Error(err)
			} else if example, ok := o["example"]; ok {
				if err := s.Validate(example); err != nil {
					t.Errorf("the example of %s: %v", at, err)
				}
			}
		}
	})
	if len(ids) < 40 {
		t.Errorf("only %d operations are described", len(ids))
	}
}

func checkOperation(t *testing.T, path string, o map[string]any) {
	t.Helper()
	declared := map[string]bool{}
	parameters, _ := o["parameters"].([]any)
	for _, p := range parameters {
		p, _ := p.(map[string]any)
		if name, _ := p["name"].(string); p["in"] == "path" {
			declared[name] = true
		}
	}
	for _, part := range strings.Split(path, "/") {
		if name, ok := strings.CutPrefix(part, "{"); ok && !declared[strings.TrimSuffix(name, "}")] {
			t.Errorf("%s does not declare %s", path, part)
		}
	}
	if o["summary"] == "" || o["tags"] == nil || o["responses"] == nil {
		t.Errorf("%s lacks a summary, tags or responses", path)
	}
}

func TestWhatIsNotAsDescribedIsToldOf(t *testing.T) {
	t.Parallel()
	v, err := apidoctest.New()
	if err != nil {
		t.Fatal(err)
	}
	const user = `{"id":"019ab2c3-1f00-7abc-8def-0123456789ab","username":"anna","displayName":"Anna","avatarUrl":null}`
	h := http.Header{"Content-Type": {"application/json"}}
	for name, c := range map[string]struct {
		method, path string
		status       int
		body         string
		ok           bool
	}{
		"good":          {"GET", "/api/users/019ab2c3-1f00-7abc-8def-0123456789ab", 200, user, true},
		"one too many":  {"GET", "/api/users/x", 200, strings.Replace(user, "{", `{"more":1,`, 1), false},
		"one too few":   {"GET", "/api/users/x", 200, `{"id":"019ab2c3-1f00-7abc-8def-0123456789ab"}`, false},
		"a wrong id":    {"GET", "/api/users/x", 200, strings.Replace(user, "019ab2c3", "x", 1), false},
		"a wrong type":  {"GET", "/api/users/x", 200, strings.Replace(user, "null", "7", 1), false},
		"a status":      {"GET", "/api/users/x", 418, user, false},
		"literals win":  {"GET", "/api/users/me", 200, user, false}, // one's own has more
		"no JSON":       {"GET", "/api/users/x", 200, `{`, false},
		"another media": {"GET", "/api/users/x", 404, `{}`, false},
	} {
		if err := v.Response(c.method, c.path, c.status, h, []byte(c.body)); (err == nil) != c.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
}
