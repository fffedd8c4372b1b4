package httpapi

import (
	"maps"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

const (
	// typingBurst is how often a user may begin to type in one conversation at once, by all sockets at this pod together;
	// then once in typingPause. Each beginning pays for its end.
	typingBurst = 3
	// maxTyping bounds the remembered typing. Beyond it new typing is dropped until some has expired.
	maxTyping = 20_000
)

// typingPaces bound how often typing is published. The zero value is ready; it may be used by any goroutine.
type typingPaces struct {
	mu sync.Mutex // guards by
	by map[typingKey]*rate.Limiter
}

type typingKey struct{ userID, conversationID string }

// allow reports whether a beginning may be published.
func (p *typingPaces) allow(userID, conversationID string, now time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	k := typingKey{userID, conversationID}
	l := p.by[k]
	if l == nil {
		if len(p.by) >= maxTyping {
			maps.DeleteFunc(p.by, func(_ typingKey, l *rate.Limiter) bool { return l.TokensAt(now) >= typingBurst })
		}
		if len(p.by) >= maxTyping {
			return false
		}
		if p.by == nil {
			p.by = map[typingKey]*rate.Limiter{}
		}
		l = rate.NewLimiter(rate.Every(typingPause), typingBurst)
		p.by[k] = l
	}
	return l.AllowN(now, 1)
}
