package presence

import (
	"context"
	"database/sql"

	"github.com/redis/go-redis/v9"

	"github.com/parley-chat/parley/internal/event"
)

// Service reads presence. It keeps nothing: the state is Redis's, and who may see it is Postgres's, so that an answer
// after a change of privacy is never older than the change.
type Service struct {
	records *records
	store   *store
}

// NewService makes the service.
func NewService(db *sql.DB, rdb redis.UniversalClient) *Service {
	return &Service{newRecords(rdb), &store{db}}
}

// Read reads users' presence as the viewer may see it, in their order. Who is hidden is as who was never here. It returns
// ErrUnavailable where Redis cannot be asked.
func (s *Service) Read(ctx context.Context, viewerID string, userIDs []string) ([]event.Presence, error) {
	if len(userIDs) == 0 {
		return []event.Presence{}, nil
	}
	known, err := s.records.read(ctx, userIDs)
	if err != nil {
		return nil, err
	}
	pairs := make([]event.PresencePair, len(userIDs))
	for i, u := range userIDs {
		pairs[i] = event.PresencePair{Viewer: viewerID, Target: u}
	}
	visible, err := s.store.visible(ctx, pairs)
	if err != nil {
		return nil, err
	}
	out := make([]event.Presence, len(userIDs))
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

// States reads users' states, in their order, whoever may see them. A user whose last deadline is over is offline, also before a watcher
// has claimed them: nobody who was not told of them is to see them come online.
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

// Peers reads whom viewers watch by themselves: their friends and those they have a direct conversation with.
func (s *Service) Peers(ctx context.Context, viewerIDs []string) ([]event.PresencePair, error) {
	return s.store.peers(ctx, viewerIDs)
}

// Visible reads which pairs' viewers may see their targets now, with when the target was last seen according to
// Postgres, in microseconds. Those who may not are left out.
func (s *Service) Visible(ctx context.Context, pairs []event.PresencePair) (map[event.PresencePair]int64, error) {
	return s.store.visible(ctx, pairs)
}
