package httpapi

import (
	"context"
	"encoding/json"

	"github.com/gofiber/fiber/v2"

	"github.com/parley-chat/parley/internal/event"
	"github.com/parley-chat/parley/internal/id"
	"github.com/parley-chat/parley/internal/invalid"
)

// presences are the presences of users.
type presences interface {
	Read(ctx context.Context, viewerID string, userIDs []string) ([]event.Presence, error)
}

// maxPresences is the largest number of users in a request for presence, maxFramePresences in a frame.
const (
	maxPresences      = 100
	maxFramePresences = 200
)

func (s *Server) presence(c *fiber.Ctx) error {
	userID, err := pathID(c, "userId", errNotFound)
	if err != nil {
		return err
	}
	list, err := s.Presence.Read(c.UserContext(), caller(c).UserID, []string{userID})
	if err != nil {
		return err
	}
	return c.JSON(list[0])
}

func (s *Server) presences(c *fiber.Ctx) error {
	users := queryList(c, "userIds")
	var f invalid.Faults
	checkUserIDs(&f, users, maxPresences)
	if err := f.Err(); err != nil {
		return err
	}
	list, err := s.Presence.Read(c.UserContext(), caller(c).UserID, users)
	if err != nil {
		return err
	}
	return c.JSON(fiber.Map{"data": list})
}

func checkUserIDs(f *invalid.Faults, users []string, most int) {
	if len(users) == 0 || len(users) > most {
		f.Add("userIds", "must be 1 to %d ids of users", most)
		return
	}
	for _, u := range users {
		if !id.Valid(u) {
			f.Add("userIds", "must be ids of users")
			return
		}
	}
}

// presenceData is the data of presence:subscribe and presence:unsubscribe.
type presenceData struct {
	UserIDs []string `json:"userIds"`
}

// Check notes the data's faults.
func (d *presenceData) Check(f *invalid.Faults) { checkUserIDs(f, d.UserIDs, maxFramePresences) }

type presenceAnswer struct {
	Presence []event.Presence `json:"presence"`
}

// watch processes a presence:subscribe. It sends the response itself, because later changes must come after it.
func (r *reader) watch(ctx context.Context, c command) error {
	var in presenceData
	if err := decodeData(c.data, &in); err != nil {
		return err
	}
	return r.session.Subscribe(ctx, in.UserIDs, func(list []event.Presence) {
		if c.id != "" {
			r.session.Reply(event.TypeAck, c.id, presenceAnswer{list})
		}
	})
}

func (r *reader) unwatch(ctx context.Context, data json.RawMessage) (any, error) {
	var in presenceData
	if err := decodeData(data, &in); err != nil {
		return nil, err
	}
	r.session.Unsubscribe(in.UserIDs)
	list, err := r.server.Presence.Read(ctx, r.session.UserID, in.UserIDs)
	if err != nil {
		return nil, err
	}
	return presenceAnswer{list}, nil
}
