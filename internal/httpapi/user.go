package httpapi

import (
	"github.com/gofiber/fiber/v2"

	"github.com/parley-chat/parley/internal/user"
)

func (s *Server) ownProfile(c *fiber.Ctx) error {
	own, err := s.Users.Own(c.UserContext(), caller(c).UserID)
	if err != nil {
		return err
	}
	return c.JSON(own)
}

func (s *Server) profile(c *fiber.Ctx) error {
	id, err := pathID(c, "id", user.ErrNotFound)
	if err != nil {
		return err
	}
	u, err := s.Users.Get(c.UserContext(), caller(c).UserID, id)
	if err != nil {
		return err
	}
	return c.JSON(u)
}
