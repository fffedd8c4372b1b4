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
	"github.com/parley-chat/parley/internal/redisconn"
	"github.com/parley-chat/parley/internal/serverkey"
	"github.com/parley-chat/parley/internal/user"
)

// limiter charges the buckets of limits. It must not block while Redis is unavailable.
type limiter interface {
	Rules(rules ...string)
	AllowOne(ctx context.Context, t ratelimit.Take) ratelimit.Verdict
	AllowAlso(ctx context.Context, t ratelimit.Take, call redisconn.Call) (ratelimit.Verdict, *redis.Cmd)
	Refused(rule string)
}

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

// failures limits wrong passwords by subject: a user, or a username, whether it exists or not.
var failures = config.Rate{Count: 20, Window: 15 * time.Minute}

// limit is the limit of a route. The zero value means none.
type limit struct {
	rule string
	rate config.Rate
	// subject returns the bucket's subject; nil for the user, or the address of a client without a valid token.
	subject func(c *fiber.Ctx) string
	// byBody applies the limit of a route whose subject is in the body. It replaces rule, rate and subject.
	byBody func(c *fiber.Ctx) error
	// own is set for routes that return the caller's own profile. The profile's stamp is then read in the same round trip to Redis as the
	// limit, if the profile can't change after that (settled).
	own bool
}

// limits has the limits of the routes.
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

// Is makes errors.Is match errLimited, which the table of outcomes has.
func (*limited) Is(target error) bool { return target == errLimited }

// seconds converts a duration to seconds, rounded up.
func seconds(d time.Duration) int { return int(math.Ceil(d.Seconds())) }

// admitRequest applies the route's limit, and refuses bodies that are too large or encoded before they are read. A limit whose subject is in
// the body is applied last; before the body is read, the default limit of the address is applied.
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

// settled reports whether this request can't change the bearer's profile after its limit was applied. An external token may, by its claims.
func (s *Server) settled(b bearer) bool {
	return b.err == nil && (b.Kind == principal.Session || b.Kind == principal.External && s.Identity.Checked(b.ExternalID))
}

// guard charges a request to its bucket, and sets the response's headers for limits. It returns *limited if the bucket is empty.
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
		v = s.Limiter.AllowOne(c.UserContext(), s.takeOf(c, l))
	}
	setLimitHeaders(c, v)
	if !v.Allowed {
		return &limited{v.RetryAfter}
	}
	return nil
}

// unlimited reports whether nothing is charged for a request: its route has no limit, or the limit that applies is off.
func (s *Server) unlimited(c *fiber.Ctx, l limit) bool {
	if l.rule == "" {
		return true
	}
	if token, _ := bearerToken(c.Get(fiber.HeaderAuthorization)); serverkey.Is(token) {
		return s.takeOf(c, l).Rate.Off()
	}
	return l.rate.Off()
}

// takeOf returns the charge of a request. Requests of a server key are charged to the key's limit on every route.
func (s *Server) takeOf(c *fiber.Ctx, l limit) ratelimit.Take {
	if b := s.identify(c); b.err == nil && b.Kind == principal.Key {
		return ratelimit.Take{Rule: ruleServer, Subject: "key:" + b.KeyID, Rate: s.Limits.Server}
	}
	return ratelimit.Take{Rule: l.rule, Subject: s.subject(c, l), Rate: l.rate}
}

// guardItems charges a bulk of items to the key's bucket: one more for each itemsPerTake items. It returns *limited if the bucket has less.
func (s *Server) guardItems(c *fiber.Ctx, items int) error {
	if s.Limits.Server.Off() || items < itemsPerTake {
		return nil
	}
	take := ratelimit.Take{Rule: ruleServer, Subject: "key:" + caller(c).KeyID, Rate: s.Limits.Server, Cost: items / itemsPerTake}
	v := s.Limiter.AllowOne(c.UserContext(), take)
	setLimitHeaders(c, v)
	if !v.Allowed {
		return &limited{v.RetryAfter}
	}
	return nil
}

// itemsPerTake is how many items of a bulk cost as much as one request.
const itemsPerTake = 100

func setLimitHeaders(c *fiber.Ctx, v ratelimit.Verdict) {
	c.Set("X-RateLimit-Limit", strconv.Itoa(v.Limit))
	c.Set("X-RateLimit-Remaining", strconv.Itoa(v.Remaining))
	c.Set("X-RateLimit-Reset", strconv.Itoa(seconds(v.Reset)))
	if !v.Allowed {
		c.Set(fiber.HeaderRetryAfter, strconv.Itoa(seconds(v.RetryAfter)))
	}
}

// subject returns the subject of a request's bucket: the user of a valid token, or else the address. A token whose session has ended counts as
// invalid, because it must not use up its former owner's bucket.
func (s *Server) subject(c *fiber.Ctx, l limit) string {
	if l.subject != nil {
		return l.subject(c)
	}
	b := s.identify(c)
	switch {
	case b.err != nil:
		return s.byAddress(c)
	case b.Kind == principal.Session && s.Watch.Ended(b.SessionID):
		return s.byAddress(c)
	case b.UserID == "":
		return "external:" + b.ExternalID // this pod does not know the user yet, who may not exist
	}
	return "user:" + b.UserID
}

// ipv6Prefix is the length of the IPv6 prefix that counts as one client.
const ipv6Prefix = 64

func (s *Server) byAddress(c *fiber.Ctx) string { return "address:" + s.address(c) }

// address names the client of a request, as addressOf does.
func (s *Server) address(c *fiber.Ctx) string {
	return addressOf(s.proxies.client(c))
}

// addressOf names a client by its address, or by the prefix of an IPv6 address. It is the subject of limits and the owner of memory.
func addressOf(a netip.Addr) string {
	if a = subscriber(a); a.Is6() {
		return netip.PrefixFrom(a, ipv6Prefix).String()
	}
	return a.String()
}

// proveOnce runs a check of a password for one subject, and limits the number of checks that return wrong. Every attempt is charged before
// the check, and given back unless wrong was returned. So of many concurrent attempts only as many pass as the limit allows. The
// response's headers are set only if the attempt is refused.
func (s *Server) proveOnce(c *fiber.Ctx, subject string, wrong error, check func() error) error {
	if s.Limits.Auth.Off() {
		return check()
	}
	attempt := ratelimit.Take{Rule: ruleFailures, Subject: subject, Rate: failures}
	if v := s.Limiter.AllowOne(c.UserContext(), attempt); !v.Allowed {
		setLimitHeaders(c, v)
		return &limited{v.RetryAfter}
	}
	err := check()
	if !errors.Is(err, wrong) {
		attempt.Cost = -1
		s.Limiter.AllowOne(context.WithoutCancel(c.UserContext()), attempt)
	}
	return err
}

// guardSend charges a message to its sender's bucket, which REST and sockets share.
func (s *Server) guardSend(ctx context.Context, userID string) error {
	return s.guardUser(ctx, ruleSend, s.Limits.Send, userID)
}

// guardUser charges a frame to its user's bucket of a rule, which REST and sockets share.
func (s *Server) guardUser(ctx context.Context, rule string, rate config.Rate, userID string) error {
	if rate.Off() {
		return nil
	}
	v := s.Limiter.AllowOne(ctx, ratelimit.Take{Rule: rule, Subject: "user:" + userID, Rate: rate})
	if !v.Allowed {
		return &limited{v.RetryAfter}
	}
	return nil
}
