package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/fasthttp/websocket"
)

// Socket is an open socket. One goroutine may read and another may write at the same time.
type Socket struct {
	*websocket.Conn
	frame    bytes.Buffer
	deadline time.Time
}

// Frame is a frame from the server.
type Frame struct {
	Type string          `json:"type"`
	ID   string          `json:"id"`
	Data json.RawMessage `json:"data"`
	// At is when it came.
	At time.Time `json:"-"`
}

// Problem returns the data of an error frame.
func (f Frame) Problem() *Problem {
	p := &Problem{}
	if err := json.Unmarshal(f.Data, p); err != nil {
		p.Detail = string(f.Data)
	}
	return p
}

// outgoing is a frame to the server.
type outgoing struct {
	Type string `json:"type"`
	ID   string `json:"id,omitempty"`
	Data any    `json:"data"`
}

// Encode returns a frame as it is sent. Without an id it gets no ack.
func Encode(typ, id string, data any) ([]byte, error) { return json.Marshal(outgoing{typ, id, data}) }

// Dial opens a socket, without waiting for the ready frame. The path is /api/ws with a query, if any; d is nil or how to connect. The
// caller's token is sent unless the headers bring their own. A refusal is a *Problem.
func (s Server) Dial(ctx context.Context, d *websocket.Dialer, path string, headers http.Header) (*Socket, error) {
	if d == nil {
		d = &websocket.Dialer{HandshakeTimeout: AnswerTime}
	}
	if s.Token != "" {
		headers = headers.Clone()
		if headers == nil {
			headers = http.Header{}
		}
		headers.Set("Authorization", "Bearer "+s.Token)
	}
	conn, res, err := d.DialContext(ctx, "ws"+strings.TrimPrefix(s.Base, "http")+path, headers)
	if errors.Is(err, websocket.ErrBadHandshake) {
		defer res.Body.Close()
		var b bytes.Buffer
		_, _ = b.ReadFrom(res.Body) // the library keeps its first part
		if p := (Response{res.StatusCode, res.Header, b.Bytes()}).Problem(); p != nil {
			err = p
		}
	}
	if err != nil {
		return nil, fmt.Errorf("open a socket to %s: %w", s.Base, err)
	}
	return &Socket{Conn: conn}, nil
}

// Open opens a socket as Dial does, and waits for the ready frame.
func (s Server) Open(ctx context.Context, d *websocket.Dialer, path string, headers http.Header) (*Socket, error) {
	c, err := s.Dial(ctx, d, path, headers)
	if err != nil {
		return nil, err
	}
	within := AnswerTime
	if d != nil && d.HandshakeTimeout > 0 {
		within = d.HandshakeTimeout
	}
	_ = c.SetReadDeadline(time.Now().Add(within)) // fails only if reading would
	f, err := c.Next()
	if err == nil && f.Type != "ready" {
		err = fmt.Errorf("the first frame is %s", f.Type)
	}
	if err != nil {
		_ = c.Close()
		return nil, fmt.Errorf("open a socket to %s: %w", s.Base, err)
	}
	return c, c.SetReadDeadline(time.Time{})
}

// ReadFrame returns the bytes of the next frame, which are valid until the next call. Nothing for between three quarters of silence and all
// of it is an error; a silence of 0 is unbounded.
func (c *Socket) ReadFrame(silence time.Duration) ([]byte, error) {
	if silence > 0 {
		if now := time.Now(); c.deadline.Sub(now) < silence*3/4 { // not at each frame: it costs
			c.deadline = now.Add(silence)
			_ = c.SetReadDeadline(c.deadline)
		}
	}
	_, r, err := c.NextReader()
	if err != nil {
		return nil, err
	}
	c.frame.Reset()
	_, err = c.frame.ReadFrom(r)
	return c.frame.Bytes(), err
}

// Next returns the next frame. It waits for as long as the read deadline allows.
func (c *Socket) Next() (Frame, error) {
	b, err := c.ReadFrame(0)
	f := Frame{At: time.Now()}
	if err != nil {
		return f, err
	}
	if err := json.Unmarshal(b, &f); err != nil {
		return f, fmt.Errorf("a frame that is no JSON: %.200q: %w", b, err)
	}
	return f, nil
}

// Send sends a frame. Without an id it gets no ack.
func (c *Socket) Send(typ, id string, data any) error {
	if err := c.WriteJSON(outgoing{typ, id, data}); err != nil {
		return fmt.Errorf("send %s: %w", typ, err)
	}
	return nil
}

// CloseCode returns the code of the close frame that ended a socket, 0 if it ended without one.
func CloseCode(err error) int {
	if c, ok := errors.AsType[*websocket.CloseError](err); ok {
		return c.Code
	}
	return 0
}

// Sync is the data of a sync frame: the revision up to which each conversation is held.
type Sync struct {
	Conversations map[string]int64 `json:"conversations"`
	// State is the revision of the user's own states, nil to leave them out.
	State *int64 `json:"state,omitempty"`
}

// Synced is the data of its ack. P is a conversation's part: SyncPart, or a type with fewer members.
type Synced[P any] struct {
	Conversations map[string]P `json:"conversations"`
	Unknown       []string     `json:"unknown"`
	Gone          []string     `json:"gone"`
	State         *struct {
		Revision int64 `json:"revision"`
	} `json:"state"`
}

// Field returns the first value of a key in a frame, nil if there is none. The key is written as `"key":` for numbers and `"key":"` for
// strings. It is cheaper than decoding, and right as long as no text before it looks like the key and the value has neither a comma nor
// an escaped quote.
func Field(frame []byte, key string) []byte {
	i := bytes.Index(frame, []byte(key))
	if i < 0 {
		return nil
	}
	frame = frame[i+len(key):]
	if end := bytes.IndexAny(frame, `",}`); end >= 0 {
		return frame[:end]
	}
	return nil
}

// Integer is Field for an integer, 0 if there is none.
func Integer(frame []byte, key string) int64 {
	n, _ := strconv.ParseInt(string(Field(frame, key)), 10, 64) // anything else is 0
	return n
}
