package receipt

import (
	"context"
	"database/sql"
	_ "embed"
	"errors"
	"fmt"
	"time"

	"github.com/parley-chat/parley/internal/cursor"
	"github.com/parley-chat/parley/internal/postgres"
	"github.com/parley-chat/parley/internal/timestamp"
)

// store holds the SQL of receipts.
type store struct {
	db *sql.DB
}

var (
	//go:embed look.sql
	lookSQL string
	//go:embed write.sql
	writeSQL string
	//go:embed receipts.sql
	receiptsSQL string
	//go:embed count.sql
	countSQL string
	//go:embed flush_receipts.sql
	flushReceiptsSQL string
	//go:embed flush_markers.sql
	flushMarkersSQL string
)

// lookUpReads reads the facts of reads in one statement, in the order of the batch. The facts of a read that the user may not make have no
// conversationID.
func (s *store) lookUpReads(ctx context.Context, batch []*request) ([]facts, error) {
	out := make([]facts, len(batch))
	ord, messages, users := make([]int32, len(batch)), make([]string, len(batch)), make([]string, len(batch))
	for i, r := range batch {
		ord[i], messages[i], users[i] = int32(i), r.messageID, r.userID //nolint:gosec // batches are small
	}
	err := postgres.Each(ctx, s.db, func(row postgres.Row) error {
		var i int
		f := facts{looked: true}
		err := row.Scan(&i, &f.conversationID, &f.direct, &f.members, &f.seq, &f.senderID, &f.deleted, &f.lastSeq, &f.lastReadSeq, &f.version,
			&f.highSeq, &f.shows, &f.written, &f.senderShows, &f.blocked)
		if err == nil {
			out[i] = f
		}
		return err
	}, lookSQL, ord, messages, users)
	if err != nil {
		return out, fmt.Errorf("look up reads: %w", err)
	}
	return out, nil
}

// write writes reads in one statement, on the pool or in a transaction.
func (*store) write(ctx context.Context, q postgres.Querier, batch []*due) ([]stored, error) {
	n := len(batch)
	out := make([]stored, n)
	ord, conversations, messages, users := make([]int32, n), make([]string, n), make([]string, n), make([]string, n)
	seqs, receipts, versions := make([]int64, n), make([]bool, n), make([]int32, n)
	for i, r := range batch {
		out[i].due = r
		ord[i], conversations[i], messages[i], users[i] = int32(i), r.conversationID, r.messageID, r.userID //nolint:gosec // batches are small
		seqs[i], receipts[i], versions[i] = r.seq, r.receipt, r.markerVersion()
	}
	err := postgres.Each(ctx, q, func(row postgres.Row) error {
		var i int
		var at *time.Time
		var marker *int64
		if err := row.Scan(&i, &at, &marker); err != nil {
			return err
		}
		r := &out[i]
		if r.fresh = at != nil; r.fresh {
			r.readAt = *at
		}
		r.moved = marker != nil
		return nil
	}, writeSQL, ord, conversations, messages, users, seqs, receipts, versions)
	if err != nil {
		return nil, fmt.Errorf("write reads: %w", err)
	}
	return out, nil
}

// unread reads the last message of each conversation with unread messages.
func (s *store) unread(ctx context.Context, userID string) (map[string]string, error) {
	type last struct{ conversationID, messageID string }
	found, err := postgres.Collect(ctx, s.db, func(r postgres.Row, l *last) error { return r.Scan(&l.conversationID, &l.messageID) },
		`SELECT c.id, c.last_message_id FROM conversation_members m JOIN conversations c ON c.id = m.conversation_id
		WHERE m.user_id = $1 AND c.last_seq > m.last_read_seq AND c.last_message_id IS NOT NULL`, userID)
	if err != nil {
		return nil, fmt.Errorf("read unread conversations: %w", err)
	}
	out := make(map[string]string, len(found))
	for _, l := range found {
		out[l.conversationID] = l.messageID
	}
	return out, nil
}

// view has the facts that decide whether a member may see a message's receipts.
type view struct {
	// shows is set if the member shares receipts. Members who don't share them see none.
	shows, deleted bool
}

// view reads a member's view. It returns ErrNotFound if the viewer is not a member.
func (s *store) view(ctx context.Context, messageID, viewerID string) (view, error) {
	var v view
	err := s.db.QueryRowContext(ctx, `SELECT u.read_receipts_enabled, m.deleted_at IS NOT NULL
		FROM messages m
		JOIN conversation_members k ON k.conversation_id = m.conversation_id AND k.user_id = $2
		JOIN users u ON u.id = $2
		WHERE m.id = $1`, messageID, viewerID).Scan(&v.shows, &v.deleted)
	if errors.Is(err, sql.ErrNoRows) {
		return view{}, ErrNotFound
	}
	if err != nil {
		return view{}, fmt.Errorf("look up a message's reader: %w", err)
	}
	return v, nil
}

// receipts reads a page of stored and pending receipts.
func (s *store) receipts(ctx context.Context, messageID, viewerID string, pending []pendingReceipt, after *cursor.Position, limit int) (Page, error) {
	users, times := make([]string, len(pending)), make([]time.Time, len(pending))
	for i, r := range pending {
		users[i], times[i] = r.userID, r.readAt()
	}
	var at *time.Time
	var user *string
	if after != nil {
		at, user = &after.Time, &after.ID
	}
	page := Page{Receipts: []Receipt{}}
	err := postgres.Each(ctx, s.db, func(r postgres.Row) error {
		var user *string
		var at *time.Time
		if err := r.Scan(&page.Count, &user, &at); err != nil {
			return err
		}
		if user != nil {
			page.Receipts = append(page.Receipts, Receipt{UserID: *user, ReadAt: timestamp.Time{Time: at.UTC()}})
		}
		return nil
	}, receiptsSQL, messageID, users, times, at, user, limit+1, viewerID)
	if err != nil {
		return Page{}, fmt.Errorf("read receipts: %w", err)
	}
	if page.HasMore = len(page.Receipts) > limit; page.HasMore {
		page.Receipts = page.Receipts[:limit]
	}
	return page, nil
}

// tally is the number of readers of a message, with the latest reader and the time of that read.
type tally struct {
	messageID, conversationID, senderID, latest string
	count                                       int
	at                                          time.Time
}

// tallies reads the tallies of messages whose senders may be notified.
func (s *store) tallies(ctx context.Context, messages []string, pending []pendingReceipt) ([]tally, error) {
	of, users, times := make([]string, len(pending)), make([]string, len(pending)), make([]time.Time, len(pending))
	for i, r := range pending {
		of[i], users[i], times[i] = r.messageID, r.userID, r.readAt()
	}
	out, err := postgres.Collect(ctx, s.db, func(r postgres.Row, t *tally) error {
		return r.Scan(&t.messageID, &t.conversationID, &t.senderID, &t.count, &t.latest, &t.at)
	}, countSQL, messages, of, users, times)
	if err != nil {
		return nil, fmt.Errorf("count receipts: %w", err)
	}
	return out, nil
}
