package ratelimit

import (
	"context"

	"github.com/redis/go-redis/v9"

	"github.com/parley-chat/parley/internal/rediskey"
)

// Waiting is how many requests wait for a round trip that is not theirs.
func (l *Limiter) Waiting() int { return l.waiting.Len() }

// Load has Redis know the script.
func Load(ctx context.Context, rdb redis.UniversalClient) error {
	return redis.NewScript(gcraSource).Load(ctx, rdb).Err()
}

// Key is the key of a take's bucket.
func Key(t Take) string { return rediskey.RateLimit(t.Rule, t.Subject) }
