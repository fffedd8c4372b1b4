package conversation

import (
	"context"
	_ "embed"
	"fmt"
	"time"

	"gorm.io/gorm"

	"github.com/parley-chat/parley/internal/chat"
	"github.com/parley-chat/parley/internal/event"
	"github.com/parley-chat/parley/internal/journal"
	"github.com/parley-chat/parley/internal/postgres"
	"github.com/parley-chat/parley/internal/timestamp"
)

//go:embed leave_all.sql
var leaveAllSQL string

// departure is a group that a user left, and the member who became its owner as a result, nil for none.
type departure struct {
	conversationID string
	heir           *chat.Member
}

// LeaveAll removes a user from all groups, in the caller's transaction, which has locked the user's row with FOR NO KEY
// UPDATE or stronger: nobody can add the user to another group any more. It returns the function that publishes the changes, to be called after
// the commit. The number of its statements does not depend on the number of groups.
func (s *Service) LeaveAll(tx *gorm.DB, userID string) (publish func(ctx context.Context), err error) {
	if err := lockMemberships(tx, userID); err != nil {
		return nil, err
	}
	left, err := postgres.Collect(postgres.Context(tx), postgres.In(tx), scanDeparture, leaveAllSQL, userID)
	if err != nil {
		return nil, fmt.Errorf("leave all groups: %w", err)
	}
	actor := event.Actor{UserID: userID}
	var changes []journal.Change
	for _, d := range left {
		changes = append(changes, journal.Change{ConversationID: d.conversationID, Kind: journal.MemberRemoved, UserIDs: []string{userID}, MemberDelta: -1, Actor: actor})
		if d.heir != nil {
			changes = append(changes, journal.Change{ConversationID: d.conversationID, Kind: journal.MemberUpdated, UserIDs: []string{d.heir.User.ID}, Actor: actor})
		}
	}
	stamps, err := journal.NoteAll(tx, changes)
	if err != nil {
		return nil, err
	}
	events := make([]*event.Event, 0, len(stamps))
	for _, d := range left {
		at := stamps[len(events)]
		events = append(events, event.MemberWasRemoved(d.conversationID, userID, at.MemberCount, at.Revision, at.Micros()))
		if d.heir != nil {
			at = stamps[len(events)]
			events = append(events, event.MemberUpdated(d.conversationID, []chat.Member{*d.heir}, at.Revision, at.Micros()))
		}
	}
	return func(ctx context.Context) {
		for _, e := range events {
			s.publisher.Publish(e.In(ctx))
		}
	}, nil
}

// lockMemberships locks a user's groups and then the memberships, in the orders in which sends and read markers lock theirs.
func lockMemberships(tx *gorm.DB, userID string) error {
	for _, q := range []string{
		`SELECT FROM conversations c WHERE c.type = 'group' AND c.id = ANY (ARRAY(SELECT m.conversation_id FROM conversation_members m WHERE m.user_id = $1::uuid))
			ORDER BY c.id FOR NO KEY UPDATE OF c`,
		`SELECT FROM conversation_members WHERE user_id = $1::uuid ORDER BY conversation_id FOR UPDATE`,
	} {
		if _, err := postgres.In(tx).ExecContext(postgres.Context(tx), q, userID); err != nil {
			return fmt.Errorf("lock a user's groups: %w", err)
		}
	}
	return nil
}

func scanDeparture(r postgres.Row, d *departure) error {
	var id, username, displayName, role *string
	var avatar *string
	var joined *time.Time
	if err := r.Scan(&d.conversationID, &id, &username, &displayName, &avatar, &role, &joined); err != nil || id == nil {
		return err
	}
	d.heir = &chat.Member{
		User: chat.Profile{ID: *id, Username: *username, DisplayName: *displayName, AvatarURL: avatar},
		Role: *role, JoinedAt: timestamp.Time{Time: joined.UTC()},
	}
	return nil
}

// lockUsers locks the rows of users against the deletion of their accounts until the transaction ends, in the order of their ids.
// It returns ErrUserNotFound if one of them does not exist or is deleted. A transaction that puts users into conversations
// calls it before it locks any conversation, which is the order in which a deletion locks.
func lockUsers(tx *gorm.DB, userIDs []string) error {
	var n int
	err := postgres.In(tx).QueryRowContext(postgres.Context(tx),
		`SELECT count(*) FROM (SELECT FROM users WHERE id = ANY ($1::text[]::uuid[]) AND deleted_at IS NULL ORDER BY id FOR SHARE) u`, userIDs).Scan(&n)
	if err != nil {
		return fmt.Errorf("lock users: %w", err)
	}
	if n != len(userIDs) {
		return ErrUserNotFound
	}
	return nil
}
