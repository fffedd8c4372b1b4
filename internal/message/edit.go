package message

import (
	"context"
	"errors"
	"fmt"

	"gorm.io/gorm"

	"github.com/parley-chat/parley/internal/audit"
	"github.com/parley-chat/parley/internal/chat"
	"github.com/parley-chat/parley/internal/event"
	"github.com/parley-chat/parley/internal/invalid"
	"github.com/parley-chat/parley/internal/journal"
	"github.com/parley-chat/parley/internal/jsonbody"
	"github.com/parley-chat/parley/internal/metadata"
	"github.com/parley-chat/parley/internal/postgres"
)

// Edit changes a message. Absent members stay unchanged.
type Edit struct {
	Content jsonbody.Optional[string] `json:"content,omitempty"`
	// Metadata is a merge patch (RFC 7396).
	Metadata metadata.Object                `json:"metadata,omitempty"`
	Mentions jsonbody.Optional[MentionList] `json:"mentions,omitempty"`
	// IfRevision refuses the edit with ErrRevisionMismatch if the message's last edit is newer.
	IfRevision *int64 `json:"ifRevision,omitempty"`
}

// Check normalises the edit and notes its faults.
func (e *Edit) Check(f *invalid.Faults) {
	switch {
	case e.Content.Null:
		f.Add("content", "must be a string, not null")
	case e.Content.Set && e.Content.Value != "": // only messages with files may be empty; edit looks that up
		checkContent(f, &e.Content.Value)
	}
	metadata.CheckPatch(f, "metadata", e.Metadata)
	if !e.Content.Set && e.Metadata == nil && !e.Mentions.Set && f.Err() == nil {
		f.Add("body", "must have content, metadata or mentions")
	}
}

// Edit changes the editor's own message. In a direct conversation that a block stopped, and in a group in which the editor may
// not write, it fails as sending does.
func (s *Service) Edit(ctx context.Context, messageID, editorID string, e *Edit) (chat.Message, error) {
	var m, seen chat.Message
	var at journal.Stamp
	err := s.db.Tx(ctx, func(tx *gorm.DB) error {
		t, err := lockTarget(tx, messageID, editorID)
		if err != nil {
			return err
		}
		if t.SenderID != editorID {
			return ErrForbidden
		}
		if err := t.mayWrite(); err != nil {
			return err
		}
		if m, at, err = edit(tx, t, e, event.Actor{UserID: editorID}); err != nil {
			return err
		}
		seen, err = seenBy(tx, editorID, m)
		return err
	})
	if err != nil {
		return chat.Message{}, err
	}
	s.publisher.Publish(event.MessageUpdated(&m, at.Micros()).In(ctx))
	return seen, nil
}

// edit changes a message under the lock of its conversation.
func edit(tx *gorm.DB, t target, e *Edit, by event.Actor) (chat.Message, journal.Stamp, error) {
	switch {
	case t.DeletedAt != nil:
		return chat.Message{}, journal.Stamp{}, ErrDeleted
	case e.IfRevision != nil && *e.IfRevision < t.EditRevision:
		return chat.Message{}, journal.Stamp{}, ErrRevisionMismatch
	case e.Content.Set && e.Content.Value == "" && len(t.Attachments) == 0:
		return chat.Message{}, journal.Stamp{}, errNoContent
	}
	set, args := "edit_revision = c.revision", []any{}
	param := func(column, cast string, v any) {
		args = append(args, v)
		set += fmt.Sprintf(", %s = $%d%s", column, len(args)+journal.ChangeParams, cast)
	}
	if e.Content.Set {
		param("content", "", e.Content.Value)
	}
	if e.Metadata != nil {
		merged, err := metadata.Merge(t.Metadata, e.Metadata)
		if errors.Is(err, metadata.ErrTooLarge) {
			return chat.Message{}, journal.Stamp{}, invalid.One("metadata", "is too large once it is merged")
		}
		if err != nil {
			return chat.Message{}, journal.Stamp{}, err
		}
		param("metadata", "::text::jsonb", textOf(merged))
	}
	if e.Mentions.Set {
		if err := replaceMentions(tx, t, &e.Mentions.Value); err != nil {
			return chat.Message{}, journal.Stamp{}, err
		}
		param("mention_ids", "::text[]::uuid[]", e.Mentions.Value.UserIDs)
		param("mention_all", "", orNull(e.Mentions.Value.All))
	}
	kind := journal.MessageAnnotated
	if e.Content.Set || e.Mentions.Set {
		kind, set = journal.MessageUpdated, set+", edited_at = clock_timestamp()"
	}
	return journal.ChangeMessage(tx, t.change(kind, by), set, args...)
}

// textOf returns a JSON value as a parameter, nil for none.
func textOf(raw metadata.Object) *string {
	if raw == nil {
		return nil
	}
	s := string(raw)
	return &s
}

// orNull is a flag as a column that is null unless it is set.
func orNull(set bool) *bool {
	if !set {
		return nil
	}
	return &set
}

// maxMentionAll is the size of a group up to which every member may mention all.
const maxMentionAll = 100

func replaceMentions(tx *gorm.DB, t target, m *MentionList) error {
	if m.All && t.ConvType == "group" && t.MemberCount > maxMentionAll && t.Role == "member" && !t.byKey {
		return ErrMentionAll
	}
	q, ctx := postgres.In(tx), postgres.Context(tx)
	var strangers bool
	err := q.QueryRowContext(ctx, `SELECT EXISTS (
			SELECT FROM unnest($1::text[]::uuid[]) AS u (id)
			LEFT JOIN conversation_members k ON k.conversation_id = $2 AND k.user_id = u.id
			WHERE k.user_id IS NULL OR EXISTS (
				SELECT FROM blocks b WHERE (b.user_id = u.id AND b.blocked_id = $3) OR (b.user_id = $3 AND b.blocked_id = u.id)))`,
		m.UserIDs, t.ConversationID, t.SenderID).Scan(&strangers)
	if err != nil {
		return fmt.Errorf("look up mentioned users: %w", err)
	}
	if strangers {
		return errBadMention
	}
	if err := deleteMentions(tx, t); err != nil {
		return err
	}
	_, err = q.ExecContext(ctx, `INSERT INTO message_mentions (conversation_id, seq, user_id, sender_id)
		SELECT $1::uuid, $2::bigint, u.id, $3::uuid FROM unnest($4::text[]::uuid[]) AS u (id) WHERE NOT $5::boolean
		UNION ALL SELECT $1::uuid, $2::bigint, NULL, $3::uuid WHERE $5::boolean`, t.ConversationID, t.Seq, t.SenderID, m.UserIDs, m.All)
	if err != nil {
		return fmt.Errorf("insert mentions: %w", err)
	}
	return nil
}

func deleteMentions(tx *gorm.DB, t target) error {
	if t.Mentions == nil {
		return nil
	}
	_, err := postgres.In(tx).ExecContext(postgres.Context(tx), `DELETE FROM message_mentions x USING messages m
		WHERE m.id = $1 AND x.conversation_id = m.conversation_id AND x.seq = m.seq AND (x.user_id IS NULL OR x.user_id = ANY (m.mention_ids))`, t.ID)
	if err != nil {
		return fmt.Errorf("delete mentions: %w", err)
	}
	return nil
}

var errNoContent = invalid.One("content", "must not be empty, since the message has no files")

var errBadMention = invalid.One("mentions.userIds", "must name only members of this conversation, and none with a block to or from the sender")

var errNothingToDo = errors.New("nothing to do")

// Delete empties a message. The sender may do so, and owners and admins of a group. The content, metadata, mentions, attachments, reactions and
// pin are removed. Deleting again changes nothing.
func (s *Service) Delete(ctx context.Context, messageID, userID string) error {
	var m chat.Message
	var at journal.Stamp
	err := s.db.Tx(ctx, func(tx *gorm.DB) error {
		t, err := lockTarget(tx, messageID, userID)
		if err != nil {
			return err
		}
		if t.SenderID != userID && !t.moderates() {
			return ErrForbidden
		}
		m, at, err = remove(tx, t, event.Actor{UserID: userID})
		if err != nil || t.SenderID == userID {
			return err
		}
		return audit.Record(ctx, tx, audit.Entry{Action: "message.delete", TargetType: audit.TargetMessage, TargetID: messageID})
	})
	if errors.Is(err, errNothingToDo) {
		return nil
	}
	if err != nil {
		return err
	}
	s.publisher.Publish(event.MessageDeleted(&m, at.Micros()).In(ctx))
	return nil
}

// remove empties a message under the lock of its conversation. It returns errNothingToDo for one that is deleted already.
func remove(tx *gorm.DB, t target, by event.Actor) (chat.Message, journal.Stamp, error) {
	if t.DeletedAt != nil {
		return chat.Message{}, journal.Stamp{}, errNothingToDo
	}
	if err := deleteMentions(tx, t); err != nil {
		return chat.Message{}, journal.Stamp{}, err
	}
	if len(t.Reactions) > 0 {
		if _, err := postgres.In(tx).ExecContext(postgres.Context(tx), `DELETE FROM message_reactions WHERE message_id = $1`, t.ID); err != nil {
			return chat.Message{}, journal.Stamp{}, fmt.Errorf("delete reactions: %w", err)
		}
	}
	return journal.ChangeMessage(tx, t.change(journal.MessageDeleted, by), `content = '', deleted_at = clock_timestamp(), `+chat.NoExtras)
}
