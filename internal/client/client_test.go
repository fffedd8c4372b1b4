package client

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/fasthttp/websocket"
)

func serve(t testing.TB, h http.HandlerFunc) Server {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return Server{Base: s.URL, Token: "a-token"}
}

func TestRequestsAreSentAsTheyAreMeant(t *testing.T) {
	t.Parallel()
	var got string
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		got = fmt.Sprintf("%s %s %s %q %q %s", r.Method, r.URL, r.Header.Get("Authorization"), r.Header.Get("Content-Type"), r.Header.Get("Parley-User"), b)
		w.WriteHeader(http.StatusCreated)
		_, _ = io.WriteString(w, `{"id":"1"}`)
	})
	anonymous := s
	anonymous.Token = ""
	for _, x := range []struct {
		from    Server
		body    any
		headers []string
		want    string
	}{
		{s, nil, nil, `POST /api/things?n=1 Bearer a-token "" "" `},
		{s, map[string]int{"n": 1}, nil, `POST /api/things?n=1 Bearer a-token "application/json" "" {"n":1}`},
		{s, `{"n":`, nil, `POST /api/things?n=1 Bearer a-token "application/json" "" {"n":`},
		{anonymous, nil, []string{"Parley-User", "ben"}, `POST /api/things?n=1  "" "ben" `},
		{s, "", []string{"Content-Type", "text/plain", "Authorization", "x"}, `POST /api/things?n=1 x "text/plain" "" `},
	} {
		r, err := x.from.Do(t.Context(), "POST", "/api/things?n=1", x.body, x.headers...)
		if err != nil || r.Status != http.StatusCreated || string(r.Body) != `{"id":"1"}` || got != x.want {
			t.Errorf("%+v %v\ngot  %s\nwant %s", r, err, got, x.want)
		}
	}
	var out struct{ ID string }
	if err := s.Call(t.Context(), "GET", "/things", nil, &out); err != nil || out.ID != "1" || !strings.HasPrefix(got, "GET /api/things ") {
		t.Errorf("%+v %v %s", out, err, got)
	}
}

func TestRefusalsAreProblems(t *testing.T) {
	t.Parallel()
	for name, x := range map[string]struct {
		status     int
		retryAfter string
		body       string
		text       string // of the error
	}{
		"a problem":         {403, "", `{"status":403,"code":"not_member","detail":"You are no member.","requestId":"r"}`, "GET /x: 403 not_member: You are no member."},
		"too many":          {429, "7", `{"status":429,"code":"rate_limited","retryAfterSeconds":7}`, "GET /x: 429 rate_limited: refused as too many, possible again in 7 s (PARLEY_RATE_LIMIT_*=off lifts the limits)"},
		"too many, by html": {429, "9", `<html>`, "GET /x: 429 : refused as too many, possible again in 9 s (PARLEY_RATE_LIMIT_*=off lifts the limits)"},
		"a proxy's":         {502, "", `<html>Bad Gateway`, "GET /x: 502, which is no problem of Parley's: <html>Bad Gateway"},
		"another's JSON":    {404, "", `{"error":"no"}`, `GET /x: 404, which is no problem of Parley's: {"error":"no"}`},
		"nothing":           {500, "", ``, "GET /x: 500, which is no problem of Parley's: "},
		"no JSON in a 200":  {200, "", `<html>`, "GET /x: invalid character '<' looking for beginning of value"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := serve(t, func(w http.ResponseWriter, _ *http.Request) {
				if x.retryAfter != "" {
					w.Header().Set("Retry-After", x.retryAfter)
				}
				w.WriteHeader(x.status)
				_, _ = io.WriteString(w, x.body)
			})
			var out struct{}
			err := s.Call(t.Context(), "GET", "/x", nil, &out)
			if err == nil || err.Error() != x.text {
				t.Errorf("%v\nwant %s", err, x.text)
			}
			if p := ProblemOf(fmt.Errorf("wrapped: %w", err)); (p != nil) != (x.status >= 400) || p != nil && p.Status != x.status {
				t.Errorf("%+v", p)
			}
		})
	}
	closed := httptest.NewServer(http.NotFoundHandler())
	closed.Close()
	if err := (Server{Base: closed.URL}).Call(t.Context(), "GET", "/x", nil, nil); err == nil || ProblemOf(err) != nil || !strings.Contains(err.Error(), closed.URL) {
		t.Errorf("nobody there: %v", err)
	}
	if err := serve(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }).Call(t.Context(), "DELETE", "/x", nil, &struct{}{}); err != nil {
		t.Errorf("an empty response: %v", err)
	}
}

// sockets serves sockets of a handler's.
func sockets(t testing.TB, h func(*websocket.Conn, *http.Request)) Server {
	t.Helper()
	u := websocket.Upgrader{Subprotocols: []string{"parley.v1"}}
	return serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/api/ws" {
			w.WriteHeader(http.StatusForbidden)
			_, _ = io.WriteString(w, `{"status":403,"code":"origin_not_allowed","detail":"No."}`)
			return
		}
		c, err := u.Upgrade(w, r, nil)
		if err != nil {
			t.Error(err)
			return
		}
		defer c.Close()
		h(c, r)
	})
}

func TestASocketsFrames(t *testing.T) {
	t.Parallel()
	s := sockets(t, func(c *websocket.Conn, r *http.Request) {
		_ = c.WriteJSON(map[string]any{"type": "ready", "data": map[string]string{"auth": r.Header.Get("Authorization") + r.URL.RawQuery}})
		for {
			_, b, err := c.ReadMessage()
			if err != nil {
				return
			}
			switch {
			case bytes.Contains(b, []byte(`"refuse"`)):
				_ = c.WriteMessage(websocket.TextMessage, []byte(`{"type":"error","id":"7","data":{"status":404,"code":"user_not_found","detail":"Nobody."}}`))
			case bytes.Contains(b, []byte(`"close"`)):
				_ = c.WriteMessage(websocket.CloseMessage, websocket.FormatCloseMessage(1012, ""))
			default:
				_ = c.WriteJSON(map[string]any{"type": "ack", "id": "7", "data": string(b)})
			}
		}
	})
	c, err := s.Dial(t.Context(), nil, "/api/ws?deviceId=d", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if f, err := c.Next(); err != nil || f.Type != "ready" || string(f.Data) != `{"auth":"Bearer a-tokendeviceId=d"}` || time.Since(f.At) > time.Minute {
		t.Fatalf("%+v %v", f, err)
	}
	state := int64(3)
	for _, x := range []struct {
		id   string
		data any
		want string
	}{
		{"7", Sync{Conversations: map[string]int64{"c": 2}}, `"{\"type\":\"sync\",\"id\":\"7\",\"data\":{\"conversations\":{\"c\":2}}}\n"`},
		{"", Sync{State: &state}, `"{\"type\":\"sync\",\"data\":{\"conversations\":null,\"state\":3}}\n"`},
	} {
		if err := c.Send("sync", x.id, x.data); err != nil {
			t.Fatal(err)
		}
		if f, err := c.Next(); err != nil || f.Type != "ack" || string(f.Data) != x.want {
			t.Errorf("%s %v, want %s", f.Data, err, x.want)
		}
	}
	_ = c.Send("refuse", "7", nil)
	if f, err := c.Next(); err != nil || f.ID != "7" || f.Problem().Error() != "404 user_not_found: Nobody." {
		t.Errorf("%+v %v", f, err)
	}
	_ = c.Send("close", "", nil)
	if _, err := c.Next(); CloseCode(err) != 1012 {
		t.Errorf("closed by %v", err)
	}
	if CloseCode(io.EOF) != 0 {
		t.Error("an end without a close frame has a code")
	}
}

func TestSocketsThatDoNotOpen(t *testing.T) {
	t.Parallel()
	s := sockets(t, func(c *websocket.Conn, _ *http.Request) {
		_ = c.WriteMessage(websocket.TextMessage, []byte(`{"type":"ping"}`))
	})
	if _, err := s.Dial(t.Context(), nil, "/api/other", nil); ProblemOf(err) == nil || ProblemOf(err).Code != "origin_not_allowed" {
		t.Errorf("a refusal: %v", err)
	}
	if _, err := s.Open(t.Context(), nil, "/api/ws", nil); err == nil || !strings.Contains(err.Error(), "the first frame is ping") {
		t.Errorf("not ready: %v", err)
	}
	silent := sockets(t, func(c *websocket.Conn, _ *http.Request) { _, _, _ = c.ReadMessage() })
	if _, err := silent.Open(t.Context(), &websocket.Dialer{HandshakeTimeout: 200 * time.Millisecond}, "/api/ws", nil); err == nil {
		t.Error("a socket without a ready frame is open")
	}
	c, err := silent.Dial(t.Context(), nil, "/api/ws", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.ReadFrame(50 * time.Millisecond); err == nil {
		t.Error("silence is no error")
	}
}

func TestAPersonWaitsForFrames(t *testing.T) {
	t.Parallel()
	s := sockets(t, func(c *websocket.Conn, _ *http.Request) {
		for _, f := range []string{`{"type":"ready"}`, `{"type":"message:new","data":{"content":"one"}}`, `{"type":"message:new","data":{"content":"two"}}`,
			`{"type":"error","data":{"status":404,"code":"user_not_found"}}`} {
			_ = c.WriteMessage(websocket.TextMessage, []byte(f))
		}
		_, _, _ = c.ReadMessage()
	})
	p := &Person{Server: s, Name: "Ana"}
	if err := p.connect(t.Context()); err != nil {
		t.Fatal(err)
	}
	f, err := p.Await(t.Context(), time.Minute, "message:new", func(f Frame) bool { return f.Content() == "two" })
	if err != nil || f.Content() != "two" {
		t.Errorf("%+v %v", f, err)
	}
	if _, err := p.Await(t.Context(), time.Minute, "message:new", AnyFrame); ProblemOf(err) == nil || ProblemOf(err).Code != "user_not_found" {
		t.Errorf("an error frame: %v", err)
	}
	if _, err := p.Await(t.Context(), time.Millisecond, "ack", AnyFrame); err == nil {
		t.Error("nothing is no error")
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := p.Await(ended, time.Minute, "ack", AnyFrame); !errors.Is(err, context.Canceled) {
		t.Errorf("after the end: %v", err)
	}
	p.Close()
	if _, err := p.Await(t.Context(), time.Minute, "ack", AnyFrame); err == nil || !strings.Contains(err.Error(), "was closed") {
		t.Errorf("a closed socket: %v", err)
	}
}

func TestFieldsOfFrames(t *testing.T) {
	t.Parallel()
	frame := []byte(`{"type":"message:new","data":{"id":"m1","seq":42,"last":7}}`)
	for key, want := range map[string]string{`"type":"`: "message:new", `"id":"`: "m1", `"seq":`: "42", `"last":`: "7", `"no":`: "", `}}`: ""} {
		if got := string(Field(frame, key)); got != want {
			t.Errorf("%s is %q, want %q", key, got, want)
		}
	}
	if Integer(frame, `"seq":`) != 42 || Integer(frame, `"type":`) != 0 || Integer(frame, `"no":`) != 0 {
		t.Error("integers")
	}
}

// Frames are written and found again, in any pieces.
func FuzzFrames(f *testing.F) {
	for _, n := range []int{0, 1, 125, 126, 65535, 65536} {
		f.Add([]byte(strings.Repeat("x", n)), 3)
	}
	f.Fuzz(func(t *testing.T, payload []byte, cut int) {
		sent := AppendFrame([]byte{1, 2}, 1, payload)
		head := len(sent) - len(payload) - 4
		if sent[2] != 0x81 || sent[3]&0x80 == 0 {
			t.Fatalf("% x", sent[:head])
		}
		for i, c := range sent[head+4:] {
			if c^mask[i&3] != payload[i] {
				t.Fatal("it is masked wrongly")
			}
		}
		received := append([]byte{sent[2], sent[3] & 0x7f}, sent[4:head]...) // as a server writes it
		received = append(append(received, payload...), 0x89)
		whole := len(received) - 1
		if n, opcode, got := SplitFrame(received); n != whole || opcode != 1 || !bytes.Equal(got, payload) {
			t.Fatalf("%d %d %d bytes", n, opcode, len(got))
		}
		if cut = int(uint(cut) % uint(whole)); cut >= 0 { //nolint:gosec // any length short of the whole
			if n, _, _ := SplitFrame(received[:cut]); n != 0 {
				t.Fatalf("%d of %d bytes are a frame of %d", cut, whole, n)
			}
		}
	})
}
