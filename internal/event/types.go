// Package event holds what Parley tells its clients: the shapes of messages and conversations, which REST answers and
// socket frames share, the frames, and the envelope in which a frame goes from pod to pod through Redis.
package event

import "github.com/parley-chat/parley/internal/timestamp"

// The types of the frames that a server sends.
const (
	TypeReady               = "ready"
	TypeAck                 = "ack"
	TypeError               = "error"
	TypePing                = "ping"
	TypePong                = "pong"
	TypeMessageNew          = "message:new"
	TypeMessageUpdated      = "message:updated"
	TypeMessageDeleted      = "message:deleted"
	TypeConversationCreated = "conversation:created"
	TypeConversationUpdated = "conversation:updated"
	TypeConversationRead    = "conversation:read"
	TypeMemberAdded         = "conversation:member_added"
	TypeMemberRemoved       = "conversation:member_removed"
	TypeReceiptRead         = "receipt:read"
	TypePresenceOnline      = "presence:online"
	TypePresenceOffline     = "presence:offline"
	TypeTyping              = "typing"
	TypeFriendRequested     = "friend:requested"
	TypeFriendAccepted      = "friend:accepted"
	TypeFriendRemoved       = "friend:removed"
)

// Types are all of them.
var Types = []string{
	TypeReady, TypeAck, TypeError, TypePing, TypePong, TypeMessageNew, TypeMessageUpdated, TypeMessageDeleted, TypeConversationCreated,
	TypeConversationUpdated, TypeConversationRead, TypeMemberAdded, TypeMemberRemoved, TypeReceiptRead, TypePresenceOnline, TypePresenceOffline,
	TypeTyping, TypeFriendRequested, TypeFriendAccepted, TypeFriendRemoved,
}

// User is a user as everyone may see them.
type User struct {
	ID          string  `json:"id"`
	Username    string  `json:"username"`
	DisplayName string  `json:"displayName"`
	AvatarURL   *string `json:"avatarUrl"`
}

// Message is a message of a conversation.
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

	// encoded is the message as JSON, where an event of it was made: the sender's ack says the same.
	encoded []byte
}

// Member is a user in a conversation.
type Member struct {
	User     User           `json:"user"`
	Role     string         `json:"role"`
	JoinedAt timestamp.Time `json:"joinedAt"`
}

// Conversation is a conversation as all members see it and, in answers to one of them, that viewer's marker.
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
	*Marker
}

// Marker is how far a viewer has read a conversation. UnreadCount is the conversation's LastSeq less LastReadSeq.
type Marker struct {
	LastReadSeq int64 `json:"lastReadSeq"`
	UnreadCount int64 `json:"unreadCount"`
}

// MembersAdded is the data of a conversation:member_added.
type MembersAdded struct {
	ConversationID string   `json:"conversationId"`
	Members        []Member `json:"members"`
	MemberCount    int      `json:"memberCount"`
	Revision       int64    `json:"revision"`
}

// MemberRemoved is the data of a conversation:member_removed.
type MemberRemoved struct {
	ConversationID string `json:"conversationId"`
	UserID         string `json:"userId"`
	MemberCount    int    `json:"memberCount"`
	Revision       int64  `json:"revision"`
}

// Typing is the data of a typing frame.
type Typing struct {
	ConversationID string `json:"conversationId"`
	UserID         string `json:"userId"`
	Active         bool   `json:"active"`
}

// Ready is the data of the first frame on a socket.
type Ready struct {
	UserID           string         `json:"userId"`
	DeviceID         string         `json:"deviceId"`
	SessionID        string         `json:"sessionId"`
	HeartbeatSeconds int            `json:"heartbeatSeconds"`
	ServerTime       timestamp.Time `json:"serverTime"`
}

// ConversationRead is the data of a conversation:read, for one's own other sockets.
type ConversationRead struct {
	ConversationID string `json:"conversationId"`
	Marker
}
