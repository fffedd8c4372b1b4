package chat

import (
	"encoding/json"
	"fmt"
)

// Row is one row of a result (*sql.Row, *sql.Rows).
type Row = interface{ Scan(dest ...any) error }

// ScanProfile reads id, username, display_name and avatar_url of a user.
func ScanProfile(r Row, p *Profile) error {
	return r.Scan(&p.ID, &p.Username, &p.DisplayName, &p.AvatarURL)
}

// OwnColumns are those of a user as they see themselves, in the order in which ScanOwn reads them. The table is u.
const OwnColumns = `u.id, u.username, u.display_name, u.avatar_url, u.created_at, u.presence_sharing, u.read_receipts_enabled`

// ScanOwn reads OwnColumns.
func ScanOwn(r Row, o *Own, more ...any) error {
	dest := append(make([]any, 0, 8), &o.ID, &o.Username, &o.DisplayName, &o.AvatarURL, &o.CreatedAt, &o.Privacy.PresenceSharing, &o.Privacy.ReadReceiptsEnabled)
	return r.Scan(append(dest, more...)...)
}

// MessageColumns are those of a message, in the order in which ScanMessage reads them. The table is m. Extras are one value,
// null for a message that has none, so that plain messages are read as fast as without them.
const MessageColumns = `m.id, m.conversation_id, m.seq, m.revision, m.sender_id, m.content, m.client_message_id, m.reply_to_id, m.created_at,
	m.edited_at, m.deleted_at, ` + extrasColumn

const extrasColumn = `CASE WHEN num_nonnulls(m.kind, m.metadata, m.mention_ids, m.mention_all, m.attachments, m.reactions, m.pinned_at) > 0 THEN
	json_build_object('kind', m.kind, 'metadata', m.metadata, 'attachments', m.attachments, 'reactions', m.reactions,
		'pinnedAt', m.pinned_at, 'pinnedById', m.pinned_by_id, 'mentions', CASE WHEN num_nonnulls(m.mention_ids, m.mention_all) > 0 THEN
			json_build_object('userIds', coalesce(m.mention_ids, '{}'), 'all', coalesce(m.mention_all, false)) END) END`

// NoExtras is the SET list that removes the extras of a message when it is deleted. Its kind stays.
const NoExtras = `metadata = NULL, mention_ids = NULL, mention_all = NULL, attachments = NULL, reactions = NULL, pinned_at = NULL, pinned_by_id = NULL`

// ScanMessage reads MessageColumns, followed by further columns into more.
func ScanMessage(r Row, m *Message, more ...any) error {
	var extras []byte
	dest := append(make([]any, 0, 16), &m.ID, &m.ConversationID, &m.Seq, &m.Revision, &m.SenderID, &m.Content,
		&m.ClientMessageID, &m.ReplyToID, &m.CreatedAt, &m.EditedAt, &m.DeletedAt, &extras)
	if err := r.Scan(append(dest, more...)...); err != nil {
		return err
	}
	if extras == nil {
		return nil
	}
	if err := json.Unmarshal(extras, &m.Extras); err != nil {
		return fmt.Errorf("read the extras of message %s: %w", m.ID, err)
	}
	if string(m.Metadata) == "null" {
		m.Metadata = nil
	}
	return nil
}

// MemberColumns are those of a member, in the order in which ScanMember reads them. The tables are conversation_members m and
// users u.
const MemberColumns = `u.id, u.username, u.display_name, u.avatar_url, m.role, m.joined_at`

// ScanMember reads MemberColumns, followed by further columns into more.
func ScanMember(r Row, m *Member, more ...any) error {
	dest := append(make([]any, 0, 8), &m.User.ID, &m.User.Username, &m.User.DisplayName, &m.User.AvatarURL, &m.Role, &m.JoinedAt)
	return r.Scan(append(dest, more...)...)
}

// ConversationColumns are those of a conversation, in the order in which ScanConversation reads them. The table is c.
const ConversationColumns = `c.id, c.type, c.name, c.member_count, c.revision, c.last_message_id, c.last_message_at, c.last_seq, c.created_at,
	c.description, c.avatar_url, c.metadata, c.posting, c.external_id`

// ScanConversation reads ConversationColumns, followed by further columns into more. Members and the last message are read
// beside it.
func ScanConversation(r Row, c *Conversation, more ...any) error {
	var metadata []byte
	dest := append(make([]any, 0, 20), &c.ID, &c.Type, &c.Name, &c.MemberCount, &c.Revision, &c.LastMessageID, &c.LastMessageAt,
		&c.LastSeq, &c.CreatedAt, &c.Description, &c.AvatarURL, &metadata, &c.Posting, &c.ExternalID)
	err := r.Scan(append(dest, more...)...)
	c.Metadata = metadata
	return err
}
