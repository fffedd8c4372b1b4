package receipt

import (
	"time"

	"github.com/parley-chat/parley/internal/chat"
	"github.com/parley-chat/parley/internal/id"
)

// row is a pending receipt or marker, which a flush moves from Redis to Postgres.
type row interface {
	pendingReceipt | pendingMarker
	// dirtyID is the id under which the index lists the row: a receipt's message, or a marker's reader.
	dirtyID() string
	// valid reports whether the row's field in Redis is an id. Otherwise the row can never be written.
	valid() bool
}

// pendingReceipt is an entry of a message's batch.
type pendingReceipt struct {
	messageID, userID string
	at                int64 // ms
}

func (r pendingReceipt) dirtyID() string   { return r.messageID }
func (r pendingReceipt) valid() bool       { return id.Valid(r.userID) }
func (r pendingReceipt) readAt() time.Time { return time.UnixMilli(r.at).UTC() }

// receiptsOf are the receipts of a message whose batch has the entries.
func receiptsOf(messageID string, batch []entry) []pendingReceipt {
	out := make([]pendingReceipt, len(batch))
	for i, e := range batch {
		out[i] = pendingReceipt{messageID, e.member, e.at}
	}
	return out
}

// pendingMarker is a field of a reader's hash, with its tag verbatim.
type pendingMarker struct {
	userID, conversationID string
	chat.PendingMarker
	tag string
}

func (m pendingMarker) dirtyID() string { return m.userID }
func (m pendingMarker) valid() bool     { return id.Valid(m.conversationID) }
