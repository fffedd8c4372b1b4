// Package journal owns the changes of conversations. Every change takes the conversation's lock, gets its next revision,
// and is either a new message, which is its own row, or a row of conversation_changes. So the revisions of a conversation count
// 1, 2, 3 … without a gap, in the order of their commits, and the changes after a revision can be read again at any time: by pods
// that missed an event and by webhooks (Feed.After), and by clients that were offline (Feed.Changed). Feed.Recent finds the conversations that
// changed lately.
//
//	send                edit, react, rename, add, remove …
//	  │ message/send.sql     │ Lock, then Note or ChangeMessage
//	  ▼                      ▼
//	messages            conversation_changes (revision, last_seq, kind, detail)
//	  └──────────┬───────────┘
//	             ▼
//	   Recent · After (replay) · Changed
//
// A revision that has no row in conversation_changes is a new message. Each row has the conversation's last_seq at its revision. So seqs and
// revisions can be computed from each other:
//
//	revision                     1         2     3     4         5     6
//	change or message            created   msg   msg   renamed   msg   edit of seq 1
//	row of conversation_changes  yes       no    no    yes       no    yes
//	last_seq at the revision     0         1     2     2         3     3
//
// Nothing else writes a revision or conversation_changes (TestTheJournalAloneWritesRevisions), except message/send.sql and
// message/react.sql, which store a batch of messages or reactions in one statement.
package journal

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"gorm.io/gorm"

	"github.com/parley-chat/parley/internal/audit"
	"github.com/parley-chat/parley/internal/chat"
	"github.com/parley-chat/parley/internal/event"
	"github.com/parley-chat/parley/internal/postgres"
)

// ErrNotFound is returned for a conversation or message that does not exist, or that the user may not see.
var ErrNotFound = errors.New("not in the journal")

// Lock takes the lock that orders all changes of a conversation, until the transaction ends. Statements after it see every
// change before it. It returns ErrNotFound for a conversation that does not exist.
func Lock(tx *gorm.DB, conversationID string) error {
	_, err := lock(tx, `SELECT c.id FROM conversations c WHERE c.id = $1 FOR NO KEY UPDATE`, conversationID)
	return err
}

// LockAsMember is Lock for a member. For any other user it returns ErrNotFound without waiting. The member may be removed while this waits for
// the lock, so the caller has to check the membership again under the lock.
func LockAsMember(tx *gorm.DB, conversationID, userID string) error {
	_, err := lock(tx, `SELECT c.id FROM conversations c JOIN conversation_members m ON m.conversation_id = c.id AND m.user_id = $2
		WHERE c.id = $1 FOR NO KEY UPDATE OF c`, conversationID, userID)
	return err
}

// LockOfMessage is Lock for the conversation of a message, whose id it returns.
func LockOfMessage(tx *gorm.DB, messageID string) (conversationID string, err error) {
	return lock(tx, `SELECT c.id FROM messages m JOIN conversations c ON c.id = m.conversation_id WHERE m.id = $1 FOR NO KEY UPDATE OF c`, messageID)
}

// LockOfMessageAsMember is LockAsMember for the conversation of a message, whose id it returns.
func LockOfMessageAsMember(tx *gorm.DB, messageID, userID string) (conversationID string, err error) {
	return lock(tx, `SELECT c.id FROM messages m JOIN conversations c ON c.id = m.conversation_id
		JOIN conversation_members u ON u.conversation_id = c.id AND u.user_id = $2
		WHERE m.id = $1 FOR NO KEY UPDATE OF c`, messageID, userID)
}

func lock(tx *gorm.DB, query string, args ...any) (conversationID string, err error) {
	err = postgres.In(tx).QueryRowContext(postgres.Context(tx), query, args...).Scan(&conversationID)
	if errors.Is(err, sql.ErrNoRows) {
		return "", ErrNotFound
	}
	if err != nil {
		return "", fmt.Errorf("lock a conversation: %w", err)
	}
	return conversationID, nil
}

// Change is the input of Note.
type Change struct {
	ConversationID string
	Kind           Kind
	// MessageID is set for kinds of messages, UserIDs for kinds of members and for reactions.
	MessageID string
	UserIDs   []string
	// MemberDelta is the change of the number of members.
	MemberDelta int
	Actor       event.Actor
}

// Stamp is the result of a change.
type Stamp struct {
	Revision    int64
	MemberCount int
	// CommittedAt is the time by Postgres's clock, read under the lock. The delivery of events is measured from it.
	CommittedAt time.Time
}

// Micros returns CommittedAt in microseconds since 1970, as events have it.
func (s Stamp) Micros() int64 { return s.CommittedAt.UnixMicro() }

// The parameters of every change come first: $1 is the conversation, $2 kind, $3 detail, $4 message, $5 users, $6 actor, $7 key.
const (
	nextRevision = `UPDATE conversations SET ` + counted
	// updated_at is the last change of the conversation's own properties and members, so changes of messages don't set it.
	nextOwnRevision = `UPDATE conversations SET updated_at = clock_timestamp(), ` + counted
	counted         = `revision = revision + 1, member_count = member_count + $8, changed_at = date_trunc('second', clock_timestamp())
		WHERE id = $1::uuid RETURNING revision, last_seq, member_count`
	firstRevision = `SELECT revision, last_seq, member_count FROM conversations WHERE id = $1::uuid`
	noted         = `, l AS (
			INSERT INTO conversation_changes (conversation_id, revision, last_seq, kind, detail, message_id, user_ids, actor_id, key_id)
			SELECT $1::uuid, c.revision, c.last_seq, $2::text, $3::text, $4::uuid, $5::text[]::uuid[], $6::uuid, $7::uuid FROM c
			RETURNING created_at)`
	stamped = ` SELECT c.revision, c.member_count, l.created_at FROM c, l`
)

func (c *Change) params(tx *gorm.DB) []any {
	kind, detail := c.Kind.columns()
	return []any{c.ConversationID, kind, detail, orNull(c.MessageID), c.UserIDs, orNull(c.Actor.UserID), orNull(keyOf(tx, c.Actor))}
}

// keyOf returns the server key of a change: the actor, or the key that acts for the actor; "" for none.
func keyOf(tx *gorm.DB, actor event.Actor) string {
	if actor.KeyID != "" {
		return actor.KeyID
	}
	return audit.From(postgres.Context(tx)).KeyID
}

func orNull(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

// NoteCreation writes the row of a conversation's first revision. The transaction has inserted the conversation before.
func NoteCreation(tx *gorm.DB, c Change) (Stamp, error) {
	c.Kind = Created
	return note(tx, `WITH c AS (`+firstRevision+`)`+noted+stamped, c.params(tx))
}

// Note gives a conversation its next revision and writes the row of the change. The caller holds the conversation's lock.
func Note(tx *gorm.DB, c Change) (Stamp, error) {
	return note(tx, `WITH c AS (`+nextOwnRevision+`)`+noted+stamped, append(c.params(tx), c.MemberDelta))
}

func note(tx *gorm.DB, query string, args []any) (Stamp, error) {
	var s Stamp
	err := postgres.In(tx).QueryRowContext(postgres.Context(tx), query, args...).Scan(&s.Revision, &s.MemberCount, &s.CommittedAt)
	if err != nil {
		return Stamp{}, fmt.Errorf("note a change: %w", err)
	}
	return s, nil
}

// ChangeParams is the number of parameters that ChangeMessage uses. Those of its args follow: $9, $10 …
const ChangeParams = 8

// ChangeMessage is Note for a change of a message, in one statement. It also sets the message's revision and other columns, and returns the changed
// message. set is the SET list of an UPDATE of messages m, with $9, $10 … for args: "content = $9, edited_at = clock_timestamp()".
func ChangeMessage(tx *gorm.DB, c Change, set string, args ...any) (chat.Message, Stamp, error) {
	var m chat.Message
	var s Stamp
	row := postgres.In(tx).QueryRowContext(postgres.Context(tx), `WITH c AS (`+nextRevision+`)`+noted+`
		UPDATE messages m SET revision = c.revision, changed = c.revision, `+set+` FROM c, l WHERE m.id = $4::uuid
		RETURNING `+chat.MessageColumns+`, c.revision, c.member_count, l.created_at`, append(append(c.params(tx), c.MemberDelta), args...)...)
	if err := chat.ScanMessage(row, &m, &s.Revision, &s.MemberCount, &s.CommittedAt); err != nil {
		return chat.Message{}, Stamp{}, fmt.Errorf("change a message: %w", err)
	}
	return m, s, nil
}

// Conversations is the part of the conversation domain that the feed needs.
type Conversations interface {
	// Objects reads conversations as all members see them, by id. Those that don't exist are left out.
	Objects(ctx context.Context, q postgres.Querier, ids []string) (map[string]*chat.Conversation, error)
	// MembersByID reads the users who are members now.
	MembersByID(ctx context.Context, q postgres.Querier, conversationID string, userIDs []string) ([]chat.Member, error)
}
