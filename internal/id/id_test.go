package id_test

import (
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/parley-chat/parley/internal/id"
)

func TestValid(t *testing.T) {
	t.Parallel()
	good := id.New()
	for _, c := range []struct {
		name, in string
		want     bool
	}{
		{"made here", good, true},
		{"empty", "", false},
		{"upper case", strings.ToUpper(good), false},
		{"braces", "{" + good + "}", false},
		{"no dashes", strings.ReplaceAll(good, "-", ""), false},
		{"version 4", uuid.NewString(), false},
		{"not hex", good[:35] + "g", false},
		{"dash moved", good[:7] + "-" + good[7:8] + good[9:], false},
	} {
		if got := id.Valid(c.in); got != c.want {
			t.Errorf("%s: Valid(%q) = %v, want %v", c.name, c.in, got, c.want)
		}
	}
}

// FuzzValid holds Valid against the library's own parser.
func FuzzValid(f *testing.F) {
	f.Add(id.New())
	f.Add("../../etc/passwd")
	f.Fuzz(func(t *testing.T, s string) {
		u, err := uuid.Parse(s)
		want := err == nil && u.String() == s && u.Version() == 7
		if got := id.Valid(s); got != want {
			t.Fatalf("Valid(%q) = %v, want %v", s, got, want)
		}
	})
}
