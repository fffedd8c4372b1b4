package client

import (
	"encoding/binary"
	"fmt"
)

// The functions of this file are for programs that bring their own connection and loop: loads of many thousand sockets, and attacks.

// Upgrade returns the request that opens a socket.
func Upgrade(host, path, token string) string {
	return fmt.Sprintf("GET %s HTTP/1.1\r\nHost: %s\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"+
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nUser-Agent: parley-bench/1\r\nAuthorization: Bearer %s\r\n\r\n", path, host, token)
}

// mask is constant: a client that hides nothing needs no random one.
var mask = [4]byte{0x1f, 0x2e, 0x3d, 0x4c}

// AppendFrame appends a frame from a client, masked and in one piece.
func AppendFrame(to []byte, opcode byte, payload []byte) []byte {
	to = append(to, 0x80|opcode)
	switch n := len(payload); {
	case n < 126:
		to = append(to, 0x80|byte(n))
	case n < 1<<16:
		to = binary.BigEndian.AppendUint16(append(to, 0x80|126), uint16(n))
	default:
		to = binary.BigEndian.AppendUint64(append(to, 0x80|127), uint64(n))
	}
	to = append(to, mask[:]...)
	for i, c := range payload {
		to = append(to, c^mask[i&3])
	}
	return to
}

// SplitFrame finds the first frame from a server. It returns the whole length, 0 if the frame is not complete.
func SplitFrame(b []byte) (length int, opcode byte, payload []byte) {
	if len(b) < 2 {
		return 0, 0, nil
	}
	head, n := 2, uint64(b[1])
	switch {
	case n == 126 && len(b) >= 4:
		head, n = 4, uint64(binary.BigEndian.Uint16(b[2:]))
	case n == 127 && len(b) >= 10:
		head, n = 10, binary.BigEndian.Uint64(b[2:])
	case n >= 126:
		return 0, 0, nil
	}
	if uint64(len(b)-head) < n {
		return 0, 0, nil
	}
	end := head + int(n)
	return end, b[0] & 15, b[head:end]
}
