package httpapi

import (
	"context"
	"slices"
	"strings"

	"github.com/gofiber/fiber/v2"

	"github.com/parley-chat/parley/internal/chat"
	"github.com/parley-chat/parley/internal/conversation"
	"github.com/parley-chat/parley/internal/cursor"
	"github.com/parley-chat/parley/internal/invalid"
)

// conversations are the conversations of users, with their members and each user's own state.
type conversations interface {
	Create(ctx context.Context, creatorID string, c *conversation.Creation) (*chat.Conversation, bool, error)
	List(ctx context.Context, userID string, sel conversation.Selection, before *cursor.Position, limit int) ([]chat.Conversation, bool, error)
	Get(ctx context.Context, conversationID, viewerID string) (*chat.Conversation, error)
	Update(ctx context.Context, conversationID, actorID string, p *conversation.Patch) (*chat.Conversation, error)
	UpdateState(ctx context.Context, conversationID, userID string, c *conversation.StateChange) (*chat.Conversation, error)
	Delete(ctx context.Context, conversationID, actorID string) error
	Unread(ctx context.Context, userID string, muted bool) (conversation.Totals, error)
	Members(ctx context.Context, conversationID, viewerID string, after *cursor.Position, limit int) ([]chat.Member, bool, error)
	Add(ctx context.Context, conversationID, actorID string, a *conversation.Addition) ([]chat.Member, error)
	SetRole(ctx context.Context, conversationID, actorID, memberID string, r *conversation.RoleChange) (chat.Member, error)
	Remove(ctx context.Context, conversationID, actorID, memberID string) error
}

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
	var f invalid.Faults
	sel := selectionOf(c, &f)
	p, err := pageWith(c, &f)
	if err != nil {
		return err
	}
	items, more, err := s.Conversations.List(c.UserContext(), caller(c).UserID, sel, p.after, p.limit)
	if err != nil {
		return err
	}
	return list(c, items, more, func(v chat.Conversation) cursor.Position {
		return cursor.Position{Time: v.LastMessageAt.Time, ID: v.ID}
	})
}

// selectionOf reads the query parameters filter, type and q. It adds their faults to f.
func selectionOf(c *fiber.Ctx, f *invalid.Faults) conversation.Selection {
	sel := conversation.Selection{Filter: conversation.FilterDefault, Type: strings.Clone(c.Query("type")), Query: strings.Clone(c.Query("q"))}
	args := c.Context().QueryArgs()
	if args.Has("filter") {
		sel.Filter = strings.Clone(c.Query("filter"))
		if !slices.Contains(conversation.Filters, sel.Filter) {
			f.Add("filter", "must be one of %s", strings.Join(conversation.Filters, ", "))
		}
	}
	if args.Has("type") && sel.Type != conversation.TypeDirect && sel.Type != conversation.TypeGroup {
		f.Add("type", "must be direct or group")
	}
	if args.Has("q") {
		invalid.Text{Min: 1, Max: maxConversationQuery, Trim: true}.Check(f, "q", &sel.Query)
	}
	return sel
}

// maxConversationQuery is the largest length of q in code points.
const maxConversationQuery = 50

func (s *Server) updateState(c *fiber.Ctx) error {
	id, err := conversationID(c)
	if err != nil {
		return err
	}
	var in conversation.StateChange
	if err := decode(c, &in); err != nil {
		return err
	}
	conv, err := s.Conversations.UpdateState(c.UserContext(), id, caller(c).UserID, &in)
	if err != nil {
		return err
	}
	return c.JSON(conv)
}

func (s *Server) unread(c *fiber.Ctx) error {
	muted := c.Query("muted")
	if c.Context().QueryArgs().Has("muted") && muted != "true" && muted != "false" {
		return invalid.One("muted", "must be true or false")
	}
	totals, err := s.Conversations.Unread(c.UserContext(), caller(c).UserID, muted == "true")
	if err != nil {
		return err
	}
	return c.JSON(totals)
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
