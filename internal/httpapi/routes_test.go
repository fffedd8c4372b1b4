package httpapi

import (
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/parley-chat/parley/internal/httpapi/apidoc/apidoctest"
)

func TestEveryRouteIsDescribedAndTheOtherWayRound(t *testing.T) {
	t.Parallel()
	v, err := apidoctest.New()
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{Config: Config{Docs: true}, Deps: Deps{Registry: prometheus.NewRegistry()}}
	var served []string
	param := regexp.MustCompile(`:(\w+)`)
	for _, r := range s.routes(&docs{}) {
		served = append(served, r.method+" "+param.ReplaceAllString(r.path, "{$1}"))
	}
	slices.Sort(served)
	described := v.Operations()
	for _, r := range served {
		if !slices.Contains(described, r) {
			t.Errorf("%s is not described", r)
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
