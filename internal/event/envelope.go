package event

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/parley-chat/parley/internal/tracing"
)

// Envelope carries one event of a conversation from the pod that made it to the pods that serve the conversation.
type Envelope struct {
	ConversationID string `json:"-"` // the channel's
	Type           string `json:"type"`
	// Revision is the one that the event brought, 0 for what changes nothing (typing).
	Revision int64 `json:"revision,omitempty"`
	// CommittedAt is when it was committed, in microseconds since 1970.
	CommittedAt int64 `json:"at,omitempty"`
	// Added are the users who see the conversation from this event on. They get Welcome, everybody else Frame.
	Added []string `json:"added,omitempty"`
	// Removed is the user who gets this event and none after it.
	Removed string `json:"removed,omitempty"`
	// Except is a user who does not get the event: the one who types.
	Except string `json:"except,omitempty"`
	// Sent is set on new messages.
	Sent *Sent `json:"sent,omitempty"`
	// Typing is set on typing events.
	Typing *Typing `json:"typing,omitempty"`
	// TraceParent is the trace that the event belongs to (W3C Trace Context), "" where it is in none that is recorded.
	TraceParent string `json:"traceparent,omitempty"`

	Frame   Frame `json:"-"`
	Welcome Frame `json:"-"`
}

// wireEnvelope is the first line of an encoded envelope; the frames follow it as they are.
type wireEnvelope struct {
	*Envelope
	FrameLen int `json:"n"`
}

// In puts the event into the trace that ctx is in.
func (e *Envelope) In(ctx context.Context) *Envelope {
	e.TraceParent = tracing.Parent(ctx)
	return e
}

var errEnvelope = errors.New("not an envelope")

// Encode writes a line of JSON and after it the frames' bytes. Unknown members of the line are for newer pods.
func (e *Envelope) Encode() []byte {
	head, err := json.Marshal(wireEnvelope{e, len(e.Frame)})
	if err != nil {
		panic(fmt.Sprintf("event: an envelope that does not encode: %v", err))
	}
	b := make([]byte, 0, len(head)+1+len(e.Frame)+len(e.Welcome))
	b = append(append(b, head...), '\n')
	return append(append(b, e.Frame...), e.Welcome...)
}

// DecodeEnvelope reads what Encode wrote. The frames are parts of b.
func DecodeEnvelope(conversationID string, b []byte) (*Envelope, error) {
	head, frames, ok := bytes.Cut(b, []byte{'\n'})
	if !ok {
		return nil, errEnvelope
	}
	e := &Envelope{ConversationID: conversationID}
	w := wireEnvelope{Envelope: e}
	if err := json.Unmarshal(head, &w); err != nil {
		return nil, fmt.Errorf("%w: %w", errEnvelope, err)
	}
	if w.FrameLen < 0 || w.FrameLen > len(frames) {
		return nil, errEnvelope
	}
	e.Frame = Frame(frames[:w.FrameLen:w.FrameLen])
	e.Welcome = Frame(frames[w.FrameLen:])
	return e, nil
}

// Notice carries what concerns one user alone to the pods that hold sockets of theirs.
type Notice struct {
	UserID string `json:"-"` // the channel's
	// Type is the frame's, for metrics.
	Type string `json:"type,omitempty"`
	// ExceptSocket is the connection that does not get the frame, because it caused it.
	ExceptSocket string `json:"except,omitempty"`
	// Join names a conversation that the user was put into, with the revision that brought it.
	Join *Join `json:"join,omitempty"`
	// Related is another user to whom the user is something else now: a friend, a stranger, hidden.
	Related string `json:"related,omitempty"`
	// Replaced are sockets of the user's that give way to newer ones.
	Replaced []string `json:"replaced,omitempty"`
	// TraceParent is as an Envelope's.
	TraceParent string `json:"traceparent,omitempty"`

	Frame Frame `json:"-"`
}

// In puts the notice into the trace that ctx is in.
func (n *Notice) In(ctx context.Context) *Notice {
	n.TraceParent = tracing.Parent(ctx)
	return n
}

// Join is a conversation that a user sees from a revision on.
type Join struct {
	ConversationID string `json:"conversationId"`
	Revision       int64  `json:"revision"`
}

// Encode writes a line of JSON and after it the frame's bytes.
func (n *Notice) Encode() []byte {
	head, err := json.Marshal(n)
	if err != nil {
		panic(fmt.Sprintf("event: a notice that does not encode: %v", err))
	}
	return append(append(head, '\n'), n.Frame...)
}

// DecodeNotice reads what Encode wrote. The frame is a part of b.
func DecodeNotice(userID string, b []byte) (*Notice, error) {
	head, frame, ok := bytes.Cut(b, []byte{'\n'})
	if !ok {
		return nil, errEnvelope
	}
	n := &Notice{UserID: userID, Frame: Frame(frame)}
	if err := json.Unmarshal(head, n); err != nil {
		return nil, fmt.Errorf("%w: %w", errEnvelope, err)
	}
	return n, nil
}

// UserJoin is a user's coming into a conversation.
type UserJoin struct {
	UserID string
	Join
}

// Missed is what a pod did not tell of a conversation.
type Missed struct {
	// Gone are users who were removed since and are no members now, each with the event that tells it. They come first,
	// because what the other events carry is as it is now, and no longer theirs.
	Gone []*Envelope
	// Events follow each other by revision without a gap.
	Events []*Envelope
}
