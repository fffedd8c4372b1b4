package httpapi

import (
	"maps"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

const (
	// typingBurst is how many starts of typing a user may publish in one conversation at once, with all sockets on this pod together.
	// After that it is one for each typingPause. Ends are not limited, because each needs a start.
	typingBurst = 3
	// maxTyping bounds the remembered limits. If there are more, further typing is dropped until some limits are full again.
	maxTyping = 20_000
)

// typingPaces limits how often typing is published. The zero value is ready for use. Safe for concurrent use.
type typingPaces struct {
	mu sync.Mutex // guards by
	by map[typingKey]*rate.Limiter
}

type typingKey struct{ userID, conversationID string }

// allow reports whether a start of typing may be published, and counts it.
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
