// Package message is the domain of messages: sends, history, edits, deletions, reactions, pins, and the sync of clients.
//
// Sends are stored in batches (Committer, queue.go), and so are reactions (Reactor). The queue keeps the order of a conversation's sends, and
// of the sends of one socket. A send with a clientMessageId is stored once, however often it is repeated.
//
//	Service.Send ──► queue ──► Committer: send.sql, one statement for up to 64 sends ──► Publisher
//	Service.React ─► slots ──► Reactor: react.sql, one transaction for many changes ──► Publisher
//	Service.Edit, Delete, Pin ──► one transaction under the conversation's lock (package journal) ──► Publisher
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
	// ErrForbidden is returned to a member who may not change the message.
	ErrForbidden = errors.New("only the sender may edit a message; only the sender, owners and admins may delete one")
	// ErrDeleted is returned for an edit of a deleted message.
	ErrDeleted = errors.New("the message was deleted")
	// ErrCannotMessage is returned in a direct conversation with a block between the two.
	ErrCannotMessage = errors.New("this person cannot be messaged")
	// ErrClientMessageIDReused is returned if the clientMessageId was used before for a draft with another hash.
	ErrClientMessageIDReused = errors.New("this clientMessageId was used for another message")
	// ErrNoPosting is returned to a member of a group in which only owners and admins may write.
	ErrNoPosting = errors.New("only owners and admins may write in this conversation")
	// ErrMentionAll is returned to a member who mentions all in a group of more than maxMentionAll members.
	ErrMentionAll = errors.New("only owners and admins may mention all of a group of more than 100 members")
	// ErrRevisionMismatch is returned for an ifRevision that is older than the last edit.
	ErrRevisionMismatch = errors.New("it was edited after that revision")
	// ErrTooManyReactions is returned if a message, or a user on a message, would have more reactions than allowed.
	ErrTooManyReactions = errors.New("a message has at most 20 different reactions, and at most 10 by one user")
	// ErrBusy is returned if too many sends, or too many changes of reactions, are waiting on the pod.
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
	// Attachments are the ids of files that the sender has uploaded and not sent yet.
	Attachments []string `json:"attachments,omitempty"`

	keyed *keyed // how a server key sends it, nil for a user's own
	// socketID is the socket that sent the draft, "" for REST.
	socketID string
}

// SetSocket sets the socket that sent the draft.
func (d *Draft) SetSocket(id string) { d.socketID = id }

// plain reports whether the draft has only content and a reply.
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

// hash returns a hash of the draft, which is stored with the message. It distinguishes a repeated send from another one with the same
// clientMessageId, even if the message was edited since. Absent members don't contribute, so a plain draft has the same hash in all versions.
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
		_, _ = fmt.Fprintf(h, "\x00mentions%v%v", d.Mentions.All, d.Mentions.UserIDs)
	}
	if len(d.Attachments) > 0 {
		_, _ = fmt.Fprintf(h, "\x00attachments%v", d.Attachments)
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
