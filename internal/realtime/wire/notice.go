package wire

import (
	"bytes"
	"encoding/json"
	"fmt"

	"github.com/parley-chat/parley/internal/event"
)

// Notice is an event.Notice as pods send it to each other, with its finished frame.
type Notice struct {
	UserID       string      `json:"-"` // the channel's
	Type         string      `json:"type,omitempty"`
	ExceptSocket string      `json:"except,omitempty"`
	Join         *event.Join `json:"join,omitempty"`
	Related      string      `json:"related,omitempty"`
	Replaced     []string    `json:"replaced,omitempty"`
	// Profile is beside the frame, which pods of an earlier version send as it is.
	Profile     *event.ProfileChange `json:"profile,omitempty"`
	TraceParent string               `json:"traceparent,omitempty"`
	// Epoch is of the history that a Join's revision is of, "" from pods that know none.
	Epoch string `json:"epoch,omitempty"`

	// Frame is nil for a notice to pods alone.
	Frame Frame `json:"-"`
}

// EncodeNotice writes a line of JSON and after it the frame's bytes.
func EncodeNotice(n *event.Notice, epoch string) []byte {
	x := Notice{Type: n.Type, ExceptSocket: n.ExceptSocket, Join: n.Join, Related: n.Related, Replaced: n.Replaced, Profile: n.Profile, TraceParent: n.TraceParent}
	if n.Join != nil {
		x.Epoch = epoch
	}
	if n.Type != "" {
		x.Frame = NewFrame(n.Type, n.Data)
	}
	return x.Encode()
}

// Encode writes a line of JSON and after it the frame's bytes.
func (n *Notice) Encode() []byte {
	return append(append(encode("notice", n), '\n'), n.Frame...)
}

// DecodeNotice reads what EncodeNotice wrote. The frame is a part of b.
func DecodeNotice(userID string, b []byte) (*Notice, error) {
	line, frame, ok := bytes.Cut(b, []byte{'\n'})
	if !ok {
		return nil, errEnvelope
	}
	n := &Notice{UserID: userID, Frame: Frame(frame)}
	if err := json.Unmarshal(line, n); err != nil {
		return nil, fmt.Errorf("%w: %w", errEnvelope, err)
	}
	return n, nil
}
