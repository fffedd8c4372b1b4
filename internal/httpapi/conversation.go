package httpapi

import (
	"github.com/gofiber/fiber/v2"

	"github.com/parley-chat/parley/internal/chat"
	"github.com/parley-chat/parley/internal/conversation"
	"github.com/parley-chat/parley/internal/cursor"
)

func conversationID(c *fiber.Ctx) (string, error) { return pathID(c, "id", conversation.ErrNotFound) }

func (s *Server) createConversation(c *fiber.Ctx) error {
	var in conversation.Creation
	if err := decode(c, &in); err != nil {
		return err
	}
	conv, created, err := s.Conversations.Create(c.UserContext(), caller(c).UserID, &in)
	if err != nil {
		return err
	}
	if created {
		c.Status(fiber.StatusCreated)
	}
	return c.JSON(conv)
}

func (s *Server) listConversations(c *fiber.Ctx) error {
	p, err := pageOf(c)
	if err != nil {
		return err
	}
	items, more, err := s.Conversations.List(c.UserContext(), caller(c).UserID, p.after, p.limit)
	if err != nil {
		return err
	}
	return list(c, items, more, func(v chat.Conversation) cursor.Position {
		return cursor.Position{Time: v.LastMessageAt.Time, ID: v.ID}
	})
}

func (s *Server) getConversation(c *fiber.Ctx) error {
	id, err := conversationID(c)
	if err != nil {
		return err
	}
	conv, err := s.Conversations.Get(c.UserContext(), id, caller(c).UserID)
	if err != nil {
		return err
	}
	return c.JSON(conv)
}

func (s *Server) updateConversation(c *fiber.Ctx) error {
	id, err := conversationID(c)
	if err != nil {
		return err
	}
	var in conversation.Patch
	if err := decode(c, &in); err != nil {
		return err
	}
	conv, err := s.Conversations.Update(c.UserContext(), id, caller(c).UserID, &in)
	if err != nil {
		return err
	}
	return c.JSON(conv)
}

func (s *Server) deleteConversation(c *fiber.Ctx) error {
	id, err := conversationID(c)
	if err != nil {
		return err
	}
	if err := s.Conversations.Delete(c.UserContext(), id, caller(c).UserID); err != nil {
		return err
	}
	return c.SendStatus(fiber.StatusNoContent)
}

func (s *Server) listMembers(c *fiber.Ctx) error {
	id, err := conversationID(c)
	if err != nil {
		return err
	}
	p, err := pageOf(c)
	if err != nil {
		return err
	}
	items, more, err := s.Conversations.Members(c.UserContext(), id, caller(c).UserID, p.after, p.limit)
	if err != nil {
		return err
	}
	return list(c, items, more, func(m chat.Member) cursor.Position {
		return cursor.Position{Time: m.JoinedAt.Time, ID: m.User.ID}
	})
}

func (s *Server) addMembers(c *fiber.Ctx) error {
	id, err := conversationID(c)
	if err != nil {
		return err
	}
	var in conversation.Addition
	if err := decode(c, &in); err != nil {
		return err
	}
	added, err := s.Conversations.Add(c.UserContext(), id, caller(c).UserID, &in)
	if err != nil {
		return err
	}
	return c.JSON(fiber.Map{"data": added})
}

func (s *Server) setRole(c *fiber.Ctx) error {
	id, err := conversationID(c)
	if err != nil {
		return err
	}
	member, err := pathID(c, "userId", conversation.ErrMemberNotFound)
	if err != nil {
		return err
	}
	var in conversation.RoleChange
	if err := decode(c, &in); err != nil {
		return err
	}
	m, err := s.Conversations.SetRole(c.UserContext(), id, caller(c).UserID, member, &in)
	if err != nil {
		return err
	}
	return c.JSON(m)
}

func (s *Server) removeMember(c *fiber.Ctx) error {
	id, err := conversationID(c)
	if err != nil {
		return err
	}
	member, err := pathID(c, "userId", conversation.ErrMemberNotFound)
	if err != nil {
		return err
	}
	if err := s.Conversations.Remove(c.UserContext(), id, caller(c).UserID, member); err != nil {
		return err
	}
	return c.SendStatus(fiber.StatusNoContent)
}
