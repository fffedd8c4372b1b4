// Package chat has the nouns that REST, sockets and webhooks share: messages, conversations, members and profiles. Each is
// encoded here as clients see it, and read from Postgres here, so that a new JSON member is added in one place.
package chat

import (
	"encoding/json"
	"time"

	"github.com/parley-chat/parley/internal/timestamp"
)

// Profile is a user as everyone may see them.
type Profile struct {
	ID          string  `json:"id"`
	Username    string  `json:"username"`
	DisplayName string  `json:"displayName"`
	AvatarURL   *string `json:"avatarUrl"`
}

// Own is a user as they see themselves.
type Own struct {
	Profile
	CreatedAt timestamp.Time `json:"createdAt"`
	Privacy   Privacy        `json:"privacy"`
}

// Privacy are a user's privacy settings. PresenceSharing is everyone, friends or nobody.
type Privacy struct {
	PresenceSharing     string `json:"presenceSharing"`
	ReadReceiptsEnabled bool   `json:"readReceiptsEnabled"`
}

// Message is a message of a conversation. Members after DeletedAt are left out when they are unused, so that a plain message
// has the eleven members before them and no others.
type Message struct {
	ID             string `json:"id"`
	ConversationID string `json:"conversationId"`
	// Seq counts 1, 2, 3 … in each conversation, in the order of (CreatedAt, ID).
	Seq int64 `json:"seq"`
	// Revision is the conversation's at the last change of the message.
	Revision        int64           `json:"revision"`
	SenderID        string          `json:"senderId"`
	Content         string          `json:"content"`
	ClientMessageID *string         `json:"clientMessageId"`
	ReplyToID       *string         `json:"replyToId"`
	CreatedAt       timestamp.Time  `json:"createdAt"`
	EditedAt        *timestamp.Time `json:"editedAt"`
	DeletedAt       *timestamp.Time `json:"deletedAt"`

	Extras
	// Mine are the viewer's own reactions. It is set in responses to that viewer only, never in a frame that several sockets get.
	Mine []string `json:"mine,omitempty"`
}

// Extras are the members of a message that most messages don't have.
type Extras struct {
	// Kind is "system", or "" for a text.
	Kind string `json:"kind,omitempty"`
	// Metadata is a JSON object of the application's, nil for none.
	Metadata    json.RawMessage `json:"metadata,omitempty"`
	Mentions    *Mentions       `json:"mentions,omitempty"`
	Attachments []Attachment    `json:"attachments,omitempty"`
	// Reactions are in the order of their first use.
	Reactions  []Reaction      `json:"reactions,omitempty"`
	PinnedAt   *timestamp.Time `json:"pinnedAt,omitempty"`
	PinnedByID *string         `json:"pinnedById,omitempty"`
}

// Mentions are the members whom a message mentions.
type Mentions struct {
	UserIDs []string `json:"userIds"`
	// All is set if the message mentions every member.
	All bool `json:"all"`
}

// Attachment is a file of a message. Size is in bytes, Width and Height in pixels (of images alone).
type Attachment struct {
	ID          string `json:"id"`
	Filename    string `json:"filename"`
	ContentType string `json:"contentType"`
	Size        int64  `json:"size"`
	Width       int    `json:"width,omitempty"`
	Height      int    `json:"height,omitempty"`
}

// Reaction is a reaction to a message with the number of users who gave it.
type Reaction struct {
	Reaction string `json:"reaction"`
	Count    int    `json:"count"`
}

// Member is a user in a conversation.
type Member struct {
	User     Profile        `json:"user"`
	Role     string         `json:"role"`
	JoinedAt timestamp.Time `json:"joinedAt"`
}

// Conversation is a conversation as all its members see it. In responses to one of them it has that viewer's own
// state too, which is never in a frame for several sockets.
type Conversation struct {
	ID   string  `json:"id"`
	Type string  `json:"type"`
	Name *string `json:"name"`
	// Members are both in a direct conversation, the first 20 by JoinedAt in a group.
	Members       []Member       `json:"members"`
	MemberCount   int            `json:"memberCount"`
	Revision      int64          `json:"revision"`
	LastMessageID *string        `json:"lastMessageId"`
	LastMessageAt timestamp.Time `json:"lastMessageAt"`
	LastMessage   *Message       `json:"lastMessage"`
	LastSeq       int64          `json:"lastSeq"`
	CreatedAt     timestamp.Time `json:"createdAt"`

	// The following members are left out of conversations that don't have them.
	Description *string `json:"description,omitempty"`
	AvatarURL   *string `json:"avatarUrl,omitempty"`
	// Metadata is a JSON object of the application's, nil for none.
	Metadata json.RawMessage `json:"metadata,omitempty"`
	// Posting is "admins" if only owners and admins may send, nil if every member may.
	Posting *string `json:"posting,omitempty"`
	// ExternalID is the application's own id of the conversation.
	ExternalID *string `json:"externalId,omitempty"`

	// The following members depend on the viewer. Frames for several sockets don't have them.
	*OwnState
	// PeerLastReadSeq is the read marker of the other user of a direct conversation. It is set in direct ones only.
	PeerLastReadSeq *PeerMarker `json:"peerLastReadSeq,omitempty"`
}

// OwnState is a member's own state of a conversation.
type OwnState struct {
	Marker
	// MentionCount is how many unread messages of others mention the member.
	MentionCount int64 `json:"mentionCount"`
	// MarkedUnread is set by marking a conversation unread, until the marker moves forward again.
	MarkedUnread bool `json:"markedUnread"`
	// Notifications is "all", "mentions" or "none", nil for the default.
	Notifications *string `json:"notifications"`
	// MutedUntil is a time or "forever", nil if the conversation is not muted now.
	MutedUntil *string         `json:"mutedUntil"`
	ArchivedAt *timestamp.Time `json:"archivedAt"`
	PinnedAt   *timestamp.Time `json:"pinnedAt"`
	// Hidden is set by hiding a conversation, until the next message.
	Hidden bool `json:"hidden"`
}

// PeerMarker is a seq, or null for a user who doesn't share receipts with the viewer.
type PeerMarker struct{ Seq *int64 }

// MarshalJSON encodes the seq or null.
func (p PeerMarker) MarshalJSON() ([]byte, error) { return json.Marshal(p.Seq) }

// PendingMarker is a user's read marker that Postgres does not have yet. It counts only if Version equals that of the member's row, or
// is -1.
type PendingMarker struct {
	Seq     int64
	Version int
	ReadAt  time.Time // the zero Time if it is not known
}

// Marker is how far a viewer has read a conversation. UnreadCount is the conversation's LastSeq less LastReadSeq.
type Marker struct {
	LastReadSeq int64 `json:"lastReadSeq"`
	UnreadCount int64 `json:"unreadCount"`
}
