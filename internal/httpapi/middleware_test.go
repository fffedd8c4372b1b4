package httpapi

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/parley-chat/parley/internal/config"
	"github.com/parley-chat/parley/internal/id"
)

// withRoute adds a route without limit or authentication to an edge.
func (e *serverEdge) withRoute(method, path string, h fiber.Handler) {
	e.add(route{method: method, path: path, handler: h})
}

// addedEdge is an edge whose route GET /test is h.
func addedEdge(t *testing.T, h fiber.Handler, adjust ...func(*Config, *Deps)) *serverEdge {
	t.Helper()
	e := newServerEdge(t, adjust...)
	e.app = e.newApp()
	e.withRoute(http.MethodGet, "/test", h)
	return e
}

func TestRequestIDs(t *testing.T) {
	t.Parallel()
	e := newServerEdge(t)
	for _, c := range []struct {
		name, sent string
		kept       bool
	}{
		{"well-formed", "abc-DEF_123", true},
		{"the longest", strings.Repeat("x", 64), true},
		{"too long", strings.Repeat("x", 65), false},
		{"with a space", "a b", false},
		{"for the log", "a\"}", false},
		{"empty", "", false},
	} {
		r := e.do("GET", "/api/nothing", "", "", "X-Request-Id", c.sent)
		got := r.header.Get("X-Request-Id")
		if (got == c.sent) != c.kept || got != r.problem.RequestID || !c.kept && !id.Valid(got) {
			t.Errorf("%s: %q became %q, in the problem %q", c.name, c.sent, got, r.problem.RequestID)
		}
	}
	a, b := e.do("GET", "/api/health", "", ""), e.do("GET", "/api/health", "", "")
	if a.header.Get("X-Request-Id") == b.header.Get("X-Request-Id") {
		t.Error("two requests have one id")
	}
}

func TestHeadersOfEveryResponse(t *testing.T) {
	t.Parallel()
	e := newServerEdge(t)
	for path, token := range map[string]string{"/api/health": "", "/api/nothing": "", ownSessions: "", "/api/server/keys": serverToken} {
		r := e.do("GET", path, token, "")
		if r.header.Get("X-Content-Type-Options") != "nosniff" || r.header.Get("Cache-Control") != "no-store" || r.closes {
			t.Errorf("%s: %v", path, r.header)
		}
	}
	e.Gate.Close()
	if r := e.do("GET", "/api/health", "", ""); !r.closes {
		t.Errorf("a pod that stops: %v", r.header)
	}
}

func TestRequestsThatNoRouteServes(t *testing.T) {
	t.Parallel()
	e := newServerEdge(t)
	for _, c := range []struct {
		method, path string
		status       int
		code         string
		allow        string
	}{
		{"GET", "/", 404, "not_found", ""},
		{"GET", "/api/Health", 404, "not_found", ""},
		{"GET", "/api/health/", 404, "not_found", ""},
		{"POST", "/api/health", 405, "method_not_allowed", "GET, HEAD"},
		{"PATCH", "/api/server/keys", 405, "method_not_allowed", "GET, HEAD, POST"},
		{"OPTIONS", "/api/server/keys", 405, "method_not_allowed", "GET, HEAD, POST"},
		{"TRACE", "/api/health", 405, "method_not_allowed", "GET, HEAD"},
		{"BREW", "/api/health", 501, "not_implemented", ""},
	} {
		r := e.send(httptest.NewRequest(c.method, c.path, nil))
		e.wantProblem(r, c.status, c.code)
		if got := r.header.Get("Allow"); got != c.allow {
			t.Errorf("%s %s: Allow is %q, want %q", c.method, c.path, got, c.allow)
		}
		if r.header.Get("Content-Type") != "application/problem+json" {
			t.Errorf("%s %s: %s", c.method, c.path, r.header.Get("Content-Type"))
		}
	}
	// They are limited too, by address.
	if got := e.limits.charged(); len(got) == 0 || got[0].Rule != "default" || got[0].Subject != "address:0.0.0.0" {
		t.Errorf("charged %+v", got)
	}
	e.limits.refuseRule("default", time.Second)
	e.wantProblem(e.send(httptest.NewRequest("GET", "/nothing", nil)), 429, "rate_limited")
}

func TestHeadHasTheHeadersOfGet(t *testing.T) {
	t.Parallel()
	e := newServerEdge(t)
	for _, path := range []string{"/api/health", "/api/server/keys", "/api/server/keys/none", "/api/nothing"} {
		get, head := e.do("GET", path, serverToken, ""), e.do("HEAD", path, serverToken, "")
		if head.status != get.status || head.body != "" || head.header.Get("Content-Type") != get.header.Get("Content-Type") || head.header.Get("Content-Length") != get.header.Get("Content-Length") {
			t.Errorf("%s: GET is %d %v, HEAD %d %v %q", path, get.status, get.header, head.status, head.header, head.body)
		}
	}
}

func TestAPanicIsA500AndCounted(t *testing.T) {
	t.Parallel()
	e := addedEdge(t, func(*fiber.Ctx) error { panic("the password is hunter2") })
	r := e.send(httptest.NewRequest("GET", "/test", nil))
	e.wantProblem(r, 500, "internal")
	if strings.Contains(r.body, "hunter2") {
		t.Errorf("the response reveals the panic: %s", r.body)
	}
	if n := testutil.ToFloat64(e.Panics.WithLabelValues("request")); n != 1 {
		t.Errorf("%v panics are counted", n)
	}
	if n := testutil.ToFloat64(e.Server.metrics.requests.WithLabelValues("GET", "/test", "500")); n != 1 {
		t.Errorf("%v requests are counted", n)
	}
	if log := e.log.String(); !strings.Contains(log, "hunter2") || !strings.Contains(log, "middleware_test.go") {
		t.Errorf("the log lacks the panic or its stack: %s", log)
	}
}

// A handler gets a deadline, which ends what it asks of Postgres and Redis, and the request's id for its log.
func TestADeadlineIsOfEveryRequest(t *testing.T) {
	t.Parallel()
	var left time.Duration
	var within context.Context
	e := addedEdge(t, func(c *fiber.Ctx) error {
		within = c.UserContext()
		at, _ := within.Deadline()
		left = time.Until(at)
		return c.SendStatus(fiber.StatusNoContent)
	})
	if r := e.send(httptest.NewRequest("GET", "/test", nil)); r.status != 204 || left <= 0 || left > requestTimeout {
		t.Errorf("%d with a deadline in %s", r.status, left)
	}
	if within.Err() == nil {
		t.Error("the context of a request outlives it")
	}
}

func TestLargeHeadersAreRefused(t *testing.T) {
	t.Parallel()
	e := newServerEdge(t)
	e.wantProblem(e.do("GET", "/api/health", "", "", "X-Large", strings.Repeat("x", maxHeader)), 431, "headers_too_large")
	// A long token is a wrong token, and not headers that are too large.
	e.wantProblem(e.do("GET", ownSessions, strings.Repeat("x", maxHeader), ""), 401, "unauthorized")
}

func TestABodyWhereNoneBelongsIsNotRead(t *testing.T) {
	t.Parallel()
	e := newServerEdge(t)
	if r := e.send(httptest.NewRequest("GET", "/api/server/keys", strings.NewReader("{}"))); r.status != 401 {
		t.Errorf("a GET with a body is %d %s", r.status, r.body)
	}
	r := e.do("GET", "/api/server/keys", serverToken, `{"x":1}`)
	if r.status != 200 || !r.closes {
		t.Errorf("a GET with a body is %d %v", r.status, r.header)
	}
	// A client cannot mark its request as one whose body was dropped.
	if r := e.do("GET", "/api/health", "", "", headerDropped, dropTooLarge); r.status != 200 {
		t.Errorf("a request that has the mark is %d", r.status)
	}
}

func TestMetricsOfRequestsHaveBoundedLabels(t *testing.T) {
	t.Parallel()
	e := newServerEdge(t)
	for _, path := range []string{"/api/users/" + ada, "/api/users/" + bob, "/a", "/b"} {
		e.send(httptest.NewRequest("GET", path, nil))
	}
	e.send(httptest.NewRequest("BREW", "/c", nil))
	requests := e.Server.metrics.requests
	for labels, want := range map[[3]string]float64{
		{"GET", "/api/users/:id", "401"}: 2, {"GET", "unmatched", "404"}: 2, {"other", "unmatched", "501"}: 1,
	} {
		if n := testutil.ToFloat64(requests.WithLabelValues(labels[:]...)); n != want {
			t.Errorf("%v: %v, want %v", labels, n, want)
		}
	}
	if n := testutil.CollectAndCount(requests); n != 3 {
		t.Errorf("there are %d series", n)
	}
}

func TestCrossOriginRequests(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, origin string
		origins      []string
		allowed      bool
	}{
		{"listed", "https://app.example.com", []string{"https://app.example.com"}, true},
		{"not listed", "https://evil.example.com", []string{"https://app.example.com"}, false},
		{"a longer name", "https://app.example.com.evil.com", []string{"https://app.example.com"}, false},
		{"any", "https://x.example.com", []string{"*"}, true},
		{"any port", "http://localhost:5173", []string{"http://localhost" + config.AnyPort}, true},
		{"no port where any is allowed", "http://localhost", []string{"http://localhost" + config.AnyPort}, true},
		{"a port that is none", "http://localhost:x", []string{"http://localhost" + config.AnyPort}, false},
		{"a host that begins so", "http://localhost.evil.com:80", []string{"http://localhost" + config.AnyPort}, false},
		{"none are allowed", "https://app.example.com", nil, false},
	} {
		e := newServerEdge(t, func(s *Config, _ *Deps) { s.AllowedOrigins = c.origins })
		r := e.do("GET", "/api/health", "", "", "Origin", c.origin)
		if got := r.header.Get("Access-Control-Allow-Origin"); (got == c.origin) != c.allowed || !c.allowed && got != "" || r.status != 200 {
			t.Errorf("%s: %d allows %q", c.name, r.status, got)
		}
		pre := httptest.NewRequest("OPTIONS", "/api/conversations", nil)
		pre.Header.Set("Origin", c.origin)
		pre.Header.Set("Access-Control-Request-Method", "POST")
		p := e.send(pre)
		if ok := p.status == 204 && p.header.Get("Access-Control-Allow-Origin") == c.origin && strings.Contains(p.header.Get("Access-Control-Allow-Headers"), "Authorization"); ok != c.allowed {
			t.Errorf("%s: the preflight is %d %v", c.name, p.status, p.header)
		}
	}
}

// A problem counts as unavailable, and says when to try again, only if it is one that passes.
func TestUnavailableIsCounted(t *testing.T) {
	t.Parallel()
	for _, err := range []error{errUnavailable, errInternal} {
		e := addedEdge(t, func(*fiber.Ctx) error { return err }, func(_ *Config, d *Deps) { d.Registry = prometheus.NewRegistry() })
		r := e.send(httptest.NewRequest("GET", "/test", nil))
		passes := err == errUnavailable //nolint:errorlint // it is one of the two above
		if n := testutil.ToFloat64(e.Server.metrics.unavailable); (n == 1) != passes || (r.header.Get("Retry-After") == "1") != passes {
			t.Errorf("%v: counted %v, Retry-After %q", err, n, r.header.Get("Retry-After"))
		}
		if logged := strings.Contains(e.log.String(), `"level":"ERROR"`); logged == passes {
			t.Errorf("%v: %s", err, e.log)
		}
	}
}
