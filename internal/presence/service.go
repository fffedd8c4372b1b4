package presence

import (
	"context"
	"database/sql"

	"github.com/redis/go-redis/v9"

	"github.com/parley-chat/parley/internal/event"
)

// Service reads presence. It caches nothing: Redis has the state and Postgres decides which users may see it, so a read
// after a change of privacy is never older than the change. Safe for concurrent use.
type Service struct {
	records *records
	store   *store
}

// NewService makes the service.
func NewService(db *sql.DB, rdb redis.UniversalClient) *Service {
	return &Service{newRecords(rdb, nil), &store{db}}
}

// Read returns the presence of users as the viewer may see it, in the order of the ids. A hidden user looks the same as one
// who was never online. It returns an error that wraps ErrUnavailable if Redis is unavailable.
func (s *Service) Read(ctx context.Context, viewerID string, userIDs []string) ([]event.Presence, error) {
	pairs := make([]event.PresencePair, len(userIDs))
	for i, u := range userIDs {
		pairs[i] = event.PresencePair{Viewer: viewerID, Target: u}
	}
	return s.ReadPairs(ctx, pairs)
}

// ReadPairs is Read for several viewers, in the order of the pairs.
func (s *Service) ReadPairs(ctx context.Context, pairs []event.PresencePair) ([]event.Presence, error) {
	if len(pairs) == 0 {
		return []event.Presence{}, nil
	}
	userIDs := make([]string, len(pairs))
	for i, p := range pairs {
		userIDs[i] = p.Target
	}
	known, err := s.records.read(ctx, userIDs)
	if err != nil {
		return nil, err
	}
	visible, err := s.store.visible(ctx, pairs)
	if err != nil {
		return nil, err
	}
	out := make([]event.Presence, len(pairs))
	for i, p := range pairs {
		out[i] = event.Presence{UserID: p.Target, Status: event.StatusOffline}
		seen, may := visible[p]
		switch {
		case !may:
		case known[i].lives:
			out[i].Status = event.StatusOnline
		default:
			out[i].LastSeenAt = event.At(max(seen, known[i].Seen))
		}
	}
	return out, nil
}

// States returns the states of users, in the order of the ids, without checking permission. A user whose last deadline has passed
// is offline, even if no watcher has claimed the user yet: otherwise new subscribers would see the user online first
// (TestTheDeadDoNotComeOnline).
func (s *Service) States(ctx context.Context, userIDs []string) ([]event.PresenceState, error) {
	known, err := s.records.read(ctx, userIDs)
	if err != nil {
		return nil, err
	}
	out := make([]event.PresenceState, len(known))
	for i, k := range known {
		out[i] = k.PresenceState
		out[i].Online = k.Online && k.lives
	}
	return out, nil
}

// Peers returns the users whom viewers watch automatically: their friends, and the other users of their direct conversations.
func (s *Service) Peers(ctx context.Context, viewerIDs []string) ([]event.PresencePair, error) {
	return s.store.peers(ctx, viewerIDs)
}

// Visible returns the pairs whose viewer may see the target now, with the target's last_seen_at in microseconds since 1970 (0 if
// unknown). Other pairs are left out.
func (s *Service) Visible(ctx context.Context, pairs []event.PresencePair) (map[event.PresencePair]int64, error) {
	return s.store.visible(ctx, pairs)
}
