package httpapi

import (
	"context"
	"strings"

	"github.com/gofiber/fiber/v2"

	"github.com/parley-chat/parley/internal/chat"
	"github.com/parley-chat/parley/internal/invalid"
	"github.com/parley-chat/parley/internal/user"
)

// users are the profiles that users see of each other, and their own.
type users interface {
	Get(ctx context.Context, viewerID, userID string) (chat.Profile, error)
	Many(ctx context.Context, viewerID string, ids user.IDs) ([]chat.Profile, error)
	Search(ctx context.Context, viewerID string, q user.Query) ([]chat.Profile, error)
	OwnAsOf(ctx context.Context, userID string, stamp user.Stamp) (chat.Own, error)
	Update(ctx context.Context, userID string, c *user.ProfileChange) (chat.Own, error)
	UpdatePrivacy(ctx context.Context, userID string, c *user.PrivacyChange) (chat.Privacy, error)
}

// privacyEvents publishes changes of users' privacy settings. It must not block.
type privacyEvents interface {
	PrivacyChanged(ctx context.Context, userID string)
}

func (s *Server) ownProfile(c *fiber.Ctx) error {
	own, err := s.own(c)
	if err != nil {
		return err
	}
	return c.JSON(own)
}

func (s *Server) profile(c *fiber.Ctx) error {
	id, err := pathID(c, "id", user.ErrNotFound)
	if err != nil {
		return err
	}
	u, err := s.Users.Get(c.UserContext(), caller(c).UserID, id)
	if err != nil {
		return err
	}
	return c.JSON(u)
}

func (s *Server) profiles(c *fiber.Ctx) error {
	ids := user.IDs(queryList(c, "ids"))
	var f invalid.Faults
	ids.Check(&f)
	if err := f.Err(); err != nil {
		return err
	}
	found, err := s.Users.Many(c.UserContext(), caller(c).UserID, ids)
	if err != nil {
		return err
	}
	return c.JSON(fiber.Map{"data": found})
}

func (s *Server) updateProfile(c *fiber.Ctx) error {
	var in user.ProfileChange
	if err := decode(c, &in); err != nil {
		return err
	}
	if s.ProfileSync {
		managed, err := s.Identity.Managed(c.UserContext(), caller(c).UserID)
		if err != nil {
			return err
		}
		if managed {
			return errManaged
		}
	}
	own, err := s.Users.Update(c.UserContext(), caller(c).UserID, &in)
	if err != nil {
		return err
	}
	return c.JSON(own)
}

// own returns the caller's profile, which is at most two seconds old.
func (s *Server) own(c *fiber.Ctx) (chat.Own, error) {
	stamp, _ := c.Locals(localStamp).(user.Stamp)
	return s.Users.OwnAsOf(c.UserContext(), caller(c).UserID, stamp)
}

func (s *Server) privacy(c *fiber.Ctx) error {
	own, err := s.own(c)
	if err != nil {
		return err
	}
	return c.JSON(own.Privacy)
}

func (s *Server) updatePrivacy(c *fiber.Ctx) error {
	var in user.PrivacyChange
	if err := decode(c, &in); err != nil {
		return err
	}
	p, err := s.Users.UpdatePrivacy(c.UserContext(), caller(c).UserID, &in)
	if err != nil {
		return err
	}
	s.Publisher.PrivacyChanged(c.UserContext(), caller(c).UserID)
	return c.JSON(p)
}

// searchSize is the default number of users in a search result, maxSearch the largest.
const (
	searchSize = 20
	maxSearch  = 50
)

func (s *Server) search(c *fiber.Ctx) error {
	var f invalid.Faults
	q := user.Query{Text: strings.Clone(c.Query("q")), Limit: int(queryInt(c, &f, "limit", searchSize, 1, maxSearch))}
	q.Check(&f)
	if err := f.Err(); err != nil {
		return err
	}
	found, err := s.Users.Search(c.UserContext(), caller(c).UserID, q)
	if err != nil {
		return err
	}
	return c.JSON(fiber.Map{"data": found})
}
