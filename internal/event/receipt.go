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

// ReceiptNotice tells the sender of a message who has read it.
func ReceiptNotice(senderID string, r ReceiptRead) *Notice {
	return &Notice{UserID: senderID, Type: TypeReceiptRead, Frame: NewFrame(TypeReceiptRead, r)}
}

// ReadNotice tells a user's sockets, but for the one that said so, how far the user has read.
func ReadNotice(userID, exceptSocket string, r ConversationRead) *Notice {
	return &Notice{UserID: userID, Type: TypeConversationRead, ExceptSocket: exceptSocket, Frame: NewFrame(TypeConversationRead, r)}
}

// Sent is what an envelope of a new message says of it beside the frame, for pods to keep in mind.
type Sent struct {
	ID       string `json:"id"`
	Seq      int64  `json:"seq"`
	SenderID string `json:"by"`
}
