package httpapi

import (
	"context"

	"github.com/gofiber/fiber/v2"

	"github.com/parley-chat/parley/internal/cursor"
	"github.com/parley-chat/parley/internal/friend"
)

// friends are the friendships, requests and blocks of users.
type friends interface {
	Friends(ctx context.Context, userID string, before *cursor.Position, limit int) ([]friend.Relation, bool, error)
	Requests(ctx context.Context, userID string, before *cursor.Position, limit int) (friend.Requests, error)
	Blocks(ctx context.Context, userID string, before *cursor.Position, limit int) ([]friend.Relation, bool, error)
	Ask(ctx context.Context, userID string, r *friend.Request) (friend.State, bool, error)
	Accept(ctx context.Context, userID, otherID string) (friend.State, error)
	Drop(ctx context.Context, userID, otherID string) error
	Unfriend(ctx context.Context, userID, otherID string) error
	Block(ctx context.Context, userID, otherID string) error
	Unblock(ctx context.Context, userID, otherID string) error
}

func otherID(c *fiber.Ctx) (string, error) { return pathID(c, "userId", friend.ErrUserNotFound) }

func relationPosition(r friend.Relation) cursor.Position {
	return cursor.Position{Time: r.CreatedAt.Time, ID: r.User.ID}
}

func (s *Server) listFriends(c *fiber.Ctx) error {
	p, err := pageOf(c)
	if err != nil {
		return err
	}
	items, more, err := s.Friends.Friends(c.UserContext(), caller(c).UserID, p.after, p.limit)
	if err != nil {
		return err
	}
	return list(c, items, more, relationPosition)
}

func (s *Server) unfriend(c *fiber.Ctx) error {
	other, err := otherID(c)
	if err != nil {
		return err
	}
	if err := s.Friends.Unfriend(c.UserContext(), caller(c).UserID, other); err != nil {
		return err
	}
	return c.SendStatus(fiber.StatusNoContent)
}

type requestsBody struct {
	Incoming   []friend.Relation `json:"incoming"`
	Outgoing   []friend.Relation `json:"outgoing"`
	Pagination pagination        `json:"pagination"`
}

func (s *Server) listRequests(c *fiber.Ctx) error {
	p, err := pageOf(c)
	if err != nil {
		return err
	}
	r, err := s.Friends.Requests(c.UserContext(), caller(c).UserID, p.after, p.limit)
	if err != nil {
		return err
	}
	return c.JSON(requestsBody{r.Incoming, r.Outgoing, paginate(r.Incoming, r.HasMore, relationPosition)})
}

func (s *Server) askFriend(c *fiber.Ctx) error {
	var in friend.Request
	if err := decode(c, &in); err != nil {
		return err
	}
	state, created, err := s.Friends.Ask(c.UserContext(), caller(c).UserID, &in)
	if err != nil {
		return err
	}
	if created {
		c.Status(fiber.StatusCreated)
	}
	return c.JSON(state)
}

func (s *Server) acceptFriend(c *fiber.Ctx) error {
	other, err := pathID(c, "userId", friend.ErrRequestNotFound)
	if err != nil {
		return err
	}
	state, err := s.Friends.Accept(c.UserContext(), caller(c).UserID, other)
	if err != nil {
		return err
	}
	return c.JSON(state)
}

func (s *Server) dropRequest(c *fiber.Ctx) error {
	other, err := pathID(c, "userId", friend.ErrRequestNotFound)
	if err != nil {
		return err
	}
	if err := s.Friends.Drop(c.UserContext(), caller(c).UserID, other); err != nil {
		return err
	}
	return c.SendStatus(fiber.StatusNoContent)
}

func (s *Server) listBlocks(c *fiber.Ctx) error {
	p, err := pageOf(c)
	if err != nil {
		return err
	}
	items, more, err := s.Friends.Blocks(c.UserContext(), caller(c).UserID, p.after, p.limit)
	if err != nil {
		return err
	}
	return list(c, items, more, relationPosition)
}

func (s *Server) block(c *fiber.Ctx) error {
	other, err := otherID(c)
	if err != nil {
		return err
	}
	if err := s.Friends.Block(c.UserContext(), caller(c).UserID, other); err != nil {
		return err
	}
	return c.SendStatus(fiber.StatusNoContent)
}

func (s *Server) unblock(c *fiber.Ctx) error {
	other, err := otherID(c)
	if err != nil {
		return err
	}
	if err := s.Friends.Unblock(c.UserContext(), caller(c).UserID, other); err != nil {
		return err
	}
	return c.SendStatus(fiber.StatusNoContent)
}
