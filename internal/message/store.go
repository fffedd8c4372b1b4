package message

import (
	"context"
	"database/sql"
	_ "embed"
	"errors"
	"fmt"
	"time"

	"gorm.io/gorm"

	"github.com/parley-chat/parley/internal/cursor"
	"github.com/parley-chat/parley/internal/event"
	"github.com/parley-chat/parley/internal/postgres"
)

// Store holds the SQL of messages.
type Store struct {
	db *postgres.DB
}

// NewStore makes a store.
func NewStore(db *postgres.DB) *Store { return &Store{db: db} }

//go:embed send.sql
var sendSQL string

// The outcomes of one message of a batch, as send.sql names them.
const (
	outcomeStored    = "stored"
	outcomeNotMember = "not_member"
	outcomeBlocked   = "blocked"
	outcomeDuplicate = "duplicate"
	outcomeBadReply  = "bad_reply"
)

// clientMessageIDKey makes a repeated send the same send, for ever.
const clientMessageIDKey = "messages_client_message_id_key"

type sendRow struct {
	outcome       string
	seq, revision int64
	createdAt     time.Time
}

// send stores a batch in one statement and answers a row for each of them, in their order. Where it fails by an answer of
// Postgres's, nothing of the batch was stored.
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
	rows, err := s.db.SQL.QueryContext(ctx, sendSQL, ord, conversations, senders, ids, contents, clientIDs, replies, hashes, batch[0].at)
	if err != nil {
		return nil, fmt.Errorf("store messages: %w", err)
	}
	defer rows.Close()
	out := make([]sendRow, n)
	for rows.Next() {
		var i int
		var r sendRow
		if err := rows.Scan(&i, &r.outcome, &r.seq, &r.revision, &r.createdAt); err != nil {
			return nil, fmt.Errorf("store messages: %w", err)
		}
		out[i] = r
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("store messages: %w", err)
	}
	return out, nil
}

// columns are those of a message, in the order in which scan reads them. The message is m.
const columns = `m.id, m.conversation_id, m.seq, m.revision, m.sender_id, m.content, m.client_message_id, m.reply_to_id, m.created_at, m.edited_at, m.deleted_at`

type scanner interface{ Scan(dest ...any) error }

func scan(r scanner, m *event.Message, more ...any) error {
	return r.Scan(append([]any{&m.ID, &m.ConversationID, &m.Seq, &m.Revision, &m.SenderID, &m.Content,
		&m.ClientMessageID, &m.ReplyToID, &m.CreatedAt, &m.EditedAt, &m.DeletedAt}, more...)...)
}

type querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

func list(ctx context.Context, q querier, query string, args ...any) ([]event.Message, error) {
	rows, err := q.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	out := []event.Message{}
	for rows.Next() {
		var m event.Message
		if err := scan(rows, &m); err != nil {
			return nil, err
		}
		out = append(out, m)
	}
	return out, rows.Err()
}

// byClientID reads the message that a sender's clientMessageId stands for, and the hash of its original.
func (s *Store) byClientID(ctx context.Context, conversationID, senderID, clientMessageID string) (m event.Message, hash []byte, err error) {
	row := s.db.SQL.QueryRowContext(ctx, `SELECT `+columns+`, m.content_hash FROM messages m
		WHERE m.conversation_id = $1 AND m.sender_id = $2 AND m.client_message_id = $3`, conversationID, senderID, clientMessageID)
	if err := scan(row, &m, &hash); err != nil {
		return event.Message{}, nil, fmt.Errorf("read a repeated message: %w", err)
	}
	return m, hash, nil
}

// ByIDs reads messages, by id. Those that are not there are left out.
func (s *Store) ByIDs(ctx context.Context, ids []string) (map[string]*event.Message, error) {
	found, err := list(ctx, s.db.SQL, `SELECT `+columns+` FROM messages m WHERE m.id = ANY ($1::text[]::uuid[])`, ids)
	if err != nil {
		return nil, fmt.Errorf("read messages: %w", err)
	}
	out := make(map[string]*event.Message, len(found))
	for i := range found {
		out[found[i].ID] = &found[i]
	}
	return out, nil
}

// isMember tells whether the user is in the conversation.
func (s *Store) isMember(ctx context.Context, conversationID, userID string) (bool, error) {
	var yes bool
	err := s.db.SQL.QueryRowContext(ctx, `SELECT EXISTS (SELECT FROM conversation_members WHERE conversation_id = $1 AND user_id = $2)`,
		conversationID, userID).Scan(&yes)
	if err != nil {
		return false, fmt.Errorf("look up a member: %w", err)
	}
	return yes, nil
}

// The row comparison seeks in messages_history_idx: a page costs the same at any depth.
const (
	historyFirstSQL = `SELECT ` + columns + ` FROM messages m WHERE m.conversation_id = $1
		ORDER BY m.created_at DESC, m.id DESC LIMIT $2`
	historySQL = `SELECT ` + columns + ` FROM messages m WHERE m.conversation_id = $1 AND (m.created_at, m.id) < ($3::timestamptz, $4::uuid)
		ORDER BY m.created_at DESC, m.id DESC LIMIT $2`
	afterSeqSQL = `SELECT ` + columns + ` FROM messages m WHERE m.conversation_id = $1 AND m.seq > $3
		ORDER BY m.seq LIMIT $2`
)

// history reads the newest messages before a position, newest first; before everything where it is nil.
func (s *Store) history(ctx context.Context, conversationID string, before *cursor.Position, limit int) ([]event.Message, error) {
	query, args := historyFirstSQL, []any{conversationID, limit}
	if before != nil {
		query, args = historySQL, append(args, before.Time, before.ID)
	}
	out, err := list(ctx, s.db.SQL, query, args...)
	if err != nil {
		return nil, fmt.Errorf("read history: %w", err)
	}
	return out, nil
}

// afterSeq reads the oldest messages after a seq, oldest first.
func (s *Store) afterSeq(ctx context.Context, conversationID string, seq int64, limit int) ([]event.Message, error) {
	out, err := list(ctx, s.db.SQL, afterSeqSQL, conversationID, limit, seq)
	if err != nil {
		return nil, fmt.Errorf("read messages after a seq: %w", err)
	}
	return out, nil
}

// canType tells whether the user is a member, and whether a block forbids them to write.
func (s *Store) canType(ctx context.Context, conversationID, userID string) (member, blocked bool, err error) {
	err = s.db.SQL.QueryRowContext(ctx, `SELECT true, c.type = 'direct' AND EXISTS (
			SELECT FROM conversation_members o
			JOIN blocks b ON (b.user_id = o.user_id AND b.blocked_id = m.user_id) OR (b.user_id = m.user_id AND b.blocked_id = o.user_id)
			WHERE o.conversation_id = c.id AND o.user_id <> m.user_id)
		FROM conversation_members m JOIN conversations c ON c.id = m.conversation_id
		WHERE m.conversation_id = $1 AND m.user_id = $2`, conversationID, userID).Scan(&member, &blocked)
	if errors.Is(err, sql.ErrNoRows) {
		return false, false, nil
	}
	if err != nil {
		return false, false, fmt.Errorf("look up a member: %w", err)
	}
	return member, blocked, nil
}

// target is a message that someone wants to change, with what decides whether they may.
type target struct {
	ConversationID string
	SenderID       string
	ConvType       string
	Role           string
	Deleted        bool
}

// lockTarget locks the message's conversation and reads the message as it is under that lock. It returns ErrNotFound
// where there is none that the user can see.
func lockTarget(tx *gorm.DB, messageID, userID string) (target, error) {
	// Two statements: the second one's snapshot is newer than the lock.
	r := tx.Exec(`SELECT FROM conversations c JOIN messages m ON m.conversation_id = c.id
		JOIN conversation_members u ON u.conversation_id = c.id AND u.user_id = ?
		WHERE m.id = ? FOR NO KEY UPDATE OF c`, userID, messageID)
	if r.Error != nil {
		return target{}, fmt.Errorf("lock a message's conversation: %w", r.Error)
	}
	var t target
	err := tx.Raw(`SELECT m.conversation_id, m.sender_id, c.type AS conv_type, u.role, m.deleted_at IS NOT NULL AS deleted
		FROM messages m JOIN conversations c ON c.id = m.conversation_id
		JOIN conversation_members u ON u.conversation_id = c.id AND u.user_id = ?
		WHERE m.id = ?`, userID, messageID).Scan(&t).Error
	if err != nil {
		return target{}, fmt.Errorf("read a message to change: %w", err)
	}
	if t.ConversationID == "" {
		return target{}, ErrNotFound
	}
	return t, nil
}

// The kinds of conversation_changes that are a message's.
const (
	kindUpdated = "message_updated"
	kindDeleted = "message_deleted"
)

const changeSQL = `WITH c AS (
		UPDATE conversations SET revision = revision + 1, changed_at = date_trunc('second', clock_timestamp())
		WHERE id = $2::uuid RETURNING revision, last_seq
	), l AS (
		INSERT INTO conversation_changes (conversation_id, revision, last_seq, kind, message_id)
		SELECT $2::uuid, c.revision, c.last_seq, $3::text, $1::uuid FROM c
	)
	UPDATE messages m SET revision = c.revision, `

// change rewrites a message under the lock of its conversation, brings the conversation's next revision and notes it.
func change(tx *gorm.DB, kind, messageID, conversationID, content string) (event.Message, error) {
	set := `content = $4::text, edited_at = clock_timestamp()`
	if kind == kindDeleted {
		set = `content = $4::text, deleted_at = clock_timestamp()`
	}
	var m event.Message
	row := tx.Statement.ConnPool.QueryRowContext(tx.Statement.Context, changeSQL+set+` FROM c WHERE m.id = $1::uuid RETURNING `+columns,
		messageID, conversationID, kind, content)
	if err := scan(row, &m); err != nil {
		return event.Message{}, fmt.Errorf("change a message: %w", err)
	}
	return m, nil
}
