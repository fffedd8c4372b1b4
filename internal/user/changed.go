package user

import (
	"context"
	"fmt"
	"time"

	"github.com/parley-chat/parley/internal/event"
	"github.com/parley-chat/parley/internal/postgres"
)

// Publisher reports a changed profile to all pods. It never waits for Redis; a report that is lost the pods find by Changed.
type Publisher interface {
	ProfileChanged(ctx context.Context, c event.ProfileChange)
}

// Changed reads which profiles changed within the last while, by whatever way, with the times in microseconds.
func (s *Service) Changed(ctx context.Context, within time.Duration) (map[string]int64, error) {
	type row struct {
		id string
		at time.Time
	}
	found, err := postgres.Collect(ctx, s.store.db.SQL, func(r postgres.Row, v *row) error { return r.Scan(&v.id, &v.at) },
		`SELECT id, profile_changed_at FROM users WHERE profile_changed_at >= clock_timestamp() - make_interval(secs => $1)`, within.Seconds())
	if err != nil {
		return nil, fmt.Errorf("read changed profiles: %w", err)
	}
	out := make(map[string]int64, len(found))
	for _, v := range found {
		out[v.id] = v.at.UnixMicro()
	}
	return out, nil
}

// Profiles reads profiles with the times of their last changes, in no particular order. Deleted accounts are read as such.
func (s *Service) Profiles(ctx context.Context, ids []string) ([]event.ProfileChange, error) {
	found, err := postgres.Collect(ctx, s.store.db.SQL, func(r postgres.Row, c *event.ProfileChange) error {
		var at *time.Time
		err := r.Scan(&c.User.ID, &c.User.Username, &c.User.DisplayName, &c.User.AvatarURL, &at)
		if at != nil {
			c.At = at.UnixMicro()
		}
		return err
	}, `SELECT id, username, display_name, avatar_url, profile_changed_at FROM users WHERE id = ANY ($1::text[]::uuid[])`, ids)
	if err != nil {
		return nil, fmt.Errorf("read profiles: %w", err)
	}
	return found, nil
}

// Apart reads the pairs that are separated by a block, in either direction. Others are left out.
func (s *Service) Apart(ctx context.Context, pairs []event.PresencePair) (map[event.PresencePair]bool, error) {
	viewers, targets := make([]string, len(pairs)), make([]string, len(pairs))
	for i, p := range pairs {
		viewers[i], targets[i] = p.Viewer, p.Target
	}
	found, err := postgres.Collect(ctx, s.store.db.SQL, func(r postgres.Row, p *event.PresencePair) error { return r.Scan(&p.Viewer, &p.Target) },
		`SELECT p.viewer, p.target FROM unnest($1::text[]::uuid[], $2::text[]::uuid[]) AS p (viewer, target)
		WHERE (SELECT true FROM blocks b WHERE b.user_id = p.target AND b.blocked_id = p.viewer) IS NOT NULL
		OR (SELECT true FROM blocks b WHERE b.user_id = p.viewer AND b.blocked_id = p.target) IS NOT NULL`, viewers, targets)
	if err != nil {
		return nil, fmt.Errorf("read blocks: %w", err)
	}
	out := make(map[event.PresencePair]bool, len(found))
	for _, p := range found {
		out[p] = true
	}
	return out, nil
}

// Report reads a user's profile and reports it as changed. Callers use it after a change by other means than Update. A report that
// fails is found by Changed.
func (s *Service) Report(ctx context.Context, userID string) {
	s.Mark(ctx, userID)
	found, err := s.Profiles(ctx, []string{userID})
	if err == nil && len(found) == 1 && found[0].At != 0 && s.publisher != nil {
		s.publisher.ProfileChanged(ctx, found[0])
	}
}
