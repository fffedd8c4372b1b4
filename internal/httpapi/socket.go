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
	// maxFrame is the largest size of a client's frame in bytes.
	maxFrame = 128 << 10
	// socketBuffer is the size of each of the library's buffers. It is small because most sockets are idle.
	socketBuffer = 512

	protocol     = "parley.v1"
	bearerPrefix = "bearer."
)

var deviceRule = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)

// socket upgrades a request and serves its frames until the socket ends.
func (s *Server) socket() fiber.Handler {
	return func(c *fiber.Ctx) error {
		a, err := s.admit(c)
		if err != nil {
			return err
		}
		return s.upgrade(c, a)
	}
}

// admit checks an upgrade: its form, its origin, whether the pod is stopping, the token and the device, in this order.
func (s *Server) admit(c *fiber.Ctx) (admission, error) {
	if !isHandshake(c) {
		c.Set("Sec-WebSocket-Version", "13")
		return admission{}, errUpgrade
	}
	if origin := c.Get(fiber.HeaderOrigin); origin != "" && !sameOrigin(origin, string(c.Context().Host())) && !allowed(s.AllowedOrigins, origin) {
		return admission{}, errOrigin
	}
	if s.Gate.Closed() {
		return admission{}, errUnavailable
	}
	offered := protocols(c)
	if err := s.authenticate(c, access{user: true}); err != nil {
		return admission{}, err
	}
	device, err := deviceOf(c, offered)
	return admission{who: caller(c), device: device, request: requestID(c)}, err
}

func sameOrigin(origin, host string) bool {
	u, err := url.Parse(origin)
	return err == nil && strings.EqualFold(u.Host, host)
}

// protocols returns the sub-protocols that the client offers.
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

// socketToken returns the access token from the header, or from a sub-protocol, which browsers use.
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
func (s *Server) serveSocket(c *socketConn, a admission) {
	who := a.who
	ctx := observe.WithRequestID(context.Background(), a.request)
	session, err := s.connect(ctx, realtime.Identity{
		UserID: who.UserID, DeviceID: a.device, SessionID: who.SessionID, ExpiresAt: who.ExpiresAt, Signer: who.Signer,
	}, c.net)
	if err != nil {
		s.refuse(ctx, c, err)
		return
	}
	if err := s.stillAdmitted(who); err != nil { // it ended before the socket was registered
		session.Close(CloseCodeOf(err))
	}
	r := &reader{server: s, conn: c, session: session, request: a.request, ctx: ctx, limit: s.frameLimiter()}
	defer func() {
		r.sends.await(0)
		r.stopTyping()
		session.Detach()
	}()
	r.run()
}

// CloseCodeOf returns the close code for the sockets of a principal who is no longer admitted, by the error with which new ones are refused.
func CloseCodeOf(err error) int {
	if errors.Is(err, principal.ErrBanned) || errors.Is(err, principal.ErrDeactivated) {
		return realtime.CloseBarred
	}
	return realtime.CloseSessionOver
}

// connect makes the session on a separate goroutine, because queries grow the stack, and the socket's goroutine would keep the large stack while
// it is idle.
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

// refuse closes a socket that could not be served, with a code after which the client reconnects.
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

// reader reads and processes a socket's frames in order. It reads the next frame when the previous one was answered, or is a send that was queued
// (pipeline.go).
type reader struct {
	server  *Server
	conn    *socketConn
	session *realtime.Session
	request string
	limit   *rate.Limiter
	ctx     context.Context //nolint:containedctx // of the socket, with its request id; without an end
	sends   *sends          // nil before the first
	// released receives a value for each frame after which the next one may be read. It is nil before the first frame.
	released chan struct{}
	// reserved is the number of bytes that are charged for the present frame.
	reserved int64
	typing   map[string]time.Time // by conversation, when this socket's typing was last published
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

// within charges a frame to the socket's limit. If the limit is used up, it closes the socket and returns false.
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

// read reads and processes one frame. An error that closes the socket queues a close frame; run ends when the peer responds to it or closeWait is
// over.
func (r *reader) read(kind int, frame io.Reader) {
	if r.session.Closing() || !r.within() {
		return
	}
	buf := frameBuffers.Get().(*bytes.Buffer) //nolint:forcetypeassert // the pool holds nothing else
	defer frameBuffers.Put(buf)
	buf.Reset()
	n, err := io.Copy(buf, io.LimitReader(frame, maxFrame+1))
	switch {
	case err != nil: // the connection broke, and the next call of NextReader fails
	case n > maxFrame:
		r.refuse(realtime.CloseTooLarge)
	case kind != websocket.TextMessage:
		r.refuse(realtime.CloseBadFrame)
	default:
		r.handleApart(buf.Bytes())
	}
}

// refuse closes the socket because of a bad frame, after the sends before it were answered.
func (r *reader) refuse(code int) {
	r.server.metrics.frames.WithLabelValues(kindUnknown).Inc()
	r.sends.await(0)
	r.session.Close(code)
}

// handleApart calls handle on a separate goroutine, for the same reason as connect. It returns when handle has returned or called release.
func (r *reader) handleApart(frame []byte) {
	if r.released == nil {
		r.released = make(chan struct{}, 1)
	}
	go func() {
		released := false
		release := func() {
			if !released {
				released = true
				r.released <- struct{}{}
			}
		}
		defer release()
		defer r.recovered()
		r.handle(frame, release)
	}()
	<-r.released
}

// frameContext returns a context for the processing of a frame, with the socket's request id and the time-out of requests.
func (r *reader) frameContext() (context.Context, context.CancelFunc) {
	return context.WithTimeout(r.ctx, requestTimeout)
}

// recovered recovers from a panic in the processing of a frame, and closes the socket. It is called by defer.
func (r *reader) recovered() {
	if v := recover(); v != nil {
		r.server.panicked(context.Background(), partSocket, v)
		r.session.Close(realtime.CloseInternal)
	}
}
