package message

import (
	"context"
	"database/sql"

	"github.com/parley-chat/parley/internal/event"
)

// replay builds the events of one conversation again, in one snapshot.
type replay struct {
	ctx            context.Context
	tx             *sql.Tx
	feed           *Feed
	conversationID string

	changes      []changeRow
	sent         []event.Message           // those after the revision, by seq
	changed      map[string]*event.Message // those that changes speak of, by id
	conversation *event.Conversation
}

func (r *replay) run(revision int64, limit int) (event.Missed, error) {
	if err := r.load(revision, limit); err != nil {
		return event.Missed{}, err
	}
	gone, err := r.gone(revision)
	if err != nil {
		return event.Missed{}, err
	}
	missed := event.Missed{Gone: gone}
	for len(missed.Events) < limit {
		revision++
		var e *event.Envelope
		switch {
		case len(r.changes) > 0 && r.changes[0].revision == revision:
			if e, err = r.change(r.changes[0]); err != nil {
				return event.Missed{}, err
			}
			r.changes = r.changes[1:]
		case len(r.sent) > 0:
			m := r.sent[0]
			m.Revision = revision
			e = event.MessageNew(&m)
			r.sent = r.sent[1:]
		default:
			return missed, nil
		}
		missed.Events = append(missed.Events, e)
	}
	return missed, nil
}

func (r *replay) load(revision int64, limit int) error {
	var err error
	if r.changes, err = changesAfter(r.ctx, r.tx, r.conversationID, revision, limit); err != nil {
		return err
	}
	seq, err := seqAt(r.ctx, r.tx, r.conversationID, revision)
	if err != nil {
		return err
	}
	if r.sent, err = list(r.ctx, r.tx, afterSeqSQL, r.conversationID, limit, seq); err != nil {
		return err
	}
	var ids []string
	for _, c := range r.changes {
		if c.messageID != nil {
			ids = append(ids, *c.messageID)
		}
	}
	found, err := list(r.ctx, r.tx, `SELECT `+columns+` FROM messages m WHERE m.id = ANY ($1::text[]::uuid[])`, ids)
	if err != nil {
		return err
	}
	r.changed = make(map[string]*event.Message, len(found))
	for i := range found {
		r.changed[found[i].ID] = &found[i]
	}
	return nil
}

// gone reads who was removed after the revision and is no member now.
func (r *replay) gone(revision int64) ([]*event.Envelope, error) {
	rows, err := r.tx.QueryContext(r.ctx, `SELECT DISTINCT ON (u.id) u.id, x.revision, x.created_at, c.member_count
		FROM conversation_changes x CROSS JOIN unnest(x.user_ids) AS u (id) JOIN conversations c ON c.id = x.conversation_id
		WHERE x.conversation_id = $1 AND x.revision > $2 AND x.kind = 'member_removed'
			AND NOT EXISTS (SELECT FROM conversation_members m WHERE m.conversation_id = $1 AND m.user_id = u.id)
		ORDER BY u.id, x.revision DESC`, r.conversationID, revision)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var out []*event.Envelope
	for rows.Next() {
		var user string
		var c changeRow
		var count int
		if err := rows.Scan(&user, &c.revision, &c.at, &count); err != nil {
			return nil, err
		}
		out = append(out, event.MemberWasRemoved(r.conversationID, user, count, c.revision, c.at.UnixMicro()))
	}
	return out, rows.Err()
}

func (r *replay) change(c changeRow) (*event.Envelope, error) {
	at := c.at.UnixMicro()
	switch c.kind {
	case kindUpdated, kindDeleted:
		m := *r.changed[*c.messageID]
		m.Revision = c.revision
		e := event.MessageUpdated
		if c.kind == kindDeleted {
			e = event.MessageDeleted
		}
		return e(&m), nil
	case "member_removed":
		count, err := r.memberCount()
		if err != nil {
			return nil, err
		}
		return event.MemberWasRemoved(r.conversationID, c.userIDs[0], count, c.revision, at), nil
	}
	conv, err := r.object(c.revision)
	if err != nil {
		return nil, err
	}
	if c.kind == "updated" {
		return event.ConversationUpdated(conv, at), nil
	}
	members, err := r.feed.conversations.MembersByID(r.ctx, r.conversationID, c.userIDs)
	if err != nil {
		return nil, err
	}
	if c.kind == "created" {
		ids := make([]string, len(members))
		for i, m := range members {
			ids[i] = m.User.ID
		}
		return event.ConversationCreated(conv, ids, at), nil
	}
	return event.MemberAdded(conv, members, at), nil
}

func (r *replay) memberCount() (int, error) {
	c, err := r.object(0)
	if err != nil {
		return 0, err
	}
	return c.MemberCount, nil
}

// object is the conversation as it is now, under the revision of the event that tells of it.
func (r *replay) object(revision int64) (*event.Conversation, error) {
	if r.conversation == nil {
		found, err := r.feed.conversations.Objects(r.ctx, []string{r.conversationID})
		if err != nil {
			return nil, err
		}
		if r.conversation = found[r.conversationID]; r.conversation == nil {
			return nil, ErrConversationNotFound
		}
	}
	c := *r.conversation
	c.Revision = revision
	return &c, nil
}
