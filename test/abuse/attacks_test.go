package abuse

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	mathrand "math/rand/v2"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/parley-chat/parley/internal/client"
)

const (
	addresses = 50
	// holdConns is how many connections an attack holds at once.
	holdConns = 40
)

// attacker makes attacks one after the other, chosen at random. Each takes seconds at most.
type attacker struct {
	*mathrand.Rand
	s *system
}

// attacks are what an attacker does, by name.
var attacks = map[string]func(a *attacker, ctx context.Context){
	"requests":       (*attacker).requests,
	"bombs":          (*attacker).bombs,
	"announcements":  (*attacker).announcements,
	"drips":          (*attacker).drips,
	"unread answers": (*attacker).unreadAnswers,
	"noise":          (*attacker).noise,
	"idle crowds":    (*attacker).idleCrowds,
	"sockets":        (*attacker).sockets,
	"deaf sockets":   (*attacker).deafSockets,
}

// dial connects to a pod from one of the attackers' addresses.
func (a *attacker) dial(ctx context.Context) net.Conn {
	d := net.Dialer{Timeout: 3 * time.Second, LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, byte(2+a.IntN(addresses)))}}
	c, err := d.DialContext(ctx, "tcp", a.s.pods[a.IntN(len(a.s.pods))].addr)
	if err != nil {
		return nil
	}
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	return c
}

// authorization is a header line of some account's, or none.
func (a *attacker) authorization() string {
	switch a.IntN(4) {
	case 0:
		return ""
	case 1:
		return "Authorization: Bearer " + a.text(200) + "\r\n"
	default:
		return "Authorization: Bearer " + a.someone().token + "\r\n"
	}
}

// someone is an account of the attackers': the first two are the well-behaved client's.
func (a *attacker) someone() account { return a.s.accounts[2+a.IntN(len(a.s.accounts)-2)] }

func (a *attacker) text(most int) string {
	b := make([]byte, a.IntN(most+1))
	_, _ = rand.Read(b)
	return base64.RawURLEncoding.EncodeToString(b)
}

// value is a random JSON value.
func (a *attacker) value(depth int) any {
	switch a.IntN(9) {
	case 0:
		return nil
	case 1:
		return a.IntN(2) == 0
	case 2:
		return a.Float64() * 1e18
	case 3:
		return a.text(40)
	case 4:
		return a.s.accounts[a.IntN(len(a.s.accounts))].id
	case 5:
		return strings.Repeat("\u202e\x00é", a.IntN(3000))
	case 6:
		list := []any{}
		for range a.IntN(50) * min(depth, 1) {
			list = append(list, a.value(depth-1))
		}
		return list
	default:
		object := map[string]any{}
		for range a.IntN(20) * min(depth, 1) {
			object[a.key()] = a.value(depth - 1)
		}
		return object
	}
}

func (a *attacker) key() string {
	keys := []string{"username", "password", "refreshToken", "memberIds", "userIds", "content", "clientMessageId", "type", "name", "displayName",
		"avatarUrl", "conversations", "conversationId", "messageId", "metadata", "mentions", "userId", "role", "data", "id"}
	if a.IntN(5) == 0 {
		return a.text(30)
	}
	return keys[a.IntN(len(keys))]
}

func (a *attacker) body() []byte {
	if a.IntN(6) == 0 { // many keys that nobody knows
		var b strings.Builder
		for i := range a.IntN(25_000) {
			fmt.Fprintf(&b, `,"k%05d":0`, i)
		}
		return []byte("{" + strings.TrimPrefix(b.String(), ",") + "}")
	}
	object := map[string]any{}
	for range 1 + a.IntN(8) {
		object[a.key()] = a.value(3)
	}
	b, _ := json.Marshal(object)
	return b
}

var paths = []string{
	"/api/auth/login", "/api/auth/register", "/api/auth/refresh", "/api/auth/logout", "/api/auth/password", "/api/auth/sessions", "/api/users/me",
	"/api/users/me/privacy", "/api/users/search?q=%s", "/api/friends", "/api/friends/requests", "/api/blocks", "/api/conversations",
	"/api/conversations?cursor=%s", "/api/presence?userIds=%s", "/api/docs", "/api/docs/openapi.json", "/api/metrics", "/api/health/ready",
	"/api/ws?deviceId=%s", "/api/%s", "/%s",
}

func (a *attacker) requests(ctx context.Context) {
	c := a.dial(ctx)
	if c == nil {
		return
	}
	defer c.Close()
	go func() { _, _ = io.Copy(io.Discard, c) }()
	methods := []string{"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "TRACE", "FOOBAR"}
	for range 10 {
		path := paths[a.IntN(len(paths))]
		if strings.Contains(path, "%s") {
			path = fmt.Sprintf(path, a.text(1500))
		}
		body := a.body()
		if _, err := fmt.Fprintf(c, "%s %s HTTP/1.1\r\nHost: x\r\n%sContent-Type: application/json\r\nX-Forwarded-For: %s\r\nContent-Length: %d\r\n\r\n%s",
			methods[a.IntN(len(methods))], path, a.authorization(), a.text(30), len(body), body); err != nil {
			return
		}
	}
}

var bomb = sync.OnceValue(func() []byte {
	squeeze := func(b []byte) []byte {
		var out bytes.Buffer
		z := gzip.NewWriter(&out)
		_, _ = z.Write(b)
		_ = z.Close()
		return out.Bytes()
	}
	return squeeze(squeeze(make([]byte, 64<<20)))
})

func (a *attacker) bombs(ctx context.Context) {
	if c := a.dial(ctx); c != nil {
		defer c.Close()
		_, _ = fmt.Fprintf(c, "POST /api/auth/logout HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Encoding: gzip, gzip\r\nContent-Length: %d\r\n\r\n%s",
			len(bomb()), bomb())
		_, _ = io.CopyN(io.Discard, c, 100)
	}
}

// hold opens connections, writes to each, and keeps them for a while.
func (a *attacker) hold(ctx context.Context, write func(c net.Conn)) {
	var conns []net.Conn
	for range 1 + a.IntN(holdConns) {
		if c := a.dial(ctx); c != nil {
			conns = append(conns, c)
			write(c)
		}
	}
	a.pause(ctx, 4*time.Second)
	for _, c := range conns {
		_ = c.Close()
	}
}

func (a *attacker) pause(ctx context.Context, most time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(time.Duration(a.Int64N(int64(most)))):
	}
}

func (a *attacker) announcements(ctx context.Context) {
	a.hold(ctx, func(c net.Conn) {
		_, _ = fmt.Fprintf(c, "POST /api/auth/login HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s",
			a.IntN(500_000), strings.Repeat(" ", a.IntN(20_000)))
	})
}

func (a *attacker) drips(ctx context.Context) {
	c := a.dial(ctx)
	if c == nil {
		return
	}
	defer c.Close()
	request := "POST /api/auth/login HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n4\r\n    \r\n"
	for i := range len(request) {
		if _, err := c.Write([]byte(request[i : i+1])); err != nil {
			return
		}
		a.pause(ctx, 100*time.Millisecond)
	}
}

func (a *attacker) unreadAnswers(ctx context.Context) {
	a.hold(ctx, func(c net.Conn) {
		if t, ok := c.(*net.TCPConn); ok {
			_ = t.SetReadBuffer(4096)
		}
		asset := []string{"/api/docs/swagger-ui-bundle.js", "/api/docs/openapi.json", "/api/conversations", "/api/metrics"}[a.IntN(4)]
		for range 4 {
			_, _ = fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: x\r\n%s\r\n", asset, a.authorization())
		}
	})
}

func (a *attacker) noise(ctx context.Context) {
	if c := a.dial(ctx); c != nil {
		defer c.Close()
		b := make([]byte, 1+a.IntN(64<<10))
		_, _ = rand.Read(b)
		_, _ = c.Write(b)
	}
}

func (a *attacker) idleCrowds(ctx context.Context) {
	a.hold(ctx, func(net.Conn) {})
}

// socket opens one of some account's, nil if it can't.
func (a *attacker) socket(ctx context.Context, who account) net.Conn {
	c := a.dial(ctx)
	if c == nil {
		return nil
	}
	if t, ok := c.(*net.TCPConn); ok {
		_ = t.SetReadBuffer(4096)
	}
	_, _ = io.WriteString(c, client.Upgrade("x", "/api/ws", who.token))
	return c
}

func (a *attacker) anyFrame() []byte {
	types := []string{"message:send", "message:read", "typing:start", "typing:stop", "presence:subscribe", "presence:unsubscribe", "sync", "ping", "nonsense"}
	b, _ := json.Marshal(map[string]any{"type": types[a.IntN(len(types))], "id": a.text(60), "data": a.value(2)})
	switch a.IntN(12) {
	case 0:
		return client.AppendFrame(nil, byte(a.IntN(16)), b)
	case 1:
		return client.AppendFrame(nil, 1, a.body())
	}
	return client.AppendFrame(nil, 1, b)
}

func (a *attacker) sockets(ctx context.Context) {
	c := a.socket(ctx, a.someone())
	if c == nil {
		return
	}
	defer c.Close()
	go func() { _, _ = io.Copy(io.Discard, c) }()
	for range 60 {
		if _, err := c.Write(a.anyFrame()); err != nil {
			return
		}
	}
	a.pause(ctx, time.Second)
}

// deafSockets ask for much and read nothing.
func (a *attacker) deafSockets(ctx context.Context) {
	var conns []net.Conn
	for range 1 + a.IntN(15) {
		c := a.socket(ctx, a.s.accounts[3+a.IntN(10)])
		if c == nil {
			continue
		}
		conns = append(conns, c)
		for range 20 {
			if _, err := c.Write(client.AppendFrame(nil, 1, []byte(`{"type":"sync","id":"1","data":{"conversations":{"`+a.s.group+`":0}}}`))); err != nil {
				break
			}
		}
	}
	a.pause(ctx, 5*time.Second)
	for _, c := range conns {
		_ = c.Close()
	}
}
