package httpapi

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/gofiber/fiber/v2"

	"github.com/parley-chat/parley/internal/conversation"
	"github.com/parley-chat/parley/internal/cursor"
	"github.com/parley-chat/parley/internal/directory"
	"github.com/parley-chat/parley/internal/id"
	"github.com/parley-chat/parley/internal/invalid"
	"github.com/parley-chat/parley/internal/jsonbody"
	"github.com/parley-chat/parley/internal/metadata"
)

// keyedConversations are the conversations as a product's back end manages them.
type keyedConversations interface {
	PutByKey(ctx context.Context, externalID string, g *conversation.Group) (conversation.Keyed, bool, error)
	ResolveByKey(ctx context.Context, externalID string) (string, error)
	ListByKey(ctx context.Context, f conversation.KeyedFilter) ([]conversation.Keyed, bool, error)
	GetByKey(ctx context.Context, conversationID string) (conversation.Keyed, error)
	UpdateByKey(ctx context.Context, conversationID string, p *conversation.Patch) (conversation.Keyed, error)
	DeleteByKey(ctx context.Context, conversationID string) error
	AddByKey(ctx context.Context, conversationID string, members []conversation.KeyedMember) (conversation.Keyed, error)
	RemoveByKey(ctx context.Context, conversationID string, userIDs []string) (conversation.Keyed, error)
}

const (
	externalPrefix = "ext:"
	// maxMembers is the largest number of members that a request adds or removes. A new group may have more.
	maxMembers = 1000
)

// memberName is a member in a request of a server key. Role is "" if it is absent.
type memberName struct {
	User string  `json:"user"`
	Role *string `json:"role,omitempty"`
}

// Check adds a fault for an unknown role.
func (m *memberName) Check(f *invalid.Faults) {
	if m.Role != nil {
		(&conversation.RoleChange{Role: *m.Role}).Check(f)
	}
}

// memberNames decodes a list of members, and adds its faults.
func memberNames(f *invalid.Faults, field string, raw []json.RawMessage, most int) []memberName {
	if len(raw) > most {
		f.Add(field, "must name at most %d users", most)
		return nil
	}
	out := make([]memberName, len(raw))
	seen := make(map[string]bool, len(raw))
	for i, r := range raw {
		if err := jsonbody.Decode(r, &out[i]); err != nil {
			f.Add(fmt.Sprintf("%s[%d]", field, i), "must be { user, role? } with the role owner, admin or member")
		} else if seen[out[i].User] {
			f.Add(field, "must not name a user twice")
		}
		seen[out[i].User] = true
	}
	return out
}

// members finds the users of names. Two names of the same user are a fault.
func (s *Server) members(ctx context.Context, field string, names []memberName) ([]conversation.KeyedMember, error) {
	list := make([]string, len(names))
	for i, n := range names {
		list[i] = n.User
	}
	users, err := s.Directory.ResolveAll(ctx, list)
	if err != nil {
		return nil, err
	}
	out := make([]conversation.KeyedMember, len(users))
	seen := make(map[string]bool, len(users))
	for i, u := range users {
		if seen[u.ID] {
			return nil, invalid.One(field, "must not name a user twice")
		}
		seen[u.ID] = true
		out[i].UserID = u.ID
		if names[i].Role != nil {
			out[i].Role = *names[i].Role
		}
	}
	return out, nil
}

// groupBody is the desired state of a group. Its properties are those of conversation.Patch, repeated because jsonbody needs them flat.
type groupBody struct {
	Name        jsonbody.Optional[string] `json:"name"`
	Description jsonbody.Optional[string] `json:"description,omitempty"`
	AvatarURL   jsonbody.Optional[string] `json:"avatarUrl,omitempty"`
	Metadata    metadata.Object           `json:"metadata,omitempty"`
	Posting     jsonbody.Optional[string] `json:"posting,omitempty"`
	Members     []json.RawMessage         `json:"members,omitempty"`

	names []memberName
}

func (g *groupBody) patch() conversation.Patch {
	return conversation.Patch{Name: g.Name, Description: g.Description, AvatarURL: g.AvatarURL, Metadata: g.Metadata, Posting: g.Posting}
}

// Check normalises the group and adds its faults.
func (g *groupBody) Check(f *invalid.Faults) {
	p := g.patch()
	p.Check(f)
	g.Name, g.Description, g.AvatarURL, g.Metadata, g.Posting = p.Name, p.Description, p.AvatarURL, p.Metadata, p.Posting
	g.names = memberNames(f, "members", g.Members, conversation.MaxMembers)
}

// putConversation creates or changes the group with an external id. Only groups with an external id can be created idempotently.
func (s *Server) putConversation(c *fiber.Ctx) error {
	name := pathName(c, "conversation")
	external, is := strings.CutPrefix(name, externalPrefix)
	var f invalid.Faults
	directory.CheckExternalID(&f, "externalId", external)
	if !is || f.Err() != nil {
		return conversation.ErrNotFound
	}
	exact := c.Query("members")
	if exact != "" && exact != "exact" {
		return invalid.One("members", "must be exact")
	}
	var in groupBody
	if err := decode(c, &in); err != nil {
		return err
	}
	if err := s.guardItems(c, len(in.names)); err != nil {
		return err
	}
	members, err := s.members(c.UserContext(), "members", in.names)
	if err != nil {
		return err
	}
	k, created, err := s.Conversations.PutByKey(c.UserContext(), external, &conversation.Group{Patch: in.patch(), Members: members, Exact: exact != ""})
	if err != nil {
		return err
	}
	if created {
		c.Status(fiber.StatusCreated)
	}
	return c.JSON(k)
}

// keyedConversation finds the conversation that the path names.
func (s *Server) keyedConversation(c *fiber.Ctx) (string, error) {
	name := pathName(c, "conversation")
	if external, is := strings.CutPrefix(name, externalPrefix); is {
		if !invalid.Storable(external) {
			return "", conversation.ErrNotFound
		}
		return s.Conversations.ResolveByKey(c.UserContext(), external)
	}
	if !id.Valid(name) {
		return "", conversation.ErrNotFound
	}
	return name, nil
}

// withConversation finds the conversation in the path, and responds with the result of f.
func (s *Server) withConversation(f func(c *fiber.Ctx, conversationID string) (any, error)) fiber.Handler {
	return func(c *fiber.Ctx) error {
		conversationID, err := s.keyedConversation(c)
		if err != nil {
			return err
		}
		answer, err := f(c, conversationID)
		switch {
		case err != nil:
			return err
		case answer == nil:
			return c.SendStatus(fiber.StatusNoContent)
		}
		return c.JSON(answer)
	}
}

func (s *Server) keyedList(c *fiber.Ctx) error {
	var f invalid.Faults
	filter := conversation.KeyedFilter{UpdatedAfter: queryTime(c, &f, "updatedAfter"), Limit: int(queryInt(c, &f, "limit", pageSize, 1, maxServerPage))}
	err := f.Err()
	if err != nil {
		return err
	}
	if member := c.Query("member"); member != "" {
		if filter.MemberID, err = s.Directory.Resolve(c.UserContext(), strings.Clone(member)); err != nil {
			return err
		}
	}
	if filter.After, err = queryCursor(c); err != nil {
		return err
	}
	found, more, err := s.Conversations.ListByKey(c.UserContext(), filter)
	if err != nil {
		return err
	}
	return list(c, found, more, func(k conversation.Keyed) cursor.Position { return cursor.Position{Time: k.UpdatedAt.Time, ID: k.ID} })
}

func (s *Server) keyedGet(c *fiber.Ctx, conversationID string) (any, error) {
	return s.Conversations.GetByKey(c.UserContext(), conversationID)
}

func (s *Server) keyedPatch(c *fiber.Ctx, conversationID string) (any, error) {
	var in conversation.Patch
	if err := decode(c, &in); err != nil {
		return nil, err
	}
	return s.Conversations.UpdateByKey(c.UserContext(), conversationID, &in)
}

func (s *Server) keyedDelete(c *fiber.Ctx, conversationID string) (any, error) {
	return nil, s.Conversations.DeleteByKey(c.UserContext(), conversationID)
}

// membersBody names members to add.
type membersBody struct {
	Users []json.RawMessage `json:"users"`

	names []memberName
}

// Check adds the list's faults.
func (m *membersBody) Check(f *invalid.Faults) {
	if len(m.Users) == 0 {
		f.Add("users", "must name at least one user")
	}
	m.names = memberNames(f, "users", m.Users, maxMembers)
}

func (s *Server) keyedAdd(c *fiber.Ctx, conversationID string) (any, error) {
	var in membersBody
	if err := decode(c, &in); err != nil {
		return nil, err
	}
	if err := s.guardItems(c, len(in.names)); err != nil {
		return nil, err
	}
	members, err := s.members(c.UserContext(), "users", in.names)
	if err != nil {
		return nil, err
	}
	return s.Conversations.AddByKey(c.UserContext(), conversationID, members)
}

// removalBody names members to remove.
type removalBody struct {
	Users []string `json:"users"`
}

// Check adds the list's faults.
func (r *removalBody) Check(f *invalid.Faults) {
	if len(r.Users) < 1 || len(r.Users) > maxMembers {
		f.Add("users", "must name 1 to %d users", maxMembers)
	}
}

func (s *Server) keyedRemove(c *fiber.Ctx, conversationID string) (any, error) {
	var in removalBody
	if err := decode(c, &in); err != nil {
		return nil, err
	}
	if err := s.guardItems(c, len(in.Users)); err != nil {
		return nil, err
	}
	names := make([]memberName, len(in.Users))
	for i, u := range in.Users {
		names[i].User = u
	}
	members, err := s.members(c.UserContext(), "users", names)
	if err != nil {
		return nil, err
	}
	ids := make([]string, len(members))
	for i, m := range members {
		ids[i] = m.UserID
	}
	return s.Conversations.RemoveByKey(c.UserContext(), conversationID, ids)
}
