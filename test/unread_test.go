package test

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/fasthttp/websocket"

	"github.com/parley-chat/parley/internal/client"
	"github.com/parley-chat/parley/internal/testenv"
)

// deaf opens a socket with a small receive buffer that reads nothing until it is asked to.
func (p *pod) deaf(t testing.TB, u user, device string) *client.Socket {
	t.Helper()
	d := &websocket.Dialer{HandshakeTimeout: 20 * time.Second, NetDial: func(network, addr string) (net.Conn, error) {
		c, err := net.Dial(network, addr)
		if err == nil {
			err = c.(*net.TCPConn).SetReadBuffer(4096) //nolint:forcetypeassert // it is one
		}
		return c, err
	}}
	c, err := client.Server{Base: p.url, Token: u.token}.Dial(t.Context(), d, "/api/ws?deviceId="+device, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// Sockets that ask for much and read nothing make the pod hold a bounded share for each user, and who reads after all gets
// every answer.
func TestSocketsThatAskAndDoNotRead(t *testing.T) {
	t.Parallel()
	const share, sockets, asks = 8 << 20, 12, 6
	p := start(t, 1).pods[0]
	us := p.users(t, 3)
	g := p.group(t, us[0], us[1:]...)
	for range 12 {
		p.send(t, us[0], g.ID, strings.Repeat("\U0001f600", 8000))
	}
	for _, u := range us[1:] {
		for i := range sockets {
			askForSyncs(t, p.deaf(t, u, fmt.Sprint("d", i)), g.ID, asks)
		}
	}
	most := 0.0
	for range 20 {
		most = max(most, metric(t, p.ops, "parley_unread_bytes"))
		time.Sleep(50 * time.Millisecond) // looks again and again
	}
	if most == 0 || most > 2*share {
		t.Errorf("%.1f MiB wait for two users", most/(1<<20))
	}
	reader := p.deaf(t, us[0], "reader")
	askForSyncs(t, reader, g.ID, asks)
	readSyncs(t, reader, asks)
	testenv.Eventually(t, time.Minute, func() bool { return metric(t, p.ops, "parley_unread_bytes") == 0 }, "all is given back")
}

// askForSyncs asks n times for the whole conversation. The id of each frame is its number.
func askForSyncs(t testing.TB, c *client.Socket, conversationID string, n int) {
	t.Helper()
	for i := range n {
		if err := c.Send("sync", fmt.Sprint(i), client.Sync{Conversations: map[string]int64{conversationID: 0}}); err != nil {
			t.Error(err)
		}
	}
}

// readSyncs reads until the n syncs of askForSyncs are answered. The answers must come in order, and none may be an error.
func readSyncs(t testing.TB, c *client.Socket, n int) {
	t.Helper()
	for due := 0; due < n; {
		_ = c.SetReadDeadline(time.Now().Add(30 * time.Second))
		_, b, err := c.ReadMessage()
		if err != nil {
			t.Fatal(err)
		}
		var f struct{ Type, ID string }
		if err := json.Unmarshal(b, &f); err != nil {
			t.Fatal(err)
		}
		if f.Type == "error" {
			t.Fatalf("%.200s", b)
		}
		if f.Type != "ack" {
			continue
		}
		if f.ID != fmt.Sprint(due) {
			t.Errorf("answer %s where %d was due", f.ID, due)
		}
		due++
	}
}

// A sync costs what it names.
func TestASyncCostsItsConversations(t *testing.T) {
	t.Parallel()
	p := start(t, 1, "PARLEY_RATE_LIMIT_SYNC=100/1h").pods[0]
	us := p.users(t, 3)
	g := p.group(t, us[0], us[1:]...)
	named := map[string]any{g.ID: 0}
	for i := range 59 {
		named[fmt.Sprintf("0190a0a0-0000-7000-8000-%012d", i)] = 0
	}
	sock := p.open(t, us[0])
	if f := sock.ask("sync", map[string]any{"conversations": named}); f.Type != "ack" {
		t.Fatalf("60 of 100: %s %s", f.Type, f.Data)
	}
	f := p.open(t, us[0]).ask("sync", map[string]any{"conversations": named})
	var pr problem
	if f.into(t, &pr); f.Type != "error" || pr.Code != "rate_limited" || pr.RetryAfterSeconds < 600 {
		t.Errorf("60 more on another socket: %s %s", f.Type, f.Data)
	}
	if f := sock.ask("sync", map[string]any{"conversations": map[string]any{g.ID: 0}}); f.Type != "ack" {
		t.Errorf("one more: %s %s", f.Type, f.Data)
	}
}

// Typing that begins and ends all the time reaches nobody all the time, over all sockets of the one who types.
func TestTypingIsThrottled(t *testing.T) {
	t.Parallel()
	p := start(t, 1).pods[0]
	us := p.users(t, 2)
	c := p.direct(t, us[0], us[1])
	victim := p.open(t, us[1])
	var from []*socket
	for i := range 4 {
		s, err := p.dial(t, fmt.Sprintf("/api/ws?deviceId=t%d", i), http.Header{"Authorization": {"Bearer " + us[0].token}})
		if err != nil {
			t.Fatal(err)
		}
		s.until("ready", 10*time.Second)
		from = append(from, s)
	}
	begun := time.Now()
	for range 20 {
		for _, s := range from {
			s.write(map[string]any{"type": "typing:start", "data": map[string]any{"conversationId": c.ID}})
			s.write(map[string]any{"type": "typing:stop", "data": map[string]any{"conversationId": c.ID}})
		}
	}
	for _, s := range from {
		s.write(map[string]any{"type": "ping", "id": "all"})
		s.until("pong", 20*time.Second)
	}
	took := time.Since(begun)
	p.send(t, us[0], c.ID, "after that")
	frames := 0
	for f := victim.next(10 * time.Second); f.Type != "message:new"; f = victim.next(10 * time.Second) {
		if f.Type == "typing" {
			frames++
		}
	}
	if most := 2 * (3 + int(took/(3*time.Second)) + 1); frames == 0 || frames > most {
		t.Errorf("%d frames of typing in %s, want %d at most", frames, took, most)
	}
}
