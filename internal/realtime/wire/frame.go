// Package wire encodes events: the WebSocket frames that sockets get, and the envelopes with these frames that pods send to each other through
// Redis. An event is encoded once, by the pod that publishes it. All pods and sockets use the same bytes.
//
// Pods of two versions run at the same time. Therefore decoders ignore unknown members, and a member never changes its meaning
// (testdata/redis has envelopes of the first version).
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

// maxHeader is the longest header of a frame from a server, which has no mask.
const maxHeader = 10

// Frame has the bytes of one or more WebSocket frames from the server, headers and payloads, as they are written to sockets.
type Frame []byte

// NewFrame encodes a frame. data must be a value that can always be encoded as JSON, or nil for none: otherwise NewFrame panics.
func NewFrame(typ string, data any) Frame { return NewReply(typ, "", data) }

// NewReply encodes the response to the client's frame with that id, "" for none. data is as in NewFrame.
func NewReply(typ, id string, data any) Frame {
	var name []byte
	if id != "" {
		name = encode("id", id)
	}
	payload := payloadOf(typ, data)
	return appendText(make(Frame, 0, maxHeader+textLen(typ, name, payload)), typ, name, payload)
}

// payloadOf returns an event's data as JSON, nil for none.
func payloadOf(typ string, data any) []byte {
	if data == nil {
		return nil
	}
	return encode(typ, data)
}

func encode(what string, v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("wire: a %s that does not encode: %v", what, err)) // a bug: only types of ours are encoded, no input
	}
	return b
}

const textHead, textID, textData = `{"type":"`, `,"id":`, `,"data":`

// textLen returns the length of the payload that appendText writes.
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

// appendText appends a text frame. typ needs no escapes; id and data are JSON, or nil for none.
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

// headerLen returns the length of the header of a frame with a payload of n bytes.
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

// CloseFrame encodes a close frame. The reason may have at most 123 bytes.
func CloseFrame(code int, reason string) Frame {
	f := appendHeader(nil, opClose, 2+len(reason))
	f = binary.BigEndian.AppendUint16(f, uint16(code)) //nolint:gosec // close codes have four digits
	return append(f, reason...)
}

// EmptyCloseFrame encodes a close frame without a code, the response to one without a code.
func EmptyCloseFrame() Frame { return appendHeader(nil, opClose, 0) }

// PongFrame encodes the response to a protocol ping with that payload.
func PongFrame(payload string) Frame {
	return append(appendHeader(nil, opPong, len(payload)), payload...)
}

// PingFrame encodes a protocol ping.
func PingFrame() Frame { return appendHeader(nil, opPing, 0) }

// HeartbeatFrame encodes a protocol ping, followed by a ping frame, which scripts in browsers can see.
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
