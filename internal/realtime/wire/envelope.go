package wire

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/parley-chat/parley/internal/chat"
	"github.com/parley-chat/parley/internal/event"
)

// Envelope is an event of a conversation as pods send it to each other: how it is routed, and its finished frames.
type Envelope struct {
	ConversationID string // the channel's
	Type           string
	// Revision is the one that the event brought, 0 for what changes nothing.
	Revision int64
	// CommittedAt is in microseconds since 1970, 0 if it is not measured.
	CommittedAt int64
	// Added, Removed, Ends, Except and ExceptMany are those of event.Routing. The added get Welcome, everybody else Frame.
	Added, Removed []string
	Ends           bool
	Except         string
	ExceptMany     []string
	// Sent is set on new messages, Typing on typing events.
	Sent        *event.Sent
	Typing      *event.Typing
	TraceParent string
	// Epoch is of the history that the event is of, "" from pods that know none.
	Epoch string

	Frame, Welcome Frame
}

// head is the first line of an encoded envelope; the frames follow it as they are.
type head struct {
	Type        string        `json:"type"`
	Revision    int64         `json:"revision,omitempty"`
	CommittedAt int64         `json:"at,omitempty"`
	Added       []string      `json:"added,omitempty"`
	Removed     string        `json:"removed,omitempty"`
	Except      string        `json:"except,omitempty"`
	Sent        *event.Sent   `json:"sent,omitempty"`
	Typing      *event.Typing `json:"typing,omitempty"`
	TraceParent string        `json:"traceparent,omitempty"`
	// FrameLen is the frame's length, or unreadable or excepting: then Len is.
	FrameLen int `json:"n"`

	// What follows is newer than the first version, whose pods ignore it.

	// RemovedMany are set instead of Removed if there are several.
	RemovedMany []string `json:"removedMany,omitempty"`
	Len         int      `json:"len,omitempty"`
	Ends        bool     `json:"ends,omitempty"`
	Epoch       string   `json:"epoch,omitempty"`
	ExceptMany  []string `json:"exceptMany,omitempty"`
}

// unreadable as FrameLen keeps a pod of the first version from delivering an envelope that it would understand only in part:
// it reads the event from Postgres instead. Such a pod would detach only one of several users who were removed.
const unreadable = -1

// excepting as FrameLen does the same for pods that know unreadable but not ExceptMany: they would deliver the frame to users
// who must not get it. Such events have no revision, so that nothing reads them from Postgres: that pod's sockets miss them.
const excepting = -2

var errEnvelope = errors.New("not an envelope")

// Seal encodes an event's frames.
func Seal(e *event.Event) *Envelope {
	x := envelopeOf(e)
	if framed(e) {
		x.Frame = NewFrame(e.Type, e.Data)
	}
	if e.Welcome != nil {
		x.Welcome = NewFrame(event.TypeConversationCreated, e.Welcome)
	}
	return &x
}

// framed reports whether an event has a frame for members who are not added by it. Nobody is there before the creation.
func framed(e *event.Event) bool { return e.Type != event.TypeConversationCreated }

// envelopeOf is an event's envelope without its frames.
func envelopeOf(e *event.Event) Envelope {
	x := Envelope{
		ConversationID: e.ConversationID, Type: e.Type, Revision: e.Revision, CommittedAt: e.CommittedAt,
		Added: e.Added, Removed: e.Removed, Ends: e.Ends, Except: e.Except, ExceptMany: e.ExceptMany, TraceParent: e.TraceParent,
	}
	switch d := e.Data.(type) {
	case *chat.Message:
		if e.Type == event.TypeMessageNew {
			x.Sent = &event.Sent{ID: d.ID, Seq: d.Seq, SenderID: d.SenderID}
		}
	case event.Typing:
		x.Typing = &d
	}
	return x
}

// Encode writes an event's envelope in an epoch: a line of JSON and after it the frames' bytes. It equals Seal(e).Encode(), without a
// copy of the frames.
func Encode(e *event.Event, epoch string) []byte {
	x := envelopeOf(e)
	x.Epoch = epoch
	var frame, welcome []byte // payloads
	var frameLen, welcomeLen int
	if framed(e) {
		frame = payloadOf(e.Type, e.Data)
		frameLen = frameLenOf(e.Type, frame)
	}
	if e.Welcome != nil {
		welcome = payloadOf(e.Type, e.Welcome)
		welcomeLen = frameLenOf(event.TypeConversationCreated, welcome)
	}
	b := x.appendHead(frameLen, welcomeLen)
	if framed(e) {
		b = appendText(b, e.Type, nil, frame)
	}
	if e.Welcome != nil {
		b = appendText(b, event.TypeConversationCreated, nil, welcome)
	}
	return b
}

func frameLenOf(typ string, payload []byte) int {
	n := textLen(typ, nil, payload)
	return headerLen(n) + n
}

// Encode writes the envelope: a line of JSON and after it the frames' bytes.
func (x *Envelope) Encode() []byte {
	return append(append(x.appendHead(len(x.Frame), len(x.Welcome)), x.Frame...), x.Welcome...)
}

// appendHead starts an encoded envelope that has room for frames of these lengths.
func (x *Envelope) appendHead(frameLen, welcomeLen int) []byte {
	h := head{
		Type: x.Type, Revision: x.Revision, CommittedAt: x.CommittedAt, Added: x.Added, Except: x.Except, Sent: x.Sent, Typing: x.Typing,
		TraceParent: x.TraceParent, FrameLen: frameLen, Ends: x.Ends, Epoch: x.Epoch,
	}
	switch len(x.Removed) {
	case 0:
	case 1:
		h.Removed = x.Removed[0]
	default:
		h.RemovedMany, h.FrameLen, h.Len = x.Removed, unreadable, frameLen
	}
	if len(x.ExceptMany) > 0 {
		h.ExceptMany, h.FrameLen, h.Len = x.ExceptMany, excepting, frameLen
	}
	line := encode("envelope", &h)
	b := make([]byte, 0, len(line)+1+frameLen+welcomeLen)
	return append(append(b, line...), '\n')
}

// Decode reads what Encode wrote. The frames are parts of b. An event of a type that this version doesn't know is one that says
// so (event.ConversationChanged), with the routing that it came with.
func Decode(conversationID string, b []byte) (*Envelope, error) {
	line, frames, ok := bytes.Cut(b, []byte{'\n'})
	if !ok {
		return nil, errEnvelope
	}
	var h head
	if err := json.Unmarshal(line, &h); err != nil {
		return nil, fmt.Errorf("%w: %w", errEnvelope, err)
	}
	if (h.FrameLen == unreadable || h.FrameLen == excepting) && h.Len > 0 {
		h.FrameLen = h.Len
	}
	if h.FrameLen < 0 || h.FrameLen > len(frames) {
		return nil, errEnvelope
	}
	x := &Envelope{
		ConversationID: conversationID, Type: h.Type, Revision: h.Revision, CommittedAt: h.CommittedAt, Added: h.Added, Removed: h.RemovedMany,
		Ends: h.Ends, Epoch: h.Epoch, Except: h.Except, ExceptMany: h.ExceptMany, Sent: h.Sent, Typing: h.Typing, TraceParent: h.TraceParent,
		Frame: Frame(frames[:h.FrameLen:h.FrameLen]), Welcome: Frame(frames[h.FrameLen:]),
	}
	if h.Removed != "" {
		x.Removed = []string{h.Removed}
	}
	if x.Revision > 0 && !event.Known(x.Type) {
		changed := event.ConversationChanged(conversationID, x.Revision, x.CommittedAt)
		x.Type, x.Frame = changed.Type, NewFrame(changed.Type, changed.Data)
	}
	return x, nil
}
