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
	s.pods[0].want(t, 201, "", "POST", "/api/auth/register", map[string]any{"username": "guessed", "password": password})
	var wg sync.WaitGroup
	var checked atomic.Int64
	for i := range 48 {
		wg.Go(func() {
			a, err := s.pods[i%2].try("", "POST", "/api/auth/login", map[string]any{"username": "guessed", "password": fmt.Sprint("wrong password ", i)})
			if err != nil {
				t.Error(err)
			} else if a.status == 401 {
				checked.Add(1)
			}
		})
	}
	wg.Wait()
	if n := checked.Load(); n > 20 || n == 0 {
		t.Errorf("%d guesses were checked, want 20 at most", n)
	}
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
