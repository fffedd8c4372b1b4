package receipt

import (
	"context"

	"github.com/redis/go-redis/v9"

	"github.com/parley-chat/parley/internal/chat"
)

// Pending reads from Redis what Postgres does not have yet, for processes that take no reads. It is safe for concurrent use.
type Pending struct {
	buffer *buffer
}

// NewPending makes it.
func NewPending(rdb redis.UniversalClient) *Pending { return &Pending{newBuffer(rdb)} }

// MarkersAt reads how far each of the users has read a conversation by what is pending, a zero marker if nothing is. A marker counts only
// if its version is that of the member's row, or -1.
func (p *Pending) MarkersAt(ctx context.Context, conversationID string, userIDs []string) ([]chat.PendingMarker, error) {
	places := make([]markerPlace, len(userIDs))
	for i, u := range userIDs {
		places[i] = markerPlace{conversationID, u}
	}
	ctx, cancel := context.WithTimeout(ctx, keepWait)
	defer cancel()
	return p.buffer.markersAt(ctx, places)
}

// Markers reads how far a user has read by what is pending, by conversation. If Redis is unavailable there are none.
func (p *Pending) Markers(ctx context.Context, userID string) map[string]chat.PendingMarker {
	ctx, cancel := context.WithTimeout(ctx, keepWait)
	defer cancel()
	held, err := p.buffer.markers(ctx, userID)
	if err != nil {
		return nil
	}
	return held
}
