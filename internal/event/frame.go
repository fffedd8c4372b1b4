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

// NewFrame encodes a frame. Data must be a value that always encodes, or nil for none.
func NewFrame(typ string, data any) Frame { return NewReply(typ, "", data) }

// NewReply encodes a frame that answers the client's frame with that id.
func NewReply(typ, id string, data any) Frame {
	if m, ok := data.(*Message); ok && m.encoded != nil {
		return reply(typ, id, m.encoded)
	}
	if data == nil {
		return reply(typ, id, nil)
	}
	return reply(typ, id, encode(typ, data))
}

func encode(what string, v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("event: a %s that does not encode: %v", what, err)) // a type of ours, not input
	}
	return b
}

// reply puts a frame together. The type is one of ours, and as it stands in JSON.
func reply(typ, id string, data []byte) Frame {
	const head, inID, inData = `{"type":"`, `,"id":`, `,"data":`
	var name []byte
	n := len(head) + len(typ) + len(`"}`)
	if id != "" {
		name = encode("id", id)
		n += len(inID) + len(name)
	}
	if data != nil {
		n += len(inData) + len(data)
	}
	f := append(appendHeader(make(Frame, 0, maxHeader+n), opText, n), head...)
	f = append(append(f, typ...), '"')
	if name != nil {
		f = append(append(f, inID...), name...)
	}
	if data != nil {
		f = append(append(f, inData...), data...)
	}
	return append(f, '}')
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
