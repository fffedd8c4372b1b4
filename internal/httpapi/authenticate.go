package httpapi

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/gofiber/fiber/v2"

	"github.com/parley-chat/parley/internal/audit"
	"github.com/parley-chat/parley/internal/auth"
	"github.com/parley-chat/parley/internal/directory"
	"github.com/parley-chat/parley/internal/identity"
	"github.com/parley-chat/parley/internal/invalid"
	"github.com/parley-chat/parley/internal/principal"
	"github.com/parley-chat/parley/internal/serverkey"
)

// tokens are Parley's own access tokens.
type tokens interface {
	Verify(token string) (auth.Identity, error)
}

// endedSessions are the sessions that ended before their access tokens expire.
type endedSessions interface {
	Ended(sessionID string) bool
	Ready() error
}

// standings are the bans, deactivations and deletions of users. Check reads them from memory, Standing from Postgres.
type standings interface {
	Check(userID string) error
	Standing(ctx context.Context, userID string) error
	Ready() error
}

// keyTokens are the tokens of server keys.
type keyTokens interface {
	Authenticate(ctx context.Context, token string) (principal.Principal, error)
}

// externalTokens are the tokens of the product's issuer.
type externalTokens interface {
	Claims(token string) bool
	Verify(ctx context.Context, token string) (identity.Token, error)
}

// externalUsers are the users of external tokens.
type externalUsers interface {
	User(ctx context.Context, t identity.Token) (string, error)
	Known(externalID string) string
	Checked(externalID string) bool
	Forget(externalID string)
	Managed(ctx context.Context, userID string) (bool, error)
}

// signers are the keys of the product's issuer.
type signers interface {
	Holds(thumbprint string) bool
}

// userNames finds users by their ids or external ids.
type userNames interface {
	Resolve(ctx context.Context, name string) (string, error)
	ResolveAll(ctx context.Context, names []string) ([]directory.Named, error)
}

// headerActing is the header with the user for whom a server key acts.
const headerActing = "Parley-User"

// access defines the callers that a route admits.
type access struct {
	// user admits users, and server keys that act for one.
	user bool
	// scope admits server keys that have it, without a user; "" admits none.
	scope string
}

// key returns the access for server keys with a scope.
func key(scope string) access { return access{scope: scope} }

// Errors of callers that a route does not admit.
var (
	errKeyInBrowser = errors.New("a server key must not be used in a browser: anybody who opens the page can read it")
	errScopeMissing = errors.New("a scope is missing")
	errManaged      = errors.New("name and picture follow the token of this user")
)

// scopeError is errScopeMissing for a scope.
type scopeError struct{ scope string }

func (e *scopeError) Error() string { return "this needs the scope " + e.scope }

// Is makes errors.Is match errScopeMissing, which the table of outcomes has.
func (*scopeError) Is(target error) bool { return target == errScopeMissing }

// bearer is the recognized token of a request.
type bearer struct {
	principal.Principal
	external identity.Token // set for an external token
	err      error          // why the token is not accepted, nil if it is
}

// recognize verifies a bearer token of any kind. It does not look up the user of an external token (admitted does). It makes a query only for
// a server key that this pod does not remember.
func (s *Server) recognize(ctx context.Context, token string) bearer {
	switch {
	case serverkey.Is(token):
		p, err := s.Keys.Authenticate(ctx, token)
		return bearer{Principal: p, err: err}
	case s.Verifier != nil && s.Verifier.Claims(token):
		t, err := s.Verifier.Verify(ctx, token)
		t.UserID = s.Identity.Known(t.ExternalID)
		return bearer{Principal: t.Principal, external: t, err: err}
	default:
		who, err := s.Auth.Verify(token)
		return bearer{Principal: principal.Principal{Kind: principal.Session, UserID: who.UserID, SessionID: who.SessionID}, err: err}
	}
}

// admitted looks up the user of a recognized token. It refuses a token whose session has ended, and users who are banned, deactivated or
// deleted.
func (s *Server) admitted(ctx context.Context, b bearer) (principal.Principal, error) {
	if b.err != nil {
		return principal.Principal{}, b.err
	}
	p := b.Principal
	switch p.Kind {
	case principal.External:
		userID, err := s.externalUser(ctx, b.external)
		if err != nil {
			return principal.Principal{}, err
		}
		p.UserID = userID
	case principal.Session:
		if s.Watch.Ended(p.SessionID) {
			return principal.Principal{}, auth.ErrUnauthorized
		}
	case principal.Key:
		return p, nil
	}
	return p, s.Standings.Check(p.UserID)
}

// externalUser looks up the user of an external token. If the user whom the pod remembers was deleted, it looks again: a token that was issued
// after the deletion belongs to a new user.
func (s *Server) externalUser(ctx context.Context, t identity.Token) (string, error) {
	userID, err := s.Identity.User(ctx, t)
	if err == nil && errors.Is(s.Standings.Check(userID), principal.ErrUnauthorized) {
		s.Identity.Forget(t.ExternalID)
		return s.Identity.User(ctx, t)
	}
	return userID, err
}

// identify reads the request's bearer token once.
func (s *Server) identify(c *fiber.Ctx) bearer {
	if b, ok := c.Locals(localBearer).(bearer); ok {
		return b
	}
	token, ok := bearerToken(c.Get(fiber.HeaderAuthorization))
	if !ok && routeOf(c) == socketRoute {
		token = socketToken(c, protocols(c))
	}
	b := bearer{err: errKeyInBrowser}
	if !serverkey.Is(token) || !fromBrowser(c) {
		b = s.recognize(c.UserContext(), token)
	}
	c.Locals(localBearer, b)
	return b
}

// bearerToken returns the token of an Authorization header. The scheme is case-insensitive (RFC 9110).
func bearerToken(header string) (token string, ok bool) {
	const scheme = "Bearer "
	if len(header) < len(scheme) || !strings.EqualFold(header[:len(scheme)], scheme) {
		return "", false
	}
	return header[len(scheme):], true
}

func fromBrowser(c *fiber.Ctx) bool {
	h := &c.Request().Header
	return len(h.Peek(fiber.HeaderOrigin)) > 0 || len(h.Peek("Sec-Fetch-Mode")) > 0
}

// authenticate refuses requests that the route does not admit. It stores the principal, which caller returns.
func (s *Server) authenticate(c *fiber.Ctx, a access) error {
	p, err := s.admitted(c.UserContext(), s.identify(c))
	if err != nil {
		return err
	}
	if p.Kind == principal.Key {
		p, err = s.admitKey(c, a, p)
	} else {
		err = s.admitUser(c, a)
	}
	if err != nil {
		return err
	}
	c.Locals(localPrincipal, p)
	if p.Kind != principal.Key && !reads(c) {
		c.SetUserContext(audit.With(c.UserContext(), s.actor(c, p)))
	}
	return nil
}

// actor describes the author of a request for the audit log.
func (s *Server) actor(c *fiber.Ctx, p principal.Principal) audit.Actor {
	return audit.Actor{UserID: p.UserID, KeyID: p.KeyID, RequestID: requestID(c), IP: s.proxies.client(c).String()}
}

// admitUser refuses a user on routes for keys only. It also refuses the header headerActing, because only a key can act for another user.
func (s *Server) admitUser(c *fiber.Ctx, a access) error {
	if !a.user {
		return &scopeError{a.scope}
	}
	if c.Get(headerActing) != "" {
		return invalid.One(headerActing, "is for server keys only")
	}
	return nil
}

// admitKey checks a key's scope for a route, and finds the user for whom it acts.
func (s *Server) admitKey(c *fiber.Ctx, a access, p principal.Principal) (principal.Principal, error) {
	needed, acting := a.scope, strings.Clone(c.Get(headerActing))
	if a.user {
		needed = principal.Act
		if reads(c) {
			needed = principal.Read(needed)
		}
	}
	switch {
	case routeOf(c) == socketRoute:
		return p, errForbidden
	case !p.Scopes.Allow(needed):
		return p, &scopeError{needed}
	}
	s.metrics.server.WithLabelValues(needed).Inc()
	switch {
	case a.user && acting == "":
		return p, invalid.One(headerActing, "is required: it names the user for whom the key acts")
	case !a.user && acting != "":
		return p, invalid.One(headerActing, "is for the routes of users only")
	case a.user:
		userID, err := s.Directory.Resolve(c.UserContext(), acting)
		if err != nil {
			return p, err
		}
		if err := s.Standings.Check(userID); err != nil {
			return p, err
		}
		p.UserID = userID
	}
	if a.user && !reads(c) {
		c.SetUserContext(audit.WithRequest(c.UserContext(), s.actor(c, p), actedOn(c, p.UserID)))
	} else {
		c.SetUserContext(audit.With(c.UserContext(), s.actor(c, p)))
	}
	return p, nil
}

func reads(c *fiber.Ctx) bool { return c.Method() == fiber.MethodGet || c.Method() == fiber.MethodHead }

// caller returns the principal of an authenticated request.
func caller(c *fiber.Ctx) principal.Principal {
	p, _ := c.Locals(localPrincipal).(principal.Principal)
	return p
}

// callersSession returns the session of an authenticated request.
func callersSession(c *fiber.Ctx) auth.Identity {
	p := caller(c)
	return auth.Identity{UserID: p.UserID, SessionID: p.SessionID}
}

// stillAdmitted returns an error if the session, key, token or user that admitted a principal is no longer valid. A socket calls it after it
// was registered: an end that happened before did not find the socket and did not close it.
func (s *Server) stillAdmitted(p principal.Principal) error {
	switch {
	case p.SessionID != "" && s.Watch.Ended(p.SessionID):
		return auth.ErrUnauthorized
	case p.Signer != "" && !s.Keyset.Holds(p.Signer):
		return auth.ErrUnauthorized
	case !p.ExpiresAt.IsZero() && time.Now().After(p.ExpiresAt):
		return auth.ErrUnauthorized
	}
	return s.Standings.Check(p.UserID)
}
