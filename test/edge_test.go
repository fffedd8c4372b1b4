package test

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// squeezed is a JSON string of n MiB of blanks, compressed twice.
func squeezed(t *testing.T, n int) string {
	t.Helper()
	squeeze := func(b []byte) []byte {
		var out bytes.Buffer
		z := gzip.NewWriter(&out)
		if _, err := z.Write(b); err != nil {
			t.Fatal(err)
		}
		if err := z.Close(); err != nil {
			t.Fatal(err)
		}
		return out.Bytes()
	}
	return string(squeeze(squeeze([]byte(`{"refreshToken":"` + strings.Repeat(" ", n<<20) + `"}`))))
}

// A body is plain on every route, of any user, of any length: what carries a Content-Encoding is refused before it is read.
func TestEncodedBodiesAreRefused(t *testing.T) {
	t.Parallel()
	s := start(t, 1)
	p := s.pods[0]
	token := p.register(t).token
	bomb := squeezed(t, 16)
	for _, route := range []string{
		"POST /api/auth/logout", "POST /api/auth/login", "POST /api/auth/register", "POST /api/auth/refresh", "POST /api/conversations",
		"PATCH /api/users/me", "DELETE /api/users/me", "PUT /api/blocks/x", "GET /api/health", "GET /api/metrics", "GET /api/ws", "POST /api/nothing",
	} {
		method, path, _ := strings.Cut(route, " ")
		for _, encoding := range []string{"gzip, gzip", "gzip", "deflate", "br", "zstd", "identity", "nonsense"} {
			a, err := p.try(token, method, path, bomb, "Content-Encoding", encoding)
			if err != nil {
				t.Fatalf("%s, %s: %v", route, encoding, err)
			}
			if a.status != http.StatusUnsupportedMediaType || a.code() != "unsupported_media_type" {
				t.Errorf("%s, %s: %d %s", route, encoding, a.status, a.body)
			}
		}
	}
	if taken := metric(t, p.ops, "go_memstats_alloc_bytes_total"); taken > 512<<20 {
		t.Errorf("%.0f MiB were allocated for bodies of %d bytes", taken/(1<<20), len(bomb))
	}
}

// A body of unknown keys is answered by its first faults, also on the route whose limit is found in its body.
func TestUnknownKeysCostNoMoreThanTheirSize(t *testing.T) {
	t.Parallel()
	s := start(t, 1, "PARLEY_RATE_LIMIT_AUTH=5/15m", "PARLEY_RATE_LIMIT_DEFAULT=100/1h")
	p := s.pods[0]
	keys := func(n int) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, `,"k%05d":0`, i)
		}
		return "{" + b.String()[1:] + "}"
	}
	for _, path := range []string{"/api/auth/logout", "/api/auth/refresh", "/api/auth/login"} {
		a := p.call(t, "", "POST", path, keys(20_000))
		if pr := a.problem(t); a.status != 400 || len(pr.Errors) != 20 || len(a.body) > 4096 {
			t.Errorf("%s: %d, %d faults in %d bytes", path, a.status, len(pr.Errors), len(a.body))
		}
	}
	left := func(a answer) string { return a.header.Get("X-RateLimit-Limit") }
	if a := p.call(t, "", "POST", "/api/auth/refresh", keys(60_000)); a.status != 413 || left(a) != "100" {
		t.Errorf("a body that is too large: %d of the limit %s, want 413 by the address's limit, before it is decoded", a.status, left(a))
	}
}

// A username that Postgres can't take is a fault of the request.
func TestALoginByANameThatNobodyCanHave(t *testing.T) {
	t.Parallel()
	p := start(t, 1).pods[0]
	for _, name := range []string{"a\u0000b", "\u0001", "a\nb"} {
		a := p.call(t, "", "POST", "/api/auth/login", map[string]any{"username": name, "password": password})
		if a.status != 400 || a.problem(t).fields() != "username" {
			t.Errorf("%q: %d %s", name, a.status, a.body)
		}
	}
	if a := p.call(t, "", "POST", "/api/auth/register", map[string]any{"username": "agent.test", "password": password}, "User-Agent", "a\xffb\x80"); a.status != 201 {
		t.Errorf("a user agent that is no UTF-8: %d %s", a.status, a.body)
	}
}

// Guesses at the same time are counted before they are checked: no more than 20 are.
func TestGuessesAtOnceAreCountedOneByOne(t *testing.T) {
	t.Parallel()
	s := start(t, 2, "PARLEY_RATE_LIMIT_AUTH=1000/15m")
	s.countedInRedis(t, func() string {
		name := s.pods[0].register(t).Username
		var wg sync.WaitGroup
		var checked atomic.Int64
		for i := range 48 {
			wg.Go(func() {
				a, err := s.pods[i%2].try("", "POST", "/api/auth/login", map[string]any{"username": name, "password": fmt.Sprint("wrong password ", i)})
				if err != nil {
					t.Error(err)
				} else if a.status == 401 {
					checked.Add(1)
				}
			})
		}
		wg.Wait()
		if n := checked.Load(); n > 20 || n == 0 {
			return fmt.Sprintf("%d guesses were checked, want 20 at most", n)
		}
		return ""
	})
}

// The token of a session that was ended is worth no more than none: it takes from its address's bucket.
func TestAnEndedSessionLeavesItsOwnersLimitAlone(t *testing.T) {
	t.Parallel()
	s := start(t, 1, "PARLEY_RATE_LIMIT_DEFAULT=10/1h")
	p := s.pods[0]
	u := p.register(t)
	var second pair
	p.want(t, 200, "", "POST", "/api/auth/login", map[string]any{"username": u.Username, "password": password}).into(t, &second)
	p.want(t, 204, "", "POST", "/api/auth/logout", map[string]any{"refreshToken": u.refresh})
	statuses := map[int]int{}
	for range 20 {
		statuses[p.call(t, u.token, "GET", "/api/users/me", nil).status]++
	}
	if statuses[200] > 0 {
		t.Errorf("with an ended session: %v", statuses)
	}
	a := p.want(t, 200, second.AccessToken, "GET", "/api/users/me", nil)
	if _, left, _ := limitHeaders(t, a); left != 9 {
		t.Errorf("%d of 10 are left to the owner, want 9", left)
	}
}

func TestDocsCanBeOff(t *testing.T) {
	t.Parallel()
	p := start(t, 1, "PARLEY_DOCS=off").pods[0]
	for _, path := range []string{"/api/docs", "/api/docs/openapi.json", "/api/docs/swagger-ui-bundle.js"} {
		if a, err := p.try("", "GET", path, nil); err != nil || a.status != 404 || a.code() != "not_found" {
			t.Errorf("%s: %d %s, %v", path, a.status, a.body, err)
		}
	}
}

// The page is off unless it is wanted, and never in the way of the API.
func TestThePageIsServedWhereItIsOn(t *testing.T) {
	t.Parallel()
	off := start(t, 1).pods[0]
	on := start(t, 1, "PARLEY_WEB=on").pods[0]
	get := func(p *pod, path string, status int) answer { // the page is in no OpenAPI document
		t.Helper()
		a, err := p.try("", "GET", path, nil)
		if err != nil || a.status != status {
			t.Fatalf("%s: %d %s, %v; want %d", path, a.status, a.body, err, status)
		}
		return a
	}
	if a := get(off, "/", 404); a.code() != "not_found" {
		t.Errorf("without it / is %s", a.body)
	}
	page := get(on, "/", 200)
	if !strings.Contains(string(page.body), "/assets/app-") || page.header.Get("X-Frame-Options") != "DENY" || page.header.Get("X-Content-Type-Options") != "nosniff" {
		t.Errorf("the page is %s %v", page.body, page.header)
	}
	for path, status := range map[string]int{"/assets/nothing.js": 404, "/nothing": 404, "/api/nothing": 404, "/api/health": 200} {
		get(on, path, status)
	}
}

// Answers about a user are kept by no cache, and pages are shown in nobody's frame.
func TestHeadersOfAnswers(t *testing.T) {
	t.Parallel()
	p := start(t, 1).pods[0]
	u := p.register(t)
	for path, status := range map[string]int{"/api/users/me": 200, "/api/friends": 200, "/api/users/x": 404, "/api/health": 200, "/api/nothing": 404} {
		t.Run("GET "+path, func(t *testing.T) {
			a := p.want(t, status, u.token, "GET", path, nil)
			if a.header.Get("Cache-Control") != "no-store" || a.header.Get("X-Content-Type-Options") != "nosniff" {
				t.Errorf("the headers are %v, want Cache-Control: no-store and X-Content-Type-Options: nosniff", a.header)
			}
		})
	}
	for _, path := range []string{"/api/docs", "/api/docs/openapi.json", "/api/docs/swagger-ui-bundle.js"} {
		t.Run("the page "+path, func(t *testing.T) {
			for range 2 { // rendered, and kept
				p.expectUnframed(t, path)
			}
		})
	}
	t.Run("the docs keep the token", func(t *testing.T) {
		expectContains(t, "the docs", p.want(t, 200, "", "GET", "/api/docs", nil).body, "persistAuthorization: true")
	})
	t.Run("a method that is none", func(t *testing.T) {
		odd := p.call(t, "", "FOOBAR", "/api/users/me", nil)
		if pr := odd.problem(t); odd.status != 501 || pr.Code != "not_implemented" || pr.RequestID != odd.header.Get("X-Request-Id") || pr.RequestID == "" {
			t.Errorf("got %d %v %s, want 501 not_implemented with the request's id", odd.status, odd.header, odd.body)
		}
	})
}

// expectUnframed checks that a page has content, that no other page may show it in a frame, and that HEAD has no body.
func (p *pod) expectUnframed(t *testing.T, path string) {
	t.Helper()
	a := p.want(t, 200, "", "GET", path, nil)
	if !strings.Contains(a.header.Get("Content-Security-Policy"), "frame-ancestors 'none'") || a.header.Get("X-Frame-Options") != "DENY" {
		t.Errorf("the headers are %v, want frame-ancestors 'none' and X-Frame-Options: DENY", a.header)
	}
	if len(a.body) < 100 {
		t.Errorf("the page has only %d bytes", len(a.body))
	}
	if h := p.want(t, 200, "", "HEAD", path, nil); len(h.body) > 0 {
		t.Errorf("HEAD has %d bytes, want none", len(h.body))
	}
}

func TestWhoSeesTheMetrics(t *testing.T) {
	t.Parallel()
	s := start(t, 1)
	p := s.pods[0]
	p.want(t, 200, "", "GET", "/api/metrics", nil)
	p.want(t, 404, "", "GET", "/api/metrics", nil, "X-Forwarded-For", "10.1.2.3")
	p.want(t, 404, "", "GET", "/api/metrics", nil, "Forwarded", "for=10.1.2.3")
	s.addPod("PARLEY_TRUSTED_PROXIES=127.0.0.1").want(t, 404, "", "GET", "/api/metrics", nil)
	secret := s.addPod("PARLEY_METRICS_TOKEN=scrape me")
	secret.want(t, 401, "", "GET", "/api/metrics", nil)
	secret.want(t, 200, "scrape me", "GET", "/api/metrics", nil, "X-Forwarded-For", "203.0.113.1")
}

// The token is rotated as docs/operating.md says: the pods of the first two steps accept the old one, and
// those of the last two accept the new one.
func TestTheMetricsTokenRotates(t *testing.T) {
	t.Parallel()
	const older, newer = "the older token", "the newer token"
	s := start(t, 0)
	only := s.addPod("PARLEY_METRICS_TOKEN=" + older)
	both := s.addPod("PARLEY_METRICS_TOKEN=" + older + ", " + newer)
	last := s.addPod("PARLEY_METRICS_TOKEN=" + newer)
	for _, scrape := range []struct {
		p      *pod
		token  string
		status int
	}{
		{only, older, 200}, {only, newer, 401},
		{both, older, 200}, {both, newer, 200}, {both, older + ", " + newer, 401}, {both, "the other token", 401}, {both, "", 401},
		{last, older, 401}, {last, newer, 200},
	} {
		scrape.p.want(t, scrape.status, scrape.token, "GET", "/api/metrics", nil)
	}
}

// An address is found on all of the header's lines, with a port or without.
func TestAddressesBehindProxies(t *testing.T) {
	t.Parallel()
	s := start(t, 1, "PARLEY_RATE_LIMIT_AUTH=5/15m", "PARLEY_TRUSTED_PROXIES=127.0.0.0/8")
	login := func(p *pod, name string, lines ...string) (status, left string) {
		r := p.rawFrom(t, "")
		body := `{"username":"nobody.at.all","password":"wrong"}`
		r.write(jsonPost, "/api/auth/login")
		for _, l := range lines {
			r.write("%s: %s\r\n", name, l)
		}
		r.write("Content-Length: %d\r\n\r\n%s", len(body), body)
		a := r.answer()
		return fmt.Sprint(a.status), a.header.Get("X-RateLimit-Remaining")
	}
	for i := range 8 {
		want := "401"
		if i >= 5 {
			want = "429"
		}
		if got, _ := login(s.pods[0], "X-Forwarded-For", fmt.Sprintf("198.51.100.%d", i), "203.0.113.9"); got != want {
			t.Errorf("login %d by one client that writes lines of its own: %s", i, got)
		}
	}
	for i := range 3 {
		if _, left := login(s.pods[0], "X-Forwarded-For", fmt.Sprintf("203.0.113.2%d:5000", i)); left != "4" {
			t.Errorf("a client with its port: %s left", left)
		}
	}
	rfc := s.addPod("PARLEY_FORWARDED_HEADER=forwarded")
	if _, left := login(rfc, "Forwarded", `for="203.0.113.31:4711"`); left != "4" {
		t.Errorf("by Forwarded: %s left", left)
	}
	login(rfc, "X-Forwarded-For", "203.0.113.77")
	if _, left := login(rfc, "X-Forwarded-For", "203.0.113.78"); left != "3" {
		t.Errorf("the header that is not the trusted one: %s left", left)
	}
}

// A list may be repeated or comma separated; of another parameter that is given twice neither is ignored.
func TestRepeatedQueryParameters(t *testing.T) {
	t.Parallel()
	p := start(t, 1).pods[0]
	us := p.users(t, 3)
	for _, query := range []string{"userIds=%s&userIds=%s", "userIds=%s,%s"} {
		var list struct{ Data []struct{ UserID string } }
		p.want(t, 200, us[0].token, "GET", "/api/presence?"+fmt.Sprintf(query, us[1].ID, us[2].ID), nil).into(t, &list)
		if len(list.Data) != 2 || list.Data[0].UserID != us[1].ID || list.Data[1].UserID != us[2].ID {
			t.Errorf("%s: %+v", query, list.Data)
		}
	}
	for _, query := range []string{"limit=1&limit=2", "cursor=a&cursor=b", "limit=1&limit=1"} {
		a := p.call(t, us[0].token, "GET", "/api/conversations?"+query, nil)
		if name, _, _ := strings.Cut(query, "="); a.status != 400 || a.problem(t).fields() != name {
			t.Errorf("%s: %d %s", query, a.status, a.body)
		}
	}
}
