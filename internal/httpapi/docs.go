package httpapi

import (
	"fmt"

	"github.com/gofiber/fiber/v2"
	"github.com/gofiber/fiber/v2/middleware/adaptor"
	"github.com/swaggest/swgui/v5emb"

	"github.com/parley-chat/parley/internal/httpapi/apidoc"
)

const docsPath = "/api/docs"

// docs are the OpenAPI document and Swagger UI over it, the AsyncAPI document and a page of it. They need nothing from outside.
type docs struct {
	openapi, asyncapi, frames []byte
	ui                        fiber.Handler
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
	ui := adaptor.HTTPHandler(v5emb.New("Parley", docsPath+"/openapi.json", docsPath))
	return &docs{openapi: b, asyncapi: async, frames: frames, ui: ui}, nil
}

func (d *docs) document(c *fiber.Ctx) error {
	c.Set(fiber.HeaderContentType, fiber.MIMEApplicationJSON)
	return c.Send(d.openapi)
}

func (d *docs) asyncDocument(c *fiber.Ctx) error {
	c.Set(fiber.HeaderContentType, fiber.MIMEApplicationJSON)
	return c.Send(d.asyncapi)
}

// framesPage is the AsyncAPI document for people. It has no scripts.
func (d *docs) framesPage(c *fiber.Ctx) error {
	c.Set(fiber.HeaderContentSecurityPolicy, "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
	c.Set(fiber.HeaderContentType, fiber.MIMETextHTMLCharsetUTF8)
	return c.Send(d.frames)
}

func (d *docs) framesCSS(c *fiber.Ctx) error {
	c.Set(fiber.HeaderContentType, "text/css; charset=utf-8")
	return c.Send(apidoc.FramesCSS())
}

func (d *docs) page(c *fiber.Ctx) error {
	c.Set(fiber.HeaderContentSecurityPolicy, "default-src 'self'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; img-src 'self' data:")
	if err := d.ui(c); err != nil {
		return err
	}
	if c.Response().StatusCode() == fiber.StatusNotFound { // in plain text
		return errNotFound
	}
	return nil
}
