package receipt

import (
	"context"

	"github.com/redis/go-redis/v9"

	"github.com/parley-chat/parley/internal/chat"
)

// Pending returns pending reads, which are in Redis and not in Postgres yet, for processes without a Service. Safe for concurrent use.
type Pending struct {
	buffer *buffer
}

// NewPending makes a Pending.
func NewPending(rdb redis.UniversalClient) *Pending { return &Pending{newBuffer(rdb)} }

// MarkersAt returns the pending marker of each user in a conversation, a zero marker if there is none. A marker counts only if its version is
// that of the member's row, or -1. It returns an error if Redis is unavailable.
func (p *Pending) MarkersAt(ctx context.Context, conversationID string, userIDs []string) ([]chat.PendingMarker, error) {
	places := make([]markerPlace, len(userIDs))
	for i, u := range userIDs {
		places[i] = markerPlace{conversationID, u}
	}
	ctx, cancel := context.WithTimeout(ctx, keepWait)
	defer cancel()
	return p.buffer.markersAt(ctx, places)
}

// Markers returns the pending markers of a user, by conversation. If Redis is unavailable it returns none.
func (p *Pending) Markers(ctx context.Context, userID string) map[string]chat.PendingMarker {
	ctx, cancel := context.WithTimeout(ctx, keepWait)
	defer cancel()
	held, err := p.buffer.markers(ctx, userID)
	if err != nil {
		return nil
	}
	return held
}
