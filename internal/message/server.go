package message

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"gorm.io/gorm"

	"github.com/parley-chat/parley/internal/audit"
	"github.com/parley-chat/parley/internal/chat"
	"github.com/parley-chat/parley/internal/cursor"
	"github.com/parley-chat/parley/internal/event"
	"github.com/parley-chat/parley/internal/invalid"
	"github.com/parley-chat/parley/internal/journal"
	"github.com/parley-chat/parley/internal/postgres"
)

// KindSystem is the kind of a message that reports an event. Messages of users and bots have no kind.
const KindSystem = "system"

// keyed has the additional properties of a draft that a server key sends.
type keyed struct {
	keyID, kind string
	// rules is memberRules, keyRules or botRules.
	rules string
	// entry is the audit log's, with the message as its target.
	entry audit.Signed
}

// The rules by which a message may be sent (send.sql).
const (
	memberRules = "member"
	keyRules    = "key"
	botRules    = "bot"
)

// Sending has the options of SendByKey.
type Sending struct {
	SenderID string
	// Bot is set for a sender who does not have to be a member.
	Bot bool
	// Kind is KindSystem or "".
	Kind string
}

// SendByKey stores a checked draft for the server key of the context. Blocks and the conversation's posting setting don't apply. repeated is as in
// Send.
func (s *Service) SendByKey(ctx context.Context, conversationID string, how Sending, d *Draft) (m chat.Message, repeated bool, err error) {
	a := audit.From(ctx)
	d.keyed = &keyed{keyID: a.KeyID, kind: how.Kind, rules: keyRules, entry: audit.Signed{Actor: a, Entry: audit.Entry{Action: "message.send"}}}
	if how.Bot {
		d.keyed.rules = botRules
	}
	m, repeated, err = s.Send(ctx, conversationID, how.SenderID, d)
	if errors.Is(err, ErrConversationNotFound) && !how.Bot {
		exists, lookErr := s.store.exists(ctx, conversationID)
		if lookErr == nil && exists {
			err = invalid.One("sender", "must be a member of the conversation, or a bot")
		}
	}
	return m, repeated, err
}

// exists reports whether the conversation exists and was not deleted.
func (s *Store) exists(ctx context.Context, conversationID string) (exists bool, err error) {
	err = s.db.SQL.QueryRowContext(ctx, `SELECT EXISTS (SELECT FROM conversations WHERE id = $1 AND deleted_at IS NULL)`, conversationID).Scan(&exists)
	if err != nil {
		return false, fmt.Errorf("look up a conversation: %w", err)
	}
	return exists, nil
}

// HistoryByKey is History for a server key, which may read any conversation.
func (s *Service) HistoryByKey(ctx context.Context, conversationID string, before *cursor.Position, limit int) (Page, error) {
	return s.pageByKey(ctx, conversationID, limit, func() ([]chat.Message, error) {
		return s.store.history(ctx, conversationID, before, limit+1)
	})
}

// AfterSeqByKey is AfterSeq for a server key, which may read any conversation.
func (s *Service) AfterSeqByKey(ctx context.Context, conversationID string, seq int64, limit int) (Page, error) {
	return s.pageByKey(ctx, conversationID, limit, func() ([]chat.Message, error) {
		return s.store.afterSeq(ctx, conversationID, seq, limit+1)
	})
}

func (s *Service) pageByKey(ctx context.Context, conversationID string, limit int, read func() ([]chat.Message, error)) (Page, error) {
	exists, err := s.store.exists(ctx, conversationID)
	if err != nil {
		return Page{}, err
	}
	if !exists {
		return Page{}, ErrConversationNotFound
	}
	list, err := read()
	if err != nil {
		return Page{}, err
	}
	more := len(list) > limit
	if more {
		list = list[:limit]
	}
	return Page{Messages: list, HasMore: more}, nil
}

// GetByKey is Get for a server key, which may read any message.
func (s *Service) GetByKey(ctx context.Context, messageID string) (m chat.Message, err error) {
	row := s.db.SQL.QueryRowContext(ctx, `SELECT `+chat.MessageColumns+` FROM messages m JOIN conversations c ON c.id = m.conversation_id
		WHERE m.id = $1 AND c.deleted_at IS NULL`, messageID)
	err = chat.ScanMessage(row, &m)
	if errors.Is(err, sql.ErrNoRows) {
		return m, ErrNotFound
	}
	if err != nil {
		return m, fmt.Errorf("read a message: %w", err)
	}
	return m, nil
}

// EditByKey is Edit for the server key of the context, which may edit any message.
func (s *Service) EditByKey(ctx context.Context, messageID string, e *Edit) (m chat.Message, err error) {
	var at journal.Stamp
	err = s.db.Tx(ctx, func(tx *gorm.DB) error {
		t, err := lockTargetByKey(tx, messageID)
		if err != nil {
			return err
		}
		if m, at, err = edit(tx, t, e, event.Actor{KeyID: audit.From(ctx).KeyID}); err != nil {
			return err
		}
		return audit.Record(ctx, tx, audit.Entry{Action: "message.update", TargetType: audit.TargetMessage, TargetID: messageID})
	})
	if err != nil {
		return chat.Message{}, err
	}
	s.publisher.Publish(event.MessageUpdated(&m, at.Micros()).In(ctx))
	return m, nil
}

// DeleteByKey is Delete for the server key of the context, which may delete any message.
func (s *Service) DeleteByKey(ctx context.Context, messageID string) error {
	var m chat.Message
	var at journal.Stamp
	err := s.db.Tx(ctx, func(tx *gorm.DB) error {
		t, err := lockTargetByKey(tx, messageID)
		if err != nil {
			return err
		}
		if m, at, err = remove(tx, t, event.Actor{KeyID: audit.From(ctx).KeyID}); err != nil {
			return err
		}
		return audit.Record(ctx, tx, audit.Entry{Action: "message.delete", TargetType: audit.TargetMessage, TargetID: messageID})
	})
	if errors.Is(err, errNothingToDo) {
		return nil
	}
	if err != nil {
		return err
	}
	s.publisher.Publish(event.MessageDeleted(&m, at.Micros()).In(ctx))
	return nil
}

// lockTargetByKey is lockTarget without the rules for members.
func lockTargetByKey(tx *gorm.DB, messageID string) (target, error) {
	_, err := journal.LockOfMessage(tx, messageID)
	if errors.Is(err, journal.ErrNotFound) {
		return target{}, ErrNotFound
	}
	if err != nil {
		return target{}, err
	}
	t := target{byKey: true}
	row := postgres.In(tx).QueryRowContext(postgres.Context(tx), `SELECT `+targetColumns+`
		FROM messages m JOIN conversations c ON c.id = m.conversation_id WHERE m.id = $1 AND c.deleted_at IS NULL`, messageID)
	err = t.scan(row)
	return t, err
}
