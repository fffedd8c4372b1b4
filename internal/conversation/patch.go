package conversation

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"gorm.io/gorm"

	"github.com/parley-chat/parley/internal/chat"
	"github.com/parley-chat/parley/internal/event"
	"github.com/parley-chat/parley/internal/invalid"
	"github.com/parley-chat/parley/internal/journal"
	"github.com/parley-chat/parley/internal/jsonbody"
	"github.com/parley-chat/parley/internal/metadata"
	"github.com/parley-chat/parley/internal/postgres"
)

// Who may send in a group.
const (
	PostingMembers = "members"
	PostingAdmins  = "admins"
)

const maxDescription = 1000

// Patch changes a group. What is absent stays.
type Patch struct {
	Name jsonbody.Optional[string] `json:"name,omitempty"`
	// Description and AvatarURL are cleared by null.
	Description jsonbody.Optional[string] `json:"description,omitempty"`
	AvatarURL   jsonbody.Optional[string] `json:"avatarUrl,omitempty"`
	// Metadata is a merge patch (RFC 7396).
	Metadata metadata.Object           `json:"metadata,omitempty"`
	Posting  jsonbody.Optional[string] `json:"posting,omitempty"`
	// IfRevision refuses the patch with ErrRevisionMismatch if an earlier patch is newer.
	IfRevision *int64 `json:"ifRevision,omitempty"`
}

// Check normalises the patch and notes its faults.
func (p *Patch) Check(f *invalid.Faults) {
	switch {
	case p.Name.Null:
		f.Add("name", "must be a string, not null")
	case p.Name.Set:
		nameRule.Check(f, "name", &p.Name.Value)
	}
	p.checkProperties(f)
	if p.empty() && f.Err() == nil {
		f.Add("body", "must have name, description, avatarUrl, metadata or posting")
	}
}

func (p *Patch) checkProperties(f *invalid.Faults) {
	if p.Description.Set && !p.Description.Null {
		invalid.Text{Max: maxDescription, Trim: true, Lines: true}.Check(f, "description", &p.Description.Value)
		p.Description.Null = p.Description.Value == ""
	}
	if p.AvatarURL.Set && !p.AvatarURL.Null {
		invalid.URL(f, "avatarUrl", p.AvatarURL.Value)
	}
	metadata.CheckPatch(f, "metadata", p.Metadata)
	if p.Posting.Set && p.Posting.Value != PostingMembers && p.Posting.Value != PostingAdmins {
		f.Add("posting", "must be members or admins")
	}
}

func (p *Patch) empty() bool {
	return !p.Name.Set && !p.Description.Set && !p.AvatarURL.Set && p.Metadata == nil && !p.Posting.Set
}

// Update changes a group for an owner or admin, and returns it as that one sees it.
func (s *Service) Update(ctx context.Context, conversationID, actorID string, p *Patch) (*chat.Conversation, error) {
	pending := s.markers.Markers(ctx, actorID)
	var at journal.Stamp
	var conv *chat.Conversation
	err := s.group(ctx, conversationID, actorID, func(tx *gorm.DB, actor *membership) (err error) {
		if actor.Role == RoleMember {
			return ErrForbidden
		}
		if at, err = apply(tx, conversationID, p, event.Actor{UserID: actorID}); err != nil {
			return err
		}
		conv, err = s.seen(ctx, tx, conversationID, actorID, pending)
		return err
	})
	if err != nil {
		return nil, err
	}
	s.publisher.Publish(event.ConversationUpdated(common(conv), at.Micros()).In(ctx))
	return conv, nil
}

// apply changes a group under its lock.
func apply(tx *gorm.DB, conversationID string, p *Patch, by event.Actor) (journal.Stamp, error) {
	q, ctx := postgres.In(tx), postgres.Context(tx)
	var edited int64
	var stored []byte
	err := q.QueryRowContext(ctx, `SELECT coalesce(edit_revision, 0), metadata FROM conversations WHERE id = $1`, conversationID).Scan(&edited, &stored)
	if err != nil {
		return journal.Stamp{}, fmt.Errorf("read a conversation to change: %w", err)
	}
	if p.IfRevision != nil && *p.IfRevision < edited {
		return journal.Stamp{}, ErrRevisionMismatch
	}
	set, args, err := p.columns(stored)
	if err != nil {
		return journal.Stamp{}, err
	}
	at, err := journal.Note(tx, journal.Change{ConversationID: conversationID, Kind: journal.Updated, Actor: by})
	if err != nil {
		return journal.Stamp{}, err
	}
	args = append([]any{conversationID, at.Revision}, args...)
	if _, err := q.ExecContext(ctx, `UPDATE conversations SET edit_revision = $2, `+set+` WHERE id = $1`, args...); err != nil {
		return journal.Stamp{}, fmt.Errorf("change a conversation: %w", err)
	}
	return at, nil
}

// columns is the list of an UPDATE, whose own parameters begin at $3.
func (p *Patch) columns(stored metadata.Object) (set string, args []any, err error) {
	var list []string
	add := func(column, cast string, v any) {
		args = append(args, v)
		list = append(list, fmt.Sprintf("%s = $%d%s", column, len(args)+2, cast))
	}
	if p.Name.Set {
		add("name", "", p.Name.Value)
	}
	if p.Description.Set {
		add("description", "", textOrNull(p.Description))
	}
	if p.AvatarURL.Set {
		add("avatar_url", "", textOrNull(p.AvatarURL))
	}
	if p.Posting.Set {
		posting := &p.Posting.Value
		if *posting == PostingMembers {
			posting = nil
		}
		add("posting", "", posting)
	}
	if p.Metadata != nil {
		merged, err := metadata.Merge(stored, p.Metadata)
		if errors.Is(err, metadata.ErrTooLarge) {
			return "", nil, invalid.One("metadata", "is too large once it is merged")
		}
		if err != nil {
			return "", nil, err
		}
		add("metadata", "::text::jsonb", jsonOrNull(merged))
	}
	return strings.Join(list, ", "), args, nil
}

func textOrNull(o jsonbody.Optional[string]) *string {
	if o.Null {
		return nil
	}
	return &o.Value
}

func jsonOrNull(raw json.RawMessage) *string {
	if raw == nil {
		return nil
	}
	s := string(raw)
	return &s
}

// Delete deletes a group for its owner: it is gone for every member at once. What is left is a row without members.
func (s *Service) Delete(ctx context.Context, conversationID, actorID string) error {
	var at journal.Stamp
	err := s.group(ctx, conversationID, actorID, func(tx *gorm.DB, actor *membership) (err error) {
		if actor.Role != RoleOwner {
			return ErrForbidden
		}
		at, err = remove(tx, conversationID, event.Actor{UserID: actorID})
		return err
	})
	if err != nil {
		return err
	}
	s.publisher.Publish(event.ConversationDeleted(conversationID, at.Revision, at.Micros()).In(ctx))
	return nil
}

// remove deletes a group under its lock. Its messages stay until nobody follows the conversation any more.
func remove(tx *gorm.DB, conversationID string, by event.Actor) (journal.Stamp, error) {
	q, ctx := postgres.In(tx), postgres.Context(tx)
	r, err := q.ExecContext(ctx, `DELETE FROM conversation_members WHERE conversation_id = $1`, conversationID)
	if err != nil {
		return journal.Stamp{}, fmt.Errorf("delete a conversation's members: %w", err)
	}
	n, err := r.RowsAffected()
	if err != nil {
		return journal.Stamp{}, fmt.Errorf("delete a conversation's members: %w", err)
	}
	at, err := journal.Note(tx, journal.Change{ConversationID: conversationID, Kind: journal.Deleted, MemberDelta: -int(n), Actor: by})
	if err != nil {
		return journal.Stamp{}, err
	}
	_, err = q.ExecContext(ctx, `UPDATE conversations SET deleted_at = clock_timestamp() WHERE id = $1`, conversationID)
	if err != nil {
		return journal.Stamp{}, fmt.Errorf("delete a conversation: %w", err)
	}
	return at, nil
}
