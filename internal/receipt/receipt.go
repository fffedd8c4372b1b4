package receipt

import (
	"errors"

	"github.com/parley-chat/parley/internal/id"
	"github.com/parley-chat/parley/internal/invalid"
	"github.com/parley-chat/parley/internal/timestamp"
)

// Errors of requests, in addition to *invalid.Faults.
var (
	// ErrNotFound is also returned if the caller is not a member of the message's conversation, or if the message belongs to
	// another conversation than the request named.
	ErrNotFound = errors.New("message not found")
	// ErrNoConversation is returned if the caller is not a member of the conversation.
	ErrNoConversation = errors.New("conversation not found")
	// ErrBusy is returned if too many reads are waiting on the pod.
	ErrBusy = errors.New("too many reads are waiting")
)

// Receipt is a user who has read a message, and the time of the first read.
type Receipt struct {
	UserID string         `json:"userId"`
	ReadAt timestamp.Time `json:"readAt"`
}

// Page is a page of a message's receipts, with the total count.
type Page struct {
	Receipts []Receipt
	Count    int
	HasMore  bool
}

// maxReadMany is the largest number of conversations that one request names.
const maxReadMany = 100

// ReadMany marks conversations as read: each up to the message it maps to, or all of them.
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

// UpTo names the message up to which a conversation is read.
type UpTo struct {
	UpToMessageID string `json:"upToMessageId"`
}

// Check notes the faults.
func (u *UpTo) Check(f *invalid.Faults) {
	if !id.Valid(u.UpToMessageID) {
		f.Add("upToMessageId", "must be the id of a message")
	}
}
