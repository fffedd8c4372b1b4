package httpapi

import (
	"strings"
	"testing"

	"github.com/gofiber/fiber/v2"
	"github.com/prometheus/client_golang/prometheus"
)

// A route that can be undone ends in a thing, so that the audit log has pin.set and pin.delete: any other word would be the verb of both.
func TestRoutesAndTheirOppositesHaveActionsOfTheirOwn(t *testing.T) {
	t.Parallel()
	methods := map[string][]string{}
	s := &Server{Deps: Deps{Registry: prometheus.NewRegistry()}}
	for _, r := range s.routes(&docs{}) {
		methods[r.path] = append(methods[r.path], r.method)
	}
	checked := 0
	for path, of := range methods {
		last := path[strings.LastIndex(path, "/")+1:]
		if !strings.Contains(strings.Join(of, " "), fiber.MethodDelete) || len(of) < 2 || strings.HasPrefix(last, ":") || strings.HasPrefix(path, serverPath) || last == "me" {
			continue
		}
		checked++
		if things[last] == "" {
			t.Errorf("%v %s: things lacks %q", of, path, last)
		}
	}
	if checked == 0 {
		t.Error("no route was checked")
	}
}
