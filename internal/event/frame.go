package event

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
)

// Opcodes of WebSocket frames (RFC 6455, section 5.2).
const (
	opText  = 1
	opClose = 8
	opPing  = 9
	opPong  = 10
	final   = 0x80
)

// maxHeader is the longest header of a frame from a server, which masks nothing.
const maxHeader = 10

// Frame is the finished bytes of WebSocket frames from the server, header and payload: what is written to every socket
// as it is, and never encoded again.
type Frame []byte

type frameBody struct {
	Type string `json:"type"`
	ID   string `json:"id,omitempty"`
	Data any    `json:"data,omitempty"`
}

// NewFrame encodes a frame. Data must be a value that always encodes.
func NewFrame(typ string, data any) Frame { return NewReply(typ, "", data) }

// NewReply encodes a frame that answers the client's frame with that id.
func NewReply(typ, id string, data any) Frame {
	body, err := json.Marshal(frameBody{Type: typ, ID: id, Data: data})
	if err != nil {
		panic(fmt.Sprintf("event: a %s that does not encode: %v", typ, err)) // a type of ours, not input
	}
	return append(appendHeader(make(Frame, 0, maxHeader+len(body)), opText, len(body)), body...)
}

// CloseFrame encodes a close with a code and a reason of at most 123 bytes.
func CloseFrame(code int, reason string) Frame {
	f := appendHeader(nil, opClose, 2+len(reason))
	f = binary.BigEndian.AppendUint16(f, uint16(code)) //nolint:gosec // close codes have four digits
	return append(f, reason...)
}

// EmptyCloseFrame answers a close that gave no code.
func EmptyCloseFrame() Frame { return appendHeader(nil, opClose, 0) }

// PongFrame answers a protocol ping with its payload.
func PongFrame(payload string) Frame {
	return append(appendHeader(nil, opPong, len(payload)), payload...)
}

// PingFrame is a protocol ping.
func PingFrame() Frame { return appendHeader(nil, opPing, 0) }

// HeartbeatFrame is a protocol ping and a ping that browsers see, in one write.
func HeartbeatFrame() Frame {
	return append(PingFrame(), NewFrame(TypePing, nil)...)
}

func appendHeader(f Frame, op byte, n int) Frame {
	switch {
	case n < 126:
		return append(f, final|op, byte(n))
	case n < 1<<16:
		return binary.BigEndian.AppendUint16(append(f, final|op, 126), uint16(n))
	default:
		return binary.BigEndian.AppendUint64(append(f, final|op, 127), uint64(n))
	}
}
