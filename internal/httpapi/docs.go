package httpapi

import (
	"bytes"
	"fmt"
	"strings"
	"sync"

	"github.com/gofiber/fiber/v2"
	"github.com/gofiber/fiber/v2/middleware/adaptor"
	"github.com/swaggest/swgui"
	"github.com/swaggest/swgui/v5emb"

	"github.com/parley-chat/parley/internal/httpapi/apidoc"
)

const docsPath = "/api/docs"

// docs serves the OpenAPI document with Swagger UI, and the AsyncAPI document with a page. Browsers load nothing from other hosts for them.
type docs struct {
	openapi, asyncapi, frames []byte
	ui                        fiber.Handler
	// rendered holds the files of ui by name and encoding, so that all requests share their bytes. The number of files bounds it.
	rendered sync.Map // string -> *rendered
}

type rendered struct {
	body            []byte
	media, encoding string
}

func newDocs() (*docs, error) {
	b, err := apidoc.JSON()
	if err != nil {
		return nil, fmt.Errorf("read the OpenAPI document: %w", err)
	}
	async, err := apidoc.AsyncJSON()
	if err != nil {
		return nil, fmt.Errorf("read the AsyncAPI document: %w", err)
	}
	frames, err := apidoc.FramesPage()
	if err != nil {
		return nil, fmt.Errorf("read the AsyncAPI document: %w", err)
	}
	ui := v5emb.NewWithConfig(swgui.Config{SettingsUI: map[string]string{
		"persistAuthorization":     "true",
		"defaultModelsExpandDepth": "1",
		"defaultModelExpandDepth":  "2",
		"displayRequestDuration":   "true",
		"tryItOutEnabled":          "true",
	}})("Parley", docsPath+"/openapi.json", docsPath)
	return &docs{openapi: b, asyncapi: async, frames: frames, ui: adaptor.HTTPHandler(ui)}, nil
}

// share responds with bytes that all requests share. If fasthttp copied them, a slow client would occupy memory.
func share(c *fiber.Ctx, media string, body []byte) error {
	c.Locals(localShared, true)
	c.Set(fiber.HeaderContentType, media)
	c.Set(fiber.HeaderCacheControl, "public, max-age=300")
	c.Set(fiber.HeaderXFrameOptions, "DENY")
	if len(c.Response().Header.Peek(fiber.HeaderContentSecurityPolicy)) == 0 {
		c.Set(fiber.HeaderContentSecurityPolicy, "default-src 'none'; frame-ancestors 'none'")
	}
	c.Response().SetBodyRaw(body)
	return nil
}

func (d *docs) document(c *fiber.Ctx) error {
	return share(c, fiber.MIMEApplicationJSON, d.openapi)
}

func (d *docs) asyncDocument(c *fiber.Ctx) error {
	return share(c, fiber.MIMEApplicationJSON, d.asyncapi)
}

// framesPage serves the AsyncAPI document as a page without scripts.
func (d *docs) framesPage(c *fiber.Ctx) error {
	c.Set(fiber.HeaderContentSecurityPolicy, "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
	return share(c, fiber.MIMETextHTMLCharsetUTF8, d.frames)
}

func (d *docs) framesCSS(c *fiber.Ctx) error {
	return share(c, "text/css; charset=utf-8", apidoc.FramesCSS())
}

// page serves Swagger UI and its files.
func (d *docs) page(c *fiber.Ctx) error {
	c.Set(fiber.HeaderContentSecurityPolicy, "default-src 'self'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; "+
		"img-src 'self' data:; object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
	encoding := ""
	if c.AcceptsEncodings("gzip") == "gzip" {
		encoding = "gzip"
	}
	key := encoding + " " + c.Path()
	if known, ok := d.rendered.Load(key); ok {
		return d.send(c, known.(*rendered)) //nolint:forcetypeassert // it holds nothing else
	}
	h := &c.Request().Header
	for _, name := range []string{fiber.HeaderRange, fiber.HeaderIfNoneMatch, fiber.HeaderIfModifiedSince} {
		h.Del(name)
	}
	h.Set(fiber.HeaderAcceptEncoding, encoding)
	method := string(h.Method())
	h.SetMethod(fiber.MethodGet) // one entry serves both methods
	err := d.ui(c)
	h.SetMethod(method)
	if err != nil {
		return err
	}
	res := c.Response()
	if res.StatusCode() != fiber.StatusOK { // the response would be in plain text
		return errNotFound
	}
	r := &rendered{bytes.Clone(res.Body()), string(res.Header.ContentType()), string(res.Header.ContentEncoding())}
	d.rendered.Store(strings.Clone(key), r)
	return d.send(c, r)
}

func (*docs) send(c *fiber.Ctx, r *rendered) error {
	c.Vary(fiber.HeaderAcceptEncoding)
	if r.encoding != "" {
		c.Set(fiber.HeaderContentEncoding, r.encoding)
	}
	return share(c, r.media, r.body)
}
