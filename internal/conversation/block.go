package conversation

import (
	"context"
	"fmt"

	"github.com/parley-chat/parley/internal/chat"
	"github.com/parley-chat/parley/internal/postgres"
)

// maskBlocked hides the current name and picture of the other in direct conversations where one blocks the other: the profile's
// own route says that there is no such user. What stays is the username, which the viewer knows. In groups all members are
// shown alike, since frames to a group's members hold nothing about one viewer.
func (s *Service) maskBlocked(ctx context.Context, q postgres.Querier, viewerID string, list []chat.Conversation) error {
	var direct []chat.Member
	for _, c := range list {
		if c.Type == TypeDirect {
			direct = append(direct, c.Members...)
		}
	}
	hidden, err := s.store.hiddenFrom(ctx, q, viewerID, direct)
	if err != nil || len(hidden) == 0 {
		return err
	}
	for _, c := range list {
		if c.Type == TypeDirect {
			mask(c.Members, hidden)
		}
	}
	return nil
}

// mask reduces hidden members to what a viewer across a block may see.
func mask(members []chat.Member, hidden map[string]bool) {
	for i := range members {
		if u := &members[i].User; hidden[u.ID] {
			u.DisplayName, u.AvatarURL = u.Username, nil
		}
	}
}

// hiddenFrom returns the members that a block, in either direction, hides from the viewer. For no members it makes no query.
func (s *Store) hiddenFrom(ctx context.Context, q postgres.Querier, viewerID string, members []chat.Member) (map[string]bool, error) {
	var others []string
	for _, m := range members {
		if m.User.ID != viewerID {
			others = append(others, m.User.ID)
		}
	}
	if len(others) == 0 {
		return map[string]bool{}, nil
	}
	ids, err := postgres.Column[string](ctx, q, `SELECT o.id FROM unnest($2::text[]::uuid[]) AS o (id) WHERE
			(SELECT true FROM blocks b WHERE b.user_id = $1::uuid AND b.blocked_id = o.id) IS NOT NULL OR
			(SELECT true FROM blocks b WHERE b.user_id = o.id AND b.blocked_id = $1::uuid) IS NOT NULL`, viewerID, others)
	if err != nil {
		return nil, fmt.Errorf("look up blocks: %w", err)
	}
	out := make(map[string]bool, len(ids))
	for _, id := range ids {
		out[id] = true
	}
	return out, nil
}
