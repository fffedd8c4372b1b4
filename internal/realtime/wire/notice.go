package wire

import (
	"bytes"
	"encoding/json"
	"fmt"

	"github.com/parley-chat/parley/internal/event"
)

// Notice is an event.Notice in the form that pods send to each other, with its finished frame.
type Notice struct {
	UserID       string      `json:"-"` // from the name of the channel
	Type         string      `json:"type,omitempty"`
	ExceptSocket string      `json:"except,omitempty"`
	Join         *event.Join `json:"join,omitempty"`
	Related      string      `json:"related,omitempty"`
	Replaced     []string    `json:"replaced,omitempty"`
	// Profile is set in addition to the frame. Pods of earlier versions ignore it and send the frame.
	Profile     *event.ProfileChange `json:"profile,omitempty"`
	TraceParent string               `json:"traceparent,omitempty"`
	// Epoch identifies the history of Join's revision, "" from pods of releases without epochs.
	Epoch string `json:"epoch,omitempty"`

	// Frame is empty for a notice that is for pods only.
	Frame Frame `json:"-"`
}

// EncodeNotice encodes a notice: a line of JSON, followed by the bytes of the frame.
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

// Encode encodes the notice: a line of JSON, followed by the bytes of the frame.
func (n *Notice) Encode() []byte {
	return append(append(encode("notice", n), '\n'), n.Frame...)
}

// DecodeNotice decodes a notice. The frame is a part of b.
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
