package presence

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/parley-chat/parley/internal/event"
	"github.com/parley-chat/parley/internal/postgres"
)

// store holds the SQL of presence.
type store struct {
	db *sql.DB
}

// maxPeers is the largest number of users that a socket watches automatically.
const maxPeers = 10_000

// In both statements a sub-select hides the length of the first array from the planner. With a single element, as when a
// socket opens, a custom plan looks cheaper than the generic plan, and planning takes twice as long as running the statement.
// The generic plan may have been made while the tables were empty: with sub-selects of one row, instead of joins and EXISTS,
// it can only use the indexes (TestPlansAreKeptForOneSocket).
const (
	peersSQL = `SELECT v.id, p.id FROM unnest((SELECT $1::text[]::uuid[])) v (id), LATERAL (
		SELECT friend_id AS id FROM friendships WHERE user_id = v.id AND status = 'accepted'
		UNION
		SELECT o.user_id FROM conversation_members m
			JOIN conversation_members o ON o.conversation_id = m.conversation_id AND o.user_id <> m.user_id
			WHERE m.user_id = v.id AND (SELECT c.type FROM conversations c WHERE c.id = m.conversation_id) = 'direct'
		LIMIT $2) p`
	visibleSQL = `SELECT p.viewer, p.target, u.last_seen_at
		FROM unnest((SELECT $1::text[]::uuid[]), $2::text[]::uuid[]) p (viewer, target), LATERAL (
			SELECT presence_sharing, last_seen_at FROM users WHERE id = p.target AND deleted_at IS NULL LIMIT 1) u
		WHERE p.viewer = p.target
		OR (u.presence_sharing = 'everyone' OR u.presence_sharing = 'friends' AND (
			SELECT f.status FROM friendships f WHERE f.user_id = p.target AND f.friend_id = p.viewer) = 'accepted')
		AND (SELECT true FROM blocks b WHERE b.user_id = p.target AND b.blocked_id = p.viewer) IS NULL
		AND (SELECT true FROM blocks b WHERE b.user_id = p.viewer AND b.blocked_id = p.target) IS NULL`
)

// peers reads the friends and direct peers of viewers, as pairs.
func (s *store) peers(ctx context.Context, viewers []string) ([]event.PresencePair, error) {
	out, err := postgres.Collect(ctx, s.db, func(r postgres.Row, p *event.PresencePair) error { return r.Scan(&p.Viewer, &p.Target) },
		peersSQL, viewers, maxPeers)
	if err != nil {
		return nil, fmt.Errorf("read friends and peers: %w", err)
	}
	return out, nil
}

// visible reads the pairs whose viewer may see the target, with the target's last_seen_at in microseconds. Others are
// left out.
func (s *store) visible(ctx context.Context, pairs []event.PresencePair) (map[event.PresencePair]int64, error) {
	viewers, targets := make([]string, len(pairs)), make([]string, len(pairs))
	for i, p := range pairs {
		viewers[i], targets[i] = p.Viewer, p.Target
	}
	out := make(map[event.PresencePair]int64, len(pairs))
	err := postgres.Each(ctx, s.db, func(r postgres.Row) error {
		var p event.PresencePair
		var seen *time.Time
		if err := r.Scan(&p.Viewer, &p.Target, &seen); err != nil {
			return err
		}
		out[p] = 0
		if seen != nil {
			out[p] = seen.UnixMicro()
		}
		return nil
	}, visibleSQL, viewers, targets)
	if err != nil {
		return nil, fmt.Errorf("read which users a viewer may see: %w", err)
	}
	return out, nil
}

// writeLastSeen writes last_seen_at, in microseconds since 1970. It never moves back.
func (s *store) writeLastSeen(ctx context.Context, users []string, seen []int64) (rows int64, err error) {
	result, err := s.db.ExecContext(ctx, `UPDATE users u SET last_seen_at = s.at
		FROM (SELECT id, max(timestamptz 'epoch' + micros * interval '1 microsecond') AS at
			FROM unnest($1::text[]::uuid[], $2::bigint[]) x (id, micros) GROUP BY id) s
		WHERE u.id = s.id AND (u.last_seen_at IS NULL OR u.last_seen_at < s.at)`, users, seen)
	if err != nil {
		return 0, fmt.Errorf("write last_seen_at: %w", err)
	}
	return result.RowsAffected()
}
