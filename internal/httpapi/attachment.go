package httpapi

import (
	"context"

	"github.com/gofiber/fiber/v2"

	"github.com/parley-chat/parley/internal/attachment"
)

// attachments are the files of messages. Configured reports whether there is storage for them.
type attachments interface {
	Configured() bool
	Create(ctx context.Context, ownerID string, u *attachment.Upload) (attachment.Ticket, error)
	Complete(ctx context.Context, id, ownerID string) (attachment.Completed, error)
	Link(ctx context.Context, userID, id string) (attachment.Link, error)
	Links(ctx context.Context, userID string, w *attachment.Wanted) ([]attachment.Link, error)
}

func attachmentID(c *fiber.Ctx) (string, error) { return pathID(c, "id", attachment.ErrNotFound) }

// requireStorage returns an error if no storage for files is configured. The routes of files call it before they check anything else.
func (s *Server) requireStorage() error {
	if !s.Attachments.Configured() {
		return attachment.ErrNotConfigured
	}
	return nil
}

func (s *Server) createUpload(c *fiber.Ctx) error {
	if err := s.requireStorage(); err != nil {
		return err
	}
	var in attachment.Upload
	if err := decode(c, &in); err != nil {
		return err
	}
	ticket, err := s.Attachments.Create(c.UserContext(), caller(c).UserID, &in)
	if err != nil {
		return err
	}
	return c.Status(fiber.StatusCreated).JSON(ticket)
}

func (s *Server) completeUpload(c *fiber.Ctx) error {
	if err := s.requireStorage(); err != nil {
		return err
	}
	id, err := attachmentID(c)
	if err != nil {
		return err
	}
	done, err := s.Attachments.Complete(c.UserContext(), id, caller(c).UserID)
	if err != nil {
		return err
	}
	return c.JSON(done)
}

func (s *Server) listAttachmentURLs(c *fiber.Ctx) error {
	if err := s.requireStorage(); err != nil {
		return err
	}
	var in attachment.Wanted
	if err := decode(c, &in); err != nil {
		return err
	}
	links, err := s.Attachments.Links(c.UserContext(), caller(c).UserID, &in)
	if err != nil {
		return err
	}
	return c.JSON(struct {
		Data []attachment.Link `json:"data"`
	}{links})
}

func (s *Server) fetchAttachment(c *fiber.Ctx) error {
	if err := s.requireStorage(); err != nil {
		return err
	}
	id, err := attachmentID(c)
	if err != nil {
		return err
	}
	link, err := s.Attachments.Link(c.UserContext(), caller(c).UserID, id)
	if err != nil {
		return err
	}
	// The link expires, and membership may change: no cache may keep the redirect.
	c.Set(fiber.HeaderCacheControl, "no-store")
	return c.Redirect(link.URL, fiber.StatusFound)
}
