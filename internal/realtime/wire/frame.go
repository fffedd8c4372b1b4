// Package wire encodes events: the WebSocket frames that sockets get, and the envelopes in which frames go from pod to pod
// through Redis. An event is encoded once, by the pod that publishes it; every pod and socket gets those bytes.
//
// Pods of two versions run side by side, so envelopes only grow: a decoder ignores members that it doesn't know, and a member
// keeps its meaning (testdata/redis has what the first version wrote).
package wire

import (
	"encoding/binary"
	"encoding/json"
	"fmt"

	"github.com/parley-chat/parley/internal/event"
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
	var name []byte
	if id != "" {
		name = encode("id", id)
	}
	payload := payloadOf(typ, data)
	return appendText(make(Frame, 0, maxHeader+textLen(typ, name, payload)), typ, name, payload)
}

// payloadOf is an event's data as JSON, nil for none.
func payloadOf(typ string, data any) []byte {
	if data == nil {
		return nil
	}
	return encode(typ, data)
}

func encode(what string, v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("wire: a %s that does not encode: %v", what, err)) // a type of ours, not input
	}
	return b
}

const textHead, textID, textData = `{"type":"`, `,"id":`, `,"data":`

// textLen is the length of the payload that appendText writes.
func textLen(typ string, id, data []byte) int {
	n := len(textHead) + len(typ) + len(`"}`)
	if id != nil {
		n += len(textID) + len(id)
	}
	if data != nil {
		n += len(textData) + len(data)
	}
	return n
}

// appendText writes a text frame. The type is one of ours and needs no escapes, id and data are JSON, nil for none.
func appendText(f []byte, typ string, id, data []byte) []byte {
	f = append(appendHeader(f, opText, textLen(typ, id, data)), textHead...)
	f = append(append(f, typ...), '"')
	if id != nil {
		f = append(append(f, textID...), id...)
	}
	if data != nil {
		f = append(append(f, textData...), data...)
	}
	return append(f, '}')
}

// headerLen is the length of the header of a frame with n bytes of payload.
func headerLen(n int) int {
	switch {
	case n < 126:
		return 2
	case n < 1<<16:
		return 4
	default:
		return maxHeader
	}
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
	return append(PingFrame(), NewFrame(event.TypePing, nil)...)
}

func appendHeader(f []byte, op byte, n int) []byte {
	switch {
	case n < 126:
		return append(f, final|op, byte(n))
	case n < 1<<16:
		return binary.BigEndian.AppendUint16(append(f, final|op, 126), uint16(n))
	default:
		return binary.BigEndian.AppendUint64(append(f, final|op, 127), uint64(n))
	}
}
