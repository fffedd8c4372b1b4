package outbound

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"net/http/httptrace"
	"runtime"
	"sync/atomic"
	"syscall"
	"time"
)

// ErrLate is returned for a request that was not completely written before the time given to Before.
var ErrLate = errors.New("the request was not sent in time")

// fenceChunk is how many bytes are written between two readings of the clock.
const fenceChunk = 16 << 10

// FencedClient is Client for requests that must not be sent late: after the time given to Before nothing of a request is written, even if
// the process was paused in between. It uses HTTP/1.1, so that a connection carries one request at a time. Bytes in the kernel that the
// receiver has not acknowledged are dropped with the connection, or after timeout, so they are not sent when a broken network works again.
func (g *Guard) FencedClient(timeout time.Duration, perHost int) *http.Client {
	c := g.Client(timeout, perHost)
	t := c.Transport.(*http.Transport) //nolint:forcetypeassert // Client makes it
	t.ForceAttemptHTTP2 = false
	dial := t.DialContext
	t.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		if tcp, ok := conn.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0)
			dropUnacknowledged(tcp, timeout)
		}
		return &fencedConn{Conn: conn}, nil
	}
	return c
}

// Before returns a context for requests of a FencedClient. Requests that are not written by that time fail with ErrLate.
func Before(ctx context.Context, until time.Time) context.Context {
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(i httptrace.GotConnInfo) {
		conn := i.Conn
		if t, ok := conn.(*tls.Conn); ok {
			conn = t.NetConn()
		}
		if f, ok := conn.(*fencedConn); ok {
			f.until.Store(&until)
			_ = f.SetWriteDeadline(until)
		}
	}})
}

// fencedConn is a connection that writes nothing after a time.
type fencedConn struct {
	net.Conn
	until atomic.Pointer[time.Time]
}

func (c *fencedConn) Write(b []byte) (n int, err error) {
	for {
		if t := c.until.Load(); t != nil && past(*t) {
			return n, ErrLate
		}
		chunk := b[n:min(len(b), n+fenceChunk)]
		m, err := c.Conn.Write(chunk)
		if n += m; err != nil || n == len(b) {
			return n, err
		}
	}
}

// past reports whether a time has passed, by the monotonic or the wall clock. It reads both, because one of them stops while a machine is
// suspended.
func past(t time.Time) bool {
	now := time.Now()
	return now.After(t) || now.Round(0).After(t.Round(0))
}

// tcpUserTimeout is TCP_USER_TIMEOUT of Linux, in milliseconds.
const tcpUserTimeout = 0x12

func dropUnacknowledged(conn *net.TCPConn, after time.Duration) {
	if runtime.GOOS != "linux" {
		return
	}
	raw, err := conn.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Control(func(fd uintptr) {
		_ = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, tcpUserTimeout, int(after.Milliseconds()))
	})
}
