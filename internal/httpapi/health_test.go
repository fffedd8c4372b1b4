package httpapi

import (
	"context"
	"errors"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"

	"github.com/parley-chat/parley/internal/config"
	"github.com/parley-chat/parley/internal/observe"
)

// checked has the state of dependencies.
type checked struct {
	observe.Checks
	storage bool
}

func (c *checked) Check(context.Context) observe.Checks { return c.Checks }
func (c *checked) HasStorage() bool                     { return c.storage }

// readiness is when the sessions, or the users, of a pod are known.
type readiness struct {
	endedSessions
	err error
}

func (r readiness) Ready() error { return r.err }

type knownStandings struct {
	standings
	err error
}

func (k knownStandings) Ready() error { return k.err }

func TestReadiness(t *testing.T) {
	t.Parallel()
	down := errors.New("connection refused by 10.0.0.7")
	for _, c := range []struct {
		name             string
		health           checked
		sessions, users  error
		external         bool
		status           int
		state, has, none string
	}{
		{"all is well", checked{}, nil, nil, false, 200, "ok", `"postgres":"up","redis":"up","schema":"current"`, `"storage"`},
		{"with storage", checked{storage: true}, nil, nil, false, 200, "ok", `"storage":"up"`, `"identity"`},
		{"with external tokens", checked{}, nil, nil, true, 200, "ok", `"identity":"up"`, "down"},
		{"redis", checked{Checks: observe.Checks{Redis: down}}, nil, nil, false, 200, "degraded", `"redis":"down"`, `"postgres":"down"`},
		{"storage", checked{Checks: observe.Checks{Storage: down}, storage: true}, nil, nil, false, 200, "degraded", `"storage":"down"`, `"redis":"down"`},
		{"an old key set", checked{Checks: observe.Checks{Identity: down}}, nil, nil, true, 200, "degraded", `"identity":"down"`, `"redis":"down"`},
		{"no key set yet", checked{Checks: observe.Checks{Identity: down, NoKeys: true}}, nil, nil, true, 503, "unavailable", `"identity":"down"`, `"redis":"down"`},
		{"postgres", checked{Checks: observe.Checks{Postgres: down}}, nil, nil, false, 503, "unavailable", `"postgres":"down"`, `"redis":"down"`},
		{"an old schema", checked{Checks: observe.Checks{Outdated: true}}, nil, nil, false, 503, "unavailable", `"schema":"outdated"`, "down"},
		{"stopping", checked{Checks: observe.Checks{Stopping: true}}, nil, nil, false, 503, "unavailable", `"postgres":"up"`, "down"},
		{"unknown sessions", checked{}, down, nil, false, 503, "unavailable", `"postgres":"up"`, "down"},
		{"unknown standings", checked{}, nil, down, false, 503, "unavailable", `"postgres":"up"`, "down"},
	} {
		e := newServerEdge(t, func(_ *Config, d *Deps) {
			d.Health, d.Watch, d.Standings = &c.health, readiness{err: c.sessions}, knownStandings{err: c.users}
			if c.external {
				d.Verifier = &externalFake{}
			}
		})
		r := e.do("GET", "/api/health/ready", "", "")
		if r.status != c.status || !strings.Contains(r.body, `"status":"`+c.state+`"`) || !strings.Contains(r.body, c.has) || strings.Contains(r.body, c.none) {
			t.Errorf("%s: %d %s, want %d with %s and without %s", c.name, r.status, r.body, c.status, c.has, c.none)
		}
		if strings.Contains(r.body, "10.0.0.7") || (r.header.Get("Retry-After") != "") != (c.status == 503) {
			t.Errorf("%s: %v %s", c.name, r.header, r.body)
		}
		// A process that lives is not killed, whatever it depends on.
		if r := e.do("GET", "/api/health", "", ""); r.status != 200 || r.body != `{"status":"ok"}` {
			t.Errorf("%s: health is %d %s", c.name, r.status, r.body)
		}
	}
}

func TestMetricsAreOnlyForThoseNear(t *testing.T) {
	t.Parallel()
	const token = "token-of-metrics"
	for _, c := range []struct {
		name     string
		settings []string
		trusted  string
		headers  []string
		status   int
	}{
		{"from afar", nil, "", nil, 404},
		{"through a proxy", nil, "0.0.0.0/32", nil, 404},
		{"with a token that is not set", nil, "", []string{"Authorization", "Bearer " + token}, 404},
		{"without the token", []string{token}, "", nil, 401},
		{"with a wrong token", []string{token}, "", []string{"Authorization", "Bearer x"}, 401},
		{"with another scheme", []string{token}, "", []string{"Authorization", token}, 401},
		{"with the token", []string{token}, "", []string{"Authorization", "Bearer " + token}, 200},
		{"with the first of two", []string{token, "another"}, "", []string{"Authorization", "Bearer " + token}, 200},
		{"with the second of two", []string{"another", token}, "", []string{"Authorization", "Bearer " + token}, 200},
		{"with neither of two", []string{"another", token}, "", []string{"Authorization", "Bearer x"}, 401},
		{"without any of two", []string{"another", token}, "", nil, 401},
	} {
		e := newServerEdge(t, func(s *Config, _ *Deps) {
			s.MetricsTokens, s.ForwardedHeader = c.settings, config.ForwardedFor
			if c.trusted != "" {
				s.TrustedProxies = []netip.Prefix{netip.MustParsePrefix(c.trusted)}
			}
		})
		r := e.do("GET", "/api/metrics", "", "", c.headers...)
		if r.status != c.status || (c.status == 200) != strings.Contains(r.body, "parley_http_connections_open") {
			t.Errorf("%s: %d %.80s, want %d", c.name, r.status, r.body, c.status)
		}
	}
}

// The documents, the page and the routes of passwords are served only if they are on.
func TestRoutesThatAreOff(t *testing.T) {
	t.Parallel()
	on := newServerEdge(t, func(c *Config, _ *Deps) { c.Docs, c.Web = true, true })
	off := newServerEdge(t, func(c *Config, d *Deps) {
		c.AuthMode = config.AuthExternal
	})
	for _, path := range []string{docsPath, docsPath + "/openapi.json", docsPath + "/asyncapi.json", docsPath + "/frames", docsPath + "/frames.css", "/", "/push-worker.js"} {
		if r := on.send(httptest.NewRequest("GET", path, nil)); r.status != 200 || r.header.Get("X-Frame-Options") != "DENY" || r.header.Get("Cache-Control") == "no-store" {
			t.Errorf("%s, on: %d %v", path, r.status, r.header)
		}
		if r := off.send(httptest.NewRequest("GET", path, nil)); r.status != 404 {
			t.Errorf("%s, off: %d", path, r.status)
		}
	}
	for _, path := range builtinRoutes {
		if r := on.send(httptest.NewRequest("POST", path, nil)); r.status != 415 && r.status != 401 {
			t.Errorf("%s, on: %d", path, r.status)
		}
		if r := off.send(httptest.NewRequest("POST", path, nil)); r.status != 404 {
			t.Errorf("%s, off: %d", path, r.status)
		}
	}
	if r := on.send(httptest.NewRequest("GET", docsPath+"/nothing.js", nil)); r.status != 404 || r.problem.Code != "not_found" {
		t.Errorf("a file of the docs that is missing: %d %s", r.status, r.body)
	}
}
