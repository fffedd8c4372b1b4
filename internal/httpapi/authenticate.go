package httpapi

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/gofiber/fiber/v2"

	"github.com/parley-chat/parley/internal/audit"
	"github.com/parley-chat/parley/internal/auth"
	"github.com/parley-chat/parley/internal/identity"
	"github.com/parley-chat/parley/internal/invalid"
	"github.com/parley-chat/parley/internal/principal"
	"github.com/parley-chat/parley/internal/serverkey"
)

// headerActing is the header with the user for whom a server key acts.
const headerActing = "Parley-User"

// access defines the callers that a route admits.
type access struct {
	// user admits users, and server keys that act for one.
	user bool
	// scope admits server keys that have it, without a user; "" admits none.
	scope string
}

// key is the access of server keys with a scope.
func key(scope string) access { return access{scope: scope} }

// Errors of callers that a route does not admit.
var (
	errKeyInBrowser = errors.New("a server key must not be used in a browser: anybody who opens the page can read it")
	errScopeMissing = errors.New("a scope is missing")
	errManaged      = errors.New("name and picture follow the token of this user")
)

// scopeError is errScopeMissing with the scope's name.
type scopeError struct{ scope string }

func (e *scopeError) Error() string { return "this needs the scope " + e.scope }

// Is makes every scopeError the one that the table of outcomes names.
func (*scopeError) Is(target error) bool { return target == errScopeMissing }

// bearer is the recognized token of a request.
type bearer struct {
	principal.Principal
	external identity.Token // of an external token
	err      error
}

// recognize verifies a bearer token, each kind with its own authenticator. The user of an external token is not looked up yet. Only a server
// key that is new to this pod needs a query.
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

// admitted looks up the user of a recognized token, and refuses it if its session, key or user no longer exists.
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

// externalUser looks up the user of an external token. A user whom the pod remembers may have been deleted since: then a request with a
// token that was issued later belongs to a new user.
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

// bearerToken is the token of an Authorization header, whose scheme has any case (RFC 9110).
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

// authenticate refuses requests that the route does not admit, and stores the principal for caller.
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

// actor is the author of a request, for the audit log.
func (s *Server) actor(c *fiber.Ctx, p principal.Principal) audit.Actor {
	return audit.Actor{UserID: p.UserID, KeyID: p.KeyID, RequestID: requestID(c), IP: s.proxies.client(c).String()}
}

// admitUser refuses users on routes of keys. It refuses the header too, because only a key can act for another user.
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

// callersSession is the session of an authenticated request.
func callersSession(c *fiber.Ctx) auth.Identity {
	p := caller(c)
	return auth.Identity{UserID: p.UserID, SessionID: p.SessionID}
}

// holds reports whether what admitted a principal still stands. Who registers what outlives the request asks again afterwards: what ended
// meanwhile did not find it.
func (s *Server) holds(p principal.Principal) error {
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
