package event

import "github.com/parley-chat/parley/internal/timestamp"

// ReceiptRead is the data of a receipt:read: the latest read of a message, and how many have read it.
type ReceiptRead struct {
	ConversationID string         `json:"conversationId"`
	MessageID      string         `json:"messageId"`
	UserID         string         `json:"userId"`
	ReadAt         timestamp.Time `json:"readAt"`
	Count          int            `json:"count"`
}

// ReceiptNotice reports the latest read of a message to its sender.
func ReceiptNotice(senderID string, r ReceiptRead) *Notice {
	return &Notice{UserID: senderID, Type: TypeReceiptRead, Data: r}
}

// ReadNotice reports how far a user has read to the user's sockets, but for the one that caused it.
func ReadNotice(userID, exceptSocket string, r ConversationRead) *Notice {
	return &Notice{UserID: userID, Type: TypeConversationRead, ExceptSocket: exceptSocket, Data: r}
}
