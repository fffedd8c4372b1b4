package httpapi

import (
	"strings"

	"github.com/gofiber/fiber/v2"

	"github.com/parley-chat/parley/internal/auth"
	"github.com/parley-chat/parley/internal/user"
)

type pairBody struct {
	User         user.Own `json:"user"`
	AccessToken  string   `json:"accessToken"`
	RefreshToken string   `json:"refreshToken"`
	// ExpiresIn is in seconds.
	ExpiresIn int `json:"expiresIn"`
}

func userAgent(c *fiber.Ctx) string { return strings.Clone(c.Get(fiber.HeaderUserAgent)) }

func (s *Server) pair(c *fiber.Ctx, status int, p auth.Pair) error {
	own, err := s.Users.Own(c.UserContext(), p.UserID)
	if err != nil {
		return err
	}
	c.Set(fiber.HeaderCacheControl, "no-store")
	return c.Status(status).JSON(pairBody{own, p.AccessToken, p.RefreshToken, int(p.ExpiresIn.Seconds())})
}

func (s *Server) register(c *fiber.Ctx) error {
	var in auth.Registration
	if err := decode(c, &in); err != nil {
		return err
	}
	p, err := s.Auth.Register(c.UserContext(), &in, userAgent(c))
	if err != nil {
		return err
	}
	return s.pair(c, fiber.StatusCreated, p)
}

func (s *Server) login(c *fiber.Ctx) error {
	var in auth.Credentials
	if err := decode(c, &in); err != nil {
		return err
	}
	p, err := s.Auth.Login(c.UserContext(), &in, userAgent(c))
	if err != nil {
		return err
	}
	return s.pair(c, fiber.StatusOK, p)
}

func (s *Server) refresh(c *fiber.Ctx) error {
	var in auth.RefreshToken
	if err := decode(c, &in); err != nil {
		return err
	}
	p, err := s.Auth.Refresh(c.UserContext(), &in)
	if err != nil {
		return err
	}
	return s.pair(c, fiber.StatusOK, p)
}

func (s *Server) logout(c *fiber.Ctx) error {
	var in auth.RefreshToken
	if err := decode(c, &in); err != nil {
		return err
	}
	if err := s.Auth.Logout(c.UserContext(), &in); err != nil {
		return err
	}
	return c.SendStatus(fiber.StatusNoContent)
}
