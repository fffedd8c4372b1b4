package journal

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"time"

	"github.com/parley-chat/parley/internal/chat"
	"github.com/parley-chat/parley/internal/event"
	"github.com/parley-chat/parley/internal/postgres"
)

// change is a row of conversation_changes.
type change struct {
	revision, lastSeq int64
	kind              Kind
	messageID         *string
	userIDs           []string
	actor             event.Actor
	at                time.Time
}

func scanChange(r postgres.Row, c *change) error {
	var kind Kind
	var detail *Kind
	var users string
	var actor, key *string
	if err := r.Scan(&c.revision, &c.lastSeq, &kind, &detail, &c.messageID, &users, &actor, &key, &c.at); err != nil {
		return err
	}
	c.kind, c.userIDs, c.actor = kindOf(kind, detail), postgres.ParseIDArray(users), actorOf(actor, key)
	return nil
}

func actorOf(userID, keyID *string) (a event.Actor) {
	if userID != nil {
		a.UserID = *userID
	}
	if keyID != nil {
		a.KeyID = *keyID
	}
	return a
}

const (
	changesSQL = `SELECT revision, last_seq, kind, detail, message_id, coalesce(user_ids::text, '{}'), actor_id, key_id, created_at
		FROM conversation_changes WHERE conversation_id = $1 AND revision > $2 ORDER BY revision LIMIT $3`
	sentSQL = `SELECT ` + chat.MessageColumns + `, m.key_id FROM messages m WHERE m.conversation_id = $1 AND m.seq > $2 ORDER BY m.seq LIMIT $3`
	byIDSQL = `SELECT ` + chat.MessageColumns + ` FROM messages m WHERE m.id = ANY ($1::text[]::uuid[])`
)

// sent is a message with the server key that sent it.
type sent struct {
	chat.Message
	keyID *string
}

// replay rebuilds the events of one conversation in one snapshot.
type replay struct {
	ctx            context.Context
	tx             *sql.Tx
	feed           *Feed
	conversationID string

	current      int64 // the conversation's revision
	seq          int64 // the conversation's last seq at the revision of the last rebuilt event
	changes      []change
	sent         []sent                   // the messages after that seq, in order
	changed      map[string]*chat.Message // the messages of changes, by id
	conversation *chat.Conversation
}

func (r *replay) run(revision int64, limit int) (event.Missed, error) {
	err := r.tx.QueryRowContext(r.ctx, `SELECT revision FROM conversations WHERE id = $1`, r.conversationID).Scan(&r.current)
	if errors.Is(err, sql.ErrNoRows) {
		return event.Missed{}, nil
	}
	if err != nil {
		return event.Missed{}, err
	}
	if err := r.load(revision, limit); err != nil {
		return event.Missed{}, err
	}
	gone, err := r.gone(revision)
	if err != nil {
		return event.Missed{}, err
	}
	missed := event.Missed{Gone: gone}
	for revision < r.current && len(missed.Events) < limit {
		revision++
		e, err := r.eventAt(revision)
		if err != nil {
			return event.Missed{}, err
		}
		missed.Events = append(missed.Events, e)
	}
	return missed, nil
}

func (r *replay) load(revision int64, limit int) (err error) {
	if r.changes, err = postgres.Collect(r.ctx, r.tx, scanChange, changesSQL, r.conversationID, revision, limit); err != nil {
		return err
	}
	if r.seq, err = seqAt(r.ctx, r.tx, r.conversationID, revision); err != nil {
		return err
	}
	scan := func(row postgres.Row, m *sent) error { return chat.ScanMessage(row, &m.Message, &m.keyID) }
	if r.sent, err = postgres.Collect(r.ctx, r.tx, scan, sentSQL, r.conversationID, r.seq, limit); err != nil {
		return err
	}
	var ids []string
	for _, c := range r.changes {
		if c.messageID != nil {
			ids = append(ids, *c.messageID)
		}
	}
	found, err := postgres.Collect(r.ctx, r.tx, scanMessage, byIDSQL, ids)
	if err != nil {
		return err
	}
	r.changed = make(map[string]*chat.Message, len(found))
	for i := range found {
		r.changed[found[i].ID] = &found[i]
	}
	return nil
}

// eventAt returns the event of a revision. It must be called for one revision after the other.
func (r *replay) eventAt(revision int64) (*event.Event, error) {
	if len(r.changes) > 0 && r.changes[0].revision == revision {
		c := r.changes[0]
		r.changes, r.seq = r.changes[1:], c.lastSeq
		e, err := r.change(c)
		if err != nil {
			return nil, err
		}
		e.Actor, e.Concerned = c.actor, c.userIDs
		return e, nil
	}
	r.seq++
	for len(r.sent) > 0 && r.sent[0].Seq < r.seq {
		r.sent = r.sent[1:]
	}
	if len(r.sent) == 0 || r.sent[0].Seq != r.seq { // the message no longer exists
		return event.ConversationChanged(r.conversationID, revision, 0), nil
	}
	m := r.sent[0]
	m.Revision = revision
	e := event.MessageNew(&m.Message)
	e.Actor = actorOf(&m.SenderID, m.keyID)
	return e, nil
}

// change returns the event of a change. Each kind has a case here. A change that can't be rebuilt becomes a conversation:changed, so that no
// revision is missing, and clients sync.
func (r *replay) change(c change) (*event.Event, error) {
	at := c.at.UnixMicro()
	switch c.kind {
	case Created, Updated, MemberAdded:
		return r.conversationChange(c, at)
	case MemberRemoved:
		if len(c.userIDs) == 0 {
			break
		}
		conv, err := r.object(c.revision)
		if err != nil || conv == nil {
			return event.ConversationChanged(r.conversationID, c.revision, at), err
		}
		return event.MembersWereRemoved(r.conversationID, c.userIDs, conv.MemberCount, c.revision, at), nil
	case MemberUpdated:
		members, err := r.members(c)
		return event.MemberUpdated(r.conversationID, members, c.revision, at), err
	case Deleted:
		return event.ConversationDeleted(r.conversationID, c.revision, at), nil
	case MessageUpdated, MessageAnnotated, MessageDeleted:
		m := r.message(c)
		switch {
		case m == nil: // it no longer exists
		case c.kind == MessageDeleted:
			return event.MessageDeleted(m, at), nil
		default:
			return event.MessageUpdated(m, at), nil
		}
	case MessageReacted:
		if m := r.message(c); m != nil { // a deleted message has none
			by, err := r.reactedBy(c)
			return event.MessageReacted(&event.MessageReactions{
				ConversationID: r.conversationID, MessageID: m.ID, Revision: c.revision, Reactions: orEmpty(m.Reactions), By: by,
			}, at), err
		}
	case unknown:
	}
	return event.ConversationChanged(r.conversationID, c.revision, at), nil
}

// reactedBy returns the users of a change of reactions, with their present reactions.
func (r *replay) reactedBy(c change) ([]event.ReactedBy, error) {
	return postgres.Collect(r.ctx, r.tx, func(row postgres.Row, b *event.ReactedBy) error {
		var reactions []byte
		if err := row.Scan(&b.UserID, &reactions); err != nil {
			return err
		}
		return json.Unmarshal(reactions, &b.Reactions)
	}, `SELECT u.id, coalesce((SELECT json_agg(x.reaction ORDER BY x.created_at, x.reaction) FROM message_reactions x
			WHERE x.message_id = $1 AND x.user_id = u.id), '[]')
		FROM unnest($2::text[]::uuid[]) AS u (id) ORDER BY u.id`, c.messageID, c.userIDs)
}

func orEmpty(list []chat.Reaction) []chat.Reaction {
	if list == nil {
		return []chat.Reaction{}
	}
	return list
}

// conversationChange returns the event of a change whose event has the whole conversation.
func (r *replay) conversationChange(c change, at int64) (*event.Event, error) {
	conv, err := r.object(c.revision)
	if err != nil || conv == nil {
		return event.ConversationChanged(r.conversationID, c.revision, at), err
	}
	if c.kind == Updated {
		return event.ConversationUpdated(conv, at), nil
	}
	members, err := r.members(c)
	if c.kind == Created {
		return event.ConversationCreated(conv, event.IDsOf(members), at), err
	}
	return event.MemberAdded(conv, members, at), err
}

// members returns the users of the change who are members now.
func (r *replay) members(c change) ([]chat.Member, error) {
	return r.feed.conversations.MembersByID(r.ctx, r.tx, r.conversationID, c.userIDs)
}

// message returns the present state of the change's message, with the revision of the change; nil if it no longer exists.
func (r *replay) message(c change) *chat.Message {
	if c.messageID == nil || r.changed[*c.messageID] == nil {
		return nil
	}
	m := *r.changed[*c.messageID]
	m.Revision = c.revision
	return &m
}

// object returns the present state of the conversation, with the revision of the event; nil if it no longer exists.
func (r *replay) object(revision int64) (*chat.Conversation, error) {
	if r.conversation == nil {
		found, err := r.feed.conversations.Objects(r.ctx, r.tx, []string{r.conversationID})
		if err != nil || found[r.conversationID] == nil {
			return nil, err
		}
		r.conversation = found[r.conversationID]
	}
	c := *r.conversation
	c.Revision = revision
	return &c, nil
}

// gone reads the removals after the revision of users who are not members now: the last one of each user.
func (r *replay) gone(revision int64) ([]*event.Event, error) {
	return postgres.Collect(r.ctx, r.tx, func(row postgres.Row, e **event.Event) error {
		var user string
		var revision int64
		var at time.Time
		var count int
		if err := row.Scan(&user, &revision, &at, &count); err != nil {
			return err
		}
		*e = event.MemberWasRemoved(r.conversationID, user, count, revision, at.UnixMicro())
		return nil
	}, `SELECT DISTINCT ON (u.id) u.id, x.revision, x.created_at, c.member_count
		FROM conversation_changes x CROSS JOIN unnest(x.user_ids) AS u (id) JOIN conversations c ON c.id = x.conversation_id
		WHERE x.conversation_id = $1 AND x.revision > $2 AND x.kind = 'member_removed'
			AND NOT EXISTS (SELECT FROM conversation_members m WHERE m.conversation_id = $1 AND m.user_id = u.id)
		ORDER BY u.id, x.revision DESC`, r.conversationID, revision)
}
