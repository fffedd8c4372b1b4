package conversation

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"gorm.io/gorm"

	"github.com/parley-chat/parley/internal/chat"
	"github.com/parley-chat/parley/internal/cursor"
	"github.com/parley-chat/parley/internal/event"
	"github.com/parley-chat/parley/internal/postgres"
	"github.com/parley-chat/parley/internal/timestamp"
)

// Keyed is a conversation as a server key sees it.
type Keyed struct {
	*chat.Conversation
	UpdatedAt timestamp.Time `json:"updatedAt"`
}

// KeyedMember is a user who shall be in a group, with a role; "" keeps a member's role, and is RoleMember for a new one.
type KeyedMember struct {
	UserID, Role string
}

// Group is the desired state of a group, as a server key sends it.
type Group struct {
	Patch
	Members []KeyedMember
	// Exact has all other members removed.
	Exact bool
}

const externalIDKey = "conversations_external_id_key"

// ResolveByKey finds a conversation that was not deleted, by its external id.
func (s *Service) ResolveByKey(ctx context.Context, externalID string) (conversationID string, err error) {
	err = s.db.SQL.QueryRowContext(ctx, `SELECT id FROM conversations WHERE external_id = $1 AND deleted_at IS NULL`, externalID).Scan(&conversationID)
	if errors.Is(err, sql.ErrNoRows) {
		return "", ErrNotFound
	}
	if err != nil {
		return "", fmt.Errorf("find a conversation by its external id: %w", err)
	}
	return conversationID, nil
}

// PutByKey creates the group with an external id, or changes it to the desired state, for the context's key. Repeating it changes
// nothing. Blocks don't hinder a key.
func (s *Service) PutByKey(ctx context.Context, externalID string, g *Group) (k Keyed, created bool, err error) {
	err = postgres.Retry(ctx, func(err error) bool { return postgres.IsUniqueViolation(err, externalIDKey) }, func() error {
		k, created, err = s.putOnce(ctx, externalID, g)
		return err
	})
	return k, created, err
}

func (s *Service) putOnce(ctx context.Context, externalID string, g *Group) (k Keyed, created bool, err error) {
	w := s.keyWork(ctx)
	err = s.db.Tx(ctx, func(tx *gorm.DB) error {
		w.tx = tx
		if err := lockUsers(tx, idsOf(g.Members)); err != nil {
			return err
		}
		found, err := freeTombstone(tx, externalID)
		switch {
		case err != nil:
			return err
		case found == "":
			created = true
			err = w.create(externalID, g)
		default:
			w.id = found
			err = w.bring(g)
		}
		if err != nil {
			return err
		}
		k, err = s.keyed(ctx, postgres.In(tx), w.id)
		return err
	})
	if err != nil {
		return Keyed{}, false, err
	}
	w.publish()
	return k, created, nil
}

// freeTombstone finds the group of an external id. A deleted one gives the external id up.
func freeTombstone(tx *gorm.DB, externalID string) (conversationID string, err error) {
	var deleted bool
	q, ctx := postgres.In(tx), postgres.Context(tx)
	err = q.QueryRowContext(ctx, `SELECT id, deleted_at IS NOT NULL FROM conversations WHERE external_id = $1`, externalID).Scan(&conversationID, &deleted)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return "", nil
	case err != nil:
		return "", fmt.Errorf("find a conversation by its external id: %w", err)
	case !deleted:
		return conversationID, nil
	}
	if _, err := q.ExecContext(ctx, `UPDATE conversations SET external_id = NULL WHERE id = $1`, conversationID); err != nil {
		return "", fmt.Errorf("free an external id: %w", err)
	}
	return "", nil
}

// GetByKey reads any conversation that was not deleted.
func (s *Service) GetByKey(ctx context.Context, conversationID string) (Keyed, error) {
	return s.keyed(ctx, s.db.SQL, conversationID)
}

func (s *Service) keyed(ctx context.Context, q postgres.Querier, conversationID string) (Keyed, error) {
	list, err := s.keyedList(ctx, q, []string{conversationID})
	if err != nil {
		return Keyed{}, err
	}
	if len(list) == 0 {
		return Keyed{}, ErrNotFound
	}
	return list[0], nil
}

// keyedList reads conversations in the order of their ids, without those that were deleted.
func (s *Service) keyedList(ctx context.Context, q postgres.Querier, ids []string) ([]Keyed, error) {
	objects, err := s.store.Objects(ctx, q, ids)
	if err != nil {
		return nil, err
	}
	type row struct {
		id string
		at timestamp.Time
	}
	rows, err := postgres.Collect(ctx, q, func(r postgres.Row, v *row) error { return r.Scan(&v.id, &v.at) },
		`SELECT c.id, coalesce(c.updated_at, c.created_at) FROM conversations c WHERE c.id = ANY ($1::text[]::uuid[]) AND c.deleted_at IS NULL`, ids)
	if err != nil {
		return nil, fmt.Errorf("read conversations: %w", err)
	}
	by := make(map[string]timestamp.Time, len(rows))
	for _, r := range rows {
		by[r.id] = r.at
	}
	out := make([]Keyed, 0, len(ids))
	for _, id := range ids {
		if at, ok := by[id]; ok && objects[id] != nil {
			out = append(out, Keyed{objects[id], at})
		}
	}
	return out, nil
}

// KeyedFilter selects conversations for a server key.
type KeyedFilter struct {
	// MemberID leaves out those that a user is not in.
	MemberID string
	// UpdatedAfter leaves out conversations that have not changed since, and those that changed so recently that an earlier change may
	// not have been committed yet.
	UpdatedAfter *time.Time
	After        *cursor.Position
	Limit        int
}

// holdBack is longer than a statement takes to commit.
const holdBack = postgres.StatementTimeout + 5*time.Second

// ListByKey reads a page of all conversations, those whose properties or members changed longest ago first.
func (s *Service) ListByKey(ctx context.Context, f KeyedFilter) (list []Keyed, more bool, err error) {
	const updated = `coalesce(c.updated_at, c.created_at)`
	var where postgres.Where
	where.And(`c.deleted_at IS NULL`)
	if f.MemberID != "" {
		where.And(`EXISTS (SELECT FROM conversation_members m WHERE m.conversation_id = c.id AND m.user_id = %s)`, f.MemberID)
	}
	if f.UpdatedAfter != nil {
		where.And(updated+` > %s`, *f.UpdatedAfter)
		where.And(updated+` < clock_timestamp() - make_interval(secs => %s)`, holdBack.Seconds())
	}
	if f.After != nil {
		where.And(`(`+updated+`, c.id) > (%s::timestamptz, %s::uuid)`, f.After.Time, f.After.ID)
	}
	limit := where.Arg(f.Limit + 1)
	ids, err := postgres.Column[string](ctx, s.db.SQL, `SELECT c.id FROM conversations c WHERE `+where.SQL()+` ORDER BY `+updated+`, c.id LIMIT `+limit, where.Args()...)
	if err != nil {
		return nil, false, fmt.Errorf("list conversations: %w", err)
	}
	if more = len(ids) > f.Limit; more {
		ids = ids[:f.Limit]
	}
	list, err = s.keyedList(ctx, s.db.SQL, ids)
	return list, more, err
}

// UpdateByKey changes a group, in the name of the context's key.
func (s *Service) UpdateByKey(ctx context.Context, conversationID string, p *Patch) (k Keyed, err error) {
	err = s.asKey(ctx, conversationID, nil, func(w *keyWork) error {
		if err := w.change(p); err != nil {
			return err
		}
		k, err = s.keyed(ctx, postgres.In(w.tx), conversationID)
		return err
	})
	return k, err
}

// DeleteByKey deletes a group, in the name of the context's key.
func (s *Service) DeleteByKey(ctx context.Context, conversationID string) error {
	return s.asKey(ctx, conversationID, nil, func(w *keyWork) error {
		at, err := remove(w.tx, conversationID, w.actor)
		if err != nil {
			return err
		}
		w.events = append(w.events, event.ConversationDeleted(conversationID, at.Revision, at.Micros()))
		return w.record("conversation.delete", nil)
	})
}

// AddByKey makes members of users, or gives members another role, in one revision each.
func (s *Service) AddByKey(ctx context.Context, conversationID string, members []KeyedMember) (k Keyed, err error) {
	err = s.asKey(ctx, conversationID, idsOf(members), func(w *keyWork) error {
		if err := w.members(members); err != nil {
			return err
		}
		k, err = s.keyed(ctx, postgres.In(w.tx), conversationID)
		return err
	})
	return k, err
}

// RemoveByKey removes the users who are members, in one revision. The group may end up without members.
func (s *Service) RemoveByKey(ctx context.Context, conversationID string, userIDs []string) (k Keyed, err error) {
	err = s.asKey(ctx, conversationID, nil, func(w *keyWork) error {
		if err := w.removeMembers(userIDs); err != nil {
			return err
		}
		k, err = s.keyed(ctx, postgres.In(w.tx), conversationID)
		return err
	})
	return k, err
}
