package realtime

import (
	"context"

	"github.com/parley-chat/parley/internal/event"
	"github.com/parley-chat/parley/internal/rediskey"
)

// PrivacyChanged tells the pods that others may see a user now, or no more.
func (p *Publisher) PrivacyChanged(_ context.Context, userID string) {
	p.keep(rediskey.PresenceChannel(userID), event.PresenceNews{Recheck: true}.Encode())
}

// RelationChanged tells the pods of both users that they are something else to each other.
func (p *Publisher) RelationChanged(_ context.Context, a, b string) {
	p.Notify(&event.Notice{UserID: a, Related: b})
	p.Notify(&event.Notice{UserID: b, Related: a})
}

// Replace tells the pods to close sockets that a user has too many of.
func (p *Publisher) Replace(userID string, sockets []string) {
	p.Notify(&event.Notice{UserID: userID, Replaced: sockets})
}
