package main

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

const answerTime = 10 * time.Second

// person is somebody with an account and an open socket.
type person struct {
	name, username, id, base, token string

	socket *websocket.Conn
	frames chan frame // what came; closed when the socket is
}

type frame struct {
	Type string          `json:"type"`
	ID   string          `json:"id"`
	Data json.RawMessage `json:"data"`
	at   time.Time
}

type message struct {
	Seq       int64  `json:"seq"`
	Content   string `json:"content"`
	CreatedAt string `json:"createdAt"`
}

type problem struct {
	Title  string `json:"title"`
	Detail string `json:"detail"`
	Code   string `json:"code"`
}

// join registers somebody new at the pod and opens their socket there.
func join(ctx context.Context, base, name string) (*person, error) {
	p := &person{name: name, base: base, username: randomName(strings.ToLower(name)), frames: make(chan frame, 64)}
	var account struct {
		User        struct{ ID string } `json:"user"`
		AccessToken string              `json:"accessToken"`
	}
	in := map[string]string{"username": p.username, "password": rand.Text(), "displayName": name}
	if err := p.call(ctx, "POST", "/auth/register", in, &account); err != nil {
		return nil, err
	}
	p.id, p.token = account.User.ID, account.AccessToken
	if err := p.connect(ctx); err != nil {
		return nil, err
	}
	_, err := p.await(ctx, answerTime, "ready", anyFrame)
	return p, err
}

func (p *person) connect(ctx context.Context) error {
	url := "ws" + strings.TrimPrefix(p.base, "http") + "/api/ws"
	d := websocket.Dialer{HandshakeTimeout: answerTime}
	c, res, err := d.DialContext(ctx, url, http.Header{"Authorization": {"Bearer " + p.token}})
	if errors.Is(err, websocket.ErrBadHandshake) {
		defer res.Body.Close()
		return fmt.Errorf("open a socket to %s: %w", p.base, refusal(res))
	}
	if err != nil {
		return fmt.Errorf("open a socket to %s: %w", p.base, err)
	}
	p.socket = c
	go p.read()
	return nil
}

func (p *person) read() {
	defer close(p.frames)
	for {
		_, b, err := p.socket.ReadMessage()
		if err != nil {
			return
		}
		f := frame{at: time.Now()}
		if err := json.Unmarshal(b, &f); err == nil {
			p.frames <- f
		}
	}
}

// await takes frames until one of the type comes that is right.
func (p *person) await(ctx context.Context, within time.Duration, typ string, right func(frame) bool) (frame, error) {
	late := time.After(within)
	for {
		select {
		case f, open := <-p.frames:
			switch {
			case !open:
				return f, fmt.Errorf("%s's socket was closed while waiting for %s", p.name, typ)
			case f.Type == "error":
				return f, fmt.Errorf("%s was answered: %s", p.name, f.Data)
			case f.Type == typ && right(f):
				return f, nil
			}
		case <-late:
			return frame{}, fmt.Errorf("%s got no %s within %s", p.name, typ, within)
		case <-ctx.Done():
			return frame{}, ctx.Err()
		}
	}
}

func anyFrame(frame) bool { return true }

func (f frame) content() string {
	var m message
	_ = json.Unmarshal(f.Data, &m)
	return m.Content
}

func (f frame) active() bool {
	var typing struct{ Active bool }
	_ = json.Unmarshal(f.Data, &typing)
	return typing.Active
}

func (p *person) send(typ, id string, data any) error {
	f := map[string]any{"type": typ, "data": data}
	if id != "" {
		f["id"] = id
	}
	if err := p.socket.WriteJSON(f); err != nil {
		return fmt.Errorf("send %s: %w", typ, err)
	}
	return nil
}

func (p *person) startConversation(ctx context.Context, with *person) (string, error) {
	var c struct {
		ID string `json:"id"`
	}
	err := p.call(ctx, "POST", "/conversations", map[string]any{"type": "direct", "memberIds": []string{with.id}}, &c)
	if err != nil {
		return "", err
	}
	_, err = with.await(ctx, answerTime, "conversation:created", anyFrame)
	return c.ID, err
}

// call makes a request and decodes the answer.
func (p *person) call(ctx context.Context, method, path string, in, out any) error {
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, p.base+"/api"+path, body)
	if err != nil {
		return fmt.Errorf("%s is no address of a pod: %w", p.base, err)
	}
	req.Header.Set("Content-Type", "application/json")
	if p.token != "" {
		req.Header.Set("Authorization", "Bearer "+p.token)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("nothing answers at %s (%w): start Parley first, with make run", p.base, err)
	}
	defer res.Body.Close()
	if res.StatusCode >= http.StatusBadRequest {
		return fmt.Errorf("%s %s: %w", method, path, refusal(res))
	}
	return json.NewDecoder(res.Body).Decode(out)
}

// refusal makes an error of an answer that is a problem.
func refusal(res *http.Response) error {
	if res.StatusCode == http.StatusTooManyRequests {
		return fmt.Errorf("there were too many; it is possible again in %s s (PARLEY_RATE_LIMIT_AUTH=off make run lifts the limit on registering)", res.Header.Get("Retry-After"))
	}
	var pr problem
	if err := json.NewDecoder(res.Body).Decode(&pr); err != nil {
		return errors.New(res.Status)
	}
	return fmt.Errorf("%s (%s) %s", res.Status, pr.Code, pr.Detail)
}

// randomName makes a name that nobody has.
func randomName(prefix string) string { return prefix + "_" + strings.ToLower(rand.Text()[:10]) }
