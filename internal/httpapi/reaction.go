package httpapi

import (
	"context"
	"encoding/json"

	"github.com/gofiber/fiber/v2"

	"github.com/parley-chat/parley/internal/cursor"
	"github.com/parley-chat/parley/internal/id"
	"github.com/parley-chat/parley/internal/invalid"
	"github.com/parley-chat/parley/internal/message"
)

// reactions are the reactions to messages.
type reactions interface {
	React(ctx context.Context, messageID, userID, reaction string, added bool) (message.ReactionResult, error)
	Reactions(ctx context.Context, messageID, viewerID, reaction string, before *cursor.Labelled, limit int) ([]message.UserReaction, bool, error)
}

func (s *Server) addReaction(c *fiber.Ctx) error    { return s.setReaction(c, true) }
func (s *Server) removeReaction(c *fiber.Ctx) error { return s.setReaction(c, false) }

func (s *Server) setReaction(c *fiber.Ctx, added bool) error {
	id, err := messageID(c)
	if err != nil {
		return err
	}
	reaction, err := pathText(c, "reaction")
	if err != nil {
		return invalid.One("reaction", "must be percent-encoded")
	}
	var f invalid.Faults
	message.CheckReaction(&f, "reaction", &reaction)
	if err := f.Err(); err != nil {
		return err
	}
	result, err := s.Messages.React(c.UserContext(), id, caller(c).UserID, reaction, added)
	if err != nil {
		return err
	}
	return c.JSON(result)
}

func (s *Server) listReactions(c *fiber.Ctx) error {
	id, err := messageID(c)
	if err != nil {
		return err
	}
	var f invalid.Faults
	limit := int(queryInt(c, &f, "limit", pageSize, 1, maxPage))
	var reaction string
	if c.Context().QueryArgs().Has("reaction") {
		reaction = string(c.Context().QueryArgs().Peek("reaction"))
		message.CheckReaction(&f, "reaction", &reaction)
	}
	if err := f.Err(); err != nil {
		return err
	}
	var before *cursor.Labelled
	if c.Context().QueryArgs().Has("cursor") {
		at, err := cursor.DecodeLabelled(c.Query("cursor"))
		if err != nil {
			return err
		}
		before = &at
	}
	items, more, err := s.Messages.Reactions(c.UserContext(), id, caller(c).UserID, reaction, before, limit)
	if err != nil {
		return err
	}
	p := pagination{HasMore: more}
	if more {
		last := items[len(items)-1]
		next := cursor.EncodeLabelled(cursor.Labelled{Position: cursor.Position{Time: last.CreatedAt.Time, ID: last.User.ID}, Label: last.Reaction})
		p.NextCursor = &next
	}
	return c.JSON(listBody{Data: items, Pagination: p})
}

// reactionData is the data of reaction:add and reaction:remove.
type reactionData struct {
	MessageID string `json:"messageId"`
	Reaction  string `json:"reaction"`
}

// Check normalises the reaction and notes its faults. A malformed id is treated as unknown.
func (d *reactionData) Check(f *invalid.Faults) { message.CheckReaction(f, "reaction", &d.Reaction) }

func (r *reader) react(ctx context.Context, data json.RawMessage, added bool) (any, error) {
	var in reactionData
	if err := decodeData(data, &in); err != nil {
		return nil, err
	}
	if !id.Valid(in.MessageID) {
		return nil, message.ErrNotFound
	}
	if err := r.server.guardUser(ctx, ruleReact, r.server.Limits.React, r.session.UserID); err != nil {
		return nil, err
	}
	return r.server.Messages.React(ctx, in.MessageID, r.session.UserID, in.Reaction, added)
}
