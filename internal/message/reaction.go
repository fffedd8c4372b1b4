package message

import (
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/parley-chat/parley/internal/audit"
	"github.com/parley-chat/parley/internal/chat"
	"github.com/parley-chat/parley/internal/cursor"
	"github.com/parley-chat/parley/internal/event"
	"github.com/parley-chat/parley/internal/invalid"
	"github.com/parley-chat/parley/internal/postgres"
	"github.com/parley-chat/parley/internal/timestamp"
)

// maxReaction is the largest length of a reaction in code points.
const maxReaction = 32

// CheckReaction normalises a reaction to NFC. It adds a fault to f unless the reaction has 1 to 32 code points without white space.
func CheckReaction(f *invalid.Faults, field string, reaction *string) {
	invalid.Text{Min: 1, Max: maxReaction}.Check(f, field, reaction)
	if strings.ContainsFunc(*reaction, unicode.IsSpace) {
		f.Add(field, "must not contain white space")
	}
}

// ReactionResult is the state of a message's reactions after a user's change.
type ReactionResult struct {
	// Reactions are the message's, in the order of their first use, and Mine the user's own.
	Reactions []chat.Reaction `json:"reactions"`
	Mine      []string        `json:"mine"`
	// Revision is the message's.
	Revision int64 `json:"revision"`
}

// React adds or removes a user's reaction to a message, and returns when the change was committed. Adding an existing reaction, or removing a
// missing one, changes nothing. The reaction must have passed CheckReaction.
func (s *Service) React(ctx context.Context, messageID, userID, reaction string, added bool) (ReactionResult, error) {
	c := &reactionChange{messageID: messageID, userID: userID, reaction: reaction, added: added, entry: audit.OfRequest(ctx), ctx: ctx, done: make(chan struct{})}
	if err := s.reactor.submit(ctx, c); err != nil {
		return ReactionResult{}, err
	}
	switch {
	case c.err != nil:
		return ReactionResult{}, c.err
	case c.outcome == "done":
		return c.result, nil
	case c.outcome == "blocked":
		return ReactionResult{}, ErrCannotMessage
	case c.outcome == "no_posting":
		return ReactionResult{}, ErrNoPosting
	case c.outcome == "deleted":
		return ReactionResult{}, ErrDeleted
	case c.outcome == "too_many":
		return ReactionResult{}, ErrTooManyReactions
	}
	return ReactionResult{}, ErrNotFound
}

// UserReaction is one user's reaction to a message.
type UserReaction struct {
	User      chat.Profile   `json:"user"`
	Reaction  string         `json:"reaction"`
	CreatedAt timestamp.Time `json:"createdAt"`
}

// Reactions is a page of a message's reactions, the newest first, for a member. reaction is "" for all.
func (s *Service) Reactions(ctx context.Context, messageID, viewerID, reaction string, before *cursor.Labelled, limit int) (list []UserReaction, more bool, err error) {
	if _, err := s.store.one(ctx, messageID, viewerID); err != nil {
		return nil, false, err
	}
	list, err = s.store.reactions(ctx, messageID, reaction, before, limit+1)
	if more = len(list) > limit; more {
		list = list[:limit]
	}
	return list, more, err
}

func (s *Store) reactions(ctx context.Context, messageID, reaction string, before *cursor.Labelled, limit int) ([]UserReaction, error) {
	query, args := `SELECT u.id, u.username, u.display_name, u.avatar_url, r.reaction, r.created_at
		FROM message_reactions r JOIN users u ON u.id = r.user_id WHERE r.message_id = $1`, []any{messageID, limit}
	if reaction != "" {
		args = append(args, reaction)
		query += fmt.Sprintf(` AND r.reaction = $%d`, len(args))
	}
	if before != nil {
		args = append(args, before.Time, before.ID, before.Label)
		query += fmt.Sprintf(` AND (r.created_at, r.user_id, r.reaction) < ($%d::timestamptz, $%d::uuid, $%d)`, len(args)-2, len(args)-1, len(args))
	}
	scan := func(r postgres.Row, x *UserReaction) error {
		return r.Scan(&x.User.ID, &x.User.Username, &x.User.DisplayName, &x.User.AvatarURL, &x.Reaction, &x.CreatedAt)
	}
	out, err := postgres.Collect(ctx, s.db.SQL, scan, query+` ORDER BY r.created_at DESC, r.user_id DESC, r.reaction DESC LIMIT $2`, args...)
	if err != nil {
		return nil, fmt.Errorf("read reactions: %w", err)
	}
	return out, nil
}

//go:embed react.sql
var reactSource string

// reactSQL is for batches of users' own changes, reactAuditedSQL for those with changes of keys. They are one source: see react.sql.
var reactSQL, reactAuditedSQL = variants(reactSource)

// lockReactedSQL locks the conversations of messages in the order of their ids, as send.sql does; a stranger locks nothing. OFFSET 0 is as
// in react.sql.
const lockReactedSQL = `SELECT c.id FROM conversations c WHERE c.id = ANY (ARRAY(
		SELECT m.conversation_id FROM unnest((SELECT $1::text[])::uuid[], $2::text[]::uuid[]) AS i (message_id, user_id)
		CROSS JOIN LATERAL (SELECT m.conversation_id FROM messages m WHERE m.id = i.message_id OFFSET 0) m
		CROSS JOIN LATERAL (SELECT FROM conversation_members k WHERE k.conversation_id = m.conversation_id AND k.user_id = i.user_id OFFSET 0) k))
	ORDER BY c.id FOR NO KEY UPDATE OF c`

type reactionRow struct {
	outcome, conversationID string
	moved                   bool
	at                      time.Time
	result                  ReactionResult
}

// react applies a batch in one transaction and one round trip, and returns a row for each of its changes, in their order.
func (s *Store) react(ctx context.Context, batch []*reactionChange) ([]reactionRow, error) {
	n := len(batch)
	ord, messages, users, reactions, added := make([]int32, n), make([]string, n), make([]string, n), make([]string, n), make([]bool, n)
	for i, c := range batch {
		ord[i], messages[i], users[i], reactions[i], added[i] = int32(i), c.messageID, c.userID, c.reaction, c.added //nolint:gosec // batches are small
	}
	query, args := reactSQL, []any{ord, messages, users, reactions, added}
	entries, err := entriesOf(batch)
	if err != nil {
		return nil, err
	}
	if entries != nil {
		query, args = reactAuditedSQL, append(args, entries)
	}
	out, seen := make([]reactionRow, n), 0
	err = s.db.Pipeline(ctx,
		postgres.Statement{SQL: lockReactedSQL, Args: []any{messages, users}},
		postgres.Statement{SQL: query, Args: args, Scan: func(r postgres.Row) error {
			var row reactionRow
			var i int32
			var all []byte
			if err := r.Scan(&i, &row.outcome, &row.conversationID, &row.result.Revision, &row.moved, &row.at, &all, &row.result.Mine); err != nil {
				return err
			}
			if err := json.Unmarshal(all, &row.result.Reactions); err != nil {
				return err
			}
			out[i] = row
			seen++
			return nil
		}})
	if err != nil {
		return nil, fmt.Errorf("store reactions: %w", err)
	}
	if seen != n {
		return nil, fmt.Errorf("store reactions: %d rows for %d changes", seen, n)
	}
	setMineAfter(batch, out)
	return out, nil
}

// setMineAfter turns the reactions that each user had given to a message before the batch into those after it. The order is that of
// message_reactions.created_at: additions come last, in the order of the batch.
func setMineAfter(batch []*reactionChange, rows []reactionRow) {
	after := map[[2]string][]string{}
	for i, c := range batch {
		if !rows[i].moved {
			continue
		}
		key := [2]string{c.messageID, c.userID}
		mine, again := after[key]
		if !again {
			mine = rows[i].result.Mine
		}
		if c.added {
			mine = append(mine, c.reaction)
		} else {
			mine = slices.DeleteFunc(mine, func(r string) bool { return r == c.reaction })
		}
		after[key] = mine
	}
	for i, c := range batch {
		if mine, moved := after[[2]string{c.messageID, c.userID}]; moved {
			rows[i].result.Mine = mine
		}
	}
}

// entriesOf are the audit log's entries of a batch, nil if it has none.
func entriesOf(batch []*reactionChange) ([]*string, error) {
	if !slices.ContainsFunc(batch, func(c *reactionChange) bool { return c.entry != nil }) {
		return nil, nil
	}
	out := make([]*string, len(batch))
	for i, c := range batch {
		if c.entry == nil {
			continue
		}
		text, err := c.entry.JSON()
		if err != nil {
			return nil, err
		}
		out[i] = &text
	}
	return out, nil
}

// reacted returns the events of a batch: one for each changed message, with all reactions of each user who changed any.
func reacted(batch []*reactionChange, rows []reactionRow) []*event.Event {
	byMessage := map[string]*event.MessageReactions{}
	seen := map[[2]string]bool{}
	var out []*event.Event
	for i, r := range rows {
		if !r.moved {
			continue
		}
		c := batch[i]
		data := byMessage[c.messageID]
		if data == nil {
			data = &event.MessageReactions{ConversationID: r.conversationID, MessageID: c.messageID, Revision: r.result.Revision, Reactions: r.result.Reactions}
			byMessage[c.messageID] = data
			out = append(out, event.MessageReacted(data, r.at.UnixMicro()).In(c.ctx))
		}
		if key := [2]string{c.messageID, c.userID}; !seen[key] {
			seen[key] = true
			data.By = append(data.By, event.ReactedBy{UserID: c.userID, Reactions: r.result.Mine})
		}
	}
	return out
}
