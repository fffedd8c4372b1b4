package httpapi

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/gofiber/fiber/v2"

	"github.com/parley-chat/parley/internal/auth"
	"github.com/parley-chat/parley/internal/cursor"
	"github.com/parley-chat/parley/internal/directory"
	"github.com/parley-chat/parley/internal/invalid"
	"github.com/parley-chat/parley/internal/jsonbody"
)

// keyedUsers are the users as a product's back end manages them.
type keyedUsers interface {
	Upsert(ctx context.Context, items []*directory.Item) error
	List(ctx context.Context, f directory.Filter) ([]directory.User, bool, error)
	Get(ctx context.Context, userID string) (directory.User, error)
	Update(ctx context.Context, userID string, p *directory.Patch) (directory.User, error)
	Deactivate(ctx context.Context, userID string) (directory.User, error)
	Reactivate(ctx context.Context, userID string) (directory.User, error)
	Ban(ctx context.Context, userID string, b *directory.BanRequest) (directory.User, error)
	Unban(ctx context.Context, userID string) (directory.User, error)
}

// keyedSessions opens and ends sessions of users for a product's back end.
type keyedSessions interface {
	Mint(ctx context.Context, userID, keyID string, ttl time.Duration) (auth.Pair, error)
	EndAll(ctx context.Context, userID string) error
}

// maxBulk is the largest number of users in a bulk.
const maxBulk = 1000

// bulkUsers are users to be created or changed. Each is decoded separately, so that a faulty one does not fail the others.
type bulkUsers struct {
	Users []json.RawMessage `json:"users"`
}

// Check adds a fault for a bulk that is empty or too large.
func (b *bulkUsers) Check(f *invalid.Faults) {
	if len(b.Users) < 1 || len(b.Users) > maxBulk {
		f.Add("users", "must have 1 to %d users", maxBulk)
	}
}

// items decodes each user. A repeated external id fails the whole bulk, because it is ambiguous.
func (b *bulkUsers) items() ([]*directory.Item, error) {
	var f invalid.Faults
	items := make([]*directory.Item, len(b.Users))
	seen := make(map[string]bool, len(items))
	for n, raw := range b.Users {
		items[n] = &directory.Item{}
		items[n].Err = jsonbody.Decode(raw, &items[n].Draft)
		if items[n].Err != nil {
			items[n].Result = directory.Failed
		}
		if ext := items[n].ExternalID; ext != "" && seen[ext] {
			f.Add("users", "must not have the same externalId twice")
		}
		seen[items[n].ExternalID] = true
	}
	return items, f.Err()
}

type upserted struct {
	ExternalID string   `json:"externalId"`
	ID         *string  `json:"id"`
	Result     string   `json:"result"`
	Problem    *problem `json:"problem,omitempty"`
}

func (s *Server) upsertUsers(c *fiber.Ctx) error {
	var in bulkUsers
	if err := decode(c, &in); err != nil {
		return err
	}
	if err := s.guardItems(c, len(in.Users)); err != nil {
		return err
	}
	items, err := in.items()
	if err != nil {
		return err
	}
	if err := s.Directory.Upsert(c.UserContext(), items); err != nil {
		return err
	}
	out := make([]upserted, len(items))
	for n, i := range items {
		out[n] = upserted{ExternalID: i.ExternalID, Result: i.Result}
		if i.Err != nil {
			p := problemOf(i.Err, requestID(c))
			out[n].Problem = &p
			continue
		}
		out[n].ID = &i.ID
	}
	return c.JSON(fiber.Map{"data": out})
}

// maxListText is the largest number of characters of the text by which users are listed.
const maxListText = 128

// maxServerPage is the largest number of items on a page of the server API.
const maxServerPage = 200

func (s *Server) listUsers(c *fiber.Ctx) error {
	var f invalid.Faults
	filter := directory.Filter{
		Text: strings.Clone(c.Query("q")), State: strings.Clone(c.Query("state")), UpdatedAfter: queryTime(c, &f, "updatedAfter"),
		Limit: int(queryInt(c, &f, "limit", pageSize, 1, maxServerPage)),
	}
	if filter.State != "" && !slices.Contains([]string{directory.StateActive, directory.StateBanned, directory.StateDeactivated}, filter.State) {
		f.Add("state", "must be active, banned or deactivated")
	}
	if utf8.RuneCountInString(filter.Text) > maxListText {
		f.Add("q", "must have at most %d characters", maxListText)
	}
	if err := f.Err(); err != nil {
		return err
	}
	var err error
	if filter.After, err = queryCursor(c); err != nil {
		return err
	}
	users, more, err := s.Directory.List(c.UserContext(), filter)
	if err != nil {
		return err
	}
	return list(c, users, more, func(u directory.User) cursor.Position { return cursor.Position{Time: u.UpdatedAt.Time, ID: u.ID} })
}

// queryCursor reads the query parameter cursor, nil if it is absent.
func queryCursor(c *fiber.Ctx) (*cursor.Position, error) {
	if !c.Context().QueryArgs().Has("cursor") {
		return nil, nil
	}
	at, err := cursor.Decode(c.Query("cursor"))
	return &at, err
}

// pathName reads an id, or "ext:" and a percent-encoded external id, from the path.
func pathName(c *fiber.Ctx, name string) string {
	v, err := pathText(c, name)
	if err != nil {
		return ""
	}
	return v
}

// withUser finds the user in the path, and responds with the result of f.
func (s *Server) withUser(f func(c *fiber.Ctx, userID string) (any, error)) fiber.Handler {
	return func(c *fiber.Ctx) error {
		userID, err := s.Directory.Resolve(c.UserContext(), pathName(c, "user"))
		if err != nil {
			return err
		}
		answer, err := f(c, userID)
		switch {
		case err != nil:
			return err
		case answer == nil:
			return c.SendStatus(fiber.StatusNoContent)
		}
		return c.JSON(answer)
	}
}

func (s *Server) getUser(c *fiber.Ctx, userID string) (any, error) {
	return s.Directory.Get(c.UserContext(), userID)
}

func (s *Server) patchUser(c *fiber.Ctx, userID string) (any, error) {
	var in directory.Patch
	if err := decode(c, &in); err != nil {
		return nil, err
	}
	return s.Directory.Update(c.UserContext(), userID, &in)
}

func (s *Server) deactivateUser(c *fiber.Ctx, userID string) (any, error) {
	return s.Directory.Deactivate(c.UserContext(), userID)
}

func (s *Server) reactivateUser(c *fiber.Ctx, userID string) (any, error) {
	return s.Directory.Reactivate(c.UserContext(), userID)
}

func (s *Server) banUser(c *fiber.Ctx, userID string) (any, error) {
	var in directory.BanRequest
	if err := decodeOptional(c, &in); err != nil {
		return nil, err
	}
	return s.Directory.Ban(c.UserContext(), userID, &in)
}

func (s *Server) unbanUser(c *fiber.Ctx, userID string) (any, error) {
	_, err := s.Directory.Unban(c.UserContext(), userID)
	return nil, err
}

func (s *Server) endSessions(c *fiber.Ctx, userID string) (any, error) {
	return nil, s.Auth.EndAll(c.UserContext(), userID)
}

// mintRequest has the lifetime of a session that a key opens; 0 if it is absent.
type mintRequest struct {
	TTL *string `json:"ttl,omitempty"`

	ttl time.Duration
}

// Check adds a fault for an invalid duration.
func (m *mintRequest) Check(f *invalid.Faults) {
	if m.TTL == nil {
		return
	}
	var err error
	if m.ttl, err = time.ParseDuration(*m.TTL); err != nil || m.ttl < time.Second || m.ttl > 10*365*24*time.Hour {
		f.Add("ttl", "must be a duration from 1s to 87600h, such as 24h")
	}
}

func (s *Server) mintTokens(c *fiber.Ctx) error {
	userID, err := s.Directory.Resolve(c.UserContext(), pathName(c, "user"))
	if err != nil {
		return err
	}
	var in mintRequest
	if err := decodeOptional(c, &in); err != nil {
		return err
	}
	if err := s.Standings.Standing(c.UserContext(), userID); err != nil {
		return err
	}
	p, err := s.Auth.Mint(c.UserContext(), userID, caller(c).KeyID, in.ttl)
	if err != nil {
		return err
	}
	return sendPair(c, fiber.StatusCreated, p)
}

// decodeOptional is decode for a body that may be absent.
func decodeOptional(c *fiber.Ctx, dst jsonbody.Checker) error {
	b, err := readBody(c)
	if err != nil {
		return err
	}
	if len(b) == 0 {
		return nil
	}
	return decode(c, dst)
}
