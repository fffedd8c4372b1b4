package test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fasthttp/websocket"

	"github.com/parley-chat/parley/internal/client"
	"github.com/parley-chat/parley/internal/testenv"
)

// frame is one that a server sent.
type frame struct {
	client.Frame
	code int // of the close frame
}

func (f frame) into(t testing.TB, v any) {
	t.Helper()
	if err := json.Unmarshal(f.Data, v); err != nil {
		t.Fatalf("%s %s: %v", f.Type, f.Data, err)
	}
}

// socket is a client's. One goroutine reads its frames.
type socket struct {
	t      testing.TB
	conn   *client.Socket
	frames chan frame
	// heard are the conversations of which messages has read a message.
	heard map[string]bool
}

// open opens a socket and waits for its ready frame.
func (p *pod) open(t testing.TB, u user) *socket {
	t.Helper()
	s, err := p.dial(t, "/api/ws", http.Header{"Authorization": {"Bearer " + u.token}})
	if err != nil {
		t.Fatal(err)
	}
	if f := s.next(10 * time.Second); f.Type != "ready" {
		t.Fatalf("the first frame is %s %s %d", f.Type, f.Data, f.code)
	}
	return s
}

func (p *pod) dial(t testing.TB, path string, h http.Header, protocols ...string) (*socket, error) {
	t.Helper()
	d := &websocket.Dialer{HandshakeTimeout: time.Minute, Subprotocols: protocols}
	conn, err := client.Server{Base: p.url}.Dial(context.Background(), d, path, h)
	if err != nil {
		return nil, err
	}
	s := &socket{t: t, conn: conn, frames: make(chan frame, 100_000), heard: map[string]bool{}}
	go s.read()
	t.Cleanup(func() { _ = conn.Close() })
	return s, nil
}

func (s *socket) read() {
	defer close(s.frames)
	for {
		f, err := s.conn.Next()
		if _, syntax := errors.AsType[*json.SyntaxError](err); syntax {
			panic(err)
		}
		if code := client.CloseCode(err); code != 0 {
			s.frames <- frame{code: code}
		}
		if err != nil {
			return
		}
		s.frames <- frame{Frame: f}
	}
}

func (s *socket) write(v any) {
	s.t.Helper()
	if err := s.conn.WriteJSON(v); err != nil {
		s.t.Fatal(err)
	}
}

// next is the next frame but for pings, the zero frame where the connection ended.
func (s *socket) next(timeout time.Duration) frame {
	s.t.Helper()
	return s.nextWithin(testenv.NewLimit(timeout))
}

func (s *socket) nextWithin(limit *testenv.Limit) frame {
	s.t.Helper()
	for {
		select {
		case f := <-s.frames:
			if f.Type != "ping" {
				return f
			}
		case <-limit.Check():
			if limit.Over() {
				s.t.Fatalf("no frame within %s", limit)
			}
		}
	}
}

// until reads frames up to one of the type, and answers it.
func (s *socket) until(typ string, timeout time.Duration) frame {
	s.t.Helper()
	for limit := testenv.NewLimit(timeout); ; {
		f := s.nextWithin(limit)
		if f.Type == typ {
			return f
		}
		if f.Type == "" {
			s.t.Fatalf("the socket ended with %d where %s was due", f.code, typ)
		}
	}
}

// anyOrder reads frames until there was one of each type, and returns the last one of each.
func (s *socket) anyOrder(types ...string) map[string]frame {
	s.t.Helper()
	got := map[string]frame{}
	for len(types) > 0 {
		f := s.next(time.Minute)
		if f.Type == "" {
			s.t.Fatalf("the socket ended with %d where %v were due", f.code, types)
		}
		types = slices.DeleteFunc(types, func(typ string) bool { return typ == f.Type })
		got[f.Type] = f
	}
	return got
}

// closed reads up to the close frame and answers its code, 1006 where there was none.
func (s *socket) closed(timeout time.Duration) int {
	s.t.Helper()
	for limit := testenv.NewLimit(timeout); ; {
		if f := s.nextWithin(limit); f.code != 0 {
			return f.code
		} else if f.Type == "" {
			return 1006
		}
	}
}

// ask sends a frame and waits for the ack or error that answers it.
func (s *socket) ask(typ string, data any) frame {
	s.t.Helper()
	if err := s.conn.Send(typ, "ask", data); err != nil {
		s.t.Fatal(err)
	}
	for {
		if f := s.next(10 * time.Second); f.ID == "ask" {
			return f
		} else if f.Type == "" {
			s.t.Fatalf("the socket ended with %d where an answer was due", f.code)
		}
	}
}

// acks sends a frame, whose response must be an ack, and returns it.
func (s *socket) acks(typ string, data any) frame {
	s.t.Helper()
	f := s.ask(typ, data)
	if f.Type != "ack" {
		s.t.Errorf("the response to %s %.100v is %s %s, want an ack", typ, data, f.Type, f.Data)
	}
	return f
}

// refuses sends a frame, whose response must be an error that has the texts.
func (s *socket) refuses(typ string, data any, texts ...string) {
	s.t.Helper()
	f := s.ask(typ, data)
	if f.Type != "error" {
		s.t.Errorf("the response to %s %.100v is %s %s, want an error", typ, data, f.Type, f.Data)
	}
	expectContains(s.t, "the error in response to "+typ, f.Data, texts...)
}

// expectClosed reads up to the close frame, which must have the code.
func (s *socket) expectClosed(code int, within time.Duration) {
	s.t.Helper()
	if got := s.closed(within); got != code {
		s.t.Errorf("the socket was closed with %d, want %d", got, code)
	}
}

// messages reads the message:new frames of seqs from … to, each the successor of the one before. Events of what happened before a socket
// opened may still be on their way to it: before the first message that is read of a conversation, earlier ones are skipped.
func (s *socket) messages(from, to int64, timeout time.Duration) {
	s.t.Helper()
	for want := from; want <= to; {
		var m message
		s.until("message:new", timeout).into(s.t, &m)
		if m.Seq < from && !s.heard[m.ConversationID] {
			continue
		}
		s.heard[m.ConversationID] = true
		if m.Seq != want {
			s.t.Fatalf("message with seq %d where %d was due", m.Seq, want)
		}
		want++
	}
}

// silent checks that for some time no frame comes whose type begins with one of the prefixes, and that the socket stays open. Other frames
// may come at any time: events of different kinds have no order, and those of what happened before may still be on their way.
func (s *socket) silent(d time.Duration, prefixes ...string) {
	s.t.Helper()
	for _, f := range s.during(d) {
		if f.Type == "" || slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(f.Type, p) }) {
			s.t.Fatalf("got %s %s %d where none was due", f.Type, f.Data, f.code)
		}
	}
}

// during are the frames that come within the time. The close frame is the last one.
func (s *socket) during(d time.Duration) (out []frame) {
	for end := time.After(d); ; {
		select {
		case f, open := <-s.frames:
			if !open {
				return out
			}
			out = append(out, f)
		case <-end:
			return out
		}
	}
}

// upToPong sends a ping, and returns the frames that come before its pong.
func (s *socket) upToPong() (out []frame) {
	s.t.Helper()
	s.write(map[string]any{"type": "ping", "id": "up to here"})
	for {
		f := s.next(time.Minute)
		if f.Type == "pong" && f.ID == "up to here" {
			return out
		}
		if f.Type == "" {
			s.t.Fatalf("the socket ended with %d where a pong was due", f.code)
		}
		out = append(out, f)
	}
}

// Sockets come and go while messages flow. What is pooled must not carry one user's messages to another's socket.
func TestNoSocketGetsAnothersMessages(t *testing.T) {
	t.Parallel()
	s := plainSystem(t)
	p := s.pods[0]
	u := p.users(t, 4)
	secret, public := p.direct(t, u[0], u[1]), p.direct(t, u[2], u[3])
	stop := make(chan struct{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-stop:
				return
			default:
				_, _ = p.try(u[0].token, "POST", "/api/conversations/"+secret.ID+"/messages", map[string]any{"content": "secret"})
			}
		}
	}()
	for range 150 {
		leaving := p.open(t, u[1])
		_ = leaving.conn.NetConn().Close()
		coming := p.open(t, u[3])
		_ = coming.conn.NetConn().Close()
		for f := range coming.frames {
			if f.Type == "message:new" && strings.Contains(string(f.Data), "secret") {
				t.Fatalf("a stranger's socket got %s", f.Data)
			}
		}
	}
	close(stop)
	<-done
	sock := p.open(t, u[3])
	p.send(t, u[2], public.ID, "hello")
	sock.messages(1, 1, 5*time.Second)
}

// rest reads the frames that come until nothing has for a while.
func (s *socket) rest(quiet time.Duration) (out []frame) {
	for {
		select {
		case f, open := <-s.frames:
			if !open {
				return out
			}
			out = append(out, f)
		case <-time.After(quiet):
			return out
		}
	}
}
