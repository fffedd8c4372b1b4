package push

import (
	"context"
	"database/sql"
	"fmt"
	"strings"

	"github.com/parley-chat/parley/internal/postgres"
)

// Contents are the settings and counts that pushes depend on besides their message.
type Contents struct {
	// Hidden is set if no push shows text, whatever the user's preferences are.
	Hidden bool
	// Unread returns a user's unread counts over all conversations, with pending reads taken into account.
	Unread func(ctx context.Context, userID string) (Unread, error)
}

// content builds pushes from the present state of their messages.
type content struct {
	db *sql.DB
	Contents
}

func newContent(db *sql.DB, c Contents) *content { return &content{db, c} }

// bodyLen is the largest length of a push's text, in code points.
const bodyLen = 200

// shown is a message with everything that the push to one user shows of it.
type shown struct {
	userID                     string
	push                       Push
	direct, preview, mentioned bool
	sender                     string
	group, files               *string
}

// shownColumns are read by shown.scan. They need these tables: messages m, users a (the sender), conversations c, x with the user_id of the
// receiver, and push_preferences f of the receiver.
const shownColumns = `x.user_id, m.id, m.conversation_id, m.seq, m.content, a.display_name, c.type = 'direct', c.name, coalesce(f.preview, true),
	coalesce(x.user_id = ANY (m.mention_ids), false) OR coalesce(m.mention_all, false),
	(SELECT string_agg(e ->> 'filename', ', ') FROM jsonb_array_elements(m.attachments::jsonb) e)`

func (s *shown) scan(r postgres.Row, more ...any) error {
	p := &s.push
	return r.Scan(append([]any{&s.userID, &p.MessageID, &p.ConversationID, &p.Seq, &p.Body, &s.sender, &s.direct, &s.group, &s.preview, &s.mentioned, &s.files}, more...)...)
}

// finish completes s.push from the other fields of s and the unread counts.
func (c *content) finish(ctx context.Context, s *shown, count int64) error {
	p := &s.push
	p.V, p.Type, p.Count, p.Title = 1, "message", count, s.sender
	if s.group != nil && !s.direct {
		p.Title = s.sender + " · " + *s.group
	}
	if p.Body == "" && s.files != nil {
		p.Body = *s.files
	}
	if p.Body = cut(p.Body, bodyLen); c.Hidden || !s.preview {
		p.Body = ""
	}
	var err error
	p.Unread, err = c.Unread(ctx, s.userID)
	return err
}

// cut returns the first n code points of a text.
func cut(s string, n int) string {
	for i := range s {
		if n == 0 {
			return strings.Clone(s[:i])
		}
		n--
	}
	return s
}

// fill sets the payloads for push.requested. A push whose message was deleted meanwhile keeps none.
func (c *content) fill(ctx context.Context, conversationID string, pushes []pushed) error {
	users, messages := make([]string, len(pushes)), make([]string, len(pushes))
	at := make(map[string]*pushed, len(pushes))
	for i := range pushes {
		users[i], messages[i] = pushes[i].userID, pushes[i].messageID
		at[pushes[i].userID] = &pushes[i]
	}
	list, err := postgres.Collect(ctx, c.db, func(r postgres.Row, s *shown) error { return s.scan(r) }, `SELECT `+shownColumns+`
		FROM unnest($2::text[]::uuid[], $3::text[]::uuid[]) AS x (user_id, message_id)
		JOIN messages m ON m.id = x.message_id AND m.conversation_id = $1 AND m.deleted_at IS NULL
		JOIN users a ON a.id = m.sender_id
		JOIN conversations c ON c.id = m.conversation_id
		LEFT JOIN push_preferences f ON f.user_id = x.user_id`, conversationID, users, messages)
	if err != nil {
		return fmt.Errorf("read messages for pushes: %w", err)
	}
	for i := range list {
		p := at[list[i].userID]
		if err := c.finish(ctx, &list[i], p.count); err != nil {
			return err
		}
		if p.payload, err = encode(list[i].push); err != nil {
			return err
		}
	}
	return nil
}
