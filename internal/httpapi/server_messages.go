package httpapi

import (
	"context"
	"math"

	"github.com/gofiber/fiber/v2"

	"github.com/parley-chat/parley/internal/chat"
	"github.com/parley-chat/parley/internal/cursor"
	"github.com/parley-chat/parley/internal/invalid"
	"github.com/parley-chat/parley/internal/message"
	"github.com/parley-chat/parley/internal/metadata"
)

// keyedMessages are the messages as a product's back end manages them.
type keyedMessages interface {
	SendByKey(ctx context.Context, conversationID string, how message.Sending, d *message.Draft) (chat.Message, bool, error)
	HistoryByKey(ctx context.Context, conversationID string, before *cursor.Position, limit int) (message.Page, error)
	AfterSeqByKey(ctx context.Context, conversationID string, seq int64, limit int) (message.Page, error)
	GetByKey(ctx context.Context, messageID string) (chat.Message, error)
	EditByKey(ctx context.Context, messageID string, e *message.Edit) (chat.Message, error)
	DeleteByKey(ctx context.Context, messageID string) error
}

// keyedDraft is a message that a server key sends. It repeats the fields of message.Draft because jsonbody does not support embedded structs.
type keyedDraft struct {
	Sender          string               `json:"sender"`
	Kind            string               `json:"kind,omitempty"`
	Content         string               `json:"content"`
	ClientMessageID string               `json:"clientMessageId"`
	ReplyToID       *string              `json:"replyToId,omitempty"`
	Metadata        metadata.Object      `json:"metadata,omitempty"`
	Mentions        *message.MentionList `json:"mentions,omitempty"`
	Attachments     []string             `json:"attachments,omitempty"`

	draft message.Draft
}

// Check normalises the draft and adds its faults.
func (d *keyedDraft) Check(f *invalid.Faults) {
	d.draft = message.Draft{
		Content: d.Content, ClientMessageID: &d.ClientMessageID, ReplyToID: d.ReplyToID, Metadata: d.Metadata, Mentions: d.Mentions, Attachments: d.Attachments,
	}
	d.draft.Check(f)
	switch d.Kind {
	case "", "text":
		d.Kind = ""
	case message.KindSystem:
	default:
		f.Add("kind", "must be text or system")
	}
}

func (s *Server) keyedSend(c *fiber.Ctx) error {
	conversationID, err := s.keyedConversation(c)
	if err != nil {
		return err
	}
	var in keyedDraft
	if err := decode(c, &in); err != nil {
		return err
	}
	sender, err := s.Directory.ResolveAll(c.UserContext(), []string{in.Sender})
	if err != nil {
		return err
	}
	how := message.Sending{SenderID: sender[0].ID, Bot: sender[0].Bot, Kind: in.Kind}
	m, repeated, err := s.Messages.SendByKey(c.UserContext(), conversationID, how, &in.draft)
	if err != nil {
		return err
	}
	if !repeated {
		c.Status(fiber.StatusCreated)
	}
	return c.JSON(m)
}

func (s *Server) keyedHistory(c *fiber.Ctx) error {
	conversationID, err := s.keyedConversation(c)
	if err != nil {
		return err
	}
	var f invalid.Faults
	query, seq := c.Context().QueryArgs(), int64(0)
	bySeq := query.Has("afterSeq")
	if bySeq {
		if seq = queryInt(c, &f, "afterSeq", -1, 0, math.MaxInt64); seq < 0 {
			f.Add("afterSeq", "must be a seq")
		}
		if query.Has("cursor") {
			f.Add("cursor", "does not go with afterSeq")
		}
	}
	p, err := pageWith(c, &f)
	if err != nil {
		return err
	}
	if !bySeq {
		found, err := s.Messages.HistoryByKey(c.UserContext(), conversationID, p.after, p.limit)
		if err != nil {
			return err
		}
		return list(c, found.Messages, found.HasMore, messagePosition)
	}
	found, err := s.Messages.AfterSeqByKey(c.UserContext(), conversationID, seq, p.limit)
	if err != nil {
		return err
	}
	return c.JSON(listBody{Data: found.Messages, Pagination: pagination{HasMore: found.HasMore}})
}

func (s *Server) keyedMessage(c *fiber.Ctx) error {
	messageID, err := messageID(c)
	if err != nil {
		return err
	}
	m, err := s.Messages.GetByKey(c.UserContext(), messageID)
	if err != nil {
		return err
	}
	return c.JSON(m)
}

func (s *Server) keyedEdit(c *fiber.Ctx) error {
	messageID, err := messageID(c)
	if err != nil {
		return err
	}
	var in message.Edit
	if err := decode(c, &in); err != nil {
		return err
	}
	m, err := s.Messages.EditByKey(c.UserContext(), messageID, &in)
	if err != nil {
		return err
	}
	return c.JSON(m)
}

func (s *Server) keyedDeleteMessage(c *fiber.Ctx) error {
	messageID, err := messageID(c)
	if err != nil {
		return err
	}
	if err := s.Messages.DeleteByKey(c.UserContext(), messageID); err != nil {
		return err
	}
	return c.SendStatus(fiber.StatusNoContent)
}
