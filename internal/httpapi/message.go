package httpapi

import (
	"math"

	"github.com/gofiber/fiber/v2"

	"github.com/parley-chat/parley/internal/chat"
	"github.com/parley-chat/parley/internal/cursor"
	"github.com/parley-chat/parley/internal/invalid"
	"github.com/parley-chat/parley/internal/message"
)

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
	p, err := pageOf(c)
	if err != nil {
		return err
	}
	if c.Context().QueryArgs().Has("afterSeq") {
		return s.listAfterSeq(c, id, p)
	}
	found, err := s.Messages.History(c.UserContext(), id, caller(c).UserID, p.after, p.limit)
	if err != nil {
		return err
	}
	return list(c, found.Messages, found.HasMore, func(m chat.Message) cursor.Position {
		return cursor.Position{Time: m.CreatedAt.Time, ID: m.ID}
	})
}

// listAfterSeq answers what follows a seq, in order. Its next part is asked for by the last seq, not by a cursor.
func (s *Server) listAfterSeq(c *fiber.Ctx, conversationID string, p page) error {
	var f invalid.Faults
	seq := queryInt(c, &f, "afterSeq", -1, 0, math.MaxInt64)
	if seq < 0 {
		f.Add("afterSeq", "must be a seq")
	}
	if p.after != nil {
		f.Add("cursor", "does not go with afterSeq")
	}
	if err := f.Err(); err != nil {
		return err
	}
	found, err := s.Messages.AfterSeq(c.UserContext(), conversationID, caller(c).UserID, seq, p.limit)
	if err != nil {
		return err
	}
	return c.JSON(listBody{Data: found.Messages, Pagination: pagination{HasMore: found.HasMore}})
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
