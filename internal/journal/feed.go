package journal

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/parley-chat/parley/internal/chat"
	"github.com/parley-chat/parley/internal/event"
	"github.com/parley-chat/parley/internal/postgres"
)

// Feed reads the journal from Postgres. It is safe for concurrent use.
type Feed struct {
	db            *sql.DB
	conversations Conversations
}

// NewFeed makes a feed.
func NewFeed(db *sql.DB, c Conversations) *Feed { return &Feed{db: db, conversations: c} }

// Recent reads the conversations that changed within a time before now, by Postgres's clock, with their revisions. It also reads the users who were
// added to conversations within that time.
func (f *Feed) Recent(ctx context.Context, within time.Duration) (map[string]int64, []event.UserJoin, error) {
	changed, err := f.recentRevisions(ctx, within)
	if err != nil {
		return nil, nil, fmt.Errorf("read recent changes: %w", err)
	}
	joins, err := f.recentJoins(ctx, within)
	if err != nil {
		return nil, nil, fmt.Errorf("read recent joins: %w", err)
	}
	return changed, joins, nil
}

func (f *Feed) recentRevisions(ctx context.Context, within time.Duration) (map[string]int64, error) {
	out := map[string]int64{}
	err := postgres.Each(ctx, f.db, func(r postgres.Row) error {
		var id string
		var revision int64
		err := r.Scan(&id, &revision)
		out[id] = revision
		return err
	}, `SELECT id, revision FROM conversations
		WHERE changed_at >= date_trunc('second', clock_timestamp()) - make_interval(secs => $1)`, within.Seconds())
	return out, err
}

func (f *Feed) recentJoins(ctx context.Context, within time.Duration) ([]event.UserJoin, error) {
	return postgres.Collect(ctx, f.db, func(r postgres.Row, j *event.UserJoin) error {
		return r.Scan(&j.UserID, &j.ConversationID, &j.Revision)
	}, `SELECT unnest(user_ids), conversation_id, revision FROM conversation_changes
		WHERE kind IN ('created', 'member_added') AND created_at >= clock_timestamp() - make_interval(secs => $1)`, within.Seconds())
}

// After reads up to limit events of a conversation that follow a revision. Each event has the revision that it had when it was published, but the
// present state of its message or conversation.
func (f *Feed) After(ctx context.Context, conversationID string, revision int64, limit int) (event.Missed, error) {
	var missed event.Missed
	err := f.snapshot(ctx, func(tx *sql.Tx) error {
		r := replay{ctx: ctx, tx: tx, feed: f, conversationID: conversationID}
		var err error
		missed, err = r.run(revision, limit)
		return err
	})
	if err != nil {
		return event.Missed{}, fmt.Errorf("read changes after revision %d: %w", revision, err)
	}
	return missed, nil
}

// Changed reads up to limit messages that are new or changed since the revision held, and the conversation's revision, in one snapshot. Each message
// appears once, in the order of last changes. It returns ErrNotFound if the user is not a member.
func (f *Feed) Changed(ctx context.Context, conversationID, userID string, held int64, limit int) (out []chat.Message, current int64, err error) {
	err = f.snapshot(ctx, func(tx *sql.Tx) error {
		err := tx.QueryRowContext(ctx, `SELECT c.revision FROM conversations c JOIN conversation_members m ON m.conversation_id = c.id
			WHERE c.id = $1 AND m.user_id = $2`, conversationID, userID).Scan(&current)
		if errors.Is(err, sql.ErrNoRows) {
			return ErrNotFound
		}
		if err != nil {
			return err
		}
		seq, err := seqAt(ctx, tx, conversationID, held)
		if err != nil {
			return err
		}
		out, err = postgres.Collect(ctx, tx, scanMessage, changedSQL, conversationID, seq, held, limit)
		return err
	})
	if err != nil {
		return nil, 0, fmt.Errorf("read changed messages: %w", err)
	}
	return out, current, nil
}

// Latest reads the newest messages of a conversation, at most limit, in the order of their seqs, and the conversation's revision, in one snapshot.
// It returns ErrNotFound if the user is not a member.
func (f *Feed) Latest(ctx context.Context, conversationID, userID string, limit int) (out []chat.Message, current int64, err error) {
	err = f.snapshot(ctx, func(tx *sql.Tx) error {
		err := tx.QueryRowContext(ctx, `SELECT c.revision FROM conversations c JOIN conversation_members m ON m.conversation_id = c.id
			WHERE c.id = $1 AND m.user_id = $2`, conversationID, userID).Scan(&current)
		if errors.Is(err, sql.ErrNoRows) {
			return ErrNotFound
		}
		if err != nil {
			return err
		}
		out, err = postgres.Collect(ctx, tx, scanMessage, `SELECT `+chat.MessageColumns+` FROM messages m
			WHERE m.conversation_id = $1 ORDER BY m.seq DESC LIMIT $2`, conversationID, limit)
		slices.Reverse(out)
		return err
	})
	if err != nil {
		return nil, 0, fmt.Errorf("read the newest messages: %w", err)
	}
	return out, current, nil
}

// changedSQL finds messages that were never changed by their seq, and changed ones by their last change.
const changedSQL = `SELECT ` + chat.MessageColumns + ` FROM (
		(SELECT * FROM messages n WHERE n.conversation_id = $1 AND n.seq > $2
			AND n.changed IS NULL AND n.edited_at IS NULL AND n.deleted_at IS NULL
		ORDER BY n.seq LIMIT $4)
		UNION ALL
		(SELECT n.* FROM conversation_changes x JOIN messages n ON n.id = x.message_id AND n.revision = x.revision
		WHERE x.conversation_id = $1 AND x.revision > $3 ORDER BY x.revision LIMIT $4)
	) m ORDER BY m.revision LIMIT $4`

func scanMessage(r postgres.Row, m *chat.Message) error { return chat.ScanMessage(r, m) }

// snapshot runs read in a transaction in which all statements see the same state of the database.
func (f *Feed) snapshot(ctx context.Context, read func(tx *sql.Tx) error) error {
	ctx, cancel := context.WithTimeout(ctx, postgres.StatementTimeout)
	defer cancel()
	tx, err := f.db.BeginTx(ctx, &sql.TxOptions{Isolation: sql.LevelRepeatableRead, ReadOnly: true})
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }()
	return read(tx)
}

// seqAt returns the conversation's last seq at a revision: the last_seq of the newest change up to the revision, plus one for each later revision,
// because those are messages.
func seqAt(ctx context.Context, tx *sql.Tx, conversationID string, revision int64) (int64, error) {
	var seq int64
	err := tx.QueryRowContext(ctx, `SELECT last_seq + ($2::bigint - revision) FROM conversation_changes
		WHERE conversation_id = $1 AND revision <= $2::bigint ORDER BY revision DESC LIMIT 1`, conversationID, revision).Scan(&seq)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, nil
	}
	return seq, err
}

// Newest reads the limit newest messages of a conversation if more than limit were sent since the revision held; otherwise it returns nil. The
// messages are in the order of their seqs, and the conversation's revision is from the same snapshot. It returns ErrNotFound if the user is
// not a member.
func (f *Feed) Newest(ctx context.Context, conversationID, userID string, held int64, limit int) (out []chat.Message, current int64, err error) {
	err = f.snapshot(ctx, func(tx *sql.Tx) error {
		var last int64
		err := tx.QueryRowContext(ctx, `SELECT c.revision, c.last_seq FROM conversations c JOIN conversation_members m ON m.conversation_id = c.id
			WHERE c.id = $1 AND m.user_id = $2`, conversationID, userID).Scan(&current, &last)
		if errors.Is(err, sql.ErrNoRows) {
			return ErrNotFound
		}
		if err != nil || current-held <= int64(limit) { // there can't be more new messages than revisions
			return err
		}
		seq, err := seqAt(ctx, tx, conversationID, held)
		if err != nil || last-seq <= int64(limit) {
			return err
		}
		out, err = postgres.Collect(ctx, tx, scanMessage, `SELECT `+chat.MessageColumns+` FROM messages m
			WHERE m.conversation_id = $1 AND m.seq > $2 ORDER BY m.seq`, conversationID, last-int64(limit))
		return err
	})
	if err != nil {
		return nil, 0, fmt.Errorf("read the newest messages: %w", err)
	}
	return out, current, nil
}
