package httpapi

import (
	"context"
	"io"
	"log/slog"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"

	"github.com/parley-chat/parley/internal/auth"
	"github.com/parley-chat/parley/internal/config"
	"github.com/parley-chat/parley/internal/postgres"
	"github.com/parley-chat/parley/internal/principal"
	"github.com/parley-chat/parley/internal/ratelimit"
)

var tenAMinute = config.Rate{Count: 10, Window: time.Minute}

// allLimits limits everything, each rule by a count of its own.
func allLimits(c *Config, _ *Deps) {
	rate := func(n int) config.Rate { return config.Rate{Count: n, Window: time.Minute} }
	c.Limits = config.Limits{
		Default: rate(1), Auth: rate(2), Refresh: rate(3), Search: rate(4), Send: rate(5), React: rate(6), Upload: rate(7), Server: rate(8), Socket: rate(9),
	}
}

func TestRoutesAreChargedToTheirRule(t *testing.T) {
	t.Parallel()
	e := newServerEdge(t, allLimits)
	const user, address = "user:" + ada, "address:0.0.0.0"
	for _, c := range []struct {
		method, path, rule, subject string
		count                       int
	}{
		{"GET", "/api/friends", "default", user, 1},
		{"GET", "/api/users/me", "default", user, 1},
		{"GET", "/api/users/search", "search", user, 4},
		{"POST", "/api/conversations/" + room + "/messages", "send", user, 5},
		{"PUT", "/api/messages/" + hello + "/reactions/x", "react", user, 6},
		{"DELETE", "/api/messages/" + hello + "/reactions/x", "react", user, 6},
		{"POST", "/api/uploads", "upload", user, 7},
		{"GET", "/api/ws", "socket", user, 9},
		{"POST", "/api/auth/register", "register", address, 2},
		{"POST", "/api/auth/login", "login", address, 2},
		{"POST", "/api/auth/refresh", "default", address, 1},
		{"GET", "/api/nothing", "default", user, 1},
	} {
		e.limits.refuseRule(c.rule, 61*time.Second)
		r := e.do(c.method, c.path, e.session(), "")
		e.limits.refuseBy(nil)
		e.wantProblem(r, 429, "rate_limited")
		if r.header.Get("Retry-After") != "61" || r.problem.RetryAfterSeconds != 61 || r.header.Get("X-RateLimit-Reset") != "62" {
			t.Errorf("%s: %v", c.path, r.header)
		}
		got := e.limits.charged()
		if len(got) != 1 || got[0].Rule != c.rule || got[0].Subject != c.subject || got[0].Rate.Count != c.count {
			t.Errorf("%s %s: charged %+v, want %s of %s", c.method, c.path, got, c.rule, c.subject)
		}
	}
	for _, path := range []string{"/api/health", "/api/metrics"} {
		if r := e.do("GET", path, "", ""); r.header.Get("X-RateLimit-Limit") != "" || e.limits.charged() != nil {
			t.Errorf("%s is limited: %v", path, r.header)
		}
	}
}

func TestSubjectsOfLimits(t *testing.T) {
	t.Parallel()
	e, _, external := authEdge(t)
	for _, c := range []struct{ name, token, want string }{
		{"no token", "", "address:0.0.0.0"},
		{"a wrong token", "x", "address:0.0.0.0"},
		{"an unknown key", "parley_sk_unknown", "address:0.0.0.0"},
		{"a user", e.session(), "user:" + ada},
		{"an external user whom this pod does not know", "ext.ada", "external:ada"},
		{"a key", serverToken, "key:" + keyID},
	} {
		e.do("GET", ownSessions, c.token, "", acting(c.token)...)
		if got := e.limits.charged(); len(got) != 1 || got[0].Subject != c.want {
			t.Errorf("%s: charged %+v, want %s", c.name, got, c.want)
		}
	}
	external.err = principal.ErrUnauthorized
	e.do("GET", ownSessions, "ext.ada", "")
	if got := e.limits.charged(); len(got) != 1 || got[0].Subject != "address:0.0.0.0" {
		t.Errorf("a wrong external token: charged %+v", got)
	}
}

// A limit is applied before the token's user is looked up, so that a flood costs no query.
func TestALimitComesBeforeTheUser(t *testing.T) {
	t.Parallel()
	e, seen, external := authEdge(t)
	external.userErr = postgres.ErrConflict
	e.limits.refuseRule("default", time.Second)
	e.wantProblem(e.do("GET", ownSessions, "ext.ada", ""), 429, "rate_limited")
	if len(seen.seen) != 0 {
		t.Error("a refused request reached its domain")
	}
}

func TestLimitsThatAreOff(t *testing.T) {
	t.Parallel()
	e := newServerEdge(t, func(c *Config, _ *Deps) { c.Limits = config.Limits{} })
	for _, token := range []string{serverToken, "parley_sk_unknown"} {
		if r := e.do("GET", "/api/server/keys", token, ""); r.header.Get("X-RateLimit-Limit") != "" {
			t.Errorf("%s: %v", token, r.header)
		}
	}
	body := `{"users":` + members(500, `{"externalId":"u%d"}`) + `}`
	if r := e.do("PUT", "/api/server/users", serverToken, body); r.status != 200 {
		t.Errorf("a bulk is %d", r.status)
	}
	if got := e.limits.charged(); got != nil {
		t.Errorf("charged %+v", got)
	}
}

// Addresses are those of clients behind trusted proxies, IPv6 ones by their network.
func TestAddressesOfLimits(t *testing.T) {
	t.Parallel()
	e := newServerEdge(t, func(c *Config, _ *Deps) {
		c.TrustedProxies, c.ForwardedHeader = []netip.Prefix{netip.MustParsePrefix("0.0.0.0/32")}, config.ForwardedFor
	})
	for sent, want := range map[string]string{
		"203.0.113.7": "address:203.0.113.7", "198.51.100.1, 203.0.113.7": "address:203.0.113.7",
		"2001:db8:1:2:3:4:5:6": "address:2001:db8:1:2::/64", "::ffff:203.0.113.7": "address:203.0.113.7", "unknown": "address:0.0.0.0",
	} {
		e.do("GET", "/api/nothing", "", "", "X-Forwarded-For", sent)
		if got := e.limits.charged(); len(got) != 1 || got[0].Subject != want {
			t.Errorf("%s: charged %+v, want %s", sent, got, want)
		}
	}
}

// While Redis is unavailable a process counts in its memory: limits neither stop all requests nor let all pass.
func TestLimitsHoldWithoutRedis(t *testing.T) {
	t.Parallel()
	rdb := redis.NewClient(&redis.Options{Addr: "127.0.0.1:1", MaxRetries: -1})
	t.Cleanup(func() { _ = rdb.Close() })
	limiter := ratelimit.New(rdb, prometheus.NewRegistry(), slog.New(slog.NewTextHandler(io.Discard, nil)))
	e := newServerEdge(t, func(c *Config, d *Deps) {
		c.Limits.Default, d.Limiter = config.Rate{Count: 3, Window: time.Hour}, limiter
	})
	for n := range 5 {
		r := e.send(httptest.NewRequest("GET", "/api/nothing", nil))
		if want := map[bool]int{true: 404, false: 429}[n < 3]; r.status != want {
			t.Errorf("request %d is %d, want %d", n, r.status, want)
		}
		if r.header.Get("X-RateLimit-Limit") != "3" || (r.header.Get("Retry-After") != "") != (r.status == 429) {
			t.Errorf("request %d: %v", n, r.header)
		}
	}
	if r := e.do("GET", ownSessions, e.session(), ""); r.status == 429 {
		t.Error("one subject's limit is another's")
	}
}

// refreshing is a domain whose refresh tokens have sessions.
type refreshing struct {
	*serverAuthFake
	err     error
	lookups int
}

func (r *refreshing) SessionOf(_ context.Context, t *auth.RefreshToken) (string, error) {
	r.lookups++
	session, _ := strings.CutPrefix(t.Token, "of ")
	if session == t.Token {
		session = ""
	}
	return session, r.err
}

func (*refreshing) HolderOf(context.Context, *auth.RefreshToken) (auth.Holder, error) {
	return auth.Holder{}, nil
}

func (*refreshing) Refresh(context.Context, *auth.RefreshToken, auth.Client) (auth.Pair, error) {
	return auth.Pair{}, auth.ErrInvalidRefresh
}

func TestRefreshIsLimitedByItsSession(t *testing.T) {
	t.Parallel()
	domain := &refreshing{}
	e := newServerEdge(t, func(c *Config, d *Deps) {
		c.Limits.Refresh = tenAMinute
		domain.serverAuthFake = d.Auth.(*serverAuthFake) //nolint:forcetypeassert // newServerEdge sets it
		d.Auth = domain
	})
	const path = "/api/auth/refresh"
	for _, c := range []struct {
		name, body string
		status     int
		subjects   string
	}{
		{"a known token", `{"refreshToken":"of s1"}`, 401, "address:0.0.0.0 session:s1"},
		{"an unknown token", `{"refreshToken":"nobody's"}`, 401, "address:0.0.0.0"},
		{"no token", `{}`, 400, "address:0.0.0.0"},
		{"no JSON", `{`, 400, "address:0.0.0.0"},
	} {
		r := e.do("POST", path, "", c.body)
		var subjects []string
		for _, take := range e.limits.charged() {
			subjects = append(subjects, take.Subject)
		}
		if got := strings.Join(subjects, " "); r.status != c.status || got != c.subjects {
			t.Errorf("%s: %d %s, charged to %s, want %d and %s", c.name, r.status, r.body, got, c.status, c.subjects)
		}
	}
	// A refused token is not looked up again until its bucket allows it.
	e.limits.refuseRule("refresh", time.Hour)
	domain.lookups = 0
	for range 3 {
		r := e.do("POST", path, "", `{"refreshToken":"of s2"}`)
		e.wantProblem(r, 429, "rate_limited")
		if r.header.Get("Retry-After") != "3600" {
			t.Errorf("Retry-After is %q", r.header.Get("Retry-After"))
		}
	}
	if domain.lookups != 1 {
		t.Errorf("the session was looked up %d times", domain.lookups)
	}
	// If Postgres is unavailable, the handler finds that out, and not the limit.
	domain.err = postgres.ErrConflict
	if r := e.do("POST", path, "", `{"refreshToken":"of s3"}`); r.status != 401 {
		t.Errorf("%d %s", r.status, r.body)
	}
}

func TestRefusalsAreForgottenInTime(t *testing.T) {
	t.Parallel()
	var r refusals
	now := someTime.Time
	token := func(n int) (out [32]byte) {
		out[0], out[1] = byte(n), byte(n>>8)
		return out
	}
	r.note(token(1), ratelimit.Verdict{Limit: 5, RetryAfter: time.Minute, Reset: time.Hour}, now)
	if v, known := r.find(token(1), now.Add(20*time.Second)); !known || v.RetryAfter != 40*time.Second || v.Reset != time.Hour-20*time.Second || v.Limit != 5 {
		t.Errorf("after 20 seconds: %+v %t", v, known)
	}
	if _, known := r.find(token(2), now); known {
		t.Error("a token that was not refused is")
	}
	if _, known := r.find(token(1), now.Add(time.Minute)); known || len(r.by) != 0 {
		t.Error("a token is refused after its time")
	}
	for n := range maxRefused {
		after := time.Minute
		if n%2 == 0 {
			after = time.Second
		}
		r.note(token(n), ratelimit.Verdict{RetryAfter: after}, now)
	}
	r.note(token(maxRefused), ratelimit.Verdict{RetryAfter: time.Minute}, now.Add(2*time.Second))
	if n := len(r.by); n != maxRefused/2+1 {
		t.Errorf("%d are remembered, want those that are still refused", n)
	}
	for n := range maxRefused {
		r.note(token(n), ratelimit.Verdict{RetryAfter: time.Minute}, now)
	}
	if n := len(r.by); n > maxRefused {
		t.Errorf("%d are remembered", n)
	}
}
