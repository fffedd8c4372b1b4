// Package client is the one Go client of Parley's API for programs that test a running Parley: the demo, api check, the tests on processes and
// on a cluster, and the benchmarks. Server makes requests and opens sockets, Person is a user with an open socket, and Conversation keeps
// a conversation in step with the server.
package client

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"strings"
	"time"
)

// Person is a user with an open socket. Call and Do are safe for concurrent use, the other methods are not.
type Person struct {
	Server
	Name, Username, ID string

	password string
	socket   *Socket
	frames   chan Frame // received frames; closed with the socket
}

// Message has the members of a message that the demo shows.
type Message struct {
	Seq       int64  `json:"seq"`
	Content   string `json:"content"`
	CreatedAt string `json:"createdAt"`
}

// Join registers a new user at the address and opens a socket there.
func Join(ctx context.Context, base, name string) (*Person, error) {
	p := &Person{Server: Server{Base: base}, Name: name, Username: RandomName(strings.ToLower(name)), password: rand.Text()}
	var account struct {
		User        struct{ ID string } `json:"user"`
		AccessToken string              `json:"accessToken"`
	}
	in := map[string]string{"username": p.Username, "password": p.password, "displayName": name}
	if err := p.Call(ctx, "POST", "/auth/register", in, &account); err != nil {
		return nil, err
	}
	p.ID, p.Token = account.User.ID, account.AccessToken
	return p, p.connect(ctx)
}

// Enter opens a socket at the address for a user who has a token already.
func Enter(ctx context.Context, base, name, token string) (*Person, error) {
	p := &Person{Server: Server{Base: base, Token: token}, Name: name}
	var me struct{ ID, Username string }
	if err := p.Call(ctx, "GET", "/users/me", nil, &me); err != nil {
		return nil, err
	}
	p.ID, p.Username = me.ID, me.Username
	return p, p.connect(ctx)
}

// Leave closes the socket and deletes the account.
func (p *Person) Leave(ctx context.Context) error {
	p.Close()
	return p.Call(ctx, "DELETE", "/users/me", map[string]string{"password": p.password}, nil)
}

// Close closes the socket.
func (p *Person) Close() { _ = p.socket.Close() }

func (p *Person) connect(ctx context.Context) (err error) {
	if p.socket, err = p.Open(ctx, nil, "/api/ws", nil); err != nil {
		return err
	}
	p.frames = make(chan Frame, 64)
	go p.read()
	return nil
}

func (p *Person) read() {
	defer close(p.frames)
	for {
		f, err := p.socket.Next()
		if err != nil {
			return
		}
		p.frames <- f
	}
}

// Await receives frames until one has the type and satisfies right. Other frames are dropped. An error frame is a *Problem.
func (p *Person) Await(ctx context.Context, within time.Duration, typ string, right func(Frame) bool) (Frame, error) {
	late := time.After(within)
	for {
		select {
		case f, open := <-p.frames:
			switch {
			case !open:
				return f, fmt.Errorf("%s's socket was closed while waiting for %s", p.Name, typ)
			case f.Type == "error":
				return f, fmt.Errorf("a frame of %s: %w", p.Name, f.Problem())
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

// Send sends a frame. Without an id it gets no ack.
func (p *Person) Send(typ, id string, data any) error { return p.socket.Send(typ, id, data) }

// Say sends a message and waits until the other user's socket has it and the server has acknowledged it. It returns how long each took.
func (p *Person) Say(ctx context.Context, conversation string, to *Person, text string) (seen, acked time.Duration, err error) {
	id, begun := RandomName("m"), time.Now()
	in := map[string]string{"conversationId": conversation, "content": text, "clientMessageId": id}
	if err := p.Send("message:send", id, in); err != nil {
		return 0, 0, err
	}
	got, err := to.Await(ctx, AnswerTime, "message:new", func(f Frame) bool { return f.Content() == text })
	if err != nil {
		return 0, 0, err
	}
	ack, err := p.Await(ctx, AnswerTime, "ack", func(f Frame) bool { return f.ID == id })
	return got.At.Sub(begun), ack.At.Sub(begun), err
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

// RandomName makes a name that nobody has.
func RandomName(prefix string) string { return prefix + "_" + strings.ToLower(rand.Text()[:10]) }
