package conversation

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"gorm.io/gorm"

	"github.com/parley-chat/parley/internal/chat"
	"github.com/parley-chat/parley/internal/event"
	"github.com/parley-chat/parley/internal/id"
	"github.com/parley-chat/parley/internal/invalid"
	"github.com/parley-chat/parley/internal/jsonbody"
	"github.com/parley-chat/parley/internal/postgres"
	"github.com/parley-chat/parley/internal/timestamp"
)

const (
	// maxPinned is how many conversations a user pins at most.
	maxPinned = 20
	// maxStates is the largest number of states in a response to sync.
	maxStates = 500
	// Forever mutes a conversation until it is unmuted.
	Forever = "forever"
)

// StateChange changes a member's own state of a conversation. What is absent stays.
type StateChange struct {
	Notifications jsonbody.Optional[string] `json:"notifications,omitempty"`
	// MutedUntil is a time, Forever or null.
	MutedUntil jsonbody.Optional[string] `json:"mutedUntil,omitempty"`
	Archived   jsonbody.Optional[bool]   `json:"archived,omitempty"`
	Pinned     jsonbody.Optional[bool]   `json:"pinned,omitempty"`
	Hidden     jsonbody.Optional[bool]   `json:"hidden,omitempty"`
	// UnreadFrom is a message that is to be unread, with all after it.
	UnreadFrom jsonbody.Optional[string] `json:"unreadFrom,omitempty"`

	mutedUntil any // a time.Time, "infinity" or nil
}

// Check normalises the change and notes its faults.
func (c *StateChange) Check(f *invalid.Faults) {
	if n := c.Notifications; n.Set && !n.Null && !slices.Contains([]string{"all", "mentions", "none"}, n.Value) {
		f.Add("notifications", "must be all, mentions, none or null")
	}
	if m := c.MutedUntil; m.Set && !m.Null {
		at, err := time.Parse(time.RFC3339, m.Value)
		switch {
		case m.Value == Forever:
			c.mutedUntil = "infinity"
		case err != nil || at.Year() < 1 || at.Year() > 9999:
			f.Add("mutedUntil", "must be a time (RFC 3339), forever or null")
		default:
			c.mutedUntil = at.UTC()
		}
	}
	for field, v := range map[string]jsonbody.Optional[bool]{"archived": c.Archived, "pinned": c.Pinned, "hidden": c.Hidden} {
		if v.Null {
			f.Add(field, "must be true or false, not null")
		}
	}
	if c.UnreadFrom.Set && !id.Valid(c.UnreadFrom.Value) {
		f.Add("unreadFrom", "must be the id of a message")
	}
	if !c.Notifications.Set && !c.MutedUntil.Set && !c.Archived.Set && !c.Pinned.Set && !c.Hidden.Set && !c.UnreadFrom.Set && f.Err() == nil {
		f.Add("body", "must have notifications, mutedUntil, archived, pinned, hidden or unreadFrom")
	}
}

// UpdateState changes a member's own state of a conversation, and returns the conversation as the member sees it then. All of the
// member's sockets get the state.
func (s *Service) UpdateState(ctx context.Context, conversationID, userID string, c *StateChange) (*chat.Conversation, error) {
	pending := s.markers.Markers(ctx, userID)
	var conv *chat.Conversation
	var o *own
	err := s.db.Tx(ctx, func(tx *gorm.DB) error {
		changed, err := changeState(tx, conversationID, userID, c, pending[conversationID])
		if err != nil {
			return err
		}
		if conv, err = s.seen(ctx, tx, conversationID, userID, pending); err != nil {
			return err
		}
		if o, err = ownOf(ctx, postgres.In(tx), conversationID, userID, pending); err != nil || changed {
			return err
		}
		return postgres.ErrUnchanged
	})
	if err != nil {
		return nil, err
	}
	s.notifier.Notify(event.StateNotice(userID, event.StateUpdated{ConversationID: conversationID, StateRevision: o.revision, OwnState: o.state}).In(ctx))
	if c.UnreadFrom.Set {
		s.notifier.Notify(event.ReadNotice(userID, "", event.ConversationRead{ConversationID: conversationID, Marker: o.state.Marker}).In(ctx))
	}
	return conv, nil
}

// changeState changes a member's own state. It reports whether that made a difference.
func changeState(tx *gorm.DB, conversationID, userID string, c *StateChange, pending chat.PendingMarker) (changed bool, err error) {
	q, ctx := postgres.In(tx), postgres.Context(tx)
	if c.Pinned.Value {
		if err := checkPinned(ctx, q, conversationID, userID); err != nil {
			return false, err
		}
	}
	set, args := []string{"state_xid = pg_current_xact_id()"}, []any{conversationID, userID}
	add := func(format string, v any) {
		args = append(args, v)
		set = append(set, fmt.Sprintf(format, fmt.Sprintf("$%d", len(args))))
	}
	if c.Notifications.Set {
		add("notifications = %s", textOrNull(c.Notifications))
	}
	if c.MutedUntil.Set {
		add("muted_until = %s::timestamptz", c.mutedUntil)
	}
	if c.Archived.Set {
		add("archived_at = CASE WHEN %s THEN coalesce(m.archived_at, clock_timestamp()) END", c.Archived.Value)
	}
	if c.Pinned.Set {
		add("pinned_at = CASE WHEN %s THEN coalesce(m.pinned_at, clock_timestamp()) END", c.Pinned.Value)
	}
	if c.Hidden.Set {
		add("hidden_seq = CASE WHEN %s THEN (SELECT last_seq FROM conversations WHERE id = $1) END", c.Hidden.Value)
	}
	if c.UnreadFrom.Set {
		seq, err := seqOf(ctx, q, conversationID, userID, c.UnreadFrom.Value)
		if err != nil {
			return false, err
		}
		read := "m.last_read_seq"
		if pending.Seq > 0 {
			args = append(args, pending.Seq, int32(pending.Version)) //nolint:gosec // parsed as 32 bits
			read = fmt.Sprintf("greatest(m.last_read_seq, CASE WHEN $%[2]d IN (m.marker_version, -1) THEN $%[1]d::bigint END)", len(args)-1, len(args))
		}
		add("marked_unread = true, marker_version = m.marker_version + 1, read_high_seq = greatest(m.read_high_seq, "+read+"), last_read_seq = least("+read+", %s::bigint - 1)", seq)
	}
	const compared = `(%[1]s.notifications, %[1]s.muted_until, %[1]s.archived_at, %[1]s.pinned_at, %[1]s.hidden_seq, %[1]s.marker_version)`
	err = q.QueryRowContext(ctx, `WITH old AS (SELECT * FROM conversation_members WHERE conversation_id = $1 AND user_id = $2 FOR NO KEY UPDATE)
		UPDATE conversation_members m SET `+strings.Join(set, ", ")+` FROM old WHERE m.conversation_id = $1 AND m.user_id = $2
		RETURNING `+fmt.Sprintf(compared, "m")+` IS DISTINCT FROM `+fmt.Sprintf(compared, "old"), args...).Scan(&changed)
	if errors.Is(err, sql.ErrNoRows) {
		return false, ErrNotFound
	}
	if err != nil {
		return false, fmt.Errorf("change a member's own state: %w", err)
	}
	return changed, nil
}

// checkPinned enforces the bound on a user's pins, under a lock of the user's row.
func checkPinned(ctx context.Context, q postgres.Querier, conversationID, userID string) error {
	if _, err := q.ExecContext(ctx, `SELECT FROM users WHERE id = $1 FOR NO KEY UPDATE`, userID); err != nil {
		return fmt.Errorf("lock a user: %w", err)
	}
	var n int
	err := q.QueryRowContext(ctx, `SELECT count(*) FROM conversation_members WHERE user_id = $1 AND pinned_at IS NOT NULL AND conversation_id <> $2`,
		userID, conversationID).Scan(&n)
	if err != nil {
		return fmt.Errorf("count pinned conversations: %w", err)
	}
	if n >= maxPinned {
		return ErrTooManyPinned
	}
	return nil
}

// seqOf is the seq of a message of a conversation that the user is a member of.
func seqOf(ctx context.Context, q postgres.Querier, conversationID, userID, messageID string) (seq int64, err error) {
	var found *int64
	err = q.QueryRowContext(ctx, `SELECT (SELECT x.seq FROM messages x WHERE x.id = $3 AND x.conversation_id = $1)
		FROM conversation_members m WHERE m.conversation_id = $1 AND m.user_id = $2`, conversationID, userID, messageID).Scan(&found)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return 0, ErrNotFound
	case err != nil:
		return 0, fmt.Errorf("look up a message: %w", err)
	case found == nil:
		return 0, invalid.One("unreadFrom", "must be a message of this conversation")
	}
	return *found, nil
}

// Totals are a user's unread counts at a moment.
type Totals struct {
	Unread
	AsOf timestamp.Time `json:"asOf"`
}

// Unread counts a user's unread messages, over conversations that are neither archived nor hidden, and not muted unless muted is set.
// Nothing is stored: it is counted from the markers, pending ones too.
func (s *Service) Unread(ctx context.Context, userID string, muted bool) (Totals, error) {
	now := time.Now().UTC()
	pending := s.markers.Markers(ctx, userID)
	u, err := s.store.unread(ctx, userID, pending, muted)
	return Totals{u, timestamp.Time{Time: now}}, err
}

// States are the changes of a user's own states.
type States struct {
	// Revision is where to ask again.
	Revision      int64                    `json:"revision"`
	Conversations map[string]chat.OwnState `json:"conversations"`
	// Complete is unset if more is to be had.
	Complete bool `json:"complete"`
}

// statesSQL reads the states that changed in a transaction that had not ended when the client's revision was read, or later, and those
// with a pending marker. A revision that was never reached is of a database that has since been restored: all states then.
const statesSQL = ` AND (p.seq IS NOT NULL OR m.state_xid >= CASE WHEN $5::bigint > pg_snapshot_xmax(pg_current_snapshot())::text::bigint
		THEN '0' ELSE $5::bigint::text END::xid8) ORDER BY m.state_xid NULLS FIRST, m.conversation_id LIMIT $6`

// StatesSince reads the own states of a user that changed since a revision, maxStates of them at most. A state may come again: it is
// absolute.
func (s *Service) StatesSince(ctx context.Context, userID string, held int64) (States, error) {
	// The revision is read first: a change that is committed after it is found again next time.
	out := States{Conversations: map[string]chat.OwnState{}, Complete: true}
	err := s.db.SQL.QueryRowContext(ctx, `SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint`).Scan(&out.Revision)
	if err != nil {
		return States{}, fmt.Errorf("read the revision of states: %w", err)
	}
	pending := s.markers.Markers(ctx, userID)
	found, err := owns(ctx, s.db.SQL, userID, pending, statesSQL, held, maxStates+1)
	if err != nil {
		return States{}, err
	}
	if len(found) > maxStates {
		// The states of one transaction stay together, because the next response begins with a whole transaction.
		next := found[maxStates].xid
		cut := slices.IndexFunc(found, func(o own) bool { return o.xid == next })
		if cut > 0 {
			out.Complete, out.Revision, found = false, next, found[:cut]
		} else if found, err = owns(ctx, s.db.SQL, userID, pending, statesSQL, held, nil); err != nil {
			return States{}, err
		}
	}
	for _, o := range found {
		out.Conversations[o.id] = o.state
	}
	return out, nil
}

// ChangedStates is StatesSince for a response to sync.
func (s *Service) ChangedStates(ctx context.Context, userID string, held int64) (any, error) {
	return s.StatesSince(ctx, userID, held)
}
