package httpapi

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/fasthttp/websocket"
	"github.com/gofiber/fiber/v2"
	"golang.org/x/time/rate"

	"github.com/parley-chat/parley/internal/id"
	"github.com/parley-chat/parley/internal/invalid"
	"github.com/parley-chat/parley/internal/observe"
	"github.com/parley-chat/parley/internal/principal"
	"github.com/parley-chat/parley/internal/realtime"
)

const (
	// maxFrame is how large a client's frame may be.
	maxFrame = 128 << 10
	// socketBuffer is each of the library's buffers: small, because most sockets idle.
	socketBuffer = 512

	protocol     = "parley.v1"
	bearerPrefix = "bearer."
	localDevice  = "device_id"
)

var deviceRule = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)

// socket upgrades a request and serves its frames until the socket ends.
func (s *Server) socket() fiber.Handler {
	return func(c *fiber.Ctx) error {
		if err := s.admit(c); err != nil {
			return err
		}
		return s.upgrade(c)
	}
}

// admit checks an upgrade, in the order of the contract.
func (s *Server) admit(c *fiber.Ctx) error {
	if !isHandshake(c) {
		c.Set("Sec-WebSocket-Version", "13")
		return errUpgrade
	}
	if origin := c.Get(fiber.HeaderOrigin); origin != "" && !sameOrigin(origin, string(c.Context().Host())) && !allowed(s.AllowedOrigins, origin) {
		return errOrigin
	}
	if s.Gate.Closed() {
		return errUnavailable
	}
	offered := protocols(c)
	if err := s.authenticate(c, access{user: true}); err != nil {
		return err
	}
	device, err := deviceOf(c, offered)
	if err != nil {
		return err
	}
	c.Locals(localDevice, device)
	return nil
}

func sameOrigin(origin, host string) bool {
	u, err := url.Parse(origin)
	return err == nil && strings.EqualFold(u.Host, host)
}

// protocols are the sub-protocols that the client offers.
func protocols(c *fiber.Ctx) []string {
	var out []string
	for _, line := range c.Request().Header.PeekAll("Sec-WebSocket-Protocol") {
		for p := range strings.SplitSeq(string(line), ",") {
			if p = strings.TrimSpace(p); p != "" {
				out = append(out, p)
			}
		}
	}
	return out
}

// socketToken is the access token: of the header, or, from a browser, of a sub-protocol.
func socketToken(c *fiber.Ctx, offered []string) string {
	if token, ok := bearerToken(c.Get(fiber.HeaderAuthorization)); ok {
		return token
	}
	for _, p := range offered {
		if token, ok := strings.CutPrefix(p, bearerPrefix); ok {
			return token
		}
	}
	return ""
}

func deviceOf(c *fiber.Ctx, offered []string) (string, error) {
	var f invalid.Faults
	known := len(offered) == 0
	for _, p := range offered {
		known = known || p == protocol
	}
	if !known {
		f.Add("Sec-WebSocket-Protocol", "must offer %s", protocol)
	}
	device := strings.Clone(c.Query("deviceId"))
	switch {
	case !c.Context().QueryArgs().Has("deviceId"):
		device = id.New()
	case !deviceRule.MatchString(device):
		f.Add("deviceId", "must have 1 to 64 characters of A-Z, a-z, 0-9, _ and -")
	}
	return device, f.Err()
}

// serveSocket is the socket's handler. When it returns the connection is closed.
func (s *Server) serveSocket(c *socketConn) {
	who, _ := c.Locals(localPrincipal).(principal.Principal)
	device, _ := c.Locals(localDevice).(string)
	request, _ := c.Locals(localRequestID).(string)
	c.locals = nil // not needed for as long as the socket lives
	ctx := observe.WithRequestID(context.Background(), request)
	session, err := s.connect(ctx, realtime.Identity{
		UserID: who.UserID, DeviceID: device, SessionID: who.SessionID, ExpiresAt: who.ExpiresAt, Signer: who.Signer,
	}, c.net)
	if err != nil {
		s.refuse(ctx, c, err)
		return
	}
	if err := s.holds(who); err != nil { // it ended while the socket was registered
		session.Close(CloseCodeOf(err))
	}
	r := &reader{server: s, conn: c, session: session, request: request, limit: s.frameLimiter()}
	defer func() {
		r.sends.await(0)
		r.stopTyping()
		session.Detach()
	}()
	r.run()
}

// CloseCodeOf is the close code for sockets of a principal who is no longer admitted for that reason.
func CloseCodeOf(err error) int {
	if errors.Is(err, principal.ErrBanned) || errors.Is(err, principal.ErrDeactivated) {
		return realtime.CloseBarred
	}
	return realtime.CloseSessionOver
}

// connect makes the session on a goroutine of its own: what it asks of Postgres takes a deep stack, and the socket's would
// stay that large while it idles.
func (s *Server) connect(ctx context.Context, who realtime.Identity, conn net.Conn) (session *realtime.Session, err error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer func() {
			if v := recover(); v != nil {
				s.panicked(ctx, partSocket, v)
				err = errInternal
			}
		}()
		ctx, cancel := context.WithTimeout(ctx, requestTimeout)
		defer cancel()
		session, err = s.Hub.Connect(ctx, who, conn)
	}()
	<-done
	return session, err
}

// refuse closes a socket that could not be served. The client reconnects.
func (s *Server) refuse(ctx context.Context, c *socketConn, err error) {
	code := realtime.CloseTryAgain
	if errors.Is(err, realtime.ErrDraining) {
		code = realtime.CloseGoingAway
	} else {
		s.Refusals.Fail(ctx, err, "part", partSocket)
	}
	s.Hub.Refused(code)
	_ = c.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(code, realtime.TextOf(code)), time.Now().Add(time.Second))
}

func (s *Server) frameLimiter() *rate.Limiter {
	if s.Limits.Frames.Off() {
		return nil
	}
	return rate.NewLimiter(rate.Limit(float64(s.Limits.Frames.Count)/s.Limits.Frames.Window.Seconds()), 2*s.Limits.Frames.Count)
}

// reader reads a socket's frames, one after the other. The next one is read when the one before it was answered, or is a send
// that waits for its commit.
type reader struct {
	server  *Server
	conn    *socketConn
	session *realtime.Session
	request string
	limit   *rate.Limiter
	sends   *sends // nil before the first
	// reserved is the memory that is charged for the present frame.
	reserved int64
	typing   map[string]time.Time // conversation -> when this socket last said that it types
}

// run reads until the socket ends.
func (r *reader) run() {
	frames := r.server.metrics.frames
	r.conn.SetPingHandler(func(payload string) error {
		frames.WithLabelValues(kindProtocolPing).Inc()
		r.session.Heard()
		if r.within() {
			r.session.Pong(payload)
		}
		return nil
	})
	r.conn.SetPongHandler(func(string) error {
		frames.WithLabelValues(kindProtocolPong).Inc()
		r.session.Ponged()
		return nil
	})
	r.conn.SetCloseHandler(func(code int, _ string) error {
		r.session.Echo(code)
		return nil
	})
	for {
		kind, frame, err := r.conn.NextReader()
		if err != nil {
			return // the peer closed, and was answered, or the connection broke
		}
		r.session.Heard()
		r.read(kind, frame)
	}
}

// within charges a frame to the socket's limit, and closes the socket if it is used up.
func (r *reader) within() bool {
	if r.limit == nil || r.limit.Allow() {
		return true
	}
	if !r.session.Closing() {
		r.sends.await(0)
		r.server.Limiter.Refused(ruleFrames)
		r.session.Close(realtime.CloseTooMany)
	}
	return false
}

var frameBuffers = sync.Pool{New: func() any { return new(bytes.Buffer) }}

// read reads one frame. Errors that close the socket queue a close frame; the loop ends when the peer responds to it, or soon after.
func (r *reader) read(kind int, frame io.Reader) {
	if r.session.Closing() || !r.within() {
		return
	}
	buf := frameBuffers.Get().(*bytes.Buffer) //nolint:forcetypeassert // the pool holds nothing else
	defer frameBuffers.Put(buf)
	buf.Reset()
	n, err := io.Copy(buf, io.LimitReader(frame, maxFrame+1))
	switch {
	case err != nil: // the connection broke; NextReader will say so
	case n > maxFrame:
		r.refuse(realtime.CloseTooLarge)
	case kind != websocket.TextMessage:
		r.refuse(realtime.CloseBadFrame)
	default:
		r.handleApart(buf.Bytes())
	}
}

// refuse closes the socket because of a frame, once the sends before it were answered.
func (r *reader) refuse(code int) {
	r.server.metrics.frames.WithLabelValues(kindUnknown).Inc()
	r.sends.await(0)
	r.session.Close(code)
}

// handleApart handles a frame on a goroutine of its own, for the reason that connect has one: a socket that once sent
// something would keep a stack of twice the size.
func (r *reader) handleApart(frame []byte) {
	done := make(chan struct{}, 1)
	go func() {
		release := func() {
			select {
			case done <- struct{}{}:
			default: // it was released before
			}
		}
		defer release()
		defer r.recovered()
		r.handle(frame, release)
	}()
	<-done
}

// recovered ends a panic in the handling of a frame, and the socket with it.
func (r *reader) recovered() {
	if v := recover(); v != nil {
		r.server.panicked(context.Background(), partSocket, v)
		r.session.Close(realtime.CloseInternal)
	}
}
