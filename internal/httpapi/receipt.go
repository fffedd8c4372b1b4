package httpapi

import (
	"context"
	"encoding/json"

	"github.com/gofiber/fiber/v2"

	"github.com/parley-chat/parley/internal/cursor"
	"github.com/parley-chat/parley/internal/event"
	"github.com/parley-chat/parley/internal/id"
	"github.com/parley-chat/parley/internal/invalid"
	"github.com/parley-chat/parley/internal/receipt"
)

// receipts are the users' read markers, and the receipts of messages.
type receipts interface {
	Read(ctx context.Context, userID, messageID, socketID string) error
	ReadUpTo(ctx context.Context, userID, conversationID string, u *receipt.UpTo) error
	ReadMany(ctx context.Context, userID string, r *receipt.ReadMany) error
	Receipts(ctx context.Context, viewerID, messageID string, after *cursor.Position, limit int) (receipt.Page, error)
	MarkersOf(ctx context.Context, viewerID, conversationID string) ([]event.Marker, error)
}

func (s *Server) readMessage(c *fiber.Ctx) error {
	id, err := messageID(c)
	if err != nil {
		return err
	}
	if err := s.Receipts.Read(c.UserContext(), caller(c).UserID, id, ""); err != nil {
		return err
	}
	s.noteActive(nil, caller(c))
	return c.SendStatus(fiber.StatusNoContent)
}

func (s *Server) readConversation(c *fiber.Ctx) error {
	id, err := conversationID(c)
	if err != nil {
		return err
	}
	var in receipt.UpTo
	if err := decode(c, &in); err != nil {
		return err
	}
	if err := s.Receipts.ReadUpTo(c.UserContext(), caller(c).UserID, id, &in); err != nil {
		return err
	}
	s.noteActive(nil, caller(c))
	return c.SendStatus(fiber.StatusNoContent)
}

type receiptsBody struct {
	listBody
	Count int `json:"count"`
}

func (s *Server) readMany(c *fiber.Ctx) error {
	var in receipt.ReadMany
	if err := decode(c, &in); err != nil {
		return err
	}
	if err := s.Receipts.ReadMany(c.UserContext(), caller(c).UserID, &in); err != nil {
		return err
	}
	s.noteActive(nil, caller(c))
	return c.SendStatus(fiber.StatusNoContent)
}

func (s *Server) listReceipts(c *fiber.Ctx) error {
	id, err := messageID(c)
	if err != nil {
		return err
	}
	p, err := pageOf(c)
	if err != nil {
		return err
	}
	found, err := s.Receipts.Receipts(c.UserContext(), caller(c).UserID, id, p.after, p.limit)
	if err != nil {
		return err
	}
	return c.JSON(receiptsBody{
		listBody{Data: found.Receipts, Pagination: paginate(found.Receipts, found.HasMore, func(r receipt.Receipt) cursor.Position {
			return cursor.Position{Time: r.ReadAt.Time, ID: r.UserID}
		})},
		found.Count,
	})
}

type markersBody struct {
	Data []event.Marker `json:"data"`
}

func (s *Server) listMarkers(c *fiber.Ctx) error {
	id, err := conversationID(c)
	if err != nil {
		return err
	}
	found, err := s.Receipts.MarkersOf(c.UserContext(), caller(c).UserID, id)
	if err != nil {
		return err
	}
	return c.JSON(markersBody{found})
}

// readData is the data of a message:read.
type readData struct {
	MessageID string `json:"messageId"`
}

// Check notes no faults: a malformed id is treated as unknown.
func (*readData) Check(*invalid.Faults) {}

func (r *reader) markRead(ctx context.Context, data json.RawMessage) (any, error) {
	var in readData
	if err := decodeData(data, &in); err != nil {
		return nil, err
	}
	if !id.Valid(in.MessageID) {
		return nil, receipt.ErrNotFound
	}
	err := r.server.Receipts.Read(ctx, r.session.UserID, in.MessageID, r.session.ID)
	r.server.noteActive(err, r.principal())
	return struct{}{}, err
}
