package httpapi

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/fasthttp/websocket"
	"github.com/gofiber/fiber/v2"

	"github.com/parley-chat/parley/internal/principal"
)

const (
	// handshakeTime bounds the write of a handshake's response.
	handshakeTime = 10 * time.Second
	// maxEarly bounds the bytes that a client may have sent before the response to its handshake.
	maxEarly = maxHeader
)

// socketConn is a client's socket. It owns its connection, and keeps nothing of the request and of fasthttp's buffers, which are many times as
// large.
type socketConn struct {
	*websocket.Conn
	net net.Conn
}

// admission holds what an admitted handshake established: the user, the device and the id of the request.
type admission struct {
	who     principal.Principal
	device  string
	request string
}

var upgrader = websocket.Upgrader{
	HandshakeTimeout: handshakeTime,
	Subprotocols:     []string{protocol},
	ReadBufferSize:   socketBuffer,
	WriteBufferSize:  socketBuffer,
	WriteBufferPool:  &sync.Pool{},
	CheckOrigin:      func(*http.Request) bool { return true }, // admit has checked it
}

// upgrade takes the connection of an admitted handshake from fasthttp, and serves the socket on another goroutine. So fasthttp's handler returns
// at once and frees the request and its buffers. The websocket library's upgrader for fasthttp would keep both for the life of the socket;
// therefore the one for net/http is used.
func (s *Server) upgrade(c *fiber.Ctx, a admission) error {
	request := &http.Request{Method: http.MethodGet, Header: http.Header{
		"Connection": {"Upgrade"}, "Upgrade": {"websocket"}, "Sec-Websocket-Version": {"13"},
		"Sec-Websocket-Key": {strings.Clone(c.Get("Sec-WebSocket-Key"))},
	}}
	if offered := protocols(c); len(offered) > 0 { // on one line, because the library reads only the first one
		request.Header.Set("Sec-Websocket-Protocol", strings.Join(offered, ", "))
	}
	c.Status(fiber.StatusSwitchingProtocols)
	answer := http.Header{}
	for name, value := range c.Response().Header.All() {
		if n := string(name); n != fiber.HeaderContentType && n != fiber.HeaderContentLength {
			answer.Add(n, string(value))
		}
	}
	own := c.Context().Conn().(*conn) //nolint:forcetypeassert // the listener makes no other ones
	c.Context().HijackSetNoResponse(true)
	c.Context().Hijack(func(hijacked net.Conn) {
		early, err := readEarly(hijacked)
		if err != nil {
			return // fasthttp closes the connection
		}
		go s.runSocket(request, answer, &handshake{own.handOver(), early}, a)
	})
	return nil
}

// readEarly returns the bytes after the handshake that have arrived already, without waiting for more.
func readEarly(c net.Conn) ([]byte, error) {
	if err := c.SetReadDeadline(time.Unix(1, 0)); err != nil {
		return nil, err
	}
	early := make([]byte, 0, 16)
	for len(early) <= maxEarly {
		early = slices.Grow(early, 1)
		n, err := c.Read(early[len(early):cap(early)])
		early = early[:len(early)+n]
		var timeout net.Error
		switch {
		case err == nil:
		case errors.As(err, &timeout) && timeout.Timeout():
			return early, c.SetReadDeadline(time.Time{})
		default:
			return nil, err
		}
	}
	return nil, errHeaders
}

// runSocket completes a handshake, serves the socket until it ends, and closes the connection.
func (s *Server) runSocket(request *http.Request, answer http.Header, h *handshake, a admission) {
	defer func() {
		if v := recover(); v != nil {
			s.panicked(context.Background(), partSocket, v)
		}
		_ = h.conn.Close()
	}()
	ws, err := upgrader.Upgrade(h, request, answer)
	if err != nil {
		return // the client has disconnected
	}
	s.serveSocket(&socketConn{Conn: ws, net: h.conn}, a)
}

// handshake is the http.ResponseWriter that passes a connection to the websocket library.
type handshake struct {
	conn  net.Conn
	early []byte
}

func (*handshake) Header() http.Header         { return http.Header{} }
func (*handshake) Write(b []byte) (int, error) { return len(b), nil }
func (*handshake) WriteHeader(int)             {}

// Hijack returns the connection, and a buffer with the bytes that were read already.
func (h *handshake) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	r := bufio.NewReaderSize(bytes.NewReader(h.early), max(len(h.early), 16))
	if _, err := r.Peek(len(h.early)); err != nil {
		return nil, nil, err
	}
	return h.conn, bufio.NewReadWriter(r, bufio.NewWriterSize(h.conn, 16)), nil
}

// isHandshake reports whether a request is a valid handshake of a WebSocket of version 13 (RFC 6455).
func isHandshake(c *fiber.Ctx) bool {
	key, err := base64.StdEncoding.DecodeString(c.Get("Sec-WebSocket-Key"))
	return err == nil && len(key) == 16 && c.Get("Sec-WebSocket-Version") == "13" && websocket.FastHTTPIsWebSocketUpgrade(c.Context())
}
