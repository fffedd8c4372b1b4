package conversation

import (
	"fmt"

	"gorm.io/gorm"

	"github.com/parley-chat/parley/internal/postgres"
)

// MaxGroupsByStranger is how many groups a user who is not a friend can add a user to within a day (docs/adr/0008). Without it
// one account would fill MaxGroups of any other within minutes, and nobody could add that user any more.
const MaxGroupsByStranger = 50

// checkGroups returns an error if one of the users is in too many groups, or was added to too many by the actor within a day without
// being a friend. Groups that the user has left don't count. One read of the memberships counts both.
func checkGroups(tx *gorm.DB, actorID string, userIDs []string) error {
	var most int
	var strangers bool
	err := postgres.In(tx).QueryRowContext(postgres.Context(tx), `SELECT coalesce(max(g.n), 0), coalesce(bool_or(g.added >= $3 AND NOT EXISTS (
			SELECT FROM friendships f WHERE f.user_id = g.user_id AND f.friend_id = $1::uuid AND f.status = 'accepted')), false)
		FROM (
			SELECT m.user_id, count(*) AS n,
				count(*) FILTER (WHERE m.added_by = $1::uuid AND m.joined_at > clock_timestamp() - interval '1 day') AS added
			FROM conversation_members m JOIN conversations c ON c.id = m.conversation_id AND c.type = 'group'
			WHERE m.user_id = ANY ($2::text[]::uuid[]) GROUP BY m.user_id
		) g`, actorID, userIDs, MaxGroupsByStranger).Scan(&most, &strangers)
	switch {
	case err != nil:
		return fmt.Errorf("count groups: %w", err)
	case most >= MaxGroups:
		return ErrTooManyGroups
	case strangers:
		return ErrTooManyAdditions
	}
	return nil
}
