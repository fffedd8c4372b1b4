package principal_test

import (
	"slices"
	"testing"

	"github.com/parley-chat/parley/internal/principal"
)

func TestAScopeIncludesItsReading(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		have   principal.Scopes
		needed string
		want   bool
	}{
		{principal.Scopes{"users"}, "users", true},
		{principal.Scopes{"users"}, "users:read", true},
		{principal.Scopes{"users:read"}, "users:read", true},
		{principal.Scopes{"users:read"}, "users", false},
		{principal.Scopes{"users"}, "keys", false},
		{principal.Scopes{"users", "keys:read"}, "keys", false},
		{nil, "users:read", false},
	} {
		if got := c.have.Allow(c.needed); got != c.want {
			t.Errorf("%v for %s: %v", c.have, c.needed, got)
		}
	}
}

func TestAKeyGivesNoMoreThanItHas(t *testing.T) {
	t.Parallel()
	own := principal.Scopes{"users", "keys", "audit:read"}
	if beyond := own.Beyond(principal.Scopes{"users:read", "audit", "users", "act"}); !slices.Equal(beyond, principal.Scopes{"audit", "act"}) {
		t.Errorf("beyond are %v", beyond)
	}
	for scope, want := range map[string]bool{"users": true, "users:read": true, "users:write": false, "": false, ":read": false, "root": false, "users:read:read": false} {
		if got := principal.ValidScope(scope); got != want {
			t.Errorf("%q is a scope: %v", scope, got)
		}
	}
}
