// Package receipt is the domain of who has read what.
//
// A Service takes reads on a pod. What a read needs to know is read from Postgres for all that come at once; what is already
// so is answered without a word more. In direct conversations the receipt and the reader's marker are written at once, many
// reads in one statement. In groups they go to Redis: the reader into the message's batch, the marker into the reader's
// hash, and both ids into the indexes of what is dirty, which are written first. Where Redis is away, reads of groups are
// written as those of direct conversations; where Postgres is, what the pod has heard of messages and members is enough to
// keep reads in Redis until it is back.
//
// The Flusher, of the receipt-worker, walks the indexes, writes what they point to in bulk, and then removes exactly that.
// A crash anywhere only repeats an insert that changes nothing (test: TestWorkersKilledAtEveryStep). An id leaves its index
// when nothing is left and nobody has touched it for longer than a read may be on its way (TestATouchedIDStaysInItsIndex).
//
// Who reads what is pending asks Redis before Postgres: what the flush moves in between is found in both, and counted once
// (TestReceiptsAreWholeWhileTheyAreFlushed).
//
// Other members see how far one has read: by REST (MarkersOf), and, in conversations that are not too large, by frames of a
// markerFeed, which gathers the moves of a second. Both leave out readers who hide receipts, viewers who hide theirs, and pairs with
// a block between them.
package receipt

import (
	"errors"

	"github.com/parley-chat/parley/internal/id"
	"github.com/parley-chat/parley/internal/invalid"
	"github.com/parley-chat/parley/internal/timestamp"
)

// What can be wrong with a request, besides *invalid.Faults.
var (
	// ErrNotFound is also the answer for a message of a conversation that the asker is no member of, or of another
	// conversation than was named.
	ErrNotFound = errors.New("message not found")
	// ErrNoConversation is returned for a conversation that the asker is no member of.
	ErrNoConversation = errors.New("conversation not found")
	// ErrBusy is returned when more reads wait than the pod will hold.
	ErrBusy = errors.New("too many reads wait to be taken")
)

// Receipt is who has read a message, and when first.
type Receipt struct {
	UserID string         `json:"userId"`
	ReadAt timestamp.Time `json:"readAt"`
}

// Page is a part of a message's receipts, and how many there are in all.
type Page struct {
	Receipts []Receipt
	Count    int
	HasMore  bool
}

// maxReadMany is how many conversations one request marks read by name.
const maxReadMany = 100

// ReadMany names conversations that are read, each up to a message, or all of them.
type ReadMany struct {
	Conversations map[string]string `json:"conversations,omitempty"`
	All           bool              `json:"all,omitempty"`
}

// Check notes the faults.
func (r *ReadMany) Check(f *invalid.Faults) {
	switch {
	case r.All && len(r.Conversations) > 0:
		f.Add("all", "does not go with conversations")
	case !r.All && len(r.Conversations) == 0:
		f.Add("conversations", "must name at least one conversation, or all must be true")
	case len(r.Conversations) > maxReadMany:
		f.Add("conversations", "must have %d members at most", maxReadMany)
	}
	for c, m := range r.Conversations {
		if !id.Valid(c) || !id.Valid(m) {
			f.Add("conversations", "must map ids of conversations to ids of messages")
			return
		}
	}
}

// UpTo names the message up to which all is read.
type UpTo struct {
	UpToMessageID string `json:"upToMessageId"`
}

// Check notes the faults.
func (u *UpTo) Check(f *invalid.Faults) {
	if !id.Valid(u.UpToMessageID) {
		f.Add("upToMessageId", "must be the id of a message")
	}
}
