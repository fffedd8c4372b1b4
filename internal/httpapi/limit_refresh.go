package httpapi

import (
	"context"
	"crypto/sha256"
	"maps"
	"sync"
	"time"

	"github.com/gofiber/fiber/v2"

	"github.com/parley-chat/parley/internal/auth"
	"github.com/parley-chat/parley/internal/jsonbody"
	"github.com/parley-chat/parley/internal/ratelimit"
)

// refreshSessions finds the sessions of refresh tokens.
type refreshSessions interface {
	SessionOf(ctx context.Context, r *auth.RefreshToken) (string, error)
}

// guardRefresh applies the limit of the token's session to a refresh. A body without a known token has no session: only the limit of the
// address applies, which admitRequest has charged already.
func (s *Server) guardRefresh(c *fiber.Ctx) error {
	if s.Limits.Refresh.Off() {
		return nil
	}
	var in auth.RefreshToken
	body, err := readBody(c)
	if err != nil || jsonbody.Decode(body, &in) != nil {
		return nil //nolint:nilerr // the handler gets the same error and returns it
	}
	token := sha256.Sum256([]byte(in.Token))
	if v, known := s.refused.find(token, time.Now()); known {
		setLimitHeaders(c, v)
		return &limited{v.RetryAfter}
	}
	session, err := s.Auth.SessionOf(c.UserContext(), &in)
	if err != nil || session == "" {
		return nil //nolint:nilerr // as above
	}
	v := s.Limiter.AllowOne(c.UserContext(), ratelimit.Take{Rule: ruleRefresh, Subject: "session:" + session, Rate: s.Limits.Refresh})
	setLimitHeaders(c, v)
	if !v.Allowed {
		s.refused.note(token, v, time.Now())
		return &limited{v.RetryAfter}
	}
	return nil
}

// maxRefused bounds the refused tokens that a process remembers. If there are more that are still refused, it forgets all of them: each then
// costs one more query.
const maxRefused = 10_000

// refusals remembers the refresh tokens whose session's bucket was empty. So a client that keeps sending its token costs no query until the
// bucket allows a refresh again. The zero value is ready for use. Safe for concurrent use.
type refusals struct {
	mu sync.Mutex // guards by
	by map[[sha256.Size]byte]refusal
}

type refusal struct {
	at      time.Time
	verdict ratelimit.Verdict
}

// find returns the verdict of a token that is still refused, with its times adjusted to now.
func (r *refusals) find(token [sha256.Size]byte, now time.Time) (ratelimit.Verdict, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f, known := r.by[token]
	v := f.verdict
	passed := now.Sub(f.at)
	if !known || passed >= v.RetryAfter {
		delete(r.by, token)
		return ratelimit.Verdict{}, false
	}
	v.RetryAfter -= passed
	v.Reset -= passed
	return v, true
}

func (r *refusals) note(token [sha256.Size]byte, v ratelimit.Verdict, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.by == nil {
		r.by = map[[sha256.Size]byte]refusal{}
	}
	if len(r.by) >= maxRefused {
		maps.DeleteFunc(r.by, func(_ [sha256.Size]byte, f refusal) bool { return now.Sub(f.at) >= f.verdict.RetryAfter })
	}
	if len(r.by) >= maxRefused {
		clear(r.by)
	}
	r.by[token] = refusal{now, v}
}
