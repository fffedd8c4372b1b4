package principal_test

import (
	"errors"
	"testing"
	"time"

	"github.com/parley-chat/parley/internal/principal"
)

func TestAStandingAdmitsOrRefuses(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 28, 10, 0, 0, 0, time.UTC)
	later, earlier := now.Add(time.Second), now.Add(-time.Second)
	for name, x := range map[string]struct {
		standing principal.Standing
		want     error
		text     string
	}{
		"good":                    {principal.Standing{}, nil, ""},
		"deleted":                 {principal.Standing{Deleted: true, Deactivated: true, Banned: true}, principal.ErrUnauthorized, principal.ErrUnauthorized.Error()},
		"deactivated":             {principal.Standing{Deactivated: true, Banned: true}, principal.ErrDeactivated, principal.ErrDeactivated.Error()},
		"banned":                  {principal.Standing{Banned: true}, principal.ErrBanned, "this user is banned"},
		"banned for a time":       {principal.Standing{Banned: true, Until: later}, principal.ErrBanned, "this user is banned until 2026-11-28T10:00:01Z"},
		"at the end of the ban":   {principal.Standing{Banned: true, Until: now}, nil, ""},
		"after the end":           {principal.Standing{Banned: true, Until: earlier}, nil, ""},
		"an end without a ban":    {principal.Standing{Until: later}, nil, ""},
		"deactivated after a ban": {principal.Standing{Deactivated: true, Banned: true, Until: earlier}, principal.ErrDeactivated, principal.ErrDeactivated.Error()},
	} {
		err := x.standing.Err(now)
		if !errors.Is(err, x.want) || err != nil && err.Error() != x.text {
			t.Errorf("%s: %v, want %v", name, err, x.want)
		}
		if banned, ok := errors.AsType[*principal.BannedError](err); ok && !banned.Until.Equal(x.standing.Until) {
			t.Errorf("%s: the ban ends at %s", name, banned.Until)
		}
	}
}

func TestScopesThatExist(t *testing.T) {
	t.Parallel()
	for _, s := range principal.AllScopes() {
		if !principal.ValidScope(s) || !principal.ValidScope(principal.Read(s)) {
			t.Errorf("%s is not a scope, or not for reading", s)
		}
	}
	for _, s := range []string{"", ":read", "Users", "users:write", "users:read:read", "everything"} {
		if principal.ValidScope(s) {
			t.Errorf("%q is a scope", s)
		}
	}
}
