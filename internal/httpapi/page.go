package httpapi

import (
	"net/url"
	"strings"

	"github.com/gofiber/fiber/v2"

	"github.com/parley-chat/parley/internal/config"
	"github.com/parley-chat/parley/internal/web"
)

const (
	pagePath   = "/"
	workerPath = "/" + web.Worker // at the root, because a service worker controls only the pages below its path
	assetPath  = "/assets/:file"
)

const filePolicy = "default-src 'none'; frame-ancestors 'none'"

// webPage serves Parley's own page at / and its files.
type webPage struct {
	files  map[string]*web.File
	policy string
}

func newPage(storage config.Storage) (*webPage, error) {
	files, err := web.Files(web.Options{Uploads: storage.Configured()})
	if err != nil {
		return nil, err
	}
	return &webPage{files: files, policy: pagePolicy(storageOrigin(storage))}, nil
}

// storageOrigin returns the origin at which browsers reach the bucket, "" without storage.
func storageOrigin(s config.Storage) string {
	u, err := url.Parse(s.PublicEndpoint)
	if err != nil || u.Host == "" {
		return ""
	}
	if s.PathStyle {
		return u.Scheme + "://" + u.Host
	}
	return u.Scheme + "://" + s.Bucket + "." + u.Host
}

// pagePolicy returns the page's Content-Security-Policy. 'self' includes the socket. Trusted Types forbid markup from strings, which the page
// never writes; the only policy, parley-worker, is for the URL of its service worker.
func pagePolicy(storage string) string {
	if storage != "" {
		storage = " " + storage
	}
	return strings.Join([]string{
		"default-src 'none'", "script-src 'self'", "style-src 'self'", "img-src 'self' blob: data:" + storage, "connect-src 'self'" + storage,
		"require-trusted-types-for 'script'", "trusted-types parley-worker", "base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'",
	}, "; ")
}

func (p *webPage) routes(by limit) []route {
	return []route{
		{"GET", pagePath, access{}, by, p.index},
		{"GET", workerPath, access{}, by, p.worker},
		{"GET", assetPath, access{}, by, p.asset},
	}
}

func (p *webPage) index(c *fiber.Ctx) error {
	c.Set(fiber.HeaderContentSecurityPolicy, p.policy)
	c.Set(fiber.HeaderReferrerPolicy, "no-referrer")
	return p.send(c, p.files[web.Index], "no-cache")
}

func (p *webPage) asset(c *fiber.Ctx) error {
	name := c.Params("file")
	f := p.files[name]
	if f == nil || name == web.Index || name == web.Worker {
		return errNotFound
	}
	c.Set(fiber.HeaderContentSecurityPolicy, filePolicy)
	return p.send(c, f, "public, max-age=31536000, immutable")
}

func (p *webPage) worker(c *fiber.Ctx) error {
	c.Set(fiber.HeaderContentSecurityPolicy, filePolicy)
	return p.send(c, p.files[web.Worker], "no-cache")
}

// send responds with a file's bytes, which all requests share, or with 304.
func (p *webPage) send(c *fiber.Ctx, f *web.File, caching string) error {
	// For Fiber a request without Accept-Encoding accepts every encoding.
	body, encoding := f.Body, ""
	if c.Get(fiber.HeaderAcceptEncoding) != "" && c.AcceptsEncodings("gzip") == "gzip" {
		body, encoding = f.Gzip, "gzip"
	}
	fresh := strings.Contains(c.Get(fiber.HeaderIfNoneMatch), f.ETag)
	if fresh {
		body = nil
	}
	if err := share(c, f.Media, body); err != nil {
		return err
	}
	c.Set(fiber.HeaderCacheControl, caching)
	c.Set(fiber.HeaderETag, f.ETag)
	c.Vary(fiber.HeaderAcceptEncoding)
	if fresh {
		c.Status(fiber.StatusNotModified)
	} else if encoding != "" {
		c.Set(fiber.HeaderContentEncoding, encoding)
	}
	return nil
}
