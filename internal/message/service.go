package message

import (
	"bytes"
	"context"
	"errors"
	"time"

	"gorm.io/gorm"

	"github.com/parley-chat/parley/internal/chat"
	"github.com/parley-chat/parley/internal/cursor"
	"github.com/parley-chat/parley/internal/event"
	"github.com/parley-chat/parley/internal/invalid"
	"github.com/parley-chat/parley/internal/journal"
	"github.com/parley-chat/parley/internal/postgres"
)

// Service is what can be done with messages.
type Service struct {
	db        *postgres.DB
	store     *Store
	committer *Committer
	publisher Publisher
}

// NewService makes the service.
func NewService(db *postgres.DB, store *Store, c *Committer, p Publisher) *Service {
	return &Service{db: db, store: store, committer: c, publisher: p}
}

// Send stores a draft that was checked. repeated is set where the sender's clientMessageId had been used for the same
// draft before: the message is then that one as it is now.
func (s *Service) Send(ctx context.Context, conversationID, senderID string, d *Draft) (m chat.Message, repeated bool, err error) {
	return s.sendAt(ctx, conversationID, senderID, d, nil)
}

// sendAt is Send with the clock's time given, for tests.
func (s *Service) sendAt(ctx context.Context, conversationID, senderID string, d *Draft, at *time.Time) (chat.Message, bool, error) {
	p := &pending{conversationID: conversationID, senderID: senderID, draft: d, at: at}
	if err := s.committer.submit(ctx, p); err != nil {
		return chat.Message{}, false, err
	}
	return s.answer(ctx, p)
}

// answer is what a send whose commit is done is answered.
func (s *Service) answer(ctx context.Context, p *pending) (chat.Message, bool, error) {
	if p.err != nil {
		return chat.Message{}, false, p.err
	}
	switch p.outcome {
	case outcomeStored:
		return p.message, false, nil
	case outcomeDuplicate:
		return s.repeated(ctx, p)
	case outcomeBlocked:
		return chat.Message{}, false, ErrCannotMessage
	case outcomeBadReply:
		return chat.Message{}, false, invalid.One("replyToId", "must be a message of this conversation")
	default:
		return chat.Message{}, false, ErrConversationNotFound
	}
}

func (s *Service) repeated(ctx context.Context, p *pending) (chat.Message, bool, error) {
	m, hash, err := s.store.byClientID(ctx, p.conversationID, p.senderID, *p.draft.ClientMessageID)
	if err != nil {
		return chat.Message{}, false, err
	}
	if !bytes.Equal(hash, p.draft.hash()) {
		return chat.Message{}, false, ErrClientMessageIDReused
	}
	return m, true, nil
}

// History is a page of the messages before a position, newest first.
func (s *Service) History(ctx context.Context, conversationID, viewerID string, before *cursor.Position, limit int) (Page, error) {
	return s.page(ctx, conversationID, viewerID, limit, func() ([]chat.Message, error) {
		return s.store.history(ctx, conversationID, before, limit+1)
	})
}

// AfterSeq is a page of the messages after a seq, oldest first.
func (s *Service) AfterSeq(ctx context.Context, conversationID, viewerID string, seq int64, limit int) (Page, error) {
	return s.page(ctx, conversationID, viewerID, limit, func() ([]chat.Message, error) {
		return s.store.afterSeq(ctx, conversationID, seq, limit+1)
	})
}

func (s *Service) page(ctx context.Context, conversationID, viewerID string, limit int, read func() ([]chat.Message, error)) (Page, error) {
	member, err := s.store.isMember(ctx, conversationID, viewerID)
	if err != nil {
		return Page{}, err
	}
	if !member {
		return Page{}, ErrConversationNotFound
	}
	list, err := read()
	if err != nil {
		return Page{}, err
	}
	if len(list) > limit {
		return Page{Messages: list[:limit], HasMore: true}, nil
	}
	return Page{Messages: list}, nil
}

// Edit replaces the content of the editor's own message.
func (s *Service) Edit(ctx context.Context, messageID, editorID string, e *Edit) (chat.Message, error) {
	var m chat.Message
	var at journal.Stamp
	err := s.db.Tx(ctx, func(tx *gorm.DB) error {
		t, err := lockTarget(tx, messageID, editorID)
		switch {
		case err != nil:
			return err
		case t.SenderID != editorID:
			return ErrForbidden
		case t.Deleted:
			return ErrDeleted
		}
		m, at, err = journal.ChangeMessage(tx, changeOf(journal.MessageUpdated, messageID, t, editorID), "content = $9, edited_at = clock_timestamp()", e.Content)
		return err
	})
	if err != nil {
		return chat.Message{}, err
	}
	s.publisher.Publish(event.MessageUpdated(&m, at.Micros()).In(ctx))
	return m, nil
}

func changeOf(kind journal.Kind, messageID string, t target, actorID string) journal.Change {
	return journal.Change{ConversationID: t.ConversationID, Kind: kind, MessageID: messageID, Actor: event.Actor{UserID: actorID}}
}

var errNothingToDo = errors.New("nothing to do")

// Delete empties a message: the sender's own, or any for an owner or admin of a group. Deleting again changes nothing.
func (s *Service) Delete(ctx context.Context, messageID, userID string) error {
	var m chat.Message
	var at journal.Stamp
	err := s.db.Tx(ctx, func(tx *gorm.DB) error {
		t, err := lockTarget(tx, messageID, userID)
		switch {
		case err != nil:
			return err
		case t.SenderID != userID && (t.ConvType != "group" || t.Role == "member"):
			return ErrForbidden
		case t.Deleted:
			return errNothingToDo
		}
		m, at, err = journal.ChangeMessage(tx, changeOf(journal.MessageDeleted, messageID, t, userID), "content = '', deleted_at = clock_timestamp()")
		return err
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

// CanType returns nil where the user may write in the conversation.
func (s *Service) CanType(ctx context.Context, conversationID, userID string) error {
	member, blocked, err := s.store.canType(ctx, conversationID, userID)
	switch {
	case err != nil:
		return err
	case !member:
		return ErrConversationNotFound
	case blocked:
		return ErrCannotMessage
	}
	return nil
}
