package redisconn

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	// suspicion is how long a reply must be overdue before the other connections are suspected too. Callers with
	// less patience find nothing out.
	suspicion = 400 * time.Millisecond
	// trust is how recently a connection must have received something from Redis to be spared then.
	trust = 2 * time.Second
)

// guard makes a client's connections, and closes those that wait in its pool when one of them finds that it leads nowhere. What drops
// packets without a word, as a NAT that forgot its entries or a proxy that hangs, does so for all of them: without the guard each would
// cost a caller the whole read time-out. The pool finds closed connections before it hands them out.
//
// Connections that are being read from, as subscriptions always are, have their own deadlines and are spared.
type guard struct {
	tls     *tls.Config // nil without TLS
	timeout time.Duration

	mu    sync.Mutex // guards conns
	conns map[*guarded]bool
}

func newGuard(c *tls.Config, timeout time.Duration) *guard {
	return &guard{tls: c, timeout: timeout, conns: map[*guarded]bool{}}
}

// dial implements redis.Options.Dialer.
func (g *guard) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, g.timeout)
	defer cancel()
	dialer := &net.Dialer{KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: keepAliveIdle, Interval: keepAliveInterval, Count: keepAliveCount}}
	plain, err := dialer.DialContext(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	conn := plain
	if g.tls != nil {
		conn, err = handshake(ctx, plain, addr, g.tls)
		if err != nil {
			_ = plain.Close()
			return nil, err
		}
	}
	c := &guarded{Conn: conn, guard: g}
	c.heard.Store(now())
	g.mu.Lock()
	g.conns[c] = true
	g.mu.Unlock()
	return c, nil
}

func handshake(ctx context.Context, plain net.Conn, addr string, c *tls.Config) (net.Conn, error) {
	if c.ServerName == "" {
		host, _, err := net.SplitHostPort(addr)
		if err != nil {
			return nil, err
		}
		c = c.Clone()
		c.ServerName = host
	}
	conn := tls.Client(plain, c)
	return conn, conn.HandshakeContext(ctx)
}

// suspect closes idle connections of the pool that received nothing from Redis recently, except the one that raised the suspicion: its reader
// has the time-out, which must not turn into another error before it is read again.
func (g *guard) suspect(raised *guarded) {
	g.mu.Lock()
	var idle []*guarded
	for c := range g.conns {
		if c != raised && !c.reading.Load() && now()-c.heard.Load() > int64(trust) {
			idle = append(idle, c)
		}
	}
	g.mu.Unlock()
	for _, c := range idle {
		_ = c.Close()
	}
}

// guarded is a connection of a guard. What follows is read and written by any goroutine.
type guarded struct {
	net.Conn
	guard *guard

	heard, asked atomic.Int64 // when something was read, and written, last; nanoseconds of now
	reading      atomic.Bool
	closed       atomic.Bool
}

var started = time.Now()

// now is a clock that does not step.
func now() int64 { return int64(time.Since(started)) }

// Read implements net.Conn.
func (c *guarded) Read(b []byte) (int, error) {
	c.reading.Store(true)
	n, err := c.Conn.Read(b)
	c.reading.Store(false)
	if n > 0 {
		c.heard.Store(now())
	}
	if err != nil && errors.Is(err, os.ErrDeadlineExceeded) && now()-max(c.heard.Load(), c.asked.Load()) > int64(suspicion) {
		c.guard.suspect(c)
	}
	return n, err
}

// Write implements net.Conn.
func (c *guarded) Write(b []byte) (int, error) {
	c.asked.Store(now())
	return c.Conn.Write(b)
}

// Close implements net.Conn. The guard may close a connection that the pool closes once more.
func (c *guarded) Close() error {
	if c.closed.Swap(true) {
		return nil
	}
	c.guard.mu.Lock()
	delete(c.guard.conns, c)
	c.guard.mu.Unlock()
	return c.Conn.Close()
}

// SyscallConn lets the pool see whether the connection was closed, by either end, before it is used again. With TLS only what the guard
// closed is seen: what waits unread in the kernel is encrypted.
func (c *guarded) SyscallConn() (syscall.RawConn, error) {
	if c.closed.Load() {
		return nil, net.ErrClosed
	}
	if s, ok := c.Conn.(syscall.Conn); ok {
		return s.SyscallConn()
	}
	return opaque{}, nil
}

// opaque is a raw connection that cannot be looked into.
type opaque struct{}

func (opaque) Control(func(uintptr)) error    { return nil }
func (opaque) Read(func(uintptr) bool) error  { return nil }
func (opaque) Write(func(uintptr) bool) error { return nil }
