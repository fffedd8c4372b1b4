package main

import (
	"context"
	"crypto/tls"
	"errors"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/fasthttp/websocket"

	"github.com/parley-chat/parley/internal/client"
)

// silence is how long a socket may hear nothing before it counts as dead: twice the longest heartbeat that is usual.
const silence = time.Minute

// open opens the socket and waits until it is ready. fresh says that the person knows all that there is: nothing is asked by sync.
// intended is when it was to be opened.
func (p *person) open(ctx context.Context, intended time.Time, fresh bool) error {
	p.mu.Lock()
	p.wanted, p.gone = true, make(chan struct{})
	p.mu.Unlock()
	err := p.connect(ctx, intended, fresh)
	for try := 1; err != nil && try < 8 && ctx.Err() == nil && !p.b.hopeless(err); try++ {
		_ = pause(ctx, backoff(try))
		err = p.connect(ctx, time.Now(), fresh)
	}
	if err != nil {
		close(p.gone)
		return err
	}
	go p.keep(ctx)
	return nil
}

// close closes the socket and waits until it is.
func (p *person) close() {
	p.mu.Lock()
	p.wanted = false
	conn, gone := p.conn, p.gone
	p.mu.Unlock()
	if conn != nil {
		_ = conn.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(1000, ""), time.Now().Add(time.Second))
		_ = conn.Close()
	}
	if gone != nil {
		<-gone
	}
}

func backoff(try int) time.Duration {
	return time.Duration((0.5 + rand.Float64()) * float64(min(100*time.Millisecond<<try, 5*time.Second)))
}

// dialer binds to several addresses on loopback, so that ports don't run out.
func (p *person) dialer() *websocket.Dialer {
	d := &net.Dialer{Timeout: answerTime}
	if p.b.loopback {
		d.LocalAddr = &net.TCPAddr{IP: net.IPv4(127, 0, 0, byte(2+p.n/8000%250))}
	}
	return &websocket.Dialer{
		NetDialContext: d.DialContext, HandshakeTimeout: answerTime, ReadBufferSize: 2048, WriteBufferSize: 1024, WriteBufferPool: &p.b.buffers,
		TLSClientConfig: &tls.Config{InsecureSkipVerify: p.b.insecure}, //nolint:gosec // only where --insecure says so
	}
}

// base is the address to use: where one failed, the next.
func (p *person) base() string { return p.b.url(p.n + int(p.failed.Load())) }

// connect makes one attempt and waits for the ready frame.
func (p *person) connect(ctx context.Context, intended time.Time, fresh bool) error {
	token, err := p.access(ctx)
	if err != nil {
		return err
	}
	conn, err := client.Server{Base: p.base(), Token: token}.Open(ctx, p.dialer(), "/api/ws?deviceId=bench", http.Header{"User-Agent": {"parley-bench"}})
	if err != nil {
		p.b.stats.add("connect failures", 1)
		p.failed.Add(1)
		return err
	}
	p.b.stats.timings("connect").record(p.n, time.Since(intended))
	p.b.stats.add("connects", 1)
	p.b.stats.level("sockets").Add(1)
	p.connected(conn, fresh)
	return nil
}

func (p *person) connected(conn *client.Socket, fresh bool) {
	p.mu.Lock()
	p.conn, p.usable = conn, fresh || len(p.feeds) == 0
	if !p.wanted {
		_ = conn.Close()
	}
	for _, f := range p.feeds {
		f.connected(fresh)
	}
	clear(p.seen)
	usable := p.usable
	p.mu.Unlock()
	if usable {
		p.resend()
	} else {
		p.sync()
	}
	p.watch()
}

// keep reads the socket, and opens it anew when it breaks.
func (p *person) keep(ctx context.Context) {
	defer close(p.gone)
	for {
		err := p.listen()
		p.b.stats.level("sockets").Add(-1)
		p.mu.Lock()
		_ = p.conn.Close()
		p.conn, p.usable = nil, false
		wanted := p.wanted
		p.mu.Unlock()
		if !wanted || ctx.Err() != nil {
			return
		}
		p.b.stats.add("closed "+reason(err), 1)
		p.failed.Add(1)
		if client.CloseCode(err) == 4429 {
			p.b.fail(errors.New("a socket was closed for too many frames (4429): PARLEY_RATE_LIMIT_FRAMES=off lifts the limit, see docs/benchmarking.md"))
		}
		for try := 1; ; try++ {
			if pause(ctx, backoff(try)) != nil || !p.stillWanted() {
				return
			}
			if err := p.connect(ctx, time.Now(), false); err == nil {
				p.b.stats.add("reconnects", 1)
				break
			} else if p.b.hopeless(err) {
				return
			}
		}
	}
}

func (p *person) stillWanted() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.wanted
}

// reason is a short name of why a socket was closed.
func reason(err error) string {
	if code := client.CloseCode(err); code != 0 {
		return strconv.Itoa(code)
	}
	if n := net.Error(nil); errors.As(err, &n) && n.Timeout() {
		return "silent"
	}
	return "broken"
}

func (p *person) listen() error {
	for {
		b, err := p.conn.ReadFrame(silence)
		if err != nil {
			return err
		}
		p.frame(b)
	}
}

// loopback reports whether all addresses are IPv4 addresses of this machine.
func loopback(urls []string) bool {
	for _, u := range urls {
		p, err := url.Parse(u)
		if err != nil || (p.Hostname() != "localhost" && !strings.HasPrefix(p.Hostname(), "127.")) {
			return false
		}
	}
	return true
}
