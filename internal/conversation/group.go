package conversation

import (
	"context"
	"errors"
	"slices"

	"gorm.io/gorm"

	"github.com/parley-chat/parley/internal/chat"
	"github.com/parley-chat/parley/internal/event"
	"github.com/parley-chat/parley/internal/journal"
)

// group runs f under the lock of a group that the actor is a member of.
func (s *Service) group(ctx context.Context, conversationID, actorID string, f func(tx *gorm.DB, actor *membership) error) error {
	return s.db.Tx(ctx, func(tx *gorm.DB) error {
		// A stranger takes no lock.
		actor, err := membershipOf(tx, conversationID, actorID)
		if err != nil {
			return err
		}
		if actor == nil {
			return ErrNotFound
		}
		if actor.Type != TypeGroup {
			return ErrDirect
		}
		if err := journal.Lock(tx, conversationID); err != nil {
			return err
		}
		if actor, err = membershipOf(tx, conversationID, actorID); err != nil {
			return err
		}
		if actor == nil { // removed while the lock was waited for
			return ErrNotFound
		}
		return f(tx, actor)
	})
}

// Rename gives a group a new name.
func (s *Service) Rename(ctx context.Context, conversationID, actorID string, r *Renaming) (*chat.Conversation, error) {
	var at journal.Stamp
	err := s.group(ctx, conversationID, actorID, func(tx *gorm.DB, actor *membership) error {
		if actor.Role == RoleMember {
			return ErrForbidden
		}
		if err := setName(tx, conversationID, r.Name); err != nil {
			return err
		}
		var err error
		at, err = journal.Note(tx, journal.Change{ConversationID: conversationID, Kind: journal.Updated, Actor: event.Actor{UserID: actorID}})
		return err
	})
	if err != nil {
		return nil, err
	}
	if err := s.publishUpdate(ctx, conversationID, at); err != nil {
		return nil, err
	}
	return s.Get(ctx, conversationID, actorID)
}

func (s *Service) publishUpdate(ctx context.Context, conversationID string, at journal.Stamp) error {
	return s.publishObject(ctx, conversationID, at, func(o *chat.Conversation) *event.Event {
		return event.ConversationUpdated(o, at.Micros())
	})
}

// Add makes members of users, and answers those who came: who is a member already stays as they are.
func (s *Service) Add(ctx context.Context, conversationID, actorID string, a *Addition) ([]chat.Member, error) {
	var at journal.Stamp
	var came []string
	err := s.group(ctx, conversationID, actorID, func(tx *gorm.DB, actor *membership) error {
		if actor.Role == RoleMember {
			return ErrForbidden
		}
		others := slices.DeleteFunc(slices.Clone(a.UserIDs), func(u string) bool { return u == actorID })
		n, err := reachable(tx, actorID, others)
		switch {
		case err != nil:
			return err
		case n != len(others):
			return ErrUserNotFound
		}
		if err := checkGroups(tx, others); err != nil {
			return err
		}
		if came, err = join(tx, conversationID, others, RoleMember); err != nil || len(came) == 0 {
			return err
		}
		if at, err = journal.Note(tx, journal.Change{
			ConversationID: conversationID, Kind: journal.MemberAdded, UserIDs: came, MemberDelta: len(came), Actor: event.Actor{UserID: actorID},
		}); err != nil {
			return err
		}
		if at.MemberCount > MaxMembers {
			return ErrTooManyMembers
		}
		return nil
	})
	if err != nil || len(came) == 0 {
		return []chat.Member{}, err
	}
	added, err := s.store.MembersByID(ctx, s.db.SQL, conversationID, came)
	if err != nil {
		return nil, err
	}
	return added, s.publishObject(ctx, conversationID, at, func(o *chat.Conversation) *event.Event {
		return event.MemberAdded(o, added, at.Micros())
	})
}

// SetRole promotes or demotes a member, which only owners may.
func (s *Service) SetRole(ctx context.Context, conversationID, actorID, memberID string, r *RoleChange) (chat.Member, error) {
	var at journal.Stamp
	err := s.group(ctx, conversationID, actorID, func(tx *gorm.DB, actor *membership) error {
		if actor.Role != RoleOwner {
			return ErrForbidden
		}
		m, err := membershipOf(tx, conversationID, memberID)
		switch {
		case err != nil:
			return err
		case m == nil:
			return ErrMemberNotFound
		case m.Role == r.Role:
			return nil
		}
		if err := setRole(tx, conversationID, memberID, r.Role); err != nil {
			return err
		}
		n, err := owners(tx, conversationID)
		switch {
		case err != nil:
			return err
		case n == 0:
			return ErrLastOwner
		}
		at, err = journal.Note(tx, journal.Change{ConversationID: conversationID, Kind: journal.Updated, Actor: event.Actor{UserID: actorID}})
		return err
	})
	if err != nil {
		return chat.Member{}, err
	}
	if at.Revision != 0 {
		if err := s.publishUpdate(ctx, conversationID, at); err != nil {
			return chat.Member{}, err
		}
	}
	list, err := s.store.MembersByID(ctx, s.db.SQL, conversationID, []string{memberID})
	switch {
	case err != nil:
		return chat.Member{}, err
	case len(list) == 0:
		return chat.Member{}, ErrMemberNotFound
	}
	return list[0], nil
}

// Remove takes a member out of a group: oneself, or by owners and admins.
func (s *Service) Remove(ctx context.Context, conversationID, actorID, memberID string) error {
	var removed, inherited journal.Stamp
	err := s.group(ctx, conversationID, actorID, func(tx *gorm.DB, actor *membership) error {
		m, err := membershipOf(tx, conversationID, memberID)
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
		if removed, err = journal.Note(tx, journal.Change{
			ConversationID: conversationID, Kind: journal.MemberRemoved, UserIDs: []string{memberID}, MemberDelta: -1, Actor: event.Actor{UserID: actorID},
		}); err != nil {
			return err
		}
		if m.Role == RoleOwner {
			inherited, err = inherit(tx, conversationID, actorID)
		}
		return err
	})
	if err != nil {
		return err
	}
	s.publisher.Publish(event.MemberWasRemoved(conversationID, memberID, removed.MemberCount, removed.Revision, removed.Micros()).In(ctx))
	if inherited.Revision == 0 {
		return nil
	}
	return s.publishUpdate(ctx, conversationID, inherited)
}

// mayRemove tells whether a role may take somebody else with a role out of a group.
func mayRemove(actor, member string) bool {
	return actor == RoleOwner || actor == RoleAdmin && member == RoleMember
}

// inherit gives a group that has no owner left a new one. The zero Stamp says that nothing was to be done.
func inherit(tx *gorm.DB, conversationID, actorID string) (journal.Stamp, error) {
	n, err := owners(tx, conversationID)
	if err != nil || n > 0 {
		return journal.Stamp{}, err
	}
	next, err := heir(tx, conversationID)
	if err != nil || next == "" {
		return journal.Stamp{}, err
	}
	if err := setRole(tx, conversationID, next, RoleOwner); err != nil {
		return journal.Stamp{}, err
	}
	return journal.Note(tx, journal.Change{ConversationID: conversationID, Kind: journal.Updated, Actor: event.Actor{UserID: actorID}})
}

// LeaveAll takes a user out of all groups.
func (s *Service) LeaveAll(ctx context.Context, userID string) error {
	groups, err := s.store.groupsOf(ctx, userID)
	if err != nil {
		return err
	}
	for _, g := range groups {
		if err := s.Remove(ctx, g, userID, userID); err != nil && !errors.Is(err, ErrNotFound) {
			return err
		}
	}
	return nil
}
