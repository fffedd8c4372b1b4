package httpapi

import (
	"context"
	"math"
	"strings"

	"github.com/gofiber/fiber/v2"

	"github.com/parley-chat/parley/internal/chat"
	"github.com/parley-chat/parley/internal/cursor"
	"github.com/parley-chat/parley/internal/id"
	"github.com/parley-chat/parley/internal/invalid"
	"github.com/parley-chat/parley/internal/message"
)

// messages are the messages of conversations.
type messages interface {
	Send(ctx context.Context, conversationID, senderID string, d *message.Draft) (chat.Message, bool, error)
	History(ctx context.Context, conversationID, viewerID string, before *cursor.Position, limit int) (message.Page, error)
	AfterSeq(ctx context.Context, conversationID, viewerID string, seq int64, limit int) (message.Page, error)
	Around(ctx context.Context, conversationID, viewerID, messageID string, limit int) (message.AroundPage, error)
	Get(ctx context.Context, messageID, viewerID string) (chat.Message, error)
	Edit(ctx context.Context, messageID, editorID string, e *message.Edit) (chat.Message, error)
	Delete(ctx context.Context, messageID, userID string) error
	Pin(ctx context.Context, messageID, userID string, pinned bool) (chat.Message, error)
	Pins(ctx context.Context, conversationID, viewerID string, before *cursor.Position, limit int) (message.Page, error)
}

func messageID(c *fiber.Ctx) (string, error) { return pathID(c, "id", message.ErrNotFound) }

func (s *Server) sendMessage(c *fiber.Ctx) error {
	id, err := conversationID(c)
	if err != nil {
		return err
	}
	var in message.Draft
	if err := decode(c, &in); err != nil {
		return err
	}
	m, repeated, err := s.Messages.Send(c.UserContext(), id, caller(c).UserID, &in)
	s.noteActive(err, caller(c))
	if err != nil {
		return err
	}
	if !repeated {
		c.Status(fiber.StatusCreated)
	}
	return c.JSON(m)
}

func (s *Server) listMessages(c *fiber.Ctx) error {
	id, err := conversationID(c)
	if err != nil {
		return err
	}
	switch args := c.Context().QueryArgs(); {
	case args.Has("afterSeq"):
		return s.listAfterSeq(c, id)
	case args.Has("around"):
		return s.listAround(c, id)
	}
	p, err := pageOf(c)
	if err != nil {
		return err
	}
	found, err := s.Messages.History(c.UserContext(), id, caller(c).UserID, p.after, p.limit)
	if err != nil {
		return err
	}
	return list(c, found.Messages, found.HasMore, messagePosition)
}

// listAfterSeq responds with the messages after a seq, in the order of their seqs. There is no cursor: the client requests the next part with
// the last seq.
func (s *Server) listAfterSeq(c *fiber.Ctx, conversationID string) error {
	var f invalid.Faults
	query := c.Context().QueryArgs()
	seq := queryInt(c, &f, "afterSeq", -1, 0, math.MaxInt64)
	if seq < 0 {
		f.Add("afterSeq", "must be a seq")
	}
	for _, other := range []string{"cursor", "around"} {
		if query.Has(other) {
			f.Add(other, "does not go with afterSeq")
		}
	}
	p, err := pageWith(c, &f)
	if err != nil {
		return err
	}
	found, err := s.Messages.AfterSeq(c.UserContext(), conversationID, caller(c).UserID, seq, p.limit)
	if err != nil {
		return err
	}
	return c.JSON(listBody{Data: found.Messages, Pagination: pagination{HasMore: found.HasMore}})
}

// listAround responds with a message and half a page on each side. Clients request older messages with nextCursor, and newer ones with afterSeq
// and the seq of the first item.
func (s *Server) listAround(c *fiber.Ctx, conversationID string) error {
	var f invalid.Faults
	if c.Context().QueryArgs().Has("cursor") {
		f.Add("cursor", "does not go with around")
	}
	p, err := pageWith(c, &f)
	if err != nil {
		return err
	}
	around := strings.Clone(c.Query("around"))
	if !id.Valid(around) {
		return message.ErrNotFound
	}
	found, err := s.Messages.Around(c.UserContext(), conversationID, caller(c).UserID, around, p.limit)
	if err != nil {
		return err
	}
	return c.JSON(struct {
		Data       []chat.Message   `json:"data"`
		Pagination aroundPagination `json:"pagination"`
	}{found.Messages, aroundPagination{paginate(found.Messages, found.HasMore, messagePosition), found.HasNewer}})
}

type aroundPagination struct {
	pagination
	HasNewer bool `json:"hasNewer"`
}

func messagePosition(m chat.Message) cursor.Position {
	return cursor.Position{Time: m.CreatedAt.Time, ID: m.ID}
}

func (s *Server) getMessage(c *fiber.Ctx) error {
	id, err := messageID(c)
	if err != nil {
		return err
	}
	m, err := s.Messages.Get(c.UserContext(), id, caller(c).UserID)
	if err != nil {
		return err
	}
	return c.JSON(m)
}

func (s *Server) pinMessage(c *fiber.Ctx) error   { return s.setPin(c, true) }
func (s *Server) unpinMessage(c *fiber.Ctx) error { return s.setPin(c, false) }

func (s *Server) setPin(c *fiber.Ctx, pinned bool) error {
	id, err := messageID(c)
	if err != nil {
		return err
	}
	m, err := s.Messages.Pin(c.UserContext(), id, caller(c).UserID, pinned)
	if err != nil {
		return err
	}
	return c.JSON(m)
}

func (s *Server) listPins(c *fiber.Ctx) error {
	id, err := conversationID(c)
	if err != nil {
		return err
	}
	p, err := pageOf(c)
	if err != nil {
		return err
	}
	found, err := s.Messages.Pins(c.UserContext(), id, caller(c).UserID, p.after, p.limit)
	if err != nil {
		return err
	}
	return list(c, found.Messages, found.HasMore, func(m chat.Message) cursor.Position {
		return cursor.Position{Time: m.PinnedAt.Time, ID: m.ID}
	})
}

func (s *Server) editMessage(c *fiber.Ctx) error {
	id, err := messageID(c)
	if err != nil {
		return err
	}
	var in message.Edit
	if err := decode(c, &in); err != nil {
		return err
	}
	m, err := s.Messages.Edit(c.UserContext(), id, caller(c).UserID, &in)
	if err != nil {
		return err
	}
	return c.JSON(m)
}

func (s *Server) deleteMessage(c *fiber.Ctx) error {
	id, err := messageID(c)
	if err != nil {
		return err
	}
	if err := s.Messages.Delete(c.UserContext(), id, caller(c).UserID); err != nil {
		return err
	}
	return c.SendStatus(fiber.StatusNoContent)
}
