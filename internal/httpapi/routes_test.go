package httpapi

import (
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/parley-chat/parley/internal/httpapi/apidoc/apidoctest"
	"github.com/parley-chat/parley/internal/principal"
)

func TestEveryRouteIsDescribedAndTheOtherWayRound(t *testing.T) {
	t.Parallel()
	v, err := apidoctest.New()
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{Config: Config{Docs: true}, Deps: Deps{Registry: prometheus.NewRegistry()}}
	var served []string
	scopes := map[string]string{}
	param := regexp.MustCompile(`:(\w+)`)
	for _, r := range s.routes(&docs{}) {
		name := r.method + " " + param.ReplaceAllString(r.path, "{$1}")
		served = append(served, name)
		scopes[name] = r.who.scope
		if r.who.user {
			scopes[name] = principal.Act
		}
	}
	slices.Sort(served)
	described := v.Operations()
	for _, r := range served {
		if !slices.Contains(described, r) {
			t.Errorf("%s is not described", r)
		}
	}
	for name, scope := range scopes {
		if got := v.Scope(name); got != scope {
			t.Errorf("%s is described with the scope %q, and served with %q", name, got, scope)
		}
	}
	for _, r := range described {
		if !slices.Contains(served, r) {
			t.Errorf("%s is not served", r)
		}
	}
	if dup := slices.Compact(slices.Clone(served)); len(dup) != len(served) {
		t.Errorf("a route is served twice: %s", strings.Join(served, ", "))
	}
}
