// Package message is the domain of messages: sending (in group commits), history, edits, deletions, and the feed of a
// conversation's changes from which pods repair missed events and clients catch up.
package message

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"

	"github.com/parley-chat/parley/internal/chat"
	"github.com/parley-chat/parley/internal/id"
	"github.com/parley-chat/parley/internal/invalid"
	"github.com/parley-chat/parley/internal/metadata"
)

// ErrHistoryChanged is returned for a sync during which the database failed over: its reads may belong to two histories.
var ErrHistoryChanged = errors.New("the database has another history")

// Errors of requests, in addition to *invalid.Faults.
var (
	// ErrConversationNotFound is also returned if the caller is not a member of the conversation.
	ErrConversationNotFound = errors.New("conversation not found")
	// ErrNotFound is also returned if the caller is not a member of the message's conversation.
	ErrNotFound = errors.New("message not found")
	// ErrForbidden is returned to a member who may not change that message.
	ErrForbidden = errors.New("only the sender may edit a message; only the sender, owners and admins may delete one")
	// ErrDeleted is returned for an edit of a deleted message.
	ErrDeleted = errors.New("the message was deleted")
	// ErrCannotMessage is returned in a direct conversation with a block between the two.
	ErrCannotMessage = errors.New("this person cannot be messaged")
	// ErrClientMessageIDReused is returned for a clientMessageId that was used for another content or reply.
	ErrClientMessageIDReused = errors.New("this clientMessageId was used for another message")
	// ErrNoPosting is returned to a member of a group in which only owners and admins may write.
	ErrNoPosting = errors.New("only owners and admins may write in this conversation")
	// ErrMentionAll is returned to a member who mentions all of a large group.
	ErrMentionAll = errors.New("only owners and admins may mention all of a group of more than 100 members")
	// ErrRevisionMismatch is returned for an ifRevision that is older than the last edit.
	ErrRevisionMismatch = errors.New("it was edited after that revision")
	// ErrTooManyReactions is returned for one reaction too many on a message, or by a user on a message.
	ErrTooManyReactions = errors.New("a message has at most 20 different reactions, and at most 10 by one user")
	// ErrPinForbidden is returned to a member of a group who is neither an owner nor an admin.
	ErrPinForbidden = errors.New("only owners and admins may pin messages of a group")
	// ErrTooManyPins is returned for one pinned message too many.
	ErrTooManyPins = errors.New("a conversation has at most 50 pinned messages")
	// ErrBusy is returned when more sends wait than the pod will hold.
	ErrBusy = errors.New("too many messages wait to be stored")
)

// Bounds of a message.
const (
	MaxContent         = 8000
	maxContentBytes    = 32 << 10
	maxClientMessageID = 64
	maxAttachments     = 10
)

// Draft is a message to be sent.
type Draft struct {
	Content         string          `json:"content"`
	ClientMessageID *string         `json:"clientMessageId,omitempty"`
	ReplyToID       *string         `json:"replyToId,omitempty"`
	Metadata        metadata.Object `json:"metadata,omitempty"`
	Mentions        *MentionList    `json:"mentions,omitempty"`
	// Attachments are the ids of files that the sender uploaded and did not send yet.
	Attachments []string `json:"attachments,omitempty"`

	keyed *keyed // how a server key sends it, nil for a user's own
	// socketID is the sender's socket that it comes from, "" for REST.
	socketID string
}

// SetSocket names the sender's socket that the draft comes from.
func (d *Draft) SetSocket(id string) { d.socketID = id }

// plain reports whether the draft has nothing but content and a reply.
func (d *Draft) plain() bool {
	return d.Metadata == nil && d.Mentions == nil && len(d.Attachments) == 0 && d.keyed == nil
}

// Check normalises the draft and notes its faults.
func (d *Draft) Check(f *invalid.Faults) {
	if d.Content != "" || len(d.Attachments) == 0 {
		checkContent(f, &d.Content)
	}
	d.checkAttachments(f)
	if d.ClientMessageID != nil {
		invalid.Text{Min: 1, Max: maxClientMessageID}.Check(f, "clientMessageId", d.ClientMessageID)
	}
	if d.ReplyToID != nil && !id.Valid(*d.ReplyToID) {
		f.Add("replyToId", "must be the id of a message")
	}
	metadata.Check(f, "metadata", &d.Metadata)
	if d.Mentions.empty() {
		d.Mentions = nil
	}
}

func (d *Draft) checkAttachments(f *invalid.Faults) {
	seen := map[string]bool{}
	for _, a := range d.Attachments {
		if !id.Valid(a) || seen[a] {
			f.Add("attachments", "must hold ids of different attachments")
		}
		seen[a] = true
	}
	if len(d.Attachments) > maxAttachments {
		f.Add("attachments", "must have %d ids at most", maxAttachments)
	}
}

// hash identifies the original of a draft. It distinguishes a repeated send from another one, even after edits. What a
// draft does not have is not in it, so that the hash of a plain one is the same in all versions.
func (d *Draft) hash() []byte {
	h := sha256.New()
	h.Write([]byte(d.Content))
	h.Write([]byte{0})
	if d.ReplyToID != nil {
		h.Write([]byte(*d.ReplyToID))
	}
	if d.Metadata != nil {
		h.Write([]byte("\x00metadata"))
		h.Write(d.Metadata)
	}
	if d.Mentions != nil {
		fmt.Fprintf(h, "\x00mentions%v%v", d.Mentions.All, d.Mentions.UserIDs)
	}
	if len(d.Attachments) > 0 {
		fmt.Fprintf(h, "\x00attachments%v", d.Attachments)
	}
	if d.keyed != nil && d.keyed.kind != "" {
		h.Write([]byte("\x00kind" + d.keyed.kind))
	}
	return h.Sum(nil)[:16]
}

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
