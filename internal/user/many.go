package user

import (
	"context"
	"fmt"

	"github.com/parley-chat/parley/internal/chat"
	"github.com/parley-chat/parley/internal/id"
	"github.com/parley-chat/parley/internal/invalid"
	"github.com/parley-chat/parley/internal/postgres"
)

// maxMany is how many profiles one request may ask for.
const maxMany = 100

// IDs name users whose profiles are wanted.
type IDs []string

// Check notes the faults of the ids, and drops those that are given twice.
func (ids *IDs) Check(f *invalid.Faults) {
	if len(*ids) == 0 || len(*ids) > maxMany {
		f.Add("ids", "must be 1 to %d ids of users", maxMany)
		return
	}
	seen := make(map[string]bool, len(*ids))
	unique := make(IDs, 0, len(*ids))
	for _, u := range *ids {
		if !id.Valid(u) {
			f.Add("ids", "must be ids of users")
			return
		}
		if !seen[u] {
			seen[u] = true
			unique = append(unique, u)
		}
	}
	*ids = unique
}

// Many reads profiles as the viewer may see them, in the order of the ids. Users who are unknown, deleted or hidden by a block
// are left out.
func (s *Service) Many(ctx context.Context, viewerID string, ids IDs) ([]chat.Profile, error) {
	found, err := postgres.Collect(ctx, s.store.db.SQL, chat.ScanProfile, `SELECT u.id, u.username, u.display_name, u.avatar_url
		FROM unnest($2::text[]::uuid[]) WITH ORDINALITY AS i (id, n)
		JOIN users u ON u.id = i.id AND u.deleted_at IS NULL
		WHERE (SELECT true FROM blocks b WHERE b.user_id = $1::uuid AND b.blocked_id = u.id) IS NULL
			AND (SELECT true FROM blocks b WHERE b.user_id = u.id AND b.blocked_id = $1::uuid) IS NULL
		ORDER BY i.n`, viewerID, []string(ids))
	if err != nil {
		return nil, fmt.Errorf("read profiles: %w", err)
	}
	return found, nil
}
