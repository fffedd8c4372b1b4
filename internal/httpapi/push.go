package httpapi

import (
	"strings"

	"github.com/gofiber/fiber/v2"

	"github.com/parley-chat/parley/internal/push"
)

func (s *Server) pushConfig(c *fiber.Ctx) error { return c.JSON(s.Push.Config()) }

func (s *Server) putPushDevice(c *fiber.Ctx) error {
	var in push.Registration
	if err := decode(c, &in); err != nil {
		return err
	}
	p := caller(c)
	if err := s.Push.Put(c.UserContext(), p.UserID, p.SessionID, strings.Clone(c.Params("deviceId")), &in); err != nil {
		return err
	}
	return c.SendStatus(fiber.StatusNoContent)
}

func (s *Server) deletePushDevice(c *fiber.Ctx) error {
	if err := s.Push.Delete(c.UserContext(), caller(c).UserID, strings.Clone(c.Params("deviceId"))); err != nil {
		return err
	}
	return c.SendStatus(fiber.StatusNoContent)
}

func (s *Server) pushPreferences(c *fiber.Ctx) error {
	p, err := s.Push.Preferences(c.UserContext(), caller(c).UserID)
	if err != nil {
		return err
	}
	return c.JSON(p)
}

func (s *Server) updatePushPreferences(c *fiber.Ctx) error {
	var in push.PreferencesChange
	if err := decode(c, &in); err != nil {
		return err
	}
	p, err := s.Push.Change(c.UserContext(), caller(c).UserID, &in)
	if err != nil {
		return err
	}
	return c.JSON(p)
}
