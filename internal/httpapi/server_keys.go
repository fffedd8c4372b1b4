package httpapi

import (
	"context"
	"strings"
	"time"

	"github.com/gofiber/fiber/v2"

	"github.com/parley-chat/parley/internal/audit"
	"github.com/parley-chat/parley/internal/cursor"
	"github.com/parley-chat/parley/internal/id"
	"github.com/parley-chat/parley/internal/invalid"
	"github.com/parley-chat/parley/internal/principal"
	"github.com/parley-chat/parley/internal/serverkey"
)

// serverKeys are the server keys as a product's back end manages them.
type serverKeys interface {
	List(ctx context.Context) ([]serverkey.Key, error)
	Create(ctx context.Context, by *principal.Principal, d *serverkey.Draft) (serverkey.Created, error)
	End(ctx context.Context, keyID string) error
}

// auditLog is the log of what server keys and users did.
type auditLog interface {
	List(ctx context.Context, f audit.Filter) ([]audit.Recorded, bool, error)
}

func (s *Server) listKeys(c *fiber.Ctx) error {
	keys, err := s.Keys.List(c.UserContext())
	if err != nil {
		return err
	}
	return whole(c, keys)
}

func (s *Server) createKey(c *fiber.Ctx) error {
	var in serverkey.Draft
	if err := decode(c, &in); err != nil {
		return err
	}
	by := caller(c)
	k, err := s.Keys.Create(c.UserContext(), &by, &in)
	if err != nil {
		return err
	}
	c.Set(fiber.HeaderCacheControl, "no-store")
	return c.Status(fiber.StatusCreated).JSON(k)
}

func (s *Server) endKey(c *fiber.Ctx) error {
	keyID, err := pathID(c, "id", serverkey.ErrNotFound)
	if err != nil {
		return err
	}
	if err := s.Keys.End(c.UserContext(), keyID); err != nil {
		return err
	}
	return c.SendStatus(fiber.StatusNoContent)
}

func (s *Server) listAudit(c *fiber.Ctx) error {
	var f invalid.Faults
	filter := audit.Filter{
		Actor: queryID(c, &f, "actor"), Action: strings.Clone(c.Query("action")), Target: strings.Clone(c.Query("target")),
		From: queryTime(c, &f, "from"), To: queryTime(c, &f, "to"),
	}
	p, err := pageWith(c, &f)
	if err != nil {
		return err
	}
	filter.After, filter.Limit = p.after, p.limit
	entries, more, err := s.Audit.List(c.UserContext(), filter)
	if err != nil {
		return err
	}
	return list(c, entries, more, func(e audit.Recorded) cursor.Position { return cursor.Position{Time: e.At.Time, ID: e.ID} })
}

// queryID reads an id of the query, "" if there is none.
func queryID(c *fiber.Ctx, f *invalid.Faults, name string) string {
	s := strings.Clone(c.Query(name))
	if s != "" && !id.Valid(s) {
		f.Add(name, "must be an id")
	}
	return s
}

// queryTime reads a time of the query, nil if there is none.
func queryTime(c *fiber.Ctx, f *invalid.Faults, name string) *time.Time {
	s := c.Query(name)
	if s == "" {
		return nil
	}
	at, err := time.Parse(time.RFC3339, s)
	if err != nil {
		f.Add(name, "must be a time such as 2027-01-01T00:00:00Z")
	}
	return &at
}
