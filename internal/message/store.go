package message

import (
	"context"
	"database/sql"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"gorm.io/gorm"

	"github.com/parley-chat/parley/internal/audit"
	"github.com/parley-chat/parley/internal/chat"
	"github.com/parley-chat/parley/internal/cursor"
	"github.com/parley-chat/parley/internal/event"
	"github.com/parley-chat/parley/internal/journal"
	"github.com/parley-chat/parley/internal/postgres"
)

// Store holds the SQL of messages.
type Store struct {
	db *postgres.DB
}

// NewStore makes a store.
func NewStore(db *postgres.DB) *Store { return &Store{db: db} }

//go:embed send.sql
var sendSource string

// sendSQL stores batches of plain messages, sendExtrasSQL those in which a message has more. They are one source: see send.sql.
var sendSQL, sendExtrasSQL = variants(sendSource)

// variants returns two variants of a statement: without the lines that begin with "--+", and with them.
func variants(source string) (plain, whole string) {
	const mark = "--+"
	isExtra := func(line string) bool { return strings.HasPrefix(line, mark) }
	return strings.Join(slices.DeleteFunc(strings.SplitAfter(source, "\n"), isExtra), ""), strings.ReplaceAll(source, mark, "")
}

// The outcomes of one message of a batch, as send.sql names them.
const (
	outcomeStored       = "stored"
	outcomeNotMember    = "not_member"
	outcomeBlocked      = "blocked"
	outcomeDuplicate    = "duplicate"
	outcomeBadReply     = "bad_reply"
	outcomeNoPosting    = "no_posting"
	outcomeBadMention   = "bad_mention"
	outcomeNoMentionAll = "no_mention_all"
	// outcomeBadAttachment may also mean that a send repeats one that was committed while the statement ran.
	outcomeBadAttachment = "bad_attachment"
)

// clientMessageIDKey is the unique index that makes a repeated send the same message.
const clientMessageIDKey = "messages_client_message_id_key"

type sendRow struct {
	outcome       string
	seq, revision int64
	createdAt     time.Time
	behind        bool // whether the sender had messages of others unread, which the send marked as read
	attachments   []chat.Attachment
}

// send stores a batch in one statement and returns a row for each send, in the order of the batch. If it returns an error from Postgres, nothing
// was stored.
func (s *Store) send(ctx context.Context, batch []*pending) ([]sendRow, error) {
	n := len(batch)
	ord, conversations, senders, ids := make([]int32, n), make([]string, n), make([]string, n), make([]string, n)
	contents, clientIDs, replies, hashes := make([]string, n), make([]*string, n), make([]*string, n), make([][]byte, n)
	for i, p := range batch {
		ord[i], conversations[i], senders[i], ids[i] = int32(i), p.conversationID, p.senderID, p.id //nolint:gosec // batches are small
		contents[i], clientIDs[i], replies[i] = p.draft.Content, p.draft.ClientMessageID, p.draft.ReplyToID
		if p.draft.ClientMessageID != nil {
			hashes[i] = p.draft.hash()
		}
	}
	query, args := sendSQL, []any{ord, conversations, senders, ids, contents, clientIDs, replies, hashes, batch[0].at}
	more := slices.ContainsFunc(batch, func(p *pending) bool { return !p.draft.plain() })
	if more {
		params, err := extras(batch)
		if err != nil {
			return nil, err
		}
		query, args = sendExtrasSQL, append(args, params...)
	}
	out := make([]sendRow, n)
	err := postgres.Each(ctx, s.db.SQL, func(row postgres.Row) error {
		var i int
		var r sendRow
		dest := []any{&i, &r.outcome, &r.seq, &r.revision, &r.createdAt, &r.behind}
		var files []byte
		if more {
			dest = append(dest, &files)
		}
		err := row.Scan(dest...)
		if err == nil && files != nil {
			err = json.Unmarshal(files, &r.attachments)
		}
		out[i] = r
		return err
	}, query, args...)
	if err != nil {
		return nil, fmt.Errorf("store messages: %w", err)
	}
	return out, nil
}

// extras returns the parameters of sendExtrasSQL that sendSQL does not have.
func extras(batch []*pending) ([]any, error) {
	n := len(batch)
	kinds, metadata, mentioned, all := make([]*string, n), make([]*string, n), make([]*string, n), make([]bool, n)
	keys, rules, files := make([]*string, n), make([]string, n), make([]*string, n)
	entries := make([]*string, n)
	for i, p := range batch {
		metadata[i] = textOf(p.draft.Metadata)
		if m := p.draft.Mentions; m != nil {
			list := postgres.IDArray(m.UserIDs)
			mentioned[i], all[i] = &list, m.All
		}
		if len(p.draft.Attachments) > 0 {
			list := postgres.IDArray(p.draft.Attachments)
			files[i] = &list
		}
		rules[i] = memberRules
		if k := p.draft.keyed; k != nil {
			keys[i], rules[i] = &k.keyID, k.rules
			entry := k.entry
			entry.Entry.TargetType, entry.Entry.TargetID = audit.TargetMessage, p.id
			text, err := entry.JSON()
			if err != nil {
				return nil, err
			}
			entries[i] = &text
			if k.kind != "" {
				kinds[i] = &k.kind
			}
		}
	}
	return []any{kinds, metadata, mentioned, all, keys, rules, files, entries}, nil
}

// byClientID reads the message with a sender's clientMessageId, and the hash of its original.
func (s *Store) byClientID(ctx context.Context, conversationID, senderID, clientMessageID string) (m chat.Message, hash []byte, err error) {
	row := s.db.SQL.QueryRowContext(ctx, `SELECT `+chat.MessageColumns+`, m.content_hash FROM messages m
		WHERE m.conversation_id = $1 AND m.sender_id = $2 AND m.client_message_id = $3`, conversationID, senderID, clientMessageID)
	if err := chat.ScanMessage(row, &m, &hash); err != nil {
		return chat.Message{}, nil, fmt.Errorf("read a repeated message: %w", err)
	}
	return m, hash, nil
}

func scanMessage(r postgres.Row, m *chat.Message) error { return chat.ScanMessage(r, m) }

// ByIDs reads messages, by id. Those that don't exist are left out.
func (s *Store) ByIDs(ctx context.Context, q postgres.Querier, ids []string) (map[string]*chat.Message, error) {
	found, err := postgres.Collect(ctx, q, scanMessage, `SELECT `+chat.MessageColumns+` FROM messages m WHERE m.id = ANY ($1::text[]::uuid[])`, ids)
	if err != nil {
		return nil, fmt.Errorf("read messages: %w", err)
	}
	out := make(map[string]*chat.Message, len(found))
	for i := range found {
		out[found[i].ID] = &found[i]
	}
	return out, nil
}

// isMember reports whether the user is a member of the conversation.
func (s *Store) isMember(ctx context.Context, conversationID, userID string) (bool, error) {
	var yes bool
	err := s.db.SQL.QueryRowContext(ctx, `SELECT EXISTS (SELECT FROM conversation_members WHERE conversation_id = $1 AND user_id = $2)`,
		conversationID, userID).Scan(&yes)
	if err != nil {
		return false, fmt.Errorf("look up a member: %w", err)
	}
	return yes, nil
}

// The row comparison can seek in messages_history_idx, so a page costs the same at any depth.
const (
	historyFirstSQL = `SELECT ` + chat.MessageColumns + ` FROM messages m WHERE m.conversation_id = $1
		ORDER BY m.created_at DESC, m.id DESC LIMIT $2`
	historySQL = `SELECT ` + chat.MessageColumns + ` FROM messages m WHERE m.conversation_id = $1 AND (m.created_at, m.id) < ($3::timestamptz, $4::uuid)
		ORDER BY m.created_at DESC, m.id DESC LIMIT $2`
	afterSeqSQL = `SELECT ` + chat.MessageColumns + ` FROM messages m WHERE m.conversation_id = $1 AND m.seq > $3
		ORDER BY m.seq LIMIT $2`
)

// history reads the newest messages before a position, newest first; with nil, the newest of all.
func (s *Store) history(ctx context.Context, conversationID string, before *cursor.Position, limit int) ([]chat.Message, error) {
	query, args := historyFirstSQL, []any{conversationID, limit}
	if before != nil {
		query, args = historySQL, append(args, before.Time, before.ID)
	}
	out, err := postgres.Collect(ctx, s.db.SQL, scanMessage, query, args...)
	if err != nil {
		return nil, fmt.Errorf("read history: %w", err)
	}
	return out, nil
}

// afterSeq reads the oldest messages after a seq, oldest first.
func (s *Store) afterSeq(ctx context.Context, conversationID string, seq int64, limit int) ([]chat.Message, error) {
	out, err := postgres.Collect(ctx, s.db.SQL, scanMessage, afterSeqSQL, conversationID, limit, seq)
	if err != nil {
		return nil, fmt.Errorf("read messages after a seq: %w", err)
	}
	return out, nil
}

// canType reports whether the user is a member, and whether a block or the conversation's posting forbids them to write.
func (s *Store) canType(ctx context.Context, conversationID, userID string) (member, blocked, readOnly bool, err error) {
	err = s.db.SQL.QueryRowContext(ctx, `SELECT true, c.type = 'direct' AND EXISTS (
			SELECT FROM conversation_members o
			JOIN blocks b ON (b.user_id = o.user_id AND b.blocked_id = m.user_id) OR (b.user_id = m.user_id AND b.blocked_id = o.user_id)
			WHERE o.conversation_id = c.id AND o.user_id <> m.user_id),
			coalesce(c.posting = 'admins', false) AND m.role = 'member'
		FROM conversation_members m JOIN conversations c ON c.id = m.conversation_id
		WHERE m.conversation_id = $1 AND m.user_id = $2`, conversationID, userID).Scan(&member, &blocked, &readOnly)
	if errors.Is(err, sql.ErrNoRows) {
		return false, false, false, nil
	}
	if err != nil {
		return false, false, false, fmt.Errorf("look up a member: %w", err)
	}
	return member, blocked, readOnly, nil
}

// target is a message to be changed, as all members see it, with the facts that decide whether the user may change it.
type target struct {
	chat.Message
	ConvType, Role    string
	MemberCount       int
	Blocked, ReadOnly bool // whether the user may not write: by a block in a direct conversation, by the group's posting
	// EditRevision is the revision of the last edit, 0 for none.
	EditRevision int64

	byKey bool // changed by a server key, to which the rules for members don't apply
}

// mayWrite returns nil if the user may write in the conversation.
func (t *target) mayWrite() error {
	switch {
	case t.Blocked:
		return ErrCannotMessage
	case t.ReadOnly:
		return ErrNoPosting
	}
	return nil
}

// moderates reports whether the user is an owner or admin of a group.
func (t *target) moderates() bool { return t.ConvType == "group" && t.Role != "member" }

func (t *target) change(kind journal.Kind, by event.Actor) journal.Change {
	return journal.Change{ConversationID: t.ConversationID, Kind: kind, MessageID: t.ID, Actor: by}
}

// Pods of versions before edit_revision don't set it. If a message has edited_at but no edit_revision, its last change counts as the last edit.
const targetColumns = chat.MessageColumns + `, coalesce(m.edit_revision, CASE WHEN m.edited_at IS NOT NULL THEN m.revision END, 0), c.type, c.member_count`

const targetSQL = `SELECT ` + targetColumns + `, u.role,
		c.type = 'direct' AND EXISTS (
			SELECT FROM conversation_members o
			JOIN blocks b ON (b.user_id = o.user_id AND b.blocked_id = u.user_id) OR (b.user_id = u.user_id AND b.blocked_id = o.user_id)
			WHERE o.conversation_id = c.id AND o.user_id <> u.user_id),
		coalesce(c.posting = 'admins', false) AND u.role = 'member'
	FROM messages m JOIN conversations c ON c.id = m.conversation_id
	JOIN conversation_members u ON u.conversation_id = c.id AND u.user_id = $2
	WHERE m.id = $1`

// scan reads targetColumns, followed by further columns into more.
func (t *target) scan(r postgres.Row, more ...any) error {
	err := chat.ScanMessage(r, &t.Message, append([]any{&t.EditRevision, &t.ConvType, &t.MemberCount}, more...)...)
	if errors.Is(err, sql.ErrNoRows) {
		return ErrNotFound
	}
	if err != nil {
		return fmt.Errorf("read a message to change: %w", err)
	}
	return nil
}

// lockTarget locks the message's conversation and reads the message as it is under that lock. It returns ErrNotFound if there is
// none that the user can see.
func lockTarget(tx *gorm.DB, messageID, userID string) (target, error) {
	_, err := journal.LockOfMessageAsMember(tx, messageID, userID)
	if errors.Is(err, journal.ErrNotFound) {
		return target{}, ErrNotFound
	}
	if err != nil {
		return target{}, err
	}
	// A separate statement, because its snapshot has to be newer than the lock.
	var t target
	row := postgres.In(tx).QueryRowContext(postgres.Context(tx), targetSQL, messageID, userID)
	err = t.scan(row, &t.Role, &t.Blocked, &t.ReadOnly)
	return t, err
}
