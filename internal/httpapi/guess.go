package httpapi

import (
	"context"

	"github.com/gofiber/fiber/v2"

	"github.com/parley-chat/parley/internal/auth"
)

// knownAddresses are the addresses of recent logins.
type knownAddresses interface {
	KnownAddress(ctx context.Context, username, address string) (bool, error)
}

// guessLogin runs a login within the limit of failures for the username. Any client can use up that limit, so a client with an address from
// which the user logged in recently has a separate bucket.
func (s *Server) guessLogin(c *fiber.Ctx, username string, login func() error) error {
	subject := username
	if address := s.address(c); s.knownAddress(c, username, address) {
		subject += " from " + address
	}
	return s.proveOnce(c, subject, auth.ErrInvalidCredentials, login)
}

// guessOwn runs a check of the caller's password within the limit of failures for the caller.
func (s *Server) guessOwn(c *fiber.Ctx, prove func() error) error {
	return s.proveOnce(c, "user:"+caller(c).UserID, auth.ErrWrongPassword, prove)
}

// knownAddress reports whether the user logged in from the address recently. It returns false if Postgres is unavailable.
func (s *Server) knownAddress(c *fiber.Ctx, username, address string) bool {
	known, err := s.Auth.KnownAddress(c.UserContext(), username, address)
	return err == nil && known
}
