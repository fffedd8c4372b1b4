package httpapi

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"strconv"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/redis/go-redis/v9"

	"github.com/parley-chat/parley/internal/config"
	"github.com/parley-chat/parley/internal/principal"
	"github.com/parley-chat/parley/internal/ratelimit"
	"github.com/parley-chat/parley/internal/serverkey"
	"github.com/parley-chat/parley/internal/user"
)

// The rules of limits. Each has separate buckets.
const (
	ruleDefault  = "default"
	ruleRegister = "register"
	ruleLogin    = "login"
	ruleFailures = "login_failures"
	ruleRefresh  = "refresh"
	ruleSearch   = "search"
	ruleSend     = "send"
	ruleSocket   = "socket"
	ruleFrames   = "frames"
	ruleReact    = "react"
	ruleUpload   = "upload"
	ruleSync     = "sync"
	ruleServer   = "server"
)

var rules = []string{
	ruleDefault, ruleRegister, ruleLogin, ruleFailures, ruleRefresh, ruleSearch, ruleSend, ruleSocket, ruleFrames, ruleReact, ruleUpload,
	ruleSync, ruleServer,
}

// failures is how many wrong passwords a subject may get: a username, whether there is such a user or not, or a user.
var failures = config.Rate{Count: 20, Window: 15 * time.Minute}

// limit is which limit a route is under. The zero value is none.
type limit struct {
	rule string
	rate config.Rate
	// subject names the bucket if it is neither the user's nor the address's.
	subject func(c *fiber.Ctx) string
	// byBody guards a route whose subject is found in the body, in place of rule and subject.
	byBody func(c *fiber.Ctx) error
	// own is set for routes that return the caller's own profile: its stamp comes with the limit's round trip. (Not for an external
	// token whose claims may still change the profile after that.)
	own bool
}

// limits are those of the routes.
type limits struct {
	none, everything, own, register, login, refresh, search, send, react, upload, socket limit
}

func (s *Server) limits() limits {
	l := s.Limits
	return limits{
		everything: limit{rule: ruleDefault, rate: l.Default},
		own:        limit{rule: ruleDefault, rate: l.Default, own: true},
		register:   limit{rule: ruleRegister, rate: l.Auth, subject: s.byAddress},
		login:      limit{rule: ruleLogin, rate: l.Auth, subject: s.byAddress},
		refresh:    limit{byBody: s.guardRefresh},
		search:     limit{rule: ruleSearch, rate: l.Search},
		send:       limit{rule: ruleSend, rate: l.Send},
		react:      limit{rule: ruleReact, rate: l.React},
		upload:     limit{rule: ruleUpload, rate: l.Upload},
		socket:     limit{rule: ruleSocket, rate: l.Socket},
	}
}

// limited is the error of a request beyond a limit.
type limited struct {
	after time.Duration
}

func (l *limited) Error() string {
	return fmt.Sprintf("too many requests: try again in %d seconds", seconds(l.after))
}

// Is makes every limited the one that the table of outcomes names.
func (*limited) Is(target error) bool { return target == errLimited }

// seconds rounds up.
func seconds(d time.Duration) int { return int(math.Ceil(d.Seconds())) }

// admitRequest applies the route's limit and refuses bodies that are too large or encoded, before they are read. A
// limit whose subject is in the body comes last: the address's bucket is charged before anything is decoded.
func (s *Server) admitRequest(c *fiber.Ctx, l limit) error {
	first := l
	if l.byBody != nil {
		first = limit{rule: ruleDefault, rate: s.Limits.Default, subject: s.byAddress}
	}
	if err := s.guard(c, first); err != nil {
		return err
	}
	if err := screen(c); err != nil {
		return err
	}
	if l.byBody != nil {
		return l.byBody(c)
	}
	return nil
}

// settled reports whether nothing of the bearer's profile changes between the limit and the handler.
func (s *Server) settled(b bearer) bool {
	return b.err == nil && (b.Kind == principal.Session || b.Kind == principal.External && s.Identity.Checked(b.ExternalID))
}

// guard charges a request to its bucket and writes the remainder into the response's headers, also if it is refused.
func (s *Server) guard(c *fiber.Ctx, l limit) error {
	if s.unlimited(c, l) {
		return nil
	}
	var v ratelimit.Verdict
	if b := s.identify(c); l.own && s.settled(b) {
		var cmd *redis.Cmd
		v, cmd = s.Limiter.AllowAlso(c.UserContext(), s.takeOf(c, l), user.AskStamp(b.UserID))
		c.Locals(localStamp, user.StampOf(cmd))
	} else {
		v = s.Limiter.Allow(c.UserContext(), s.takeOf(c, l))[0]
	}
	setLimitHeaders(c, v)
	if !v.Allowed {
		return &limited{v.RetryAfter}
	}
	return nil
}

// unlimited reports whether nothing is charged for a request: the limit that is off is the route's, or the key's for a server key.
func (s *Server) unlimited(c *fiber.Ctx, l limit) bool {
	if l.rule == "" {
		return true
	}
	if token, _ := bearerToken(c.Get(fiber.HeaderAuthorization)); serverkey.Is(token) {
		return s.takeOf(c, l).Rate.Off()
	}
	return l.rate.Off()
}

// takeOf is the charge of a request. Requests of a server key count on the key's limit, on every route.
func (s *Server) takeOf(c *fiber.Ctx, l limit) ratelimit.Take {
	if b := s.identify(c); b.err == nil && b.Kind == principal.Key {
		return ratelimit.Take{Rule: ruleServer, Subject: "key:" + b.KeyID, Rate: s.Limits.Server}
	}
	return ratelimit.Take{Rule: l.rule, Subject: s.subject(c, l), Rate: l.rate}
}

// guardItems takes, for a bulk of items, one more for each hundred of them from the key's bucket. It returns *limited where they are not
// to be had.
func (s *Server) guardItems(c *fiber.Ctx, items int) error {
	if s.Limits.Server.Off() || items < itemsPerTake {
		return nil
	}
	take := ratelimit.Take{Rule: ruleServer, Subject: "key:" + caller(c).KeyID, Rate: s.Limits.Server, Cost: items / itemsPerTake}
	v := s.Limiter.Allow(c.UserContext(), take)[0]
	setLimitHeaders(c, v)
	if !v.Allowed {
		return &limited{v.RetryAfter}
	}
	return nil
}

// itemsPerTake is how many items of a bulk count as much as a request.
const itemsPerTake = 100

func setLimitHeaders(c *fiber.Ctx, v ratelimit.Verdict) {
	c.Set("X-RateLimit-Limit", strconv.Itoa(v.Limit))
	c.Set("X-RateLimit-Remaining", strconv.Itoa(v.Remaining))
	c.Set("X-RateLimit-Reset", strconv.Itoa(seconds(v.Reset)))
	if !v.Allowed {
		c.Set(fiber.HeaderRetryAfter, strconv.Itoa(seconds(v.RetryAfter)))
	}
}

// subject is whose bucket a request takes from: the user's if a token of a live session names one, else the address's. A
// token that outlives its session must not use up its owner's bucket.
func (s *Server) subject(c *fiber.Ctx, l limit) string {
	if l.subject != nil {
		return l.subject(c)
	}
	b := s.identify(c)
	switch {
	case b.err != nil:
		return s.byAddress(c)
	case b.Kind == principal.Session && s.Watch.Ended(b.SessionID):
		return s.byAddress(c) // a token that was taken away must not use up what its user has
	case b.UserID == "":
		return "external:" + b.ExternalID // the first request, which makes the user
	}
	return "user:" + b.UserID
}

// ipv6Prefix is the smallest IPv6 prefix of one subscriber: addresses within it count as one client.
const ipv6Prefix = 64

func (s *Server) byAddress(c *fiber.Ctx) string { return "address:" + s.address(c) }

// address is the client address of a request, reduced to the part by which clients are distinguished.
func (s *Server) address(c *fiber.Ctx) string {
	return addressOf(s.proxies.client(c))
}

// addressOf names an address, IPv6 by its subscriber's prefix, as buckets and memory are counted by it.
func addressOf(a netip.Addr) string {
	if a = subscriber(a); a.Is6() {
		return netip.PrefixFrom(a, ipv6Prefix).String()
	}
	return a.String()
}

// proveOnce runs a check of a password for one subject, whose wrong ones are counted and bounded. The attempt is taken from
// the bucket before the check and given back unless wrong was returned, so that attempts at the same time can't all pass
// before the first is counted. The answer's headers are changed only if it is refused.
func (s *Server) proveOnce(c *fiber.Ctx, subject string, wrong error, check func() error) error {
	if s.Limits.Auth.Off() {
		return check()
	}
	attempt := ratelimit.Take{Rule: ruleFailures, Subject: subject, Rate: failures}
	if v := s.Limiter.Allow(c.UserContext(), attempt)[0]; !v.Allowed {
		setLimitHeaders(c, v)
		return &limited{v.RetryAfter}
	}
	err := check()
	if !errors.Is(err, wrong) {
		attempt.Cost = -1
		s.Limiter.Allow(context.WithoutCancel(c.UserContext()), attempt)
	}
	return err
}

// guardSend charges a message to its sender's bucket, the same for REST and sockets.
func (s *Server) guardSend(ctx context.Context, userID string) error {
	return s.guardUser(ctx, ruleSend, s.Limits.Send, userID)
}

// guardUser charges a request of a socket to the user's bucket of a rule, the same as for REST.
func (s *Server) guardUser(ctx context.Context, rule string, rate config.Rate, userID string) error {
	if rate.Off() {
		return nil
	}
	v := s.Limiter.Allow(ctx, ratelimit.Take{Rule: rule, Subject: "user:" + userID, Rate: rate})[0]
	if !v.Allowed {
		return &limited{v.RetryAfter}
	}
	return nil
}
