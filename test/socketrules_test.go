package test

import (
	"maps"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/fasthttp/websocket"
)

func TestTheUpgradeIsCheckedInOrder(t *testing.T) {
	t.Parallel()
	s := start(t, 1, "PARLEY_ALLOWED_ORIGINS=https://chat.example.com")
	p := s.pods[0]
	u := p.register(t)
	bearer := "Bearer " + u.token
	upgrade := []string{"Connection", "Upgrade", "Upgrade", "websocket", "Sec-WebSocket-Version", "13", "Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="}
	for _, c := range []struct {
		name    string
		path    string
		headers []string
		plain   bool
		status  int
		code    string
	}{
		{name: "no upgrade", headers: []string{"Authorization", bearer}, plain: true, status: 426, code: "upgrade_required"},
		{name: "no upgrade comes before a foreign origin", headers: []string{"Origin", "https://evil.example"}, plain: true, status: 426, code: "upgrade_required"},
		{name: "a foreign origin comes before the token", headers: []string{"Origin", "https://evil.example"}, status: 403, code: "origin_not_allowed"},
		{name: "no token", status: 401, code: "unauthorized"},
		{name: "a token in the URL", path: "?access_token=" + u.token, status: 401, code: "unauthorized"},
		{name: "no token comes before a bad device", path: "?deviceId=a%20b", status: 401, code: "unauthorized"},
		{name: "a bad device", path: "?deviceId=a%20b", headers: []string{"Authorization", bearer}, status: 400, code: "invalid_request"},
		{name: "an empty device", path: "?deviceId=", headers: []string{"Authorization", bearer}, status: 400, code: "invalid_request"},
		{name: "a device too long", path: "?deviceId=" + strings.Repeat("x", 65), headers: []string{"Authorization", bearer}, status: 400, code: "invalid_request"},
		{name: "another protocol", headers: []string{"Authorization", bearer, "Sec-WebSocket-Protocol", "graphql-ws"}, status: 400, code: "invalid_request"},
		{name: "a bearer alone", headers: []string{"Sec-WebSocket-Protocol", "bearer." + u.token}, status: 400, code: "invalid_request"},
	} {
		headers := c.headers
		if !c.plain {
			headers = append(append([]string{}, upgrade...), headers...)
		}
		if a := p.call(t, "", "GET", "/api/ws"+c.path, nil, headers...); a.status != c.status || a.code() != c.code {
			t.Errorf("%s: %d %s, want %d %s", c.name, a.status, a.body, c.status, c.code)
		}
	}
	for name, h := range map[string]http.Header{
		"no origin":      {},
		"the same":       {"Origin": {p.url}},
		"an allowed one": {"Origin": {"https://chat.example.com"}},
	} {
		h.Set("Authorization", bearer)
		if _, err := p.dial(t, "/api/ws?deviceId=phone_1", h); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	sock, err := p.dial(t, "/api/ws?deviceId=phone", nil, "parley.v1", "bearer."+u.token)
	if err != nil || sock.conn.Subprotocol() != "parley.v1" {
		t.Fatalf("from a browser: %+v %v", sock, err)
	}
	var ready struct {
		UserID, DeviceID, SessionID, ServerTime string
		HeartbeatSeconds                        int
	}
	if sock.next(5*time.Second).into(t, &ready); ready.UserID != u.ID || ready.DeviceID != "phone" || ready.SessionID == "" || ready.HeartbeatSeconds < 5 || len(ready.ServerTime) != 27 {
		t.Errorf("ready is %+v", ready)
	}
}

func TestFrames(t *testing.T) {
	t.Parallel()
	s := plainSystem(t)
	p := s.pods[0]
	u := p.users(t, 3)
	c, d := p.group(t, u[0], u[1:]...), p.direct(t, u[0], u[1])
	sock := p.open(t, u[0])
	good := func(change map[string]any) map[string]any { // nil leaves a field out
		m := map[string]any{"conversationId": c.ID, "content": "hello", "clientMessageId": "k"}
		maps.Copy(m, change)
		maps.DeleteFunc(m, func(_ string, v any) bool { return v == nil })
		return m
	}
	for _, x := range []struct {
		name, typ    string
		data         any
		code, fields string
	}{
		{"an unknown type", "nonsense", map[string]any{}, "unknown_type", ""},
		{"no data", "message:send", nil, "invalid_request", "data"},
		{"a list as data", "message:send", []int{1}, "invalid_request", "data"},
		{"no fields", "message:send", map[string]any{}, "invalid_request", "clientMessageId content conversationId"},
		{"two faults", "message:send", good(map[string]any{"content": 7, "clientMessageId": strings.Repeat("x", 65)}), "invalid_request", "clientMessageId content"},
		{"an unknown field", "message:send", good(map[string]any{"extra": 1}), "invalid_request", "extra"},
		{"blank content", "message:send", good(map[string]any{"content": " \n\t "}), "invalid_request", "content"},
		{"content too long", "message:send", good(map[string]any{"content": strings.Repeat("é", 8001)}), "invalid_request", "content"},
		{"a control character", "message:send", good(map[string]any{"content": "a\x07"}), "invalid_request", "content"},
		{"no clientMessageId", "message:send", good(map[string]any{"clientMessageId": nil}), "invalid_request", "clientMessageId"},
		{"a reply to no id", "message:send", good(map[string]any{"replyToId": "x"}), "invalid_request", "replyToId"},
		{"a reply to no message", "message:send", good(map[string]any{"replyToId": d.ID}), "invalid_request", "replyToId"},
		{"a send to no id", "message:send", good(map[string]any{"conversationId": "x"}), "conversation_not_found", ""},
		{"a send to no conversation", "message:send", good(map[string]any{"conversationId": u[0].ID}), "conversation_not_found", ""},
		{"typing in no conversation", "typing:start", map[string]any{"conversationId": u[0].ID}, "conversation_not_found", ""},
		{"typing in no id", "typing:start", map[string]any{"conversationId": "x"}, "conversation_not_found", ""},
		{"typing in a number", "typing:stop", map[string]any{"conversationId": 1}, "invalid_request", "conversationId"},
		{"a sync of nothing", "sync", map[string]any{}, "invalid_request", "conversations"},
		{"a sync of no id", "sync", map[string]any{"conversations": map[string]any{"x": 1}}, "invalid_request", "conversations"},
		{"a sync from below zero", "sync", map[string]any{"conversations": map[string]any{c.ID: -1}}, "invalid_request", "conversations"},
		{"a sync from a text", "sync", map[string]any{"conversations": map[string]any{c.ID: "1"}}, "invalid_request", "conversations"},
	} {
		t.Run(x.name, func(t *testing.T) { //nolint:paralleltest // one socket for all
			expectFrameProblem(t, sock.ask(x.typ, x.data), x.code, x.fields)
		})
	}
	sock.acks("message:send", good(map[string]any{"content": strings.Repeat("é", 8000)}))
	if f := sock.ask("ping", nil); f.Type != "pong" {
		t.Errorf("the response to ping is %s", f.Type)
	}
	sock.write(map[string]any{"type": "message:send", "data": good(map[string]any{"clientMessageId": "without an id"})})
	for m := (message{}); m.Seq < 2; {
		sock.until("message:new", 5*time.Second).into(t, &m)
	}
	for _, f := range sock.upToPong() { // what is sent without an id has no ack
		if f.Type == "ack" || f.Type == "error" {
			t.Errorf("the response to a send without an id is %s %s, want none", f.Type, f.Data)
		}
	}
}

// expectFrameProblem checks that a frame is an error with the code, faults of the fields and of no other ones, and a request id.
func expectFrameProblem(t *testing.T, f frame, code, fields string) {
	t.Helper()
	var pr problem
	f.into(t, &pr)
	if f.Type != "error" || pr.Code != code || pr.fields() != fields || pr.RequestID == "" {
		t.Errorf("%s %s, want the error %s with faults of %q and a requestId", f.Type, f.Data, code, fields)
	}
}

// A malformed frame closes the socket with 4400.
func TestMalformedFrames(t *testing.T) {
	t.Parallel()
	p := plainSystem(t).pods[0]
	u := p.register(t)
	for name, x := range map[string]struct {
		kind int
		data string
	}{
		"not JSON":      {websocket.TextMessage, "hello"},
		"not an object": {websocket.TextMessage, `["ping"]`},
		"no type":       {websocket.TextMessage, `{"id":"1"}`},
		"a number type": {websocket.TextMessage, `{"type":1}`},
		"a null type":   {websocket.TextMessage, `{"type":null}`},
		"other case":    {websocket.TextMessage, `{"Type":"ping"}`},
		"binary":        {websocket.BinaryMessage, `{"type":"ping"}`},
		"not UTF-8":     {websocket.TextMessage, "{\"type\":\"\xff\"}"},
	} {
		t.Run(name, func(t *testing.T) {
			sock := p.open(t, u)
			if err := sock.conn.WriteMessage(x.kind, []byte(x.data)); err != nil {
				t.Fatal(err)
			}
			sock.expectClosed(4400, 5*time.Second)
		})
	}
}

func TestFramesTooLargeAndTooMany(t *testing.T) {
	t.Parallel()
	s := start(t, 1, "PARLEY_RATE_LIMIT_FRAMES=50/1s")
	p := s.pods[0]
	u := p.register(t)
	large := p.open(t, u)
	large.write(map[string]any{"type": "nonsense", "data": strings.Repeat("x", 129<<10)})
	large.expectClosed(1009, 5*time.Second)
	fits := p.open(t, u)
	if f := fits.ask("nonsense", strings.Repeat("x", 127<<10)); f.Type != "error" {
		t.Errorf("127 KiB: %s", f.Type)
	}
	many := p.open(t, u)
	for range 200 {
		if many.conn.WriteMessage(websocket.TextMessage, []byte(`{"type":"ping"}`)) != nil {
			break
		}
	}
	many.expectClosed(4429, 5*time.Second) // 200 frames at once
}

func TestAStopClosesSocketsWith1012AndExitsCleanly(t *testing.T) {
	t.Parallel()
	s := start(t, 2)
	u := s.pods[0].users(t, 3)
	c := s.pods[0].group(t, u[0], u[1:]...)
	stays := s.pods[1].open(t, u[1])
	var socks []*socket
	for range 5 {
		socks = append(socks, s.pods[0].open(t, u[0]))
	}
	s.pods[0].send(t, u[0], c.ID, "the last")
	s.pods[0].Signal(syscall.SIGTERM)
	for _, x := range socks {
		x.expectClosed(1012, 10*time.Second)
	}
	expectExit(t, s.pods[0].Process, 0, 20*time.Second)
	stays.messages(1, 1, 5*time.Second)
}

func TestWrongSettingsAreAllToldAndExit2(t *testing.T) {
	t.Parallel()
	s := start(t, 0)
	p := s.launch("PARLEY_JWT_SECRET=hunter2", "PARLEY_REDIS_URL=", "PARLEY_LOG_LEVEL=loud")
	expectExit(t, p.Process, 2, 10*time.Second)
	expectContains(t, "faults of the api", p.Logs(), "PARLEY_JWT_SECRET", "PARLEY_REDIS_URL", "PARLEY_LOG_LEVEL")
	if strings.Contains(p.Logs(), "hunter2") {
		t.Errorf("a secret is shown: %s", p.Logs())
	}
}
