package httpapi

import (
	"context"
	"strings"

	"github.com/gofiber/fiber/v2"

	"github.com/parley-chat/parley/internal/auth"
	"github.com/parley-chat/parley/internal/chat"
	"github.com/parley-chat/parley/internal/config"
	"github.com/parley-chat/parley/internal/principal"
)

// accounts are the users' logins.
type accounts interface {
	Register(ctx context.Context, r *auth.Registration, c auth.Client) (auth.Pair, error)
	Login(ctx context.Context, in *auth.Credentials, c auth.Client) (auth.Pair, error)
	HolderOf(ctx context.Context, r *auth.RefreshToken) (auth.Holder, error)
	Refresh(ctx context.Context, r *auth.RefreshToken, c auth.Client) (auth.Pair, error)
	Logout(ctx context.Context, r *auth.RefreshToken) error
	Sessions(ctx context.Context, who auth.Identity) ([]auth.Session, error)
	EndSession(ctx context.Context, userID, sessionID string) error
	ChangePassword(ctx context.Context, who auth.Identity, p *auth.PasswordChange, c auth.Client) error
	DeleteAccount(ctx context.Context, userID string, d *auth.Deletion) error
	DeleteExternal(ctx context.Context, userID string) error
}

type pairBody struct {
	User         chat.Own `json:"user"`
	AccessToken  string   `json:"accessToken"`
	RefreshToken string   `json:"refreshToken"`
	// ExpiresIn is in seconds.
	ExpiresIn int `json:"expiresIn"`
}

func (s *Server) client(c *fiber.Ctx) auth.Client {
	return auth.Client{UserAgent: strings.Clone(c.Get(fiber.HeaderUserAgent)), Address: s.address(c)}
}

func sendPair(c *fiber.Ctx, status int, p auth.Pair) error {
	return c.Status(status).JSON(pairBody{p.User, p.AccessToken, p.RefreshToken, int(p.ExpiresIn.Seconds())})
}

func (s *Server) register(c *fiber.Ctx) error {
	var in auth.Registration
	if err := decode(c, &in); err != nil {
		return err
	}
	p, err := s.Auth.Register(c.UserContext(), &in, s.client(c))
	if err != nil {
		return err
	}
	return sendPair(c, fiber.StatusCreated, p)
}

func (s *Server) login(c *fiber.Ctx) error {
	var in auth.Credentials
	if err := decode(c, &in); err != nil {
		return err
	}
	var p auth.Pair
	err := s.guessLogin(c, in.Username, func() (err error) {
		p, err = s.Auth.Login(c.UserContext(), &in, s.client(c))
		return err
	})
	if err != nil {
		return err
	}
	return sendPair(c, fiber.StatusOK, p)
}

// mayRefresh refuses banned and deactivated users, whose sessions have not ended. If only tokens of the product's issuer are accepted, it also
// refuses all sessions except those that a server key opened.
func (s *Server) mayRefresh(c *fiber.Ctx, in *auth.RefreshToken) error {
	h, err := s.Auth.HolderOf(c.UserContext(), in)
	switch {
	case err != nil:
		return err
	case s.AuthMode == config.AuthExternal && !h.Minted:
		return errNotFound
	case h.UserID == "":
		return nil
	}
	return s.Standings.Standing(c.UserContext(), h.UserID)
}

func (s *Server) refresh(c *fiber.Ctx) error {
	var in auth.RefreshToken
	if err := decode(c, &in); err != nil {
		return err
	}
	if err := s.mayRefresh(c, &in); err != nil {
		return err
	}
	p, err := s.Auth.Refresh(c.UserContext(), &in, s.client(c))
	if err != nil {
		return err
	}
	return sendPair(c, fiber.StatusOK, p)
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

func (s *Server) listSessions(c *fiber.Ctx) error {
	sessions, err := s.Auth.Sessions(c.UserContext(), callersSession(c))
	if err != nil {
		return err
	}
	return whole(c, sessions)
}

func (s *Server) endSession(c *fiber.Ctx) error {
	id, err := pathID(c, "id", auth.ErrSessionNotFound)
	if err != nil {
		return err
	}
	if err := s.Auth.EndSession(c.UserContext(), caller(c).UserID, id); err != nil {
		return err
	}
	return c.SendStatus(fiber.StatusNoContent)
}

func (s *Server) changePassword(c *fiber.Ctx) error {
	var in auth.PasswordChange
	if err := decode(c, &in); err != nil {
		return err
	}
	if err := s.guessOwn(c, func() error {
		return s.Auth.ChangePassword(c.UserContext(), callersSession(c), &in, s.client(c))
	}); err != nil {
		return err
	}
	return c.SendStatus(fiber.StatusNoContent)
}

// deleteAccount requires the password, unless the user has none, as the users of external tokens.
func (s *Server) deleteAccount(c *fiber.Ctx) error {
	if caller(c).Kind == principal.External || s.AuthMode == config.AuthExternal {
		if err := s.Auth.DeleteExternal(c.UserContext(), caller(c).UserID); err != nil {
			return err
		}
		return c.SendStatus(fiber.StatusNoContent)
	}
	var in auth.Deletion
	if err := decode(c, &in); err != nil {
		return err
	}
	if err := s.guessOwn(c, func() error {
		return s.Auth.DeleteAccount(c.UserContext(), caller(c).UserID, &in)
	}); err != nil {
		return err
	}
	return c.SendStatus(fiber.StatusNoContent)
}
