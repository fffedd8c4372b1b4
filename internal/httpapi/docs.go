package httpapi

import (
	"fmt"

	"github.com/gofiber/fiber/v2"
	"github.com/gofiber/fiber/v2/middleware/adaptor"
	"github.com/swaggest/swgui/v5emb"

	"github.com/parley-chat/parley/internal/httpapi/apidoc"
)

const docsPath = "/api/docs"

// docs are the OpenAPI document and Swagger UI over it, which needs nothing from outside.
type docs struct {
	json []byte
	ui   fiber.Handler
}

func newDocs() (*docs, error) {
	b, err := apidoc.JSON()
	if err != nil {
		return nil, fmt.Errorf("read the OpenAPI document: %w", err)
	}
	return &docs{json: b, ui: adaptor.HTTPHandler(v5emb.New("Parley", docsPath+"/openapi.json", docsPath))}, nil
}

func (d *docs) document(c *fiber.Ctx) error {
	c.Set(fiber.HeaderContentType, fiber.MIMEApplicationJSON)
	return c.Send(d.json)
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
