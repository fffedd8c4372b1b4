package httpapi

import (
	"context"
	"errors"
	"io"
	"net"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/valyala/fasthttp"
)

const (
	// headerDropped marks a request whose body is not read: its value is dropTooLarge, or dropUnasked for a method without a body. screenHeader
	// removes a header with this name that a client sends.
	headerDropped = "X-Parley-Dropped"
	dropTooLarge  = "too-large"
	dropUnasked   = "unasked"
	// freeBody is the size up to which a body is not charged to the memory budget, leastBody the first capacity of a chunked body.
	freeBody  = 8 << 10
	leastBody = 512
	// quick is how long a body may take to arrive without being excluded from the request's duration (excludeWait).
	quick = 50 * time.Millisecond
)

// screenHeader is called once a request's headers are read, before any memory is used for its body. If the body is declared too large, or the
// method has none, it marks the request so that its body is not read. screen then refuses it.
func screenHeader(h *fasthttp.RequestHeader) (c fasthttp.RequestConfig) {
	h.Del(headerDropped)
	const none = -2
	n := h.ContentLength()
	if n == 0 || n == none {
		return c
	}
	var reason string
	switch {
	case h.IsGet(), h.IsHead(), h.IsOptions():
		reason = dropUnasked
	case n > boundOf(h):
		reason = dropTooLarge
	default:
		return c
	}
	h.SetContentLength(0)
	h.Del(fiber.HeaderExpect)
	h.SetConnectionClose() // the bytes that follow are not a request
	h.Set(headerDropped, reason)
	return c
}

// screen refuses a request by its headers, before its body is read.
func screen(c *fiber.Ctx) error {
	h := &c.Request().Header
	dropped := h.Peek(headerDropped)
	if len(dropped) > 0 {
		lingerOn(c)
	}
	if len(h.PeekAll(fiber.HeaderContentEncoding)) > 0 {
		return errEncoded
	}
	if string(dropped) == dropTooLarge {
		return &tooLarge{boundOf(h)}
	}
	return nil
}

// connOf returns a request's connection, nil if it did not come through the listener.
func connOf(c *fiber.Ctx) *conn {
	own, _ := c.Context().Conn().(*conn)
	return own
}

// lingerOn closes the connection after the response. Until then, and for a short time, what the client still sends is read and dropped, so that
// the client gets the response.
func lingerOn(c *fiber.Ctx) {
	if own := connOf(c); own != nil {
		own.linger.Store(true)
	}
	c.Context().SetConnectionClose()
}

// readBody reads a request's body as it was sent, without decoding a Content-Encoding. Its memory grows with the bytes that arrive, up to
// boundOf. It may return errTooLarge, errSlowRequest, errBadRequest, or errUnavailable if slow clients occupy too much memory already.
// Later calls return the same result.
func readBody(c *fiber.Ctx) ([]byte, error) {
	if r, ok := c.Locals(localBody).(arrived); ok {
		return r.body, r.err
	}
	body, err := receiveBody(c)
	c.Locals(localBody, arrived{body, err})
	return body, err
}

// arrived is the result of the first readBody.
type arrived struct {
	body []byte
	err  error
}

func receiveBody(c *fiber.Ctx) ([]byte, error) {
	stream := c.Context().RequestBodyStream()
	if stream == nil { // a server that does not stream
		return c.Request().Body(), nil
	}
	start := time.Now()
	size, bound := c.Request().Header.ContentLength(), boundOf(&c.Request().Header)
	switch {
	case size == 0:
		return nil, nil
	case size < 0: // chunked
		size = leastBody
	}
	body := make([]byte, 0, min(size, freeBody))
	for {
		if len(body) == cap(body) {
			var err error
			if body, err = growBody(c, body, bound); err != nil {
				lingerOn(c)
				return nil, err
			}
		}
		n, err := stream.Read(body[len(body):cap(body)])
		body = body[:len(body)+n]
		switch {
		case len(body) > bound:
			lingerOn(c)
			return nil, &tooLarge{bound}
		case errors.Is(err, io.EOF):
			excludeWait(c, time.Since(start))
			return body, nil
		case err != nil:
			var timeout net.Error
			if errors.As(err, &timeout) && timeout.Timeout() {
				return nil, errSlowRequest
			}
			return nil, errBadRequest
		}
	}
}

// growBody doubles a body's capacity and charges it to the budget.
func growBody(c *fiber.Ctx, body []byte, bound int) ([]byte, error) {
	size := min(max(2*cap(body), leastBody), bound+1)
	if own := connOf(c); own != nil && size > freeBody {
		if !own.hold(holder(c), int64(size)-own.held) {
			return nil, errUnavailable
		}
	}
	return append(make([]byte, 0, size), body...), nil
}

// holder returns the owner to which a request's memory is charged: the user, or the client's address before authentication.
func holder(c *fiber.Ctx) string {
	if who := caller(c); who.UserID != "" {
		return "user:" + who.UserID
	}
	if own := connOf(c); own != nil {
		return "address:" + addressOf(own.listener.proxies.client(c))
	}
	return ""
}

// excludeWait excludes the time that a body took to arrive from the request's duration, and gives the handler the full requestTimeout from now.
func excludeWait(c *fiber.Ctx, d time.Duration) {
	if d < quick {
		return
	}
	c.Locals(localWaited, d)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(c.UserContext()), requestTimeout)
	c.SetUserContext(ctx)
	c.Locals(localCancel, cancel)
}

// holdAnswer charges a large response to the budget until the client has read it.
func holdAnswer(c *fiber.Ctx) error {
	const small = 64 << 10
	own := connOf(c)
	size := int64(len(c.Response().Body()))
	if own == nil || size <= small || c.Locals(localShared) != nil {
		return nil
	}
	if !own.hold(holder(c), size) {
		return errUnavailable
	}
	return nil
}
