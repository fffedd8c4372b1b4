package receipt

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5/pgtype"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"

	"github.com/parley-chat/parley/internal/postgres"
	"github.com/parley-chat/parley/internal/redisconn"
	"github.com/parley-chat/parley/internal/rediskey"
)

// source is where one kind of row is pending: an index of dirty ids, and the rows of each id. There are two: batches (receipts) and
// markers.
type source[R row] interface {
	name() string
	index() string
	// first reads the first rows of ids in one pipeline. For each id it also returns the place from which more continues, nil if there are no
	// more rows.
	first(ctx context.Context, ids []string) ([][]R, []*place, error)
	// more reads the next rows of an id.
	more(ctx context.Context, id string, from place) ([]R, *place, error)
	// write writes rows in one statement and returns how many of them changed something. Rows that were written before change nothing.
	write(ctx context.Context, rows []R) (int64, error)
	// script removes rows that were written, except those that have changed since. keysOf returns its keys for an id.
	script() *redis.Script
	keysOf(id string) []string
	// args are the script's arguments for a row.
	args(r R) []any
	// removed measures rows that were written and removed.
	removed(ctx context.Context, rows []R)
}

// Names of the kinds of rows, in the log and in metrics.
const (
	nameReceipts = "receipts"
	nameMarkers  = "markers"
)

const (
	// firstRows is how many rows of an id are read at first.
	firstRows = 128
	// removeRows is how many rows one script removes: Redis is blocked meanwhile. If a single id has more, it removes these.
	removeRows = 500
	// writeWait bounds one statement.
	writeWait = postgres.StatementTimeout
)

// batches are the pending receipts, by message.
type batches struct {
	db      *sql.DB
	rdb     redis.UniversalClient
	keys    rediskey.Receipts
	unbatch *redis.Script
	lag     prometheus.Histogram
}

func (*batches) name() string  { return nameReceipts }
func (*batches) index() string { return rediskey.DirtyMessages }

func (b *batches) first(ctx context.Context, ids []string) ([][]pendingReceipt, []*place, error) {
	cmds := make([]*redis.ZSliceCmd, len(ids))
	_, err := b.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		for i, id := range ids {
			cmds[i] = p.ZRangeByScoreWithScores(ctx, b.keys.ReadBatch(id), pieceOf(start, forever, firstRows))
		}
		return nil
	})
	if err != nil {
		return nil, nil, fmt.Errorf("read batches: %w", err)
	}
	rows, nexts := make([][]pendingReceipt, len(ids)), make([]*place, len(ids))
	for i, id := range ids {
		var entries []entry
		entries, nexts[i] = follow(cmds[i].Val(), start, firstRows)
		rows[i] = receiptsOf(id, entries)
	}
	return rows, nexts, nil
}

func (b *batches) more(ctx context.Context, id string, from place) ([]pendingReceipt, *place, error) {
	entries, next, err := readPiece(ctx, b.rdb, b.keys.ReadBatch(id), from, forever, pieceSize)
	return receiptsOf(id, entries), next, err
}

func (b *batches) write(ctx context.Context, rows []pendingReceipt) (int64, error) {
	messages, users, times := make([]pgtype.UUID, len(rows)), make([]pgtype.UUID, len(rows)), make([]time.Time, len(rows))
	for i, r := range rows {
		messages[i], users[i], times[i] = uuid(r.messageID), uuid(r.userID), r.readAt()
	}
	return exec(ctx, b.db, flushReceiptsSQL, messages, users, times)
}

func (b *batches) script() *redis.Script       { return b.unbatch }
func (b *batches) args(r pendingReceipt) []any { return []any{r.userID, r.at} }
func (b *batches) keysOf(id string) []string {
	return []string{b.keys.ReadBatch(id), b.keys.ReadCount(id)}
}

// removed observes the time from the reads to now, by Redis's clock.
func (b *batches) removed(ctx context.Context, rows []pendingReceipt) {
	if len(rows) == 0 {
		return
	}
	now, err := b.rdb.Time(ctx).Result()
	if err != nil {
		return
	}
	for _, r := range rows {
		b.lag.Observe(max(0, float64(now.UnixMilli()-r.at)/1000))
	}
}

// markers are the pending markers, by reader.
type markers struct {
	since  func() *time.Time // when the present history began, nil if unknown
	db     *sql.DB
	rdb    redis.UniversalClient
	keys   rediskey.Receipts
	unmark *redis.Script
}

func (*markers) name() string  { return nameMarkers }
func (*markers) index() string { return rediskey.DirtyReaders }

// first reads all rows: a reader has at most one marker for each conversation.
func (m *markers) first(ctx context.Context, ids []string) ([][]pendingMarker, []*place, error) {
	cmds := make([]*redis.MapStringStringCmd, len(ids))
	_, err := m.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		for i, id := range ids {
			cmds[i] = p.HGetAll(ctx, m.keys.ReadMarkers(id))
		}
		return nil
	})
	if err != nil {
		return nil, nil, fmt.Errorf("read markers: %w", err)
	}
	rows := make([][]pendingMarker, len(ids))
	for i, id := range ids {
		held := cmds[i].Val()
		for conversation := range held {
			if m, tag, ok := parseMarker(held, conversation); ok {
				rows[i] = append(rows[i], pendingMarker{id, conversation, m, tag})
			}
		}
	}
	return rows, make([]*place, len(ids)), nil
}

func (*markers) more(context.Context, string, place) ([]pendingMarker, *place, error) {
	return nil, nil, nil
}

func (m *markers) write(ctx context.Context, rows []pendingMarker) (int64, error) {
	users, conversations, seqs := make([]pgtype.UUID, len(rows)), make([]pgtype.UUID, len(rows)), make([]int64, len(rows))
	versions, times := make([]int32, len(rows)), make([]*time.Time, len(rows))
	for i, r := range rows {
		users[i], conversations[i], seqs[i], versions[i] = uuid(r.userID), uuid(r.conversationID), r.Seq, int32(r.Version) //nolint:gosec // parsed as 32 bits
		if !r.ReadAt.IsZero() {
			times[i] = &r.ReadAt
		}
	}
	return exec(ctx, m.db, flushMarkersSQL, users, conversations, seqs, versions, times, m.since())
}

func (m *markers) script() *redis.Script                  { return m.unmark }
func (m *markers) args(r pendingMarker) []any             { return []any{r.conversationID, r.Seq, r.tag} }
func (*markers) removed(context.Context, []pendingMarker) {}
func (m *markers) keysOf(id string) []string {
	return []string{m.keys.ReadMarkers(id)}
}

// removals are the calls that remove rows; the rows of one id must be adjacent. A call covers many ids, except on a cluster, where
// only the keys of one id share a slot.
func removals[R row](src source[R], rows []R, cluster bool) []redisconn.Call {
	var calls []redisconn.Call
	inLast := 0
	for len(rows) > 0 {
		n := 1
		for n < len(rows) && rows[n].dirtyID() == rows[0].dirtyID() {
			n++
		}
		if len(calls) == 0 || cluster || inLast+n > removeRows {
			calls = append(calls, redisconn.Call{Script: src.script()})
			inLast = 0
		}
		inLast += n
		c := &calls[len(calls)-1]
		c.Keys = append(c.Keys, src.keysOf(rows[0].dirtyID())...)
		c.Args = append(c.Args, n)
		for _, r := range rows[:n] {
			c.Args = append(c.Args, src.args(r)...)
		}
		rows = rows[n:]
	}
	return calls
}

func uuid(s string) (u pgtype.UUID) {
	_ = u.Scan(s) // the caller has checked s. If it is not an id, null matches no row, where a text would fail the statement for all rows.
	return u
}

func exec(ctx context.Context, db *sql.DB, query string, args ...any) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, writeWait)
	defer cancel()
	r, err := db.ExecContext(ctx, query, args...)
	if err != nil {
		return 0, fmt.Errorf("write pending reads: %w", err)
	}
	return r.RowsAffected()
}
