package conversation

import (
	"context"
	"slices"

	"gorm.io/gorm"

	"github.com/parley-chat/parley/internal/audit"
	"github.com/parley-chat/parley/internal/chat"
	"github.com/parley-chat/parley/internal/event"
	"github.com/parley-chat/parley/internal/journal"
	"github.com/parley-chat/parley/internal/postgres"
)

// group runs f under the lock of a group that the actor is a member of.
func (s *Service) group(ctx context.Context, conversationID, actorID string, f func(tx *gorm.DB, actor *membership) error) error {
	return s.groupAdding(ctx, conversationID, actorID, nil, f)
}

// groupAdding is group for an f that may make members of users: their rows are locked against deletion before the group is.
func (s *Service) groupAdding(
	ctx context.Context, conversationID, actorID string, userIDs []string, f func(tx *gorm.DB, actor *membership) error,
) error {
	return s.db.Tx(ctx, func(tx *gorm.DB) error {
		// A user who is not a member takes no lock.
		actor, err := membershipOf(ctx, postgres.In(tx), conversationID, actorID)
		if err != nil {
			return err
		}
		if actor == nil {
			return ErrNotFound
		}
		if actor.Type != TypeGroup {
			return ErrDirect
		}
		if len(userIDs) > 0 && actor.Role != RoleMember { // a member who may not add users learns nothing about them and locks none
			if err := lockUsers(tx, userIDs); err != nil {
				return err
			}
		}
		if err := journal.Lock(tx, conversationID); err != nil {
			return err
		}
		if actor, err = membershipOf(ctx, postgres.In(tx), conversationID, actorID); err != nil {
			return err
		}
		if actor == nil { // removed while the lock was waited for
			return ErrNotFound
		}
		return f(tx, actor)
	})
}

// Add adds users as members and returns those who were added. Existing members are left unchanged.
func (s *Service) Add(ctx context.Context, conversationID, actorID string, a *Addition) ([]chat.Member, error) {
	var at journal.Stamp
	var conv *chat.Conversation
	added := []chat.Member{}
	others := slices.DeleteFunc(slices.Clone(a.UserIDs), func(u string) bool { return u == actorID })
	err := s.groupAdding(ctx, conversationID, actorID, others, func(tx *gorm.DB, actor *membership) error {
		if actor.Role == RoleMember {
			return ErrForbidden
		}
		n, err := reachable(tx, actorID, others)
		switch {
		case err != nil:
			return err
		case n != len(others):
			return ErrUserNotFound
		}
		if err := checkGroups(tx, actorID, others); err != nil {
			return err
		}
		came, err := join(tx, conversationID, actorID, others, RoleMember)
		if err != nil {
			return err
		}
		if len(came) == 0 {
			return postgres.ErrUnchanged
		}
		at, err = journal.Note(tx, journal.Change{
			ConversationID: conversationID, Kind: journal.MemberAdded, UserIDs: came, MemberDelta: len(came), Actor: event.Actor{UserID: actorID},
		})
		if err != nil {
			return err
		}
		if at.MemberCount > MaxMembers {
			return ErrTooManyMembers
		}
		if added, err = s.store.MembersByID(ctx, postgres.In(tx), conversationID, came); err != nil {
			return err
		}
		conv, err = s.object(ctx, tx, conversationID)
		return err
	})
	if err != nil {
		return nil, err
	}
	if conv != nil {
		s.publisher.Publish(event.MemberAdded(conv, added, at.Micros()).In(ctx))
	}
	return added, nil
}

// roleChange is a member with a new role. The zero value means no change.
type roleChange struct {
	at     journal.Stamp
	member chat.Member
}

func (s *Service) publishRole(ctx context.Context, conversationID string, r roleChange) {
	if r.at.Revision != 0 {
		s.publisher.Publish(event.MemberUpdated(conversationID, []chat.Member{r.member}, r.at.Revision, r.at.Micros()).In(ctx))
	}
}

// changeRole gives a member another role and notes it, under the group's lock.
func (s *Service) changeRole(ctx context.Context, tx *gorm.DB, conversationID, actorID, memberID, role string) (r roleChange, err error) {
	if err := setRole(tx, conversationID, memberID, role); err != nil {
		return roleChange{}, err
	}
	r.at, err = journal.Note(tx, journal.Change{
		ConversationID: conversationID, Kind: journal.MemberUpdated, UserIDs: []string{memberID}, Actor: event.Actor{UserID: actorID},
	})
	if err != nil {
		return roleChange{}, err
	}
	r.member, err = s.member(ctx, tx, conversationID, memberID)
	return r, err
}

func (s *Service) member(ctx context.Context, tx *gorm.DB, conversationID, userID string) (chat.Member, error) {
	list, err := s.store.MembersByID(ctx, postgres.In(tx), conversationID, []string{userID})
	switch {
	case err != nil:
		return chat.Member{}, err
	case len(list) == 0:
		return chat.Member{}, ErrMemberNotFound
	}
	return list[0], nil
}

// SetRole promotes or demotes a member, which only owners may.
func (s *Service) SetRole(ctx context.Context, conversationID, actorID, memberID string, r *RoleChange) (chat.Member, error) {
	var changed roleChange
	err := s.group(ctx, conversationID, actorID, func(tx *gorm.DB, actor *membership) error {
		if actor.Role != RoleOwner {
			return ErrForbidden
		}
		m, err := membershipOf(ctx, postgres.In(tx), conversationID, memberID)
		switch {
		case err != nil:
			return err
		case m == nil:
			return ErrMemberNotFound
		case m.Role == r.Role:
			if changed.member, err = s.member(ctx, tx, conversationID, memberID); err != nil {
				return err
			}
			return postgres.ErrUnchanged
		}
		if changed, err = s.changeRole(ctx, tx, conversationID, actorID, memberID, r.Role); err != nil {
			return err
		}
		n, err := owners(tx, conversationID)
		switch {
		case err != nil:
			return err
		case n == 0:
			return ErrLastOwner
		}
		return audit.Record(ctx, tx, audit.Entry{
			Action: "member.role", TargetType: audit.TargetConversation, TargetID: conversationID,
			Detail: map[string]any{"userIds": []string{memberID}, "role": r.Role},
		})
	})
	if err != nil {
		return chat.Member{}, err
	}
	s.publishRole(ctx, conversationID, changed)
	return changed.member, nil
}

// Remove removes a member from a group. Members may remove themselves; owners and admins may remove others.
func (s *Service) Remove(ctx context.Context, conversationID, actorID, memberID string) error {
	var removed journal.Stamp
	var inherited roleChange
	err := s.group(ctx, conversationID, actorID, func(tx *gorm.DB, actor *membership) error {
		m, err := membershipOf(ctx, postgres.In(tx), conversationID, memberID)
		switch {
		case err != nil:
			return err
		case m == nil && actor.Role == RoleMember:
			return ErrForbidden
		case m == nil:
			return ErrMemberNotFound
		case memberID != actorID && !mayRemove(actor.Role, m.Role):
			return ErrForbidden
		}
		if err := removeMember(tx, conversationID, memberID); err != nil {
			return err
		}
		removed, err = journal.Note(tx, journal.Change{
			ConversationID: conversationID, Kind: journal.MemberRemoved, UserIDs: []string{memberID}, MemberDelta: -1, Actor: event.Actor{UserID: actorID},
		})
		if err != nil {
			return err
		}
		if m.Role == RoleOwner {
			inherited, err = s.inherit(ctx, tx, conversationID, actorID)
		}
		return err
	})
	if err != nil {
		return err
	}
	s.publisher.Publish(event.MemberWasRemoved(conversationID, memberID, removed.MemberCount, removed.Revision, removed.Micros()).In(ctx))
	s.publishRole(ctx, conversationID, inherited)
	return nil
}

// mayRemove reports whether a member may remove another, by their roles.
func mayRemove(actor, member string) bool {
	return actor == RoleOwner || actor == RoleAdmin && member == RoleMember
}

// inherit gives a group that has no owner left a new one. It returns the zero value if there was nothing to do.
func (s *Service) inherit(ctx context.Context, tx *gorm.DB, conversationID, actorID string) (roleChange, error) {
	n, err := owners(tx, conversationID)
	if err != nil || n > 0 {
		return roleChange{}, err
	}
	next, err := heir(tx, conversationID)
	if err != nil || next == "" {
		return roleChange{}, err
	}
	return s.changeRole(ctx, tx, conversationID, actorID, next, RoleOwner)
}
