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

// ReadNotice reports a user's new read marker to the user's sockets, except the one that caused it.
func ReadNotice(userID, exceptSocket string, r ConversationRead) *Notice {
	return &Notice{UserID: userID, Type: TypeConversationRead, ExceptSocket: exceptSocket, Data: r}
}

// Marker is how far a member has read a conversation, as another member may see it.
type Marker struct {
	UserID string `json:"userId"`
	// LastReadSeq is the seq of the last message that the member has read, 0 for none. It never goes back.
	LastReadSeq int64 `json:"lastReadSeq"`
	// ReadAt is when the member last read on, nil if that is not known.
	ReadAt *timestamp.Time `json:"readAt"`
}

// Markers is the data of a conversation:markers: the members whose markers moved.
type Markers struct {
	ConversationID string   `json:"conversationId"`
	Markers        []Marker `json:"markers"`
}

// MarkersMoved reports read markers to all members except the given ones.
func MarkersMoved(m Markers, except []string) *Event {
	e := &Event{Type: TypeConversationMarkers, Data: m, ConversationID: m.ConversationID}
	if len(except) == 1 {
		e.Except = except[0]
	} else {
		e.ExceptMany = except
	}
	return e
}
