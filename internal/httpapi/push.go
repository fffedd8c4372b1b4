package httpapi

import (
	"context"
	"encoding/json"
	"strings"

	"github.com/gofiber/fiber/v2"

	"github.com/parley-chat/parley/internal/id"
	"github.com/parley-chat/parley/internal/invalid"
	"github.com/parley-chat/parley/internal/principal"
	"github.com/parley-chat/parley/internal/push"
)

// pushes are the users' devices and preferences for pushes.
type pushes interface {
	Config() push.Config
	Put(ctx context.Context, userID, sessionID, deviceID string, r *push.Registration) error
	Delete(ctx context.Context, userID, deviceID string) error
	Preferences(ctx context.Context, userID string) (push.Preferences, error)
	Change(ctx context.Context, userID string, c *push.PreferencesChange) (push.Preferences, error)
}

// attention records active users, so that they get no pushes. Note must not block.
type attention interface {
	Note(userID, sessionID string)
	Focus(ctx context.Context, userID, sessionID, deviceID string, active bool)
}

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

// noteActive records that a user sent, read or typed, for decisions on pushes. Failed requests (err) and requests of server keys don't count.
func (s *Server) noteActive(err error, p principal.Principal) {
	if err == nil && p.Kind != principal.Key {
		s.Attention.Note(p.UserID, p.SessionID)
	}
}

func (r *reader) principal() principal.Principal {
	return principal.Principal{UserID: r.session.UserID, SessionID: r.session.SessionID}
}

// focusData is the data of a focus.
type focusData struct {
	Active         bool    `json:"active"`
	ConversationID *string `json:"conversationId,omitempty"`
}

// Check notes the faults of the data. The conversation in front is not used yet: a user who is looking at any conversation gets no pushes.
func (d *focusData) Check(f *invalid.Faults) {
	if d.ConversationID != nil && !id.Valid(*d.ConversationID) {
		f.Add("conversationId", "must be an id")
	}
}

func (r *reader) focus(ctx context.Context, data json.RawMessage) (any, error) {
	var in focusData
	if err := decodeData(data, &in); err != nil {
		return nil, err
	}
	r.server.Attention.Focus(ctx, r.session.UserID, r.session.SessionID, r.session.DeviceID, in.Active)
	return struct{}{}, nil
}
