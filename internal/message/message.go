// Package message is the domain of messages: sending (in group commits), history, edits, deletions, and the feed of a
// conversation's changes from which pods repair what they missed and clients catch up.
package message

import (
	"crypto/sha256"
	"errors"
	"strings"

	"github.com/parley-chat/parley/internal/chat"
	"github.com/parley-chat/parley/internal/id"
	"github.com/parley-chat/parley/internal/invalid"
)

// What can be wrong with a request, besides *invalid.Faults.
var (
	// ErrConversationNotFound is also the answer for a conversation that the asker is no member of.
	ErrConversationNotFound = errors.New("conversation not found")
	// ErrNotFound is also the answer for a message of a conversation that the asker is no member of.
	ErrNotFound = errors.New("message not found")
	// ErrForbidden is returned to a member who may not change that message.
	ErrForbidden = errors.New("only the sender may edit a message; only the sender, owners and admins may delete one")
	// ErrDeleted is returned for an edit of a deleted message.
	ErrDeleted = errors.New("the message was deleted")
	// ErrCannotMessage is returned in a direct conversation where one blocks the other.
	ErrCannotMessage = errors.New("this person cannot be messaged")
	// ErrClientMessageIDReused is returned for a clientMessageId that was used for another content or reply.
	ErrClientMessageIDReused = errors.New("this clientMessageId was used for another message")
	// ErrBusy is returned when more sends wait than the pod will hold.
	ErrBusy = errors.New("too many messages wait to be stored")
)

// Bounds of a message.
const (
	MaxContent         = 8000
	maxContentBytes    = 32 << 10
	maxClientMessageID = 64
)

// Draft is a message that someone wants to send.
type Draft struct {
	Content         string  `json:"content"`
	ClientMessageID *string `json:"clientMessageId,omitempty"`
	ReplyToID       *string `json:"replyToId,omitempty"`
}

// Check normalises the draft and notes its faults.
func (d *Draft) Check(f *invalid.Faults) {
	checkContent(f, &d.Content)
	if d.ClientMessageID != nil {
		invalid.Text{Min: 1, Max: maxClientMessageID}.Check(f, "clientMessageId", d.ClientMessageID)
	}
	if d.ReplyToID != nil && !id.Valid(*d.ReplyToID) {
		f.Add("replyToId", "must be the id of a message")
	}
}

// hash stands for the original content and reply of a draft: a repeated send is told from another one by it, after edits
// too.
func (d *Draft) hash() []byte {
	h := sha256.New()
	h.Write([]byte(d.Content))
	h.Write([]byte{0})
	if d.ReplyToID != nil {
		h.Write([]byte(*d.ReplyToID))
	}
	return h.Sum(nil)[:16]
}

// Edit is the new content of a message.
type Edit struct {
	Content string `json:"content"`
}

// Check normalises the edit and notes its faults.
func (e *Edit) Check(f *invalid.Faults) { checkContent(f, &e.Content) }

func checkContent(f *invalid.Faults, s *string) {
	invalid.Text{Min: 1, Max: MaxContent, Lines: true}.Check(f, "content", s)
	switch {
	case len(*s) > maxContentBytes:
		f.Add("content", "must have %d bytes at most", maxContentBytes)
	case strings.TrimSpace(*s) == "":
		f.Add("content", "must not be only white space")
	}
}

// Page is a part of a conversation's history.
type Page struct {
	Messages []chat.Message
	HasMore  bool
}
