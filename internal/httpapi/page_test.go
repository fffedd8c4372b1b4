package httpapi

import (
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"

	"github.com/gofiber/fiber/v2"

	"github.com/parley-chat/parley/internal/config"
	"github.com/parley-chat/parley/internal/testenv"
)

// servePage serves the page and returns how to ask for a path with a header or without.
func servePage(t *testing.T, storage config.Storage) func(path string, header ...string) (*http.Response, string) {
	t.Helper()
	p, err := newPage(storage)
	if err != nil {
		t.Fatal(err)
	}
	app := fiber.New(fiber.Config{StrictRouting: true, ErrorHandler: func(c *fiber.Ctx, err error) error {
		return c.SendStatus(problemOf(err, "").Status)
	}})
	for _, r := range p.routes(limit{}) {
		app.Add(r.method, r.path, r.handler)
	}
	return func(path string, header ...string) (*http.Response, string) {
		t.Helper()
		req := httptest.NewRequest(http.MethodGet, path, nil)
		for i := 0; i < len(header); i += 2 {
			req.Header.Set(header[i], header[i+1])
		}
		res, err := app.Test(req, -1)
		if err != nil {
			t.Fatal(err)
		}
		return res, testenv.Body(t, res)
	}
}

func TestThePageNeedsNothingFromOutside(t *testing.T) {
	t.Parallel()
	get := servePage(t, config.Storage{})
	res, index := get("/")
	policy := res.Header.Get("Content-Security-Policy")
	if res.StatusCode != 200 || res.Header.Get("Content-Type") != "text/html; charset=utf-8" || res.Header.Get("Cache-Control") != "no-cache" {
		t.Fatalf("the page is %d %v", res.StatusCode, res.Header)
	}
	for _, want := range []string{"default-src 'none'", "script-src 'self';", "connect-src 'self';", "frame-ancestors 'none'"} {
		if !strings.Contains(policy, want) {
			t.Errorf("the policy %q lacks %q", policy, want)
		}
	}
	if strings.Contains(policy, "unsafe") || regexp.MustCompile(`<script[^>]*>[^<]|style=|<style| on\w+=`).MatchString(index) {
		t.Errorf("the page has what its policy is to forbid: %s, under %q", index, policy)
	}
	loads := regexp.MustCompile(`(?:src|href)="(/[^"]+)"`).FindAllStringSubmatch(index, -1)
	if len(loads) != 2 {
		t.Fatalf("the page loads %v", loads)
	}
	// The service worker has no hash in its name, so that nothing may keep it.
	if res, _ := get("/push-worker.js"); res.StatusCode != 200 || res.Header.Get("Cache-Control") != "no-cache" || !strings.HasPrefix(res.Header.Get("Content-Type"), "text/javascript") {
		t.Errorf("the service worker is %d %v", res.StatusCode, res.Header)
	}
	if res, _ := get("/assets/push-worker.js"); res.StatusCode != 404 {
		t.Errorf("the service worker is an asset: %d", res.StatusCode)
	}
	size := len(index)
	for _, l := range loads {
		res, body := get(l[1], "Accept-Encoding", "gzip")
		if res.StatusCode != 200 || !strings.Contains(res.Header.Get("Cache-Control"), "immutable") || res.Header.Get("Content-Encoding") != "gzip" ||
			!strings.Contains(res.Header.Get("Vary"), "Accept-Encoding") {
			t.Errorf("%s is %d %v", l[1], res.StatusCode, res.Header)
		}
		if _, plain := get(l[1]); len(plain) <= len(body) {
			t.Errorf("%s is %d bytes compressed, %d without", l[1], len(body), len(plain))
		}
		size += len(body)
	}
	if size > 100<<10 {
		t.Errorf("the page is %d bytes", size)
	}
}

func TestThePageIsNotSentTwice(t *testing.T) {
	t.Parallel()
	get := servePage(t, config.Storage{})
	res, _ := get("/")
	again, body := get("/", "If-None-Match", res.Header.Get("ETag"))
	if again.StatusCode != http.StatusNotModified || body != "" || again.Header.Get("ETag") != res.Header.Get("ETag") {
		t.Errorf("the page again is %d %q %v", again.StatusCode, body, again.Header)
	}
	if changed, body := get("/", "If-None-Match", `"another"`); changed.StatusCode != 200 || body == "" {
		t.Errorf("another page is %d", changed.StatusCode)
	}
	for _, path := range []string{"/assets/nothing.js", "/assets/index.html", "/assets/..%2findex.html", "/nothing"} {
		if res, _ := get(path); res.StatusCode != 404 {
			t.Errorf("%s is a %d", path, res.StatusCode)
		}
	}
}

func TestThePageMayReachTheStorageAlone(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		storage config.Storage
		origin  string
	}{
		{config.Storage{}, ""},
		{config.Storage{Endpoint: "http://s3", PublicEndpoint: "https://files.example.com", Bucket: "chat", PathStyle: true}, " https://files.example.com"},
		{config.Storage{Endpoint: "http://s3", PublicEndpoint: "https://s3.example.com:9000", Bucket: "chat"}, " https://chat.s3.example.com:9000"},
	} {
		res, index := servePage(t, c.storage)("/")
		policy := res.Header.Get("Content-Security-Policy")
		for _, want := range []string{"connect-src 'self'" + c.origin + ";", "img-src 'self' blob: data:" + c.origin + ";"} {
			if !strings.Contains(policy, want) {
				t.Errorf("with %+v the policy is %q", c.storage, policy)
			}
		}
		if on := strings.Contains(index, `data-uploads="on"`); on != c.storage.Configured() {
			t.Errorf("with %+v the page offers uploads: %t", c.storage, on)
		}
	}
}
