package message

import (
	"context"
	"errors"
	"fmt"

	"gorm.io/gorm"

	"github.com/parley-chat/parley/internal/chat"
	"github.com/parley-chat/parley/internal/cursor"
	"github.com/parley-chat/parley/internal/event"
	"github.com/parley-chat/parley/internal/journal"
	"github.com/parley-chat/parley/internal/postgres"
)

// maxPins is the largest number of pinned messages of a conversation.
const maxPins = 50

// Errors of Pin.
var (
	// ErrPinForbidden is returned to a member of a group who is neither an owner nor an admin.
	ErrPinForbidden = errors.New("only owners and admins may pin messages of a group")
	// ErrTooManyPins is returned if a conversation would have more than maxPins pinned messages.
	ErrTooManyPins = errors.New("a conversation has at most 50 pinned messages")
)

// Pin pins or unpins a message, and returns it. Owners and admins of a group may do so, and both users of a direct conversation. Repeating it
// changes nothing.
func (s *Service) Pin(ctx context.Context, messageID, userID string, pinned bool) (chat.Message, error) {
	var m, seen chat.Message
	var at journal.Stamp
	err := s.db.Tx(ctx, func(tx *gorm.DB) error {
		t, err := lockTarget(tx, messageID, userID)
		if err != nil {
			return err
		}
		if t.ConvType == "group" && !t.moderates() {
			return ErrPinForbidden
		}
		if err := t.mayWrite(); err != nil {
			return err
		}
		if t.DeletedAt != nil {
			return ErrDeleted
		}
		if (t.PinnedAt != nil) == pinned {
			return errNothingToDo
		}
		set, args := "pinned_at = NULL, pinned_by_id = NULL", []any{}
		if pinned {
			if err := checkPins(tx, t.ConversationID); err != nil {
				return err
			}
			set, args = fmt.Sprintf("pinned_at = clock_timestamp(), pinned_by_id = $%d::uuid", journal.ChangeParams+1), []any{userID}
		}
		if m, at, err = journal.ChangeMessage(tx, t.change(journal.MessageAnnotated, event.Actor{UserID: userID}), set, args...); err != nil {
			return err
		}
		seen, err = seenBy(tx, userID, m)
		return err
	})
	if errors.Is(err, errNothingToDo) {
		return s.Get(ctx, messageID, userID)
	}
	if err != nil {
		return chat.Message{}, err
	}
	s.publisher.Publish(event.MessageUpdated(&m, at.Micros()).In(ctx))
	return seen, nil
}

func checkPins(tx *gorm.DB, conversationID string) error {
	var n int
	err := postgres.In(tx).QueryRowContext(postgres.Context(tx), `SELECT count(*) FROM messages m
		WHERE m.conversation_id = $1 AND m.pinned_at IS NOT NULL`, conversationID).Scan(&n)
	if err != nil {
		return fmt.Errorf("count pins: %w", err)
	}
	if n >= maxPins {
		return ErrTooManyPins
	}
	return nil
}

// Pins is a page of a conversation's pinned messages, the newest pin first.
func (s *Service) Pins(ctx context.Context, conversationID, viewerID string, before *cursor.Position, limit int) (Page, error) {
	return s.page(ctx, conversationID, viewerID, limit, func() ([]chat.Message, error) {
		return s.store.pins(ctx, conversationID, before, limit+1)
	})
}

func (s *Store) pins(ctx context.Context, conversationID string, before *cursor.Position, limit int) ([]chat.Message, error) {
	query, args := `SELECT `+chat.MessageColumns+` FROM messages m WHERE m.conversation_id = $1 AND m.pinned_at IS NOT NULL`, []any{conversationID, limit}
	if before != nil {
		query += ` AND (m.pinned_at, m.id) < ($3::timestamptz, $4::uuid)`
		args = append(args, before.Time, before.ID)
	}
	out, err := postgres.Collect(ctx, s.db.SQL, scanMessage, query+` ORDER BY m.pinned_at DESC, m.id DESC LIMIT $2`, args...)
	if err != nil {
		return nil, fmt.Errorf("read pins: %w", err)
	}
	return out, nil
}
