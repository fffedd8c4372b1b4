package wire

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/parley-chat/parley/internal/chat"
	"github.com/parley-chat/parley/internal/event"
)

// Envelope is an event of a conversation in the form that pods send to each other: its routing and its finished frames.
type Envelope struct {
	ConversationID string // from the name of the channel
	Type           string
	// Revision is the conversation's revision after the event, 0 for an event that changes nothing, such as typing.
	Revision int64
	// CommittedAt is in microseconds since 1970, 0 if it is not measured.
	CommittedAt int64
	// Added, Removed, Ends, Except and ExceptMany are those of event.Routing. Added users get the frame Welcome, all others Frame.
	Added, Removed []string
	Ends           bool
	Except         string
	ExceptMany     []string
	// Sent is set on new messages, Typing on typing events.
	Sent        *event.Sent
	Typing      *event.Typing
	TraceParent string
	// Epoch identifies the history in which the event was committed, "" from pods of releases without epochs.
	Epoch string

	Frame, Welcome Frame
}

// head is the first line of an encoded envelope. The bytes of the frames follow it.
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
	// FrameLen is the length of Frame, or unreadable or excepting; then Len is the length.
	FrameLen int `json:"n"`

	// The following members are newer than the first version, whose pods ignore them.

	// RemovedMany are set instead of Removed if there are several.
	RemovedMany []string `json:"removedMany,omitempty"`
	Len         int      `json:"len,omitempty"`
	Ends        bool     `json:"ends,omitempty"`
	Epoch       string   `json:"epoch,omitempty"`
	ExceptMany  []string `json:"exceptMany,omitempty"`
}

// unreadable is a FrameLen that makes pods of the first version refuse the envelope and read the event from Postgres. It is used if several users
// were removed, because such a pod would read only Removed and detach one of them.
const unreadable = -1

// excepting is a FrameLen that makes pods refuse the envelope that know unreadable but not ExceptMany: they would deliver the frame to users who
// must not get it. Such events have no revision and are not read from Postgres, so the sockets of these pods miss them.
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

// framed reports whether an event has a frame for members who are not added by it. A new conversation has no other members.
func framed(e *event.Event) bool { return e.Type != event.TypeConversationCreated }

// envelopeOf returns an event's envelope without its frames.
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

// Encode encodes an event with an epoch: a line of JSON, followed by the bytes of the frames. The result equals that of Seal(e) and
// Envelope.Encode, but the frames are not copied.
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

// Encode encodes the envelope: a line of JSON, followed by the bytes of the frames.
func (x *Envelope) Encode() []byte {
	return append(append(x.appendHead(len(x.Frame), len(x.Welcome)), x.Frame...), x.Welcome...)
}

// appendHead returns the first line of an encoded envelope, with capacity for frames of these lengths.
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

// Decode decodes an envelope. The frames are parts of b. An event with a revision whose type this version doesn't know becomes a
// conversation:changed with the same routing, so that clients sync.
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
