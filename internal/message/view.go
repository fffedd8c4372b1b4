package message

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"

	"gorm.io/gorm"

	"github.com/parley-chat/parley/internal/chat"
	"github.com/parley-chat/parley/internal/postgres"
)

// Get reads a message as a member of its conversation sees it.
func (s *Service) Get(ctx context.Context, messageID, viewerID string) (chat.Message, error) {
	m, err := s.store.one(ctx, messageID, viewerID)
	if err != nil {
		return chat.Message{}, err
	}
	one := []chat.Message{m}
	err = s.store.addMine(ctx, s.db.SQL, viewerID, one)
	return one[0], err
}

// one reads a message for a member of its conversation. It returns ErrNotFound for all others.
func (s *Store) one(ctx context.Context, messageID, viewerID string) (m chat.Message, err error) {
	row := s.db.SQL.QueryRowContext(ctx, `SELECT `+chat.MessageColumns+` FROM messages m
		JOIN conversation_members u ON u.conversation_id = m.conversation_id AND u.user_id = $2 WHERE m.id = $1`, messageID, viewerID)
	err = chat.ScanMessage(row, &m)
	if errors.Is(err, sql.ErrNoRows) {
		return m, ErrNotFound
	}
	if err != nil {
		return m, fmt.Errorf("read a message: %w", err)
	}
	return m, nil
}

// AroundPage is a part of a conversation's history around a message, the highest seq first.
type AroundPage struct {
	Messages []chat.Message
	// HasMore is set if there are older messages, HasNewer if there are newer ones.
	HasMore, HasNewer bool
}

// Around reads a message with half a page on each side, limit messages in all.
func (s *Service) Around(ctx context.Context, conversationID, viewerID, messageID string, limit int) (AroundPage, error) {
	middle, err := s.store.one(ctx, messageID, viewerID)
	switch {
	case err != nil:
		return AroundPage{}, err
	case middle.ConversationID != conversationID:
		return AroundPage{}, ErrNotFound
	}
	newer := (limit - 1) / 2
	older := limit - 1 - newer
	after, err := s.store.afterSeq(ctx, conversationID, middle.Seq, newer+1)
	if err != nil {
		return AroundPage{}, err
	}
	before, err := s.store.beforeSeq(ctx, conversationID, middle.Seq, older+1)
	if err != nil {
		return AroundPage{}, err
	}
	p := AroundPage{HasMore: len(before) > older, HasNewer: len(after) > newer}
	after, before = after[:min(len(after), newer)], before[:min(len(before), older)]
	slices.Reverse(after)
	p.Messages = slices.Concat(after, []chat.Message{middle}, before)
	return p, s.store.addMine(ctx, s.db.SQL, viewerID, p.Messages)
}

// beforeSeq reads the newest messages before a seq, newest first.
func (s *Store) beforeSeq(ctx context.Context, conversationID string, seq int64, limit int) ([]chat.Message, error) {
	out, err := postgres.Collect(ctx, s.db.SQL, scanMessage, `SELECT `+chat.MessageColumns+` FROM messages m
		WHERE m.conversation_id = $1 AND m.seq < $3 ORDER BY m.seq DESC LIMIT $2`, conversationID, limit, seq)
	if err != nil {
		return nil, fmt.Errorf("read messages before a seq: %w", err)
	}
	return out, nil
}

// seenBy is a message that a transaction changed as the viewer sees it.
func seenBy(tx *gorm.DB, viewerID string, m chat.Message) (chat.Message, error) {
	one := []chat.Message{m}
	err := addMine(postgres.Context(tx), postgres.In(tx), viewerID, one)
	return one[0], err
}

func (s *Store) addMine(ctx context.Context, q postgres.Querier, viewerID string, list []chat.Message) error {
	return addMine(ctx, q, viewerID, list)
}

func addMine(ctx context.Context, q postgres.Querier, viewerID string, list []chat.Message) error {
	pointers := make([]*chat.Message, len(list))
	for i := range list {
		pointers[i] = &list[i]
	}
	return setMine(ctx, q, viewerID, pointers)
}

// SetMine sets the viewer's own reactions in messages that nobody else is given.
func (s *Store) SetMine(ctx context.Context, q postgres.Querier, viewerID string, list []*chat.Message) error {
	return setMine(ctx, q, viewerID, list)
}

// setMine asks Postgres only if a message has reactions.
func setMine(ctx context.Context, q postgres.Querier, viewerID string, list []*chat.Message) error {
	var ids []string
	for _, m := range list {
		if len(m.Reactions) > 0 {
			ids = append(ids, m.ID)
		}
	}
	if len(ids) == 0 {
		return nil
	}
	type own struct{ messageID, reaction string }
	found, err := postgres.Collect(ctx, q, func(r postgres.Row, o *own) error { return r.Scan(&o.messageID, &o.reaction) },
		`SELECT message_id, reaction FROM message_reactions WHERE user_id = $1 AND message_id = ANY ($2::text[]::uuid[])
		ORDER BY created_at, reaction`, viewerID, ids)
	if err != nil {
		return fmt.Errorf("read a viewer's reactions: %w", err)
	}
	mine := map[string][]string{}
	for _, o := range found {
		mine[o.messageID] = append(mine[o.messageID], o.reaction)
	}
	for _, m := range list {
		m.Mine = mine[m.ID]
	}
	return nil
}
