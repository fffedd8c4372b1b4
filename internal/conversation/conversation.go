// Package conversation is the domain of conversations: direct ones and groups, their members and roles.
package conversation

import (
	"errors"

	"github.com/parley-chat/parley/internal/id"
	"github.com/parley-chat/parley/internal/invalid"
)

// Errors of requests, in addition to *invalid.Faults.
var (
	// ErrNotFound is also returned if the caller is not a member of the conversation.
	ErrNotFound = errors.New("conversation not found")
	// ErrUserNotFound is also returned for a user hidden by a block.
	ErrUserNotFound = errors.New("user not found")
	// ErrMemberNotFound is returned for a user who is not in the conversation.
	ErrMemberNotFound = errors.New("member not found")
	// ErrForbidden is returned to a member whose role does not allow it.
	ErrForbidden = errors.New("your role in this conversation does not allow it")
	// ErrDirect is returned for a change that a direct conversation does not have.
	ErrDirect = errors.New("a direct conversation has no name, and its members and roles do not change")
	// ErrRevisionMismatch is returned for an ifRevision that is older than the last change of the conversation's own properties.
	ErrRevisionMismatch = errors.New("it was changed after that revision")
	// ErrClientIDReused is returned for a clientId of a group that was deleted, or that its creator has left.
	ErrClientIDReused = errors.New("the group of this clientId is gone")
	// ErrTooManyPinned is returned for one pinned conversation too many.
	ErrTooManyPinned = errors.New("a user pins at most 20 conversations")
	// ErrLastOwner is returned for a group that would be left without an owner.
	ErrLastOwner = errors.New("a group keeps at least one owner: promote another member first")
	// ErrTooManyMembers is returned for a group that would get more than MaxMembers.
	ErrTooManyMembers = errors.New("a group has at most 5000 members")
	// ErrTooManyGroups is returned for a user who would be in more than MaxGroups.
	ErrTooManyGroups = errors.New("a user is in at most 1000 groups")
	// ErrTooManyAdditions is returned if the actor, who is not a friend, has added the user to MaxGroupsByStranger groups within a day.
	ErrTooManyAdditions = errors.New("you can add a user who is not your friend to at most 50 groups a day")
)

// Roles of members.
const (
	RoleOwner  = "owner"
	RoleAdmin  = "admin"
	RoleMember = "member"
)

// Types of conversations.
const (
	TypeDirect = "direct"
	TypeGroup  = "group"
)

// Bounds of groups.
const (
	MaxMembers  = 5000
	MaxGroups   = 1000
	maxNameLen  = 100
	maxClientID = 64
	shownInside = 20 // members that a conversation shows of itself
)

var nameRule = invalid.Text{Min: 1, Max: maxNameLen, Trim: true}

// Creation is a request to create a conversation.
type Creation struct {
	Type      string   `json:"type"`
	MemberIDs []string `json:"memberIds,omitempty"`
	Name      *string  `json:"name,omitempty"`
	// ClientID makes a repeated creation of a group by the same creator the same group.
	ClientID *string `json:"clientId,omitempty"`
}

// Check normalises the creation and notes its faults. Who creates it is checked by the service.
func (c *Creation) Check(f *invalid.Faults) {
	checkIDs(f, "memberIds", &c.MemberIDs)
	if c.ClientID != nil {
		invalid.Text{Min: 1, Max: maxClientID}.Check(f, "clientId", c.ClientID)
	}
	switch c.Type {
	case TypeDirect:
		if len(c.MemberIDs) == 0 {
			f.Add("memberIds", "must name exactly one other user")
		}
		if c.Name != nil {
			f.Add("name", "a direct conversation has none")
		}
	case TypeGroup:
		if c.Name == nil {
			f.Add("name", "is required for a group")
		} else {
			nameRule.Check(f, "name", c.Name)
		}
	default:
		f.Add("type", "must be direct or group")
	}
}

// Addition names users to add as members.
type Addition struct {
	UserIDs []string `json:"userIds"`
}

// Check notes the addition's faults.
func (a *Addition) Check(f *invalid.Faults) {
	if len(a.UserIDs) == 0 {
		f.Add("userIds", "must name at least one user")
	}
	checkIDs(f, "userIds", &a.UserIDs)
}

// RoleChange is a member's new role.
type RoleChange struct {
	Role string `json:"role"`
}

// Check notes the change's faults.
func (r *RoleChange) Check(f *invalid.Faults) {
	switch r.Role {
	case RoleOwner, RoleAdmin, RoleMember:
	default:
		f.Add("role", "must be owner, admin or member")
	}
}

// checkIDs notes ids that are none, and drops those that are given twice.
func checkIDs(f *invalid.Faults, field string, ids *[]string) {
	if len(*ids) > MaxMembers {
		f.Add(field, "must name at most %d users", MaxMembers)
		return
	}
	seen := make(map[string]bool, len(*ids))
	unique := (*ids)[:0]
	for _, v := range *ids {
		if !id.Valid(v) {
			f.Add(field, "must hold only ids of users")
			return
		}
		if !seen[v] {
			seen[v] = true
			unique = append(unique, v)
		}
	}
	*ids = unique
}
