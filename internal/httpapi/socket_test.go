package httpapi

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/fasthttp/websocket"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/parley-chat/parley/internal/config"
	"github.com/parley-chat/parley/internal/event"
	"github.com/parley-chat/parley/internal/message"
	"github.com/parley-chat/parley/internal/ratelimit"
	"github.com/parley-chat/parley/internal/realtime"
	"github.com/parley-chat/parley/internal/receipt"
)

// fakeHubParts are the parts of other domains that a hub needs: every user is a member of room, and watches nobody.
type fakeHubParts struct{ fakePresences }

func (fakeHubParts) MembershipsOf(_ context.Context, userIDs []string) ([]map[string]int64, error) {
	out := make([]map[string]int64, len(userIDs))
	for i := range out {
		out[i] = map[string]int64{room: 7}
	}
	return out, nil
}

func (fakeHubParts) Recent(context.Context, time.Duration) (map[string]int64, []event.UserJoin, error) {
	return nil, nil, nil
}

func (fakeHubParts) After(context.Context, string, int64, int) (event.Missed, error) {
	return event.Missed{}, nil
}

func (fakeHubParts) ReadPairs(_ context.Context, pairs []event.PresencePair) ([]event.Presence, error) {
	out := make([]event.Presence, len(pairs))
	for i := range out {
		out[i] = event.Presence{UserID: bob, Status: "offline", LastSeenAt: &noon}
	}
	return out, nil
}

func (fakeHubParts) States(_ context.Context, userIDs []string) ([]event.PresenceState, error) {
	return make([]event.PresenceState, len(userIDs)), nil
}

func (fakeHubParts) Peers(context.Context, []string) ([]event.PresencePair, error) { return nil, nil }

func (fakeHubParts) Visible(context.Context, []event.PresencePair) (map[event.PresencePair]int64, error) {
	return nil, nil
}

func (fakeHubParts) Opened(string, string, string) {}
func (fakeHubParts) Closed(string)                 {}

// errPanics makes fakeSyncer panic.
var errPanics = errors.New("a panic")

type fakeSyncer struct{ *domains }

func (f fakeSyncer) Sync(_ context.Context, userID string, r *message.SyncRequest) (*message.SyncAnswer, error) {
	err := f.record("Sync", userID, r.Conversations)
	if errors.Is(err, errPanics) {
		panic(err)
	}
	return &message.SyncAnswer{Conversations: map[string]*message.SyncPart{}, Unknown: []string{room}, Gone: []string{}}, err
}

// socketEdge serves sockets on a port of its own, with a real hub. It returns the address.
func socketEdge(t *testing.T, limits config.Limits) (e *edge, address string) {
	t.Helper()
	e = newEdge(t, func(d *domains, c *Config, deps *Deps) {
		c.Addr, c.StopTimeout, c.Limits = "127.0.0.1:0", time.Minute, limits
		parts := fakeHubParts{fakePresences{d}}
		deps.Hub = realtime.NewHub(realtime.HubConfig{
			Memberships: parts, Feed: parts, Channels: realtime.NewChannels(), Presence: parts, Heartbeats: parts,
			Metrics: realtime.NewMetrics(prometheus.NewRegistry()), Log: slog.New(slog.DiscardHandler),
		})
		deps.Messages, deps.Receipts, deps.Presence = fakeMessages{domains: d}, fakeReceipts{d}, fakePresences{d}
		deps.Syncer, deps.Publisher = fakeSyncer{d}, fakePublisher{d}
	})
	l, err := e.Listen()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 2)
	go func() { ended <- e.Hub.Run(ctx) }()
	go func() { ended <- e.Serve(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		for range 2 {
			if err := <-ended; err != nil {
				t.Error(err)
			}
		}
	})
	return e, l.Addr().String()
}

// openSocket opens a socket of ada's in the way of browsers, and reads its ready frame.
func openSocket(t *testing.T, address string) *websocket.Conn {
	t.Helper()
	d := &websocket.Dialer{HandshakeTimeout: time.Minute, Subprotocols: []string{protocol, bearerPrefix + adasToken}}
	ws, res, err := d.Dial("ws://"+address+socketRoute+"?deviceId=phone", http.Header{"Origin": {"http://" + address}})
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	t.Cleanup(func() { _ = ws.Close() })
	if ws.Subprotocol() != protocol {
		t.Errorf("the sub-protocol is %q", ws.Subprotocol())
	}
	if first := readFrame(t, ws); !strings.HasPrefix(first, "ready ") || !strings.Contains(first, `"deviceId":"phone"`) || !strings.Contains(first, `"userId":"{ada}"`) {
		t.Fatalf("the first frame is %s", first)
	}
	return ws
}

// readFrame reads a frame and writes it as its type and data. The problem of an error is written as in an exchange.
func readFrame(t *testing.T, ws *websocket.Conn) string {
	t.Helper()
	_ = ws.SetReadDeadline(time.Now().Add(time.Minute))
	_, b, err := ws.ReadMessage()
	if err != nil {
		t.Fatal(err)
	}
	var f struct {
		Type, ID string
		Data     json.RawMessage
	}
	if err := json.Unmarshal(b, &f); err != nil {
		t.Fatal(err)
	}
	text := withNames(compacted(string(f.Data)))
	if f.Type == event.TypeError {
		text = problemText(f.Data)
	}
	return strings.TrimSpace(f.Type + " " + text)
}

// frameExchange is a frame of a client with the calls and the frames that it must lead to.
type frameExchange struct {
	name, frame string
	err         error // of the domain
	calls       string
	want        string // the frames before the pong of a ping that follows, separated by "; "
}

func (x *frameExchange) check(t *testing.T, e *edge, ws *websocket.Conn) {
	t.Helper()
	e.domains.set(x.err, false)
	for _, frame := range []string{withIDs(x.frame), `{"type":"ping"}`} {
		if err := ws.WriteMessage(websocket.TextMessage, []byte(frame)); err != nil {
			t.Fatal(err)
		}
	}
	var got []string
	for {
		f := readFrame(t, ws)
		if f == event.TypePong {
			break
		}
		if !strings.HasPrefix(f, "presence:") { // of the hub, at any time
			got = append(got, f)
		}
	}
	if all := strings.Join(got, "; "); all != x.want {
		t.Errorf("the frames are\n %s, want\n %s", all, x.want)
	}
	if calls := e.domains.recorded(); calls != x.calls {
		t.Errorf("the domains got\n %s, want\n %s", calls, x.calls)
	}
}

func TestFrames(t *testing.T) {
	t.Parallel()
	e, address := socketEdge(t, config.Limits{})
	ws := openSocket(t, address)
	e.domains.recorded()
	const active = "; Note {ada} {session}"
	const bobsPresence = `{"presence":[{"lastSeenAt":"{noon}","status":"offline","userId":"{bob}"}]}`
	const typing = `typing {"conversationId":"{room}","userId":"{ada}","active":`
	for _, x := range []frameExchange{
		{name: "read", frame: `{"type":"message:read","id":"1","data":{"messageId":"{hello}"}}`, calls: "Read {ada} {hello} socket" + active, want: "ack {}"},
		{name: "read without an ack", frame: `{"type":"message:read","data":{"messageId":"{hello}"}}`, calls: "Read {ada} {hello} socket" + active},
		{name: "read an unknown message", frame: `{"type":"message:read","data":{"messageId":"{hello}"}}`, err: receipt.ErrNotFound, calls: "Read {ada} {hello} socket", want: "error message_not_found"},
		{name: "read while too busy", frame: `{"type":"message:read","data":{"messageId":"{hello}"}}`, err: receipt.ErrBusy, calls: "Read {ada} {hello} socket", want: "error unavailable"},
		{name: "read a bad id", frame: `{"type":"message:read","data":{"messageId":"x"}}`, want: "error message_not_found"},
		{name: "read with an unknown key", frame: `{"type":"message:read","data":{"messageId":"{hello}","x":1}}`, want: "error invalid_request: x"},
		{name: "a bug", frame: `{"type":"message:read","data":{"messageId":"{hello}"}}`, err: errors.New("a bug"), calls: "Read {ada} {hello} socket", want: "error internal"},
		{name: "react", frame: `{"type":"reaction:add","id":"1","data":{"messageId":"{hello}","reaction":"+1"}}`, calls: "React {hello} {ada} +1 true", want: `ack {"mine":[],"reactions":[{"count":2,"reaction":"+1"}],"revision":8}`},
		{name: "take a reaction back", frame: `{"type":"reaction:remove","data":{"messageId":"{hello}","reaction":"+1"}}`, calls: "React {hello} {ada} +1 false"},
		{name: "react with white space", frame: `{"type":"reaction:add","data":{"messageId":"{hello}","reaction":" "}}`, want: "error invalid_request: reaction"},
		{name: "react to a bad id", frame: `{"type":"reaction:add","data":{"messageId":"x","reaction":"+1"}}`, want: "error message_not_found"},
		{name: "type", frame: `{"type":"typing:start","data":{"conversationId":"{room}"}}`, calls: "CanType {room} {ada}" + active + "; Publish " + typing + "true}"},
		{name: "type on", frame: `{"type":"typing:start","data":{"conversationId":"{room}"}}`},
		{name: "type no more", frame: `{"type":"typing:stop","data":{"conversationId":"{room}"}}`, calls: "Publish " + typing + "false}"},
		{name: "type no more again", frame: `{"type":"typing:stop","data":{"conversationId":"{room}"}}`},
		{name: "type no more elsewhere", frame: `{"type":"typing:stop","data":{"conversationId":"{bob}"}}`, want: "error conversation_not_found"},
		{name: "type where it is not allowed", frame: `{"type":"typing:start","data":{"conversationId":"{bob}"}}`, err: message.ErrCannotMessage, calls: "CanType {bob} {ada}", want: "error cannot_message"},
		{name: "type in a bad id", frame: `{"type":"typing:start","data":{"conversationId":"x"}}`, want: "error conversation_not_found"},
		{name: "watch", frame: `{"type":"presence:subscribe","id":"1","data":{"userIds":["{bob}"]}}`, calls: `Read {ada} ["{bob}"]`, want: "ack " + bobsPresence},
		{name: "watch no more", frame: `{"type":"presence:unsubscribe","id":"1","data":{"userIds":["{bob}"]}}`, calls: `Read {ada} ["{bob}"]`, want: "ack " + bobsPresence},
		{name: "watch nobody", frame: `{"type":"presence:subscribe","data":{"userIds":[]}}`, want: "error invalid_request: userIds"},
		{name: "sync", frame: `{"type":"sync","id":"1","data":{"conversations":{"{room}":3}}}`, calls: `Sync {ada} {"{room}":3}`, want: `ack {"conversations":{},"gone":[],"unknown":["{room}"]}`},
		{name: "sync with a fault", frame: `{"type":"sync","data":{"conversations":{},"window":1}}`, want: "error invalid_request: window"},
		{name: "focus", frame: `{"type":"focus","id":"1","data":{"active":true,"conversationId":"{room}"}}`, calls: "Focus {ada} {session} phone true", want: "ack {}"},
		{name: "focus with a fault", frame: `{"type":"focus","data":{"active":true,"conversationId":"x"}}`, want: "error invalid_request: conversationId"},
		{name: "a new token", frame: `{"type":"auth","id":"1","data":{"token":"` + adasToken + `"}}`, want: `ack {"expiresAt":null}`},
		{name: "a token that is none", frame: `{"type":"auth","data":{"token":"x"}}`, want: "error unauthorized"},
		{name: "a key as a token", frame: `{"type":"auth","data":{"token":"` + keyToken + `"}}`, want: "error unauthorized"},
		{name: "no token", frame: `{"type":"auth","data":{}}`, want: "error invalid_request: token"},
		{name: "a send that is refused", frame: `{"type":"message:send","id":"1","data":{"conversationId":"{room}","content":"hi","clientMessageId":"1"}}`, err: message.ErrNoPosting,
			calls: `Note {ada} {session}; Begin {room} {ada} {"content":"hi","clientMessageId":"1"}`, want: "error posting_not_allowed"},
		{name: "a send with all faults", frame: `{"type":"message:send","data":{"conversationId":"{room}","content":"","replyToId":"x","y":1}}`, want: "error invalid_request: clientMessageId y content replyToId"},
		{name: "a send to a bad id", frame: `{"type":"message:send","data":{"conversationId":"x","content":"hi","clientMessageId":"1"}}`, want: "error conversation_not_found"},
		{name: "an unknown type", frame: `{"type":"dance"}`, want: "error unknown_type"},
		{name: "data that is no object", frame: `{"type":"focus","data":7}`, want: "error invalid_request: data"},
		{name: "an id that is too long", frame: `{"type":"focus","id":"` + strings.Repeat("x", maxFrameID+1) + `","data":{"active":true}}`, want: "error invalid_request: id"},
	} {
		t.Run(x.name, func(t *testing.T) { x.check(t, e, ws) })
	}
}

func TestFramesAreLimitedByTheirUser(t *testing.T) {
	t.Parallel()
	once := config.Rate{Count: 1, Window: time.Minute}
	e, address := socketEdge(t, config.Limits{Send: once, React: once, Sync: once})
	ws := openSocket(t, address)
	e.domains.recorded()
	e.limiter.refuseBy(func(take ratelimit.Take) *ratelimit.Verdict {
		if take.Subject != "user:"+ada {
			t.Errorf("%s is charged to %q", take.Rule, take.Subject)
		}
		return &ratelimit.Verdict{RetryAfter: time.Second}
	})
	for _, x := range []frameExchange{
		{name: "send", frame: `{"type":"message:send","data":{"conversationId":"{room}","content":"hi","clientMessageId":"1"}}`, want: "error rate_limited"},
		{name: "react", frame: `{"type":"reaction:add","data":{"messageId":"{hello}","reaction":"+1"}}`, want: "error rate_limited"},
		{name: "sync", frame: `{"type":"sync","data":{"conversations":{}}}`, want: "error rate_limited"},
	} {
		t.Run(x.name, func(t *testing.T) { x.check(t, e, ws) })
	}
}

func TestFramesThatCloseTheSocket(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		kind  int
		frame string
		code  int
	}{
		"not JSON":                {websocket.TextMessage, "hello", realtime.CloseBadFrame},
		"no type":                 {websocket.TextMessage, `{"data":{}}`, realtime.CloseBadFrame},
		"binary":                  {websocket.BinaryMessage, `{"type":"ping"}`, realtime.CloseBadFrame},
		"too large":               {websocket.TextMessage, `{"type":"` + strings.Repeat("x", maxFrame) + `"}`, realtime.CloseTooLarge},
		"a token of another user": {websocket.TextMessage, `{"type":"auth","data":{"token":"` + bobsToken + `"}}`, realtime.CloseSessionOver},
		"a panic":                 {websocket.TextMessage, `{"type":"sync","data":{"conversations":{}}}`, realtime.CloseInternal},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e, address := socketEdge(t, config.Limits{})
			e.domains.set(errPanics, false)
			expectClose(t, openSocket(t, address), c.code, c.kind, c.frame)
		})
	}
	t.Run("too many frames", func(t *testing.T) {
		t.Parallel()
		_, address := socketEdge(t, config.Limits{Frames: config.Rate{Count: 1, Window: time.Hour}})
		ping := `{"type":"ping"}`
		expectClose(t, openSocket(t, address), realtime.CloseTooMany, websocket.TextMessage, ping, ping, ping)
	})
}

// expectClose writes frames and reads until the server closes the socket.
func expectClose(t *testing.T, ws *websocket.Conn, code, kind int, frames ...string) {
	t.Helper()
	for _, f := range frames {
		if err := ws.WriteMessage(kind, []byte(f)); err != nil {
			t.Fatal(err)
		}
	}
	_ = ws.SetReadDeadline(time.Now().Add(time.Minute))
	for {
		_, _, err := ws.ReadMessage()
		if err == nil {
			continue
		}
		closed := &websocket.CloseError{}
		if !errors.As(err, &closed) || closed.Code != code || closed.Text != realtime.TextOf(code) {
			t.Errorf("the socket ends with %v, want %d", err, code)
		}
		return
	}
}

func TestUpgradesThatAreRefused(t *testing.T) {
	t.Parallel()
	with := func(more ...string) map[string]string {
		h := map[string]string{"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA=="}
		for i := 0; i < len(more); i += 2 {
			h[more[i]] = more[i+1]
		}
		return h
	}
	e := newEdge(t, func(_ *domains, c *Config, _ *Deps) { c.AllowedOrigins = []string{"https://chat.example.com"} })
	e.run(t, []exchange{
		{name: "no handshake", request: "GET /api/ws", status: 426, want: "upgrade_required", sets: map[string]string{"Upgrade": "websocket", "Sec-Websocket-Version": "13"}},
		{name: "an old version", request: "GET /api/ws", header: with("Sec-WebSocket-Version", "8"), status: 426, want: "upgrade_required"},
		{name: "a short key", request: "GET /api/ws", header: with("Sec-WebSocket-Key", "AAAA"), status: 426, want: "upgrade_required"},
		{name: "another origin", request: "GET /api/ws", header: with("Origin", "https://evil.example.com"), status: 403, want: "origin_not_allowed"},
		{name: "no token", request: "GET /api/ws", header: with("Authorization", ""), status: 401, want: "unauthorized"},
		{name: "a key", request: "GET /api/ws", header: with("Authorization", asKey["Authorization"]), status: 403, want: "forbidden"},
		{name: "all faults at once", request: "GET /api/ws?deviceId=my%20phone", header: with("Sec-WebSocket-Protocol", "chat"), status: 400, want: "invalid_request: Sec-WebSocket-Protocol deviceId"},
		{name: "an allowed origin with a fault", request: "GET /api/ws?deviceId=", header: with("Origin", "https://chat.example.com"), status: 400, want: "invalid_request: deviceId"},
	})
	e.Gate.Close()
	e.run(t, []exchange{{name: "a pod that is stopping", request: "GET /api/ws", header: with(), status: 503, want: "unavailable", sets: map[string]string{"Retry-After": "1"}}})
}
