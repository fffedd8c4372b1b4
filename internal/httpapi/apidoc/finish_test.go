package apidoc_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/parley-chat/parley/internal/httpapi/apidoc"
)

// body is a request's or a response's.
type body struct {
	Content map[string]struct {
		Schema map[string]any
	}
}

// Generators name types after schemas: a body that has none becomes a type without a name.
func TestEveryBodyHasANamedSchema(t *testing.T) {
	t.Parallel()
	b, err := apidoc.JSON()
	if err != nil {
		t.Fatal(err)
	}
	var doc struct {
		Paths map[string]map[string]struct {
			OperationID string
			RequestBody body
			Responses   map[string]body
		}
		Components struct{ Schemas map[string]any }
	}
	if err := json.Unmarshal(b, &doc); err != nil {
		t.Fatal(err)
	}
	seen := 0
	check := func(where string, b body) {
		media, ok := b.Content["application/json"]
		if !ok {
			return
		}
		seen++
		ref, _ := media.Schema["$ref"].(string)
		name, ok := strings.CutPrefix(ref, "#/components/schemas/")
		if !ok || doc.Components.Schemas[name] == nil {
			t.Errorf("%s: %v is no named schema", where, media.Schema)
		}
	}
	for path, item := range doc.Paths {
		for method, o := range item {
			where := strings.ToUpper(method) + " " + path
			check(where, o.RequestBody)
			for status, r := range o.Responses {
				if strings.HasPrefix(status, "2") {
					check(where+" "+status, r)
				}
			}
			if o.OperationID == "listMessages" && o.Responses["200"].Content["application/json"].Schema["$ref"] != "#/components/schemas/ListMessagesResult" {
				t.Errorf("a page of messages is %v", o.Responses["200"].Content["application/json"].Schema)
			}
		}
	}
	if seen < 50 {
		t.Errorf("%d bodies were looked at of %d paths", seen, len(doc.Paths))
	}
}
