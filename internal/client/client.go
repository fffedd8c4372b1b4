// Package client is a small client of Parley's API for programs that test a running Parley: the demo, api check
// and the tests on a cluster.
package client

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/fasthttp/websocket"
)

// AnswerTime is how long a response may take.
const AnswerTime = 10 * time.Second

// Person is a user with an open socket. It is not safe for concurrent use.
type Person struct {
	Name, Username, ID string
	// Base is the address of the pod or load balancer, without /api.
	Base string

	token, password string
	socket          *websocket.Conn
	frames          chan Frame // received frames; closed with the socket
}

// Frame is a frame from the server.
type Frame struct {
	Type string          `json:"type"`
	ID   string          `json:"id"`
	Data json.RawMessage `json:"data"`
	// At is when it came.
	At time.Time `json:"-"`
}

// Message has the members of a message that the demo shows.
type Message struct {
	Seq       int64  `json:"seq"`
	Content   string `json:"content"`
	CreatedAt string `json:"createdAt"`
}

type problem struct {
	Title  string `json:"title"`
	Detail string `json:"detail"`
	Code   string `json:"code"`
}

// Join registers a new user at the address and opens a socket there.
func Join(ctx context.Context, base, name string) (*Person, error) {
	p := &Person{Name: name, Base: base, Username: RandomName(strings.ToLower(name)), password: rand.Text(), frames: make(chan Frame, 64)}
	var account struct {
		User        struct{ ID string } `json:"user"`
		AccessToken string              `json:"accessToken"`
	}
	in := map[string]string{"username": p.Username, "password": p.password, "displayName": name}
	if err := p.Call(ctx, "POST", "/auth/register", in, &account); err != nil {
		return nil, err
	}
	p.ID, p.token = account.User.ID, account.AccessToken
	if err := p.connect(ctx); err != nil {
		return nil, err
	}
	_, err := p.Await(ctx, AnswerTime, "ready", AnyFrame)
	return p, err
}

// Enter opens a socket at the address for a user who has a token already.
func Enter(ctx context.Context, base, name, token string) (*Person, error) {
	p := &Person{Name: name, Base: base, token: token, frames: make(chan Frame, 64)}
	var me struct{ ID, Username string }
	if err := p.Call(ctx, "GET", "/users/me", nil, &me); err != nil {
		return nil, err
	}
	p.ID, p.Username = me.ID, me.Username
	if err := p.connect(ctx); err != nil {
		return nil, err
	}
	_, err := p.Await(ctx, AnswerTime, "ready", AnyFrame)
	return p, err
}

// BackEnd is a product's back end, which calls with a server key and has no socket.
func BackEnd(base, key string) *Person { return &Person{Base: base, token: key} }

// Leave closes the socket and deletes the account.
func (p *Person) Leave(ctx context.Context) error {
	p.Close()
	return p.Call(ctx, "DELETE", "/users/me", map[string]string{"password": p.password}, nil)
}

// Close closes the socket.
func (p *Person) Close() { _ = p.socket.Close() }

func (p *Person) connect(ctx context.Context) error {
	url := "ws" + strings.TrimPrefix(p.Base, "http") + "/api/ws"
	d := websocket.Dialer{HandshakeTimeout: AnswerTime}
	c, res, err := d.DialContext(ctx, url, http.Header{"Authorization": {"Bearer " + p.token}})
	if errors.Is(err, websocket.ErrBadHandshake) {
		defer res.Body.Close()
		return fmt.Errorf("open a socket to %s: %w", p.Base, refusal(res))
	}
	if err != nil {
		return fmt.Errorf("open a socket to %s: %w", p.Base, err)
	}
	p.socket = c
	go p.read()
	return nil
}

func (p *Person) read() {
	defer close(p.frames)
	for {
		_, b, err := p.socket.ReadMessage()
		if err != nil {
			return
		}
		f := Frame{At: time.Now()}
		if err := json.Unmarshal(b, &f); err == nil {
			p.frames <- f
		}
	}
}

// Await receives frames until one has the type and satisfies right. Other frames are dropped.
func (p *Person) Await(ctx context.Context, within time.Duration, typ string, right func(Frame) bool) (Frame, error) {
	late := time.After(within)
	for {
		select {
		case f, open := <-p.frames:
			switch {
			case !open:
				return f, fmt.Errorf("%s's socket was closed while waiting for %s", p.Name, typ)
			case f.Type == "error":
				return f, fmt.Errorf("%s was answered: %s", p.Name, f.Data)
			case f.Type == typ && right(f):
				return f, nil
			}
		case <-late:
			return Frame{}, fmt.Errorf("%s got no %s within %s", p.Name, typ, within)
		case <-ctx.Done():
			return Frame{}, ctx.Err()
		}
	}
}

// AnyFrame accepts every frame.
func AnyFrame(Frame) bool { return true }

// Content returns the text of the message in the frame.
func (f Frame) Content() string {
	var m Message
	_ = json.Unmarshal(f.Data, &m)
	return m.Content
}

// Active reports whether the user of a typing frame is typing.
func (f Frame) Active() bool {
	var typing struct{ Active bool }
	_ = json.Unmarshal(f.Data, &typing)
	return typing.Active
}

// Send sends a frame. Without an id there is no ack.
func (p *Person) Send(typ, id string, data any) error {
	f := map[string]any{"type": typ, "data": data}
	if id != "" {
		f["id"] = id
	}
	if err := p.socket.WriteJSON(f); err != nil {
		return fmt.Errorf("send %s: %w", typ, err)
	}
	return nil
}

// StartConversation makes a direct conversation and waits until the other user's socket has it.
func (p *Person) StartConversation(ctx context.Context, with *Person) (string, error) {
	var c struct {
		ID string `json:"id"`
	}
	err := p.Call(ctx, "POST", "/conversations", map[string]any{"type": "direct", "memberIds": []string{with.ID}}, &c)
	if err != nil {
		return "", err
	}
	_, err = with.Await(ctx, AnswerTime, "conversation:created", AnyFrame)
	return c.ID, err
}

// Call sends a request to a path under /api and decodes the response, unless out is nil.
func (p *Person) Call(ctx context.Context, method, path string, in, out any) error {
	ctx, cancel := context.WithTimeout(ctx, AnswerTime)
	defer cancel()
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, p.Base+"/api"+path, body)
	if err != nil {
		return fmt.Errorf("%s is no address of a pod: %w", p.Base, err)
	}
	req.Header.Set("Content-Type", "application/json")
	if p.token != "" {
		req.Header.Set("Authorization", "Bearer "+p.token)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("no reply from %s: %w", p.Base, err)
	}
	defer res.Body.Close()
	if res.StatusCode >= http.StatusBadRequest {
		return fmt.Errorf("%s %s: %w", method, path, refusal(res))
	}
	if out == nil {
		return nil
	}
	return json.NewDecoder(res.Body).Decode(out)
}

// refusal converts a problem response to an error.
func refusal(res *http.Response) error {
	if res.StatusCode == http.StatusTooManyRequests {
		return fmt.Errorf("there were too many; it is possible again in %s s (PARLEY_RATE_LIMIT_AUTH=off lifts the limit on registering)", res.Header.Get("Retry-After"))
	}
	var pr problem
	if err := json.NewDecoder(res.Body).Decode(&pr); err != nil {
		return errors.New(res.Status)
	}
	return fmt.Errorf("%s (%s) %s", res.Status, pr.Code, pr.Detail)
}

// RandomName makes a name that nobody has.
func RandomName(prefix string) string { return prefix + "_" + strings.ToLower(rand.Text()[:10]) }
