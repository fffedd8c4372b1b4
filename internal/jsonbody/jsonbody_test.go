package jsonbody_test

import (
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/parley-chat/parley/internal/invalid"
	"github.com/parley-chat/parley/internal/jsonbody"
	"github.com/parley-chat/parley/internal/timestamp"
)

type body struct {
	Name  string                    `json:"name"`
	Age   *int                      `json:"age,omitempty"`
	Link  jsonbody.Optional[string] `json:"link,omitempty"`
	Names []string                  `json:"names,omitempty"`
	Tags  json.RawMessage           `json:"tags,omitempty"`
	Items []json.RawMessage         `json:"items,omitempty"`
}

func (b *body) Check(f *invalid.Faults) {
	invalid.Text{Min: 2, Max: 5, Trim: true}.Check(f, "name", &b.Name)
}

func TestDecode(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		in     string
		fields string // those with a fault, sorted; "malformed" for no object at all
	}{
		{`{"name":"  Zoë "}`, ""},
		{`{"name":"Zoe","age":3,"link":null,"names":["a"]}`, ""},
		{`{}`, "name"},
		{`{"name":null}`, "name"},
		{`{"name":7,"age":"x","link":4,"names":"a"}`, "age link name names"},
		{`{"name":"Zoe","name":"Zoe"}`, "name"},
		{`{"Name":"Zoe"}`, "Name name"},
		{`{"name":"Zoe","extra":1,"more":2}`, "extra more"},
		{`{"name":"Zoe","age":1.5}`, "age"},
		{`{"name":"Zo\u0000e"}`, "name"},
		{`{"name":"Zo\ne"}`, "name"},
		{`{"name":"Zoezoe"}`, "name"},
		{`{"name":"Zoe","names":[1]}`, "names"},
		{``, "malformed"},
		{`null`, "malformed"},
		{`[]`, "malformed"},
		{`"x"`, "malformed"},
		{`{"name":"Zoe"`, "malformed"},
		{`{"name":"Zoe"} {}`, "malformed"},
		{`{"name":"Zoe"}x`, "malformed"},
		{`{"name":"` + "\xff" + `"}`, "malformed"},
		{`{name:"Zoe"}`, "malformed"},
		{`{"name":"Zoe",}`, "malformed"},
		{`{"name":"Zoe","extra":{"a":["}",{"b":"\\\"]"}],"c":-1e3}}`, "extra"},
		{"\n{ \"n\\u0061me\" :\t\"Zoe\" , \"age\" : 3 }\r\n", ""},
		{`{"extra":1,"extra":2,"name":"Zoe"}`, "extra"},
		{`{"name":"Zo\ud800"}`, "name"},
		{`{"name":"Zo\udc00\ud800"}`, "name"},
		{`{"name":"Zo\ud800\u0041"}`, "name"},
		{`{"name":"Zo\ud83d\ude00"}`, ""},
		{`{"name":"Zo\\ud8"}`, "name"}, // six characters, no escape
		{`{"name":"\\ud80"}`, ""},
		{`{"name":"Zoe","names":["a","\ud800b"]}`, "names"},
		{`{"name":"Zoe","tags":{"a":{"x":1,"y":{"x":2}},"b":[{"x":1},{"x":2}]}}`, ""},
		{`{"name":"Zoe","tags":{"a":1,"b":"a","a":1}}`, "tags"},
		{`{"name":"Zoe","tags":{"a":[{"x":1},{"x":2, "\u0078" :3}]}}`, "tags"},
		{`{"name":"Zoe","tags":{"a":"\ud800"}}`, "tags"},
		{`{"name":"Zoe","items":[{"a":1,"a":2}]}`, ""}, // an item's own faults
	} {
		var b body
		err := jsonbody.Decode([]byte(c.in), &b)
		var f *invalid.Faults
		got := ""
		switch {
		case errors.Is(err, jsonbody.ErrMalformed):
			got = "malformed"
		case errors.As(err, &f):
			names := map[string]bool{}
			for _, x := range f.List() {
				names[x.Field] = true
			}
			got = strings.Join(slices.Sorted(maps.Keys(names)), " ")
		case err != nil:
			got = err.Error()
		}
		if got != c.fields {
			t.Errorf("%s: faults in %q, want %q (%v)", c.in, got, c.fields, err)
		}
	}
}

func TestOptionalTellsAbsentFromNull(t *testing.T) {
	t.Parallel()
	var absent, null, value body
	for in, b := range map[string]*body{`{"name":"Zoe"}`: &absent, `{"name":"Zoe","link":null}`: &null, `{"name":"Zoe","link":"x"}`: &value} {
		if err := jsonbody.Decode([]byte(in), b); err != nil {
			t.Fatal(in, err)
		}
	}
	if absent.Link.Set || !null.Link.Set || !null.Link.Null || !value.Link.Set || value.Link.Null || value.Link.Value != "x" {
		t.Errorf("absent %+v, null %+v, value %+v", absent.Link, null.Link, value.Link)
	}
}

func TestTextIsNormalisedAndCountedInCodePoints(t *testing.T) {
	t.Parallel()
	var b body
	if err := jsonbody.Decode([]byte(`{"name":" Zoe\u0308\u0308 "}`), &b); err != nil {
		t.Fatal(err)
	}
	if b.Name != "Zo\u00eb\u0308" {
		t.Errorf("name is %q", b.Name)
	}
	if err := jsonbody.Decode([]byte(`{"name":"日本語日本"}`), &b); err != nil {
		t.Errorf("five characters of three bytes: %v", err)
	}
}

// What is taken apart here has to be what encoding/json finds.
func FuzzMembers(f *testing.F) {
	for _, in := range []string{
		`{}`, ` { } `, `{"a":1}`, `{"a":{"b":[1,"]}",null]},"c" : "\\\"," , "d":-1.5e-3}`, `{"a":1,"a":2}`, `{"\u0061":true}`, `[]`, `{"a":"\ud800"}`, `{"":""}`, `1`,
	} {
		f.Add([]byte(in))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := jsonbody.Members(b)
		var want map[string]json.RawMessage
		bad := json.Unmarshal(b, &want) != nil || want == nil || !utf8.Valid(b)
		if (err != nil) != bad {
			t.Fatalf("%q: %v, want a fault: %v", b, err, bad)
		}
		if bad {
			return
		}
		for name, raw := range want {
			if v, ok := got.Get(name); !ok || string(v) != string(raw) {
				t.Fatalf("%q: %q is %q, want %q", b, name, v, raw)
			}
			var s string
			isText := raw[0] == '"' && json.Unmarshal(raw, &s) == nil
			if text, ok := jsonbody.String(raw); ok != isText || text != s {
				t.Fatalf("%q says %q (%v), want %q (%v)", raw, text, ok, s, isText)
			}
		}
	})
}

func BenchmarkDecode(b *testing.B) {
	in := []byte(`{"name":"Zoe","age":3,"link":"x","names":["a","b"]}`)
	b.ReportAllocs()
	for b.Loop() {
		var x body
		if err := jsonbody.Decode(in, &x); err != nil {
			b.Fatal(err)
		}
	}
}

type dated struct {
	Until *timestamp.Time `json:"until,omitempty"`
}

func (*dated) Check(*invalid.Faults) {}

func TestATimeIsNamedInItsFault(t *testing.T) {
	t.Parallel()
	err := jsonbody.Decode([]byte(`{"until":"tomorrow"}`), &dated{})
	if err == nil || !strings.Contains(err.Error(), "must be a time") {
		t.Errorf("got %v", err)
	}
}
