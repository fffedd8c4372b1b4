package metadata_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/parley-chat/parley/internal/invalid"
	"github.com/parley-chat/parley/internal/metadata"
)

func keys(n int) string {
	parts := make([]string, n)
	for i := range parts {
		parts[i] = fmt.Sprintf(`"k%d":1`, i)
	}
	return "{" + strings.Join(parts, ",") + "}"
}

func TestCheck(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		in, out string
		fault   string
	}{
		"ordered and compact":    {in: `{ "b": 1, "a": "<x>" }`, out: `{"a":"<x>","b":1}`},
		"numbers stay":           {in: `{"n":9007199254740993,"e":1e2}`, out: `{"e":1e2,"n":9007199254740993}`},
		"an empty one is none":   {in: `{}`},
		"null is none":           {in: `null`},
		"an array":               {in: `[1]`, fault: "must be a JSON object"},
		"32 keys":                {in: keys(32), out: ""},
		"33 keys":                {in: keys(33), fault: "32 keys"},
		"keys of inner levels":   {in: `{"a":` + keys(32) + `}`, fault: "32 keys"},
		"4 levels":               {in: `{"a":{"b":{"c":{"d":1}}}}`, out: `{"a":{"b":{"c":{"d":1}}}}`},
		"5 levels":               {in: `{"a":{"b":{"c":{"d":{}}}}}`, fault: "4 levels"},
		"arrays count as levels": {in: `{"a":[[[[]]]]}`, fault: "4 levels"},
		"an odd key":             {in: `{"ä":1}`, fault: "keys of"},
		"a long key":             {in: `{"` + strings.Repeat("a", 65) + `":1}`, fault: "keys of"},
		"too large":              {in: `{"a":"` + strings.Repeat("x", 4090) + `"}`, fault: "4096 bytes"},
		"just small enough":      {in: `{"a":"` + strings.Repeat("x", 4088) + `"}`, out: `{"a":"` + strings.Repeat("x", 4088) + `"}`},
		"a huge number":          {in: `{"a":1e400000}`, fault: "floating point"},
		"NUL":                    {in: `{"a":"\u0000"}`, fault: "NUL"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var f invalid.Faults
			v := metadata.Object(c.in)
			metadata.Check(&f, "metadata", &v)
			if c.fault != "" {
				if f.Err() == nil || !strings.Contains(f.Err().Error(), c.fault) {
					t.Fatalf("got %v, want a fault with %q", f.Err(), c.fault)
				}
				return
			}
			if f.Err() != nil {
				t.Fatal(f.Err())
			}
			if name != "32 keys" && string(v) != c.out {
				t.Errorf("got %s, want %s", v, c.out)
			}
		})
	}
}

func TestMerge(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ stored, patch, want string }{
		{``, `{"a":1}`, `{"a":1}`},
		{`{"a":1,"b":2}`, `{"a":null}`, `{"b":2}`},
		{`{"a":1}`, `{"a":null}`, ``},
		{`{"a":1}`, `null`, ``},
		{`{"a":{"x":1,"y":2}}`, `{"a":{"x":null,"z":3}}`, `{"a":{"y":2,"z":3}}`},
		{`{"a":[1,2]}`, `{"a":[3]}`, `{"a":[3]}`},
		{`{"a":1}`, `{"a":{"b":null}}`, `{"a":{}}`},
		{`{"n":9007199254740993}`, `{"m":9007199254740995}`, `{"m":9007199254740995,"n":9007199254740993}`},
	} {
		got, err := metadata.Merge(metadata.Object(c.stored), metadata.Object(c.patch))
		if err != nil || string(got) != c.want {
			t.Errorf("%s with %s: got %s, %v, want %s", c.stored, c.patch, got, err, c.want)
		}
	}
	if _, err := metadata.Merge(metadata.Object(keys(32)), metadata.Object(`{"more":1}`)); !errors.Is(err, metadata.ErrTooLarge) {
		t.Errorf("33 keys after a merge: got %v", err)
	}
}
