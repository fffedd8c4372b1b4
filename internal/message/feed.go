package message

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/parley-chat/parley/internal/event"
	"github.com/parley-chat/parley/internal/postgres"
)

// Conversations is what the feed and sync need of the domain of conversations.
type Conversations interface {
	// Objects reads conversations as all members see them. Those that are not there are left out.
	Objects(ctx context.Context, ids []string) (map[string]*event.Conversation, error)
	// MembersByID reads those of the users who are members now.
	MembersByID(ctx context.Context, conversationID string, userIDs []string) ([]event.Member, error)
}

// Feed reads what changed in conversations, from the database alone: the truth behind every event.
type Feed struct {
	db            *postgres.DB
	conversations Conversations
}

// NewFeed makes a feed.
func NewFeed(db *postgres.DB, c Conversations) *Feed { return &Feed{db: db, conversations: c} }

// Recent reads the conversations that changed within the last while, with their revisions, and who came into any.
// Postgres's clock decides what is recent.
func (f *Feed) Recent(ctx context.Context, within time.Duration) (map[string]int64, []event.UserJoin, error) {
	changed, err := f.recentRevisions(ctx, within)
	if err != nil {
		return nil, nil, err
	}
	joins, err := f.recentJoins(ctx, within)
	if err != nil {
		return nil, nil, err
	}
	return changed, joins, nil
}

func (f *Feed) recentRevisions(ctx context.Context, within time.Duration) (map[string]int64, error) {
	rows, err := f.db.SQL.QueryContext(ctx, `SELECT id, revision FROM conversations
		WHERE changed_at >= date_trunc('second', clock_timestamp()) - make_interval(secs => $1)`, within.Seconds())
	if err != nil {
		return nil, fmt.Errorf("read recent changes: %w", err)
	}
	defer rows.Close()
	out := map[string]int64{}
	for rows.Next() {
		var id string
		var revision int64
		if err := rows.Scan(&id, &revision); err != nil {
			return nil, fmt.Errorf("read recent changes: %w", err)
		}
		out[id] = revision
	}
	return out, rows.Err()
}

func (f *Feed) recentJoins(ctx context.Context, within time.Duration) ([]event.UserJoin, error) {
	rows, err := f.db.SQL.QueryContext(ctx, `SELECT unnest(user_ids), conversation_id, revision FROM conversation_changes
		WHERE kind IN ('created', 'member_added') AND created_at >= clock_timestamp() - make_interval(secs => $1)`, within.Seconds())
	if err != nil {
		return nil, fmt.Errorf("read recent joins: %w", err)
	}
	defer rows.Close()
	var out []event.UserJoin
	for rows.Next() {
		var j event.UserJoin
		if err := rows.Scan(&j.UserID, &j.ConversationID, &j.Revision); err != nil {
			return nil, fmt.Errorf("read recent joins: %w", err)
		}
		out = append(out, j)
	}
	return out, rows.Err()
}

// After reads the events of a conversation that follow a revision, limit of them at most. An event carries the revision
// that it brought, and its message or conversation as it is now.
func (f *Feed) After(ctx context.Context, conversationID string, revision int64, limit int) (event.Missed, error) {
	var missed event.Missed
	err := f.snapshot(ctx, func(tx *sql.Tx) error {
		r := replay{ctx: ctx, tx: tx, feed: f, conversationID: conversationID}
		var err error
		missed, err = r.run(revision, limit)
		return err
	})
	if err != nil {
		return event.Missed{}, fmt.Errorf("read what followed revision %d: %w", revision, err)
	}
	return missed, nil
}

// snapshot runs read in a transaction that sees one state of the database.
func (f *Feed) snapshot(ctx context.Context, read func(tx *sql.Tx) error) error {
	ctx, cancel := context.WithTimeout(ctx, postgres.StatementTimeout)
	defer cancel()
	tx, err := f.db.SQL.BeginTx(ctx, &sql.TxOptions{Isolation: sql.LevelRepeatableRead, ReadOnly: true})
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }()
	return read(tx)
}

// seqAt is the conversation's last seq at a revision. Revisions that conversation_changes does not hold are messages, so
// what came after its newest row up to there is one message a revision.
func seqAt(ctx context.Context, tx *sql.Tx, conversationID string, revision int64) (int64, error) {
	var seq int64
	err := tx.QueryRowContext(ctx, `SELECT last_seq + ($2::bigint - revision) FROM conversation_changes
		WHERE conversation_id = $1 AND revision <= $2::bigint ORDER BY revision DESC LIMIT 1`, conversationID, revision).Scan(&seq)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, nil
	}
	return seq, err
}

type changeRow struct {
	revision, lastSeq int64
	kind              string
	messageID         *string
	userIDs           []string
	at                time.Time
}

func changesAfter(ctx context.Context, tx *sql.Tx, conversationID string, revision int64, limit int) ([]changeRow, error) {
	rows, err := tx.QueryContext(ctx, `SELECT revision, last_seq, kind, message_id, coalesce(user_ids::text, '{}'), created_at
		FROM conversation_changes WHERE conversation_id = $1 AND revision > $2 ORDER BY revision LIMIT $3`, conversationID, revision, limit)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var out []changeRow
	for rows.Next() {
		var c changeRow
		var users string
		if err := rows.Scan(&c.revision, &c.lastSeq, &c.kind, &c.messageID, &users, &c.at); err != nil {
			return nil, err
		}
		c.userIDs = postgres.ParseIDArray(users)
		out = append(out, c)
	}
	return out, rows.Err()
}
