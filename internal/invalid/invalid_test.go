package invalid_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/parley-chat/parley/internal/invalid"
)

var (
	name     = invalid.Text{Min: 2, Max: 8, Trim: true}
	content  = invalid.Text{Min: 1, Max: 8, Lines: true}
	password = invalid.Text{Min: 2, Max: 8}
)

func TestText(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		rule invalid.Text
		in   string
		out  string // "" for a fault
	}{
		{name, "  Zoe ", "Zoe"},
		{name, "Zoe\u0308", "Zoë"},
		{name, "مريم", "مريم"},
		{name, "\u05d0\u200f\u05d1", "\u05d0\u200f\u05d1"}, // a mark of direction may stand in a name
		{name, "👨\u200d👩", "👨\u200d👩"},
		{name, "Z", ""},
		{name, "Zoezoezoe", ""},
		{name, "Zo\ne", ""},
		{name, "Zo\u202eeoZ", ""},
		{name, "Zo\u2066e", ""},
		{name, "\u200b\u200b\u200b", ""},
		{name, "\u200f\u200e", ""},
		{name, "\u3164\u3164", ""},
		{name, "\u2800\u2800", ""},
		{name, "\u0301\u0301", ""},
		{name, "\u00ad\u00ad", ""},
		{name, "\U000e0061\U000e0062", ""}, // tags
		{content, "a\n\tb", "a\n\tb"},
		{content, "👍", "👍"},
		{content, "\u202ea", "\u202ea"},
		{content, "\u202e\u2066", ""},
		{content, " \u200b\n", ""},
		{content, "a\u0000", ""},
		{password, "        ", "        "},
		{password, "\u200b\u202e", "\u200b\u202e"},
	} {
		var f invalid.Faults
		got := c.in
		c.rule.Check(&f, "x", &got)
		if (f.Err() != nil) != (c.out == "") || c.out != "" && got != c.out {
			t.Errorf("%+q: %+q, %v; want %+q", c.in, got, f.Err(), c.out)
		}
	}
}

func TestFaults(t *testing.T) {
	t.Parallel()
	var f invalid.Faults
	if f.Err() != nil {
		t.Error("none is an error")
	}
	f.Add("a", "must be %d", 1)
	f.Add("a", "is given twice")
	f.Add(strings.Repeat("é", 100), "is not known here")
	if got := f.Err().Error(); got != "invalid input: a must be 1; "+strings.Repeat("é", 64)+"… is not known here" {
		t.Error(got)
	}
	for i := range 100 {
		f.Add(fmt.Sprint(i), "x")
	}
	if len(f.List()) != invalid.MaxFaults || !f.Full() || f.Has("99") {
		t.Errorf("%d faults, want %d", len(f.List()), invalid.MaxFaults)
	}
}
