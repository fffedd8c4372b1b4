package httpapi

import (
	"context"
	"errors"

	"github.com/gofiber/fiber/v2"

	"github.com/parley-chat/parley/internal/cursor"
	"github.com/parley-chat/parley/internal/invalid"
	"github.com/parley-chat/parley/internal/webhook"
)

// webhooks are the endpoints that get events over HTTP.
type webhooks interface {
	List(ctx context.Context) ([]webhook.Endpoint, error)
	Create(ctx context.Context, d *webhook.Draft) (webhook.WithSecret, error)
	Get(ctx context.Context, endpointID string) (webhook.Endpoint, error)
	Update(ctx context.Context, endpointID string, c *webhook.Change) (webhook.Endpoint, error)
	Delete(ctx context.Context, endpointID string) error
	Rotate(ctx context.Context, endpointID string) (string, error)
	Test(ctx context.Context, endpointID string) (webhook.Trial, error)
	Replay(ctx context.Context, endpointID string, p *webhook.Period) (webhook.Replay, error)
	Attempts(ctx context.Context, endpointID string, before *cursor.Position, limit int) ([]webhook.Attempt, bool, error)
	DeadEvents(ctx context.Context, endpointID string, before *cursor.Position, limit int) ([]webhook.Dead, bool, error)
	Retry(ctx context.Context, endpointID, event string) error
	Forget(ctx context.Context, endpointID, event string) error
}

var errNoWebhooks = errors.New("webhooks need the setting PARLEY_SECRETS_KEY")

// withWebhooks refuses requests for webhooks if they are not configured.
func (s *Server) withWebhooks(f fiber.Handler) fiber.Handler {
	return func(c *fiber.Ctx) error {
		if s.Webhooks == nil {
			return errNoWebhooks
		}
		return f(c)
	}
}

func webhookID(c *fiber.Ctx) (string, error) { return pathID(c, "id", webhook.ErrNotFound) }

func (s *Server) listWebhooks(c *fiber.Ctx) error {
	list, err := s.Webhooks.List(c.UserContext())
	if err != nil {
		return err
	}
	return whole(c, list)
}

func (s *Server) createWebhook(c *fiber.Ctx) error {
	var in webhook.Draft
	if err := decode(c, &in); err != nil {
		return err
	}
	e, err := s.Webhooks.Create(c.UserContext(), &in)
	if err != nil {
		return err
	}
	return c.Status(fiber.StatusCreated).JSON(e)
}

func (s *Server) getWebhook(c *fiber.Ctx) error {
	id, err := webhookID(c)
	if err != nil {
		return err
	}
	e, err := s.Webhooks.Get(c.UserContext(), id)
	if err != nil {
		return err
	}
	return c.JSON(e)
}

func (s *Server) updateWebhook(c *fiber.Ctx) error {
	id, err := webhookID(c)
	if err != nil {
		return err
	}
	var in webhook.Change
	if err := decode(c, &in); err != nil {
		return err
	}
	e, err := s.Webhooks.Update(c.UserContext(), id, &in)
	if err != nil {
		return err
	}
	return c.JSON(e)
}

func (s *Server) deleteWebhook(c *fiber.Ctx) error {
	id, err := webhookID(c)
	if err != nil {
		return err
	}
	if err := s.Webhooks.Delete(c.UserContext(), id); err != nil {
		return err
	}
	return c.SendStatus(fiber.StatusNoContent)
}

func (s *Server) rotateWebhook(c *fiber.Ctx) error {
	id, err := webhookID(c)
	if err != nil {
		return err
	}
	secret, err := s.Webhooks.Rotate(c.UserContext(), id)
	if err != nil {
		return err
	}
	return c.JSON(fiber.Map{"secret": secret})
}

func (s *Server) testWebhook(c *fiber.Ctx) error {
	id, err := webhookID(c)
	if err != nil {
		return err
	}
	trial, err := s.Webhooks.Test(c.UserContext(), id)
	if err != nil {
		return err
	}
	return c.JSON(trial)
}

func (s *Server) replayWebhook(c *fiber.Ctx) error {
	id, err := webhookID(c)
	if err != nil {
		return err
	}
	var in webhook.Period
	if err := decode(c, &in); err != nil {
		return err
	}
	r, err := s.Webhooks.Replay(c.UserContext(), id, &in)
	if err != nil {
		return err
	}
	return c.Status(fiber.StatusAccepted).JSON(r)
}

func (s *Server) listAttempts(c *fiber.Ctx) error {
	return pageOfWebhook(c, s.Webhooks.Attempts, func(a webhook.Attempt) cursor.Position { return cursor.Position{Time: a.At.Time, ID: a.ID} })
}

func (s *Server) listDead(c *fiber.Ctx) error {
	return pageOfWebhook(c, s.Webhooks.DeadEvents, func(d webhook.Dead) cursor.Position { return cursor.Position{Time: d.At.Time, ID: d.ID} })
}

func pageOfWebhook[T any](c *fiber.Ctx, read func(ctx context.Context, id string, before *cursor.Position, limit int) ([]T, bool, error), position func(T) cursor.Position) error {
	id, err := webhookID(c)
	if err != nil {
		return err
	}
	p, err := pageOf(c)
	if err != nil {
		return err
	}
	items, more, err := read(c.UserContext(), id, p.after, p.limit)
	if err != nil {
		return err
	}
	return list(c, items, more, position)
}

func (s *Server) retryDead(c *fiber.Ctx) error {
	return deadEvent(c, s.Webhooks.Retry, fiber.StatusAccepted)
}
func (s *Server) forgetDead(c *fiber.Ctx) error {
	return deadEvent(c, s.Webhooks.Forget, fiber.StatusNoContent)
}

func deadEvent(c *fiber.Ctx, do func(ctx context.Context, id, event string) error, status int) error {
	id, err := webhookID(c)
	if err != nil {
		return err
	}
	event, err := pathText(c, "event")
	if err != nil || !invalid.Storable(event) {
		return webhook.ErrNotFound
	}
	if err := do(c.UserContext(), id, event); err != nil {
		return err
	}
	c.Status(status) // without a body
	return nil
}
