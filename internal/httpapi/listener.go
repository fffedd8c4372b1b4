package httpapi

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/parley-chat/parley/internal/backoff"
	"github.com/parley-chat/parley/internal/budget"
	"github.com/parley-chat/parley/internal/id"
)

const (
	// maxConnections bounds the connections of a pod other than sockets. Each takes about 20 KiB.
	maxConnections = 8192
	// crowded is the number of connections from which an address may have only crowdedShare, so that other addresses get the rest.
	crowded      = maxConnections / 2
	crowdedShare = 64
	// sendBuffer bounds the bytes of an unread response that the kernel buffers; the kernel doubles the number. Without it the kernel uses up
	// to 4 MiB for each connection, which count in a container's memory.
	sendBuffer = 128 << 10
	// acceptLogPause is the least time between two log entries about failing accepts.
	acceptLogPause = 10 * time.Second
	// lingerTime and lingerBytes bound what is read and dropped when a connection is closed while its client is sending. Without it the
	// client might be cut off before it has read the response.
	lingerTime  = 2 * time.Second
	lingerBytes = 2 << 20
)

// listenConfig sets options once, on the listener: setting them on each connection would cost system calls. Connections inherit the size of the send
// buffer. TCP's keep-alives are off, because requests have time-outs and sockets have heartbeats.
var listenConfig = net.ListenConfig{KeepAlive: -1, Control: func(_, _ string, c syscall.RawConn) error {
	var failed error
	err := c.Control(func(fd uintptr) {
		failed = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_SNDBUF, sendBuffer)
	})
	return errors.Join(err, failed)
}}

// acceptPauses are the pauses after failed accepts, which mostly fail because file descriptors are used up.
var acceptPauses = backoff.Policy{First: 5 * time.Millisecond, Most: time.Second}

// listener accepts connections for fasthttp: it survives errors of accept, bounds the connections of an address and of the
// pod, and wraps each in a conn.
type listener struct {
	net.Listener
	perAddress int // 0 for no bound
	proxies    *proxies
	memory     *budget.Budget
	metrics    *connMetrics
	log        *slog.Logger
	stopped    chan struct{}
	stop       sync.Once

	mu     sync.Mutex // guards the following fields
	total  int
	open   map[netip.Addr]int
	logged time.Time // when a failed accept was last logged
}

type connMetrics struct {
	open         prometheus.Gauge
	refused      *prometheus.CounterVec
	acceptErrors prometheus.Counter
}

// Reasons to refuse a connection.
const (
	refusedAddress = "address"
	refusedPod     = "pod"
)

func newConnMetrics(r prometheus.Registerer, memory *budget.Budget) *connMetrics {
	m := &connMetrics{
		open: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "parley_http_connections_open", Help: "Open HTTP connections, without sockets.",
		}),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "parley_http_connections_refused_total", Help: "Connections that were closed at once because their address, or the pod, had too many.",
		}, []string{"reason"}),
		acceptErrors: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "parley_accept_errors_total", Help: "Connections that could not be accepted, mostly because the process had no file descriptor left.",
		}),
	}
	for _, reason := range []string{refusedAddress, refusedPod} {
		m.refused.WithLabelValues(reason)
	}
	r.MustRegister(m.open, m.refused, m.acceptErrors, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "parley_unread_bytes", Help: "Memory held for slow clients: bodies that are arriving, responses and frames that wait to be read.",
	}, func() float64 { return float64(memory.Used()) }))
	return m
}

// Accept returns the next connection within the bounds. It returns an error only once the listener is closed.
func (l *listener) Accept() (net.Conn, error) {
	for failures := 0; ; {
		c, err := l.Listener.Accept()
		switch {
		case errors.Is(err, net.ErrClosed):
			return nil, err
		case err != nil:
			l.failed(err)
			failures++
			select {
			case <-l.stopped:
			case <-time.After(acceptPauses.After(failures)):
			}
			continue
		}
		failures = 0
		if wrapped := l.admit(c); wrapped != nil {
			return wrapped, nil
		}
	}
}

// Close stops accepting.
func (l *listener) Close() error {
	l.stop.Do(func() { close(l.stopped) })
	return l.Listener.Close()
}

func (l *listener) failed(err error) {
	l.metrics.acceptErrors.Inc()
	l.mu.Lock()
	quiet := time.Since(l.logged) < acceptLogPause
	if !quiet {
		l.logged = time.Now()
	}
	l.mu.Unlock()
	if !quiet {
		l.log.Error("connections cannot be accepted: trying again", "error", err)
	}
}

// admit counts a connection, or refuses it and returns nil. Trusted proxies have no bound by address, because they serve many clients.
func (l *listener) admit(c net.Conn) *conn {
	key := addressKey(c)
	most := l.perAddress
	if l.proxies.trusts(key) {
		most = 0
	}
	l.mu.Lock()
	if l.total >= crowded && most > 0 {
		most = min(most, crowdedShare)
	}
	reason := ""
	switch {
	case most > 0 && l.open[key] >= most:
		reason = refusedAddress
	case l.total >= maxConnections:
		reason = refusedPod
	default:
		l.total++
		l.open[key]++
	}
	l.mu.Unlock()
	if reason != "" {
		l.metrics.refused.WithLabelValues(reason).Inc()
		refuseConn(c)
		return nil
	}
	l.metrics.open.Inc()
	return &conn{Conn: c, listener: l, key: key}
}

// refuseConn responds 503 without reading a request, and closes the connection. It does not wait, because the kernel's buffer is empty.
func refuseConn(c net.Conn) {
	const body = `{"type":"about:blank","title":"Service Unavailable","status":503,"detail":"too many connections","code":"unavailable","requestId":"%s"}`
	request := id.New()
	b := fmt.Sprintf(body, request)
	_ = c.SetWriteDeadline(time.Now().Add(time.Second))
	_, _ = fmt.Fprintf(c, "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/problem+json\r\nContent-Length: %d\r\n"+
		"Retry-After: 5\r\nX-Request-Id: %s\r\nConnection: close\r\n\r\n%s", len(b), request, b)
	_ = c.Close()
}

// addressKey returns the address by which a connection is counted: that of its peer, as subscriber has it.
func addressKey(c net.Conn) netip.Addr {
	a, ok := c.RemoteAddr().(*net.TCPAddr)
	if !ok {
		return netip.Addr{}
	}
	return subscriber(a.AddrPort().Addr())
}

// subscriber returns the address that represents one client: an IPv4 address, or the first IPv6 address of its prefix.
func subscriber(a netip.Addr) netip.Addr {
	a = a.Unmap().WithZone("")
	if a.Is6() {
		return netip.PrefixFrom(a, ipv6Prefix).Masked().Addr()
	}
	return a
}

func (l *listener) left(key netip.Addr) {
	l.mu.Lock()
	l.total--
	if l.open[key]--; l.open[key] <= 0 {
		delete(l.open, key)
	}
	l.mu.Unlock()
	l.metrics.open.Dec()
}

// conn is one client's connection. Its fields, except the atomic ones, belong to the goroutine that serves it.
type conn struct {
	net.Conn
	listener  *listener
	key       netip.Addr
	uncounted atomic.Bool // no longer counted by the listener
	linger    atomic.Bool // Close reads for a moment what the client still sends
	over      atomic.Bool // handed over: Close does nothing

	owner string
	held  int64 // bytes that are charged to owner
}

// hold charges n more bytes to an owner, until release is called. Bytes that are charged to another owner are released first. It returns
// false if the budget is exceeded.
func (c *conn) hold(owner string, n int64) bool {
	if c.held > 0 && owner != c.owner {
		c.release()
	}
	if !c.listener.memory.Take(owner, n) {
		return false
	}
	c.owner = owner
	c.held += n
	return true
}

func (c *conn) release() {
	c.listener.memory.Give(c.owner, c.held)
	c.owner, c.held = "", 0
}

// NetConn returns the wrapped connection.
func (c *conn) NetConn() net.Conn { return c.Conn }

// uncount removes the connection from the listener's counts. It is called when the connection ends or becomes a socket: sockets are bounded by
// user.
func (c *conn) uncount() {
	if !c.uncounted.Swap(true) {
		c.listener.left(c.key)
	}
}

// handOver removes the connection from the listener and from fasthttp, and returns it to its new owner, which has to close it.
func (c *conn) handOver() net.Conn {
	c.over.Store(true)
	c.uncount()
	return c.Conn
}

// Close closes the connection, unless it was handed over. If linger is set, the client first has lingerTime to finish sending.
func (c *conn) Close() error {
	if c.over.Load() {
		return nil
	}
	if t, ok := c.Conn.(*net.TCPConn); ok && c.linger.Swap(false) && t.CloseWrite() == nil {
		_ = t.SetReadDeadline(time.Now().Add(lingerTime))
		_, _ = io.CopyN(io.Discard, t, lingerBytes)
	}
	c.uncount()
	return c.Conn.Close()
}
