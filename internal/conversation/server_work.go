package conversation

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"gorm.io/gorm"

	"github.com/parley-chat/parley/internal/audit"
	"github.com/parley-chat/parley/internal/event"
	"github.com/parley-chat/parley/internal/id"
	"github.com/parley-chat/parley/internal/journal"
	"github.com/parley-chat/parley/internal/postgres"
)

// asKey runs f under the lock of a group, and publishes what it changed once that is committed. Users who may become members are locked
// before.
func (s *Service) asKey(ctx context.Context, conversationID string, userIDs []string, f func(w *keyWork) error) error {
	w := s.keyWork(ctx)
	w.id = conversationID
	err := s.db.Tx(ctx, func(tx *gorm.DB) error {
		w.tx = tx
		if err := lockUsers(tx, userIDs); err != nil {
			return err
		}
		if err := w.lock(); err != nil {
			return err
		}
		return f(w)
	})
	if err != nil {
		return err
	}
	w.publish()
	return nil
}

func (s *Service) keyWork(ctx context.Context) *keyWork {
	return &keyWork{service: s, ctx: ctx, actor: event.Actor{KeyID: audit.From(ctx).KeyID}}
}

// keyWork is a transaction in which a server key changes a group.
type keyWork struct {
	service *Service
	ctx     context.Context //nolint:containedctx // of the request, for as long as the transaction
	tx      *gorm.DB
	actor   event.Actor
	id      string
	events  []*event.Event
}

func (w *keyWork) publish() {
	for _, e := range w.events {
		e.Actor = w.actor
		w.service.publisher.Publish(e.In(w.ctx))
	}
}

func (w *keyWork) record(action string, detail map[string]any) error {
	return audit.Record(w.ctx, w.tx, audit.Entry{Action: action, TargetType: audit.TargetConversation, TargetID: w.id, Detail: detail})
}

// lock locks the group.
func (w *keyWork) lock() error {
	if err := journal.Lock(w.tx, w.id); err != nil {
		if errors.Is(err, journal.ErrNotFound) {
			return ErrNotFound
		}
		return err
	}
	var typ string
	var deleted bool
	err := postgres.In(w.tx).QueryRowContext(postgres.Context(w.tx), `SELECT type, deleted_at IS NOT NULL FROM conversations WHERE id = $1`, w.id).Scan(&typ, &deleted)
	switch {
	case err != nil:
		return fmt.Errorf("read a conversation to change: %w", err)
	case deleted:
		return ErrNotFound
	case typ != TypeGroup:
		return ErrDirect
	}
	return nil
}

// create makes the group of an external id.
func (w *keyWork) create(externalID string, g *Group) error {
	w.id = id.New()
	if len(g.Members) > MaxMembers {
		return ErrTooManyMembers
	}
	set, args, err := g.columns(nil)
	if err != nil {
		return err
	}
	q, ctx := postgres.In(w.tx), postgres.Context(w.tx)
	_, err = q.ExecContext(ctx, `INSERT INTO conversations (id, type, external_id, member_count, created_at, last_message_at, updated_at)
		SELECT $1, 'group', $2, $3, t.now, t.now, t.now FROM (SELECT clock_timestamp() AS now) t`, w.id, externalID, len(g.Members))
	if err != nil {
		return fmt.Errorf("insert a conversation: %w", err)
	}
	// $2 is there for the columns' own parameters, which begin at $3.
	if _, err := q.ExecContext(ctx, `UPDATE conversations SET external_id = $2, `+set+` WHERE id = $1`, append([]any{w.id, externalID}, args...)...); err != nil {
		return fmt.Errorf("set a conversation's properties: %w", err)
	}
	ids := idsOf(g.Members)
	if err := checkGroupCount(w.tx, ids); err != nil {
		return err
	}
	if err := w.join(ids); err != nil {
		return err
	}
	if err := w.setRoles(g.Members); err != nil {
		return err
	}
	at, err := journal.NoteCreation(w.tx, journal.Change{ConversationID: w.id, UserIDs: ids, Actor: w.actor})
	if err != nil {
		return err
	}
	c, err := w.service.object(w.ctx, w.tx, w.id)
	if err != nil {
		return err
	}
	w.events = append(w.events, event.ConversationCreated(c, ids, at.Micros()))
	return w.record("conversation.create", map[string]any{"members": len(ids)})
}

// bring changes an existing group to the desired state.
func (w *keyWork) bring(g *Group) error {
	if err := w.lock(); err != nil {
		return err
	}
	differs, err := w.differs(&g.Patch)
	if err != nil {
		return err
	}
	if differs {
		if err := w.change(&g.Patch); err != nil {
			return err
		}
	}
	if g.Exact {
		wanted := idsOf(g.Members)
		others, err := postgres.Column[string](postgres.Context(w.tx), postgres.In(w.tx), `SELECT user_id FROM conversation_members WHERE conversation_id = $1 AND user_id <> ALL ($2::text[]::uuid[])`, w.id, wanted)
		if err != nil {
			return fmt.Errorf("read the other members: %w", err)
		}
		if err := w.removeMembers(others); err != nil {
			return err
		}
	}
	return w.members(g.Members)
}

// differs reports whether a patch would change something.
func (w *keyWork) differs(p *Patch) (bool, error) {
	c, err := w.service.object(w.ctx, w.tx, w.id)
	if err != nil {
		return false, err
	}
	var stored []byte
	var description, avatar, posting *string
	err = postgres.In(w.tx).QueryRowContext(postgres.Context(w.tx), `SELECT metadata, description, avatar_url, posting FROM conversations WHERE id = $1`, w.id).
		Scan(&stored, &description, &avatar, &posting)
	if err != nil {
		return false, fmt.Errorf("read a conversation to change: %w", err)
	}
	set, args, err := (&Patch{Metadata: p.Metadata}).columns(stored)
	if err != nil {
		return false, err
	}
	if set != "" {
		var same bool
		err := postgres.In(w.tx).QueryRowContext(postgres.Context(w.tx), `SELECT metadata IS NOT DISTINCT FROM $2::text::jsonb FROM conversations WHERE id = $1`, w.id, args[0]).Scan(&same)
		if err != nil || !same {
			return true, err
		}
	}
	is := func(have, want *string) bool {
		return (have == nil) == (want == nil) && (have == nil || *have == *want)
	}
	postingIs := PostingMembers
	if posting != nil {
		postingIs = *posting
	}
	return p.Name.Set && !is(c.Name, &p.Name.Value) || p.Description.Set && !is(description, textOrNull(p.Description)) ||
		p.AvatarURL.Set && !is(avatar, textOrNull(p.AvatarURL)) || p.Posting.Set && postingIs != p.Posting.Value, nil
}

func (w *keyWork) change(p *Patch) error {
	at, err := apply(w.tx, w.id, p, w.actor)
	if err != nil {
		return err
	}
	c, err := w.service.object(w.ctx, w.tx, w.id)
	if err != nil {
		return err
	}
	w.events = append(w.events, event.ConversationUpdated(c, at.Micros()))
	return w.record("conversation.update", nil)
}

// members adds users who are not members, and gives the others the desired role.
func (w *keyWork) members(list []KeyedMember) error {
	if len(list) == 0 {
		return nil
	}
	have, err := w.roles(idsOf(list))
	if err != nil {
		return err
	}
	var fresh, changed []KeyedMember
	for _, m := range list {
		switch role, is := have[m.UserID]; {
		case !is:
			fresh = append(fresh, m)
		case m.Role != "" && m.Role != role:
			changed = append(changed, m)
		}
	}
	if err := w.addMembers(fresh); err != nil {
		return err
	}
	return w.changeRoles(changed)
}

func (w *keyWork) addMembers(list []KeyedMember) error {
	if len(list) == 0 {
		return nil
	}
	ids := idsOf(list)
	if err := checkGroupCount(w.tx, ids); err != nil {
		return err
	}
	if err := w.join(ids); err != nil {
		return err
	}
	if err := w.setRoles(list); err != nil {
		return err
	}
	at, err := journal.Note(w.tx, journal.Change{ConversationID: w.id, Kind: journal.MemberAdded, UserIDs: ids, MemberDelta: len(ids), Actor: w.actor})
	switch {
	case err != nil:
		return err
	case at.MemberCount > MaxMembers:
		return ErrTooManyMembers
	}
	added, err := w.service.store.MembersByID(w.ctx, postgres.In(w.tx), w.id, ids)
	if err != nil {
		return err
	}
	c, err := w.service.object(w.ctx, w.tx, w.id)
	if err != nil {
		return err
	}
	w.events = append(w.events, event.MemberAdded(c, added, at.Micros()))
	return w.record("member.add", map[string]any{"count": len(ids), "userIds": ids[:min(len(ids), maxDetail)]})
}

// maxDetail is how many ids a detail of the audit log has at most.
const maxDetail = 100

func (w *keyWork) changeRoles(list []KeyedMember) error {
	if len(list) == 0 {
		return nil
	}
	ids := idsOf(list)
	if err := w.setRoles(list); err != nil {
		return err
	}
	at, err := journal.Note(w.tx, journal.Change{ConversationID: w.id, Kind: journal.MemberUpdated, UserIDs: ids, Actor: w.actor})
	if err != nil {
		return err
	}
	members, err := w.service.store.MembersByID(w.ctx, postgres.In(w.tx), w.id, ids)
	if err != nil {
		return err
	}
	w.events = append(w.events, event.MemberUpdated(w.id, members, at.Revision, at.Micros()))
	return w.record("member.role", map[string]any{"count": len(ids), "userIds": ids[:min(len(ids), maxDetail)]})
}

func (w *keyWork) removeMembers(userIDs []string) error {
	have, err := w.roles(userIDs)
	if err != nil || len(have) == 0 {
		return err
	}
	gone := slices.DeleteFunc(slices.Clone(userIDs), func(u string) bool { _, is := have[u]; return !is })
	_, err = postgres.In(w.tx).ExecContext(postgres.Context(w.tx),
		`DELETE FROM conversation_members WHERE conversation_id = $1 AND user_id = ANY ($2::text[]::uuid[])`, w.id, gone)
	if err != nil {
		return fmt.Errorf("delete members: %w", err)
	}
	at, err := journal.Note(w.tx, journal.Change{ConversationID: w.id, Kind: journal.MemberRemoved, UserIDs: gone, MemberDelta: -len(gone), Actor: w.actor})
	if err != nil {
		return err
	}
	w.events = append(w.events, event.MembersWereRemoved(w.id, gone, at.MemberCount, at.Revision, at.Micros()))
	return w.record("member.remove", map[string]any{"count": len(gone), "userIds": gone[:min(len(gone), maxDetail)]})
}

// roles reads the roles of the users who are members.
func (w *keyWork) roles(userIDs []string) (map[string]string, error) {
	type member struct{ id, role string }
	list, err := postgres.Collect(postgres.Context(w.tx), postgres.In(w.tx), func(r postgres.Row, m *member) error { return r.Scan(&m.id, &m.role) },
		`SELECT user_id, role FROM conversation_members WHERE conversation_id = $1 AND user_id = ANY ($2::text[]::uuid[])`, w.id, userIDs)
	if err != nil {
		return nil, fmt.Errorf("read members: %w", err)
	}
	out := make(map[string]string, len(list))
	for _, m := range list {
		out[m.id] = m.role
	}
	return out, nil
}

// join makes members of users. Nobody is said to have added them.
func (w *keyWork) join(userIDs []string) error {
	_, err := postgres.In(w.tx).ExecContext(postgres.Context(w.tx), `INSERT INTO conversation_members (conversation_id, user_id, role, joined_at, last_read_seq)
		SELECT c.id, u.id, 'member', t.now + u.n * interval '1 microsecond', c.last_seq
		FROM conversations c CROSS JOIN (SELECT clock_timestamp() AS now) t CROSS JOIN unnest($2::text[]::uuid[]) WITH ORDINALITY AS u (id, n)
		WHERE c.id = $1`, w.id, userIDs)
	if err != nil {
		return fmt.Errorf("insert members: %w", err)
	}
	return nil
}

func (w *keyWork) setRoles(list []KeyedMember) error {
	by := map[string][]string{}
	for _, m := range list {
		if m.Role != "" {
			by[m.Role] = append(by[m.Role], m.UserID)
		}
	}
	for role, ids := range by {
		_, err := postgres.In(w.tx).ExecContext(postgres.Context(w.tx), `UPDATE conversation_members SET role = $2
			WHERE conversation_id = $1 AND user_id = ANY ($3::text[]::uuid[])`, w.id, role, ids)
		if err != nil {
			return fmt.Errorf("set roles: %w", err)
		}
	}
	return nil
}

// checkGroupCount returns ErrTooManyGroups if one of the users is in too many groups.
func checkGroupCount(tx *gorm.DB, userIDs []string) error {
	var most int
	err := postgres.In(tx).QueryRowContext(postgres.Context(tx), `SELECT coalesce(max(g.n), 0) FROM (
			SELECT count(*) AS n FROM conversation_members m JOIN conversations c ON c.id = m.conversation_id AND c.type = 'group'
			WHERE m.user_id = ANY ($1::text[]::uuid[]) GROUP BY m.user_id) g`, userIDs).Scan(&most)
	switch {
	case err != nil:
		return fmt.Errorf("count groups: %w", err)
	case most >= MaxGroups:
		return ErrTooManyGroups
	}
	return nil
}

func idsOf(list []KeyedMember) []string {
	out := make([]string, len(list))
	for i, m := range list {
		out[i] = m.UserID
	}
	return out
}
