package message

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/parley-chat/parley/internal/audit"
	"github.com/parley-chat/parley/internal/chat"
	"github.com/parley-chat/parley/internal/cursor"
	"github.com/parley-chat/parley/internal/invalid"
	"github.com/parley-chat/parley/internal/postgres"
)

// Service sends, reads and changes messages. Its methods may be called concurrently.
type Service struct {
	db        *postgres.DB
	store     *Store
	committer *Committer
	reactor   *Reactor
	publisher Publisher
}

// NewService makes the service.
func NewService(db *postgres.DB, store *Store, c *Committer, r *Reactor, p Publisher) *Service {
	return &Service{db: db, store: store, committer: c, reactor: r, publisher: p}
}

// Send stores a checked draft. repeated is set if the sender has sent the same draft with the same clientMessageId before: m is then that
// message in its present state.
func (s *Service) Send(ctx context.Context, conversationID, senderID string, d *Draft) (m chat.Message, repeated bool, err error) {
	return s.sendAt(ctx, conversationID, senderID, d, nil)
}

// sendAt is Send with a given time, for tests.
func (s *Service) sendAt(ctx context.Context, conversationID, senderID string, d *Draft, at *time.Time) (chat.Message, bool, error) {
	x, err := s.begin(ctx, &pending{conversationID: conversationID, senderID: senderID, draft: d, at: at})
	if err != nil {
		return chat.Message{}, false, err
	}
	return x.Wait(ctx)
}

// Queued is a send that waits for its commit.
type Queued struct {
	s *Service
	p *pending
}

// Begin queues a checked draft, and returns without waiting for its commit. Sends of one lane are committed in the order of the calls of Begin,
// also across conversations. Begin must not be called concurrently for one lane. It returns ErrBusy if too many sends wait.
func (s *Service) Begin(ctx context.Context, lane *Lane, conversationID, senderID string, d *Draft) (Queued, error) {
	return s.begin(ctx, &pending{conversationID: conversationID, senderID: senderID, draft: d, lane: lane})
}

func (s *Service) begin(ctx context.Context, p *pending) (Queued, error) {
	if r := audit.OfRequest(ctx); r != nil { // a server key acts for the sender
		p.draft.keyed = &keyed{keyID: r.Actor.KeyID, rules: memberRules, entry: *r}
	}
	return Queued{s, p}, s.committer.submit(ctx, p)
}

// Wait waits for the commit, and returns the result of Send.
func (x Queued) Wait(ctx context.Context) (m chat.Message, repeated bool, err error) {
	if err := x.p.await(ctx); err != nil {
		return chat.Message{}, false, err
	}
	return x.s.answer(ctx, x.p)
}

// answer returns the result of a send whose commit has ended.
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
	case outcomeNoPosting:
		return chat.Message{}, false, ErrNoPosting
	case outcomeNoMentionAll:
		return chat.Message{}, false, ErrMentionAll
	case outcomeBadAttachment:
		return s.refusedFiles(ctx, p)
	case outcomeBadMention:
		return chat.Message{}, false, errBadMention
	case outcomeBadReply:
		return chat.Message{}, false, invalid.One("replyToId", "must be a message of this conversation")
	default:
		return chat.Message{}, false, ErrConversationNotFound
	}
}

// refusedFiles returns the result of a send whose files can't be sent. If it repeats a send that was committed at the same time, and so used the
// files, that is the earlier message.
func (s *Service) refusedFiles(ctx context.Context, p *pending) (chat.Message, bool, error) {
	if p.draft.ClientMessageID != nil {
		m, repeated, err := s.repeated(ctx, p)
		if !errors.Is(err, sql.ErrNoRows) {
			return m, repeated, err
		}
	}
	return chat.Message{}, false, invalid.One("attachments", "must be files of your own that are uploaded and not sent yet")
}

func (s *Service) repeated(ctx context.Context, p *pending) (chat.Message, bool, error) {
	m, hash, err := s.store.byClientID(ctx, p.conversationID, p.senderID, *p.draft.ClientMessageID)
	if err != nil {
		return chat.Message{}, false, err
	}
	if !bytes.Equal(hash, p.draft.hash()) {
		return chat.Message{}, false, ErrClientMessageIDReused
	}
	one := []chat.Message{m}
	err = s.store.addMine(ctx, s.db.SQL, p.senderID, one)
	return one[0], true, err
}

// History returns a page of the messages before a position, the newest first.
func (s *Service) History(ctx context.Context, conversationID, viewerID string, before *cursor.Position, limit int) (Page, error) {
	return s.page(ctx, conversationID, viewerID, limit, func() ([]chat.Message, error) {
		return s.store.history(ctx, conversationID, before, limit+1)
	})
}

// AfterSeq returns a page of the messages after a seq, the oldest first.
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
	more := len(list) > limit
	if more {
		list = list[:limit]
	}
	return Page{Messages: list, HasMore: more}, s.store.addMine(ctx, s.db.SQL, viewerID, list)
}

// CanType returns nil if the user may write in the conversation.
func (s *Service) CanType(ctx context.Context, conversationID, userID string) error {
	member, blocked, readOnly, err := s.store.canType(ctx, conversationID, userID)
	switch {
	case err != nil:
		return err
	case !member:
		return ErrConversationNotFound
	case blocked:
		return ErrCannotMessage
	case readOnly:
		return ErrNoPosting
	}
	return nil
}
