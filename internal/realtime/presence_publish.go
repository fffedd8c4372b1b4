package realtime

import (
	"context"

	"github.com/parley-chat/parley/internal/event"
	"github.com/parley-chat/parley/internal/rediskey"
)

// PrivacyChanged publishes that the set of users who may see a user has changed.
func (p *Publisher) PrivacyChanged(_ context.Context, userID string) {
	p.keep(rediskey.PresenceChannel(userID), event.PresenceNews{Recheck: true}.Encode())
}

// RelationChanged publishes to the pods of both users that their relation has changed.
func (p *Publisher) RelationChanged(_ context.Context, a, b string) {
	p.Notify(&event.Notice{UserID: a, Related: b})
	p.Notify(&event.Notice{UserID: b, Related: a})
}

// Replace publishes the sockets that exceed a user's bound, so that their pods close them.
func (p *Publisher) Replace(userID string, sockets []string) {
	p.Notify(&event.Notice{UserID: userID, Replaced: sockets})
}
