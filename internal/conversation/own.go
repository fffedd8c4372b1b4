package conversation

import (
	"context"
	_ "embed"
	"fmt"
	"strings"

	"github.com/parley-chat/parley/internal/chat"
	"github.com/parley-chat/parley/internal/cursor"
	"github.com/parley-chat/parley/internal/postgres"
)

//go:embed state.sql
var stateSQL string

// own is a conversation with its viewer's own state.
type own struct {
	id    string
	state chat.OwnState
	peer  *chat.PeerMarker // in a direct conversation
	// xid is the transaction that changed the state last, revision where to ask for later changes.
	xid, revision int64
}

func scanOwn(r postgres.Row, o *own) error {
	var direct bool
	var peer *int64
	s := &o.state
	err := r.Scan(&o.id, &s.LastReadSeq, &s.UnreadCount, &s.MentionCount, &s.MarkedUnread, &s.Notifications, &s.MutedUntil, &s.ArchivedAt,
		&s.PinnedAt, &s.Hidden, &direct, &peer, &o.xid, &o.revision)
	if direct {
		o.peer = &chat.PeerMarker{Seq: peer}
	}
	return err
}

// pendingMarkers are a user's, as parameters of state.sql.
type pendingMarkers map[string]chat.PendingMarker

func (p pendingMarkers) params() []any {
	ids, seqs, versions := make([]string, 0, len(p)), make([]int64, 0, len(p)), make([]int32, 0, len(p))
	for id, m := range p {
		ids, seqs, versions = append(ids, id), append(seqs, m.Seq), append(versions, int32(m.Version)) //nolint:gosec // parsed as 32 bits
	}
	return []any{ids, seqs, versions}
}

// owns reads a user's own states; more is added to state.sql, with its parameters from $5 on.
func owns(ctx context.Context, q postgres.Querier, userID string, pending pendingMarkers, more string, args ...any) ([]own, error) {
	out, err := postgres.Collect(ctx, q, scanOwn, stateSQL+more, append(append([]any{userID}, pending.params()...), args...)...)
	if err != nil {
		return nil, fmt.Errorf("read a user's own states: %w", err)
	}
	return out, nil
}

// ownOf reads a member's own state of one conversation, nil for a user who is not a member.
func ownOf(ctx context.Context, q postgres.Querier, conversationID, userID string, pending pendingMarkers) (*own, error) {
	found, err := owns(ctx, q, userID, pending, ` AND m.conversation_id = $5`, conversationID)
	if err != nil || len(found) == 0 {
		return nil, err
	}
	return &found[0], nil
}

// The filters of a list.
const (
	FilterDefault  = "default" // neither archived nor hidden
	FilterUnread   = "unread"
	FilterMentions = "mentions"
	FilterArchived = "archived"
	FilterPinned   = "pinned"
	FilterMuted    = "muted"
	FilterAll      = "all"
)

const (
	notHidden = `coalesce(m.hidden_seq < c.last_seq, true)`
	listed    = `m.archived_at IS NULL AND ` + notHidden
)

// filters are the conditions that they add to state.sql.
var filters = map[string]string{
	FilterDefault:  ` AND ` + listed,
	FilterUnread:   ` AND ` + listed + ` AND (c.last_seq > r.seq OR m.marked_unread)`,
	FilterMentions: ` AND ` + listed + ` AND c.last_seq > r.seq AND (` + mentioned(`x.user_id = m.user_id`) + ` OR ` + mentioned(`x.user_id IS NULL`) + `)`,
	FilterArchived: ` AND m.archived_at IS NOT NULL`,
	FilterPinned:   ` AND m.pinned_at IS NOT NULL AND ` + notHidden,
	FilterMuted:    ` AND m.muted_until > clock_timestamp() AND ` + notHidden,
	FilterAll:      ``,
}

func mentioned(whom string) string {
	return `EXISTS (SELECT FROM message_mentions x WHERE ` + whom + ` AND x.conversation_id = c.id AND x.seq > r.seq AND x.sender_id <> m.user_id)`
}

// Filters are the names of all filters.
var Filters = []string{FilterDefault, FilterUnread, FilterMentions, FilterArchived, FilterPinned, FilterMuted, FilterAll}

// Selection is which of their conversations a user asks for.
type Selection struct {
	// Filter is one of Filters, Type "direct", "group" or "" for both.
	Filter, Type string
	// Query is a part of the name or, in a direct conversation, of the other person's; "" for any.
	Query string
}

// newest reads a user's conversations by their last activity, before a position.
func (s *Store) newest(ctx context.Context, userID string, pending pendingMarkers, sel Selection, before *cursor.Position, limit int) ([]own, error) {
	more, args := sel.page(before, limit)
	return owns(ctx, s.db.SQL, userID, pending, more, args...)
}

// page is what a page of a selection adds to state.sql, with its parameters from $5 on.
func (sel Selection) page(before *cursor.Position, limit int) (more string, args []any) {
	more = filters[sel.Filter]
	param := func(format string, values ...any) {
		places := make([]any, len(values))
		for i, v := range values {
			args = append(args, v)
			places[i] = fmt.Sprintf("$%d", len(args)+4)
		}
		more += fmt.Sprintf(format, places...)
	}
	if sel.Type != "" {
		param(` AND c.type = %s`, sel.Type)
	}
	if sel.Query != "" {
		param(` AND (position(user_search_fold(%[1]s) IN user_search_fold(coalesce(c.name, ''))) > 0 OR c.type = 'direct' AND EXISTS (
			SELECT FROM conversation_members o JOIN users u ON u.id = o.user_id WHERE o.conversation_id = c.id AND o.user_id <> m.user_id
				AND (position(user_search_fold(%[1]s) IN user_search_fold(u.display_name)) > 0 OR position(lower(%[1]s) IN u.username) > 0)))`, sel.Query)
	}
	if before != nil {
		param(` AND (c.last_message_at, c.id) < (%s::timestamptz, %s::uuid)`, before.Time, before.ID)
	}
	param(` ORDER BY c.last_message_at DESC, c.id DESC LIMIT %s`, limit)
	return more, args
}

// Unread counts a user's unread messages and mentions, over all conversations that are neither archived nor hidden.
type Unread struct {
	Messages      int64 `json:"messages"`
	Mentions      int64 `json:"mentions"`
	Conversations int64 `json:"conversations"`
}

// unreadSQL sums up state.sql. Pending markers count; muted conversations do if $5 is set.
var unreadSQL = `SELECT coalesce(sum(s.unread), 0), coalesce(sum(s.mentions), 0), count(*)
	FROM (` + strings.TrimSuffix(stateSQL, "\n") + ` AND ` + listed + ` AND (c.last_seq > r.seq OR m.marked_unread)
		AND ($5::boolean OR coalesce(m.muted_until <= clock_timestamp(), true))) AS s (id, seq, unread, mentions)`

func (s *Store) unread(ctx context.Context, userID string, pending pendingMarkers, muted bool) (u Unread, err error) {
	args := append(append([]any{userID}, pending.params()...), muted)
	err = s.db.SQL.QueryRowContext(ctx, unreadSQL, args...).Scan(&u.Messages, &u.Mentions, &u.Conversations)
	if err != nil {
		return Unread{}, fmt.Errorf("count unread messages: %w", err)
	}
	return u, nil
}
