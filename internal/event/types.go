package event

import (
	"github.com/parley-chat/parley/internal/chat"
	"github.com/parley-chat/parley/internal/timestamp"
)

// The types of the frames that a server sends.
const (
	TypeReady               = "ready"
	TypeAck                 = "ack"
	TypeError               = "error"
	TypePing                = "ping"
	TypePong                = "pong"
	TypeResync              = "resync"
	TypeMessageNew          = "message:new"
	TypeMessageUpdated      = "message:updated"
	TypeMessageDeleted      = "message:deleted"
	TypeMessageReacted      = "message:reacted"
	TypeConversationCreated = "conversation:created"
	TypeConversationUpdated = "conversation:updated"
	TypeConversationDeleted = "conversation:deleted"
	TypeConversationChanged = "conversation:changed"
	TypeConversationRead    = "conversation:read"
	TypeStateUpdated        = "state:updated"
	TypeMemberAdded         = "conversation:member_added"
	TypeMemberRemoved       = "conversation:member_removed"
	TypeMemberUpdated       = "conversation:member_updated"
	TypeReceiptRead         = "receipt:read"
	TypeConversationMarkers = "conversation:markers"
	TypePresenceOnline      = "presence:online"
	TypePresenceOffline     = "presence:offline"
	TypeTyping              = "typing"
	TypeFriendRequested     = "friend:requested"
	TypeFriendAccepted      = "friend:accepted"
	TypeFriendRemoved       = "friend:removed"
	TypeUserUpdated         = "user:updated"
)

// Types are all of them.
var Types = []string{
	TypeReady, TypeAck, TypeError, TypePing, TypePong, TypeResync, TypeMessageNew, TypeMessageUpdated, TypeMessageDeleted, TypeMessageReacted, TypeConversationCreated,
	TypeConversationUpdated, TypeConversationDeleted, TypeConversationChanged, TypeConversationRead, TypeStateUpdated, TypeMemberAdded, TypeMemberRemoved,
	TypeMemberUpdated, TypeReceiptRead, TypeConversationMarkers, TypePresenceOnline, TypePresenceOffline,
	TypeTyping, TypeFriendRequested, TypeFriendAccepted, TypeFriendRemoved, TypeUserUpdated,
}

var known = func() map[string]bool {
	m := make(map[string]bool, len(Types))
	for _, t := range Types {
		m[t] = true
	}
	return m
}()

// Ready is the data of the first frame on a socket.
type Ready struct {
	UserID   string `json:"userId"`
	DeviceID string `json:"deviceId"`
	// SessionID is null for a socket of an external token, which ends at ExpiresAt unless it is renewed.
	SessionID        *string         `json:"sessionId"`
	HeartbeatSeconds int             `json:"heartbeatSeconds"`
	ServerTime       timestamp.Time  `json:"serverTime"`
	ExpiresAt        *timestamp.Time `json:"expiresAt,omitempty"`
	// Epoch is the identity of the history (internal/history), "" if none is known.
	Epoch string `json:"epoch,omitempty"`
}

// Resync is the data of a resync: the client sends sync at a random moment within that time.
type Resync struct {
	Epoch         string `json:"epoch,omitempty"`
	WithinSeconds int    `json:"withinSeconds"`
}

// ConversationRead is the data of a conversation:read, for the reader's other sockets.
type ConversationRead struct {
	ConversationID string `json:"conversationId"`
	chat.Marker
}

// StateUpdated is the data of a state:updated, for all sockets of the user: the whole own state of a conversation.
type StateUpdated struct {
	ConversationID string `json:"conversationId"`
	// StateRevision is where to ask sync for later changes.
	StateRevision int64 `json:"stateRevision"`
	chat.OwnState
}

// StateNotice reports to a user's sockets that the user's own state of a conversation changed.
func StateNotice(userID string, d StateUpdated) *Notice {
	return &Notice{UserID: userID, Type: TypeStateUpdated, Data: d}
}
