package testenv

import (
	"net"
	"sync"
	"testing"
	"time"
)

// Proxy stands between a process and a server. It can cut connections, turn them into black holes, delay what they carry,
// and lead new ones to another server.
type Proxy struct {
	listener net.Listener

	mu     sync.Mutex // guards the following fields
	target string
	cut    bool
	hole   bool          // new connections swallow everything too
	delay  time.Duration // before each chunk is passed on
	links  map[*link]bool
}

// link is a connection through the proxy.
type link struct {
	client, server net.Conn
	mode           flow // guarded by Proxy.mu
}

// flow is the treatment of a link's bytes.
type flow int

const (
	// The zero value passes everything.
	_ flow = iota
	// halving passes the first half of the next chunk, and swallows from then on: the peer sees a frame that never ends.
	halving
	// swallowing reads bytes and passes none on. Neither end sees an error, as behind a dropped NAT entry.
	swallowing
)

// NewProxy starts a proxy to an address. It ends with the test.
func NewProxy(t testing.TB, target string) *Proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &Proxy{listener: l, target: target, links: map[*link]bool{}}
	go p.serve()
	t.Cleanup(func() {
		_ = l.Close()
		p.Cut()
	})
	return p
}

// Addr is the address that the process connects to.
func (p *Proxy) Addr() string { return p.listener.Addr().String() }

// Cut breaks all connections and refuses new ones.
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cut = true
	for l := range p.links {
		l.close()
	}
	clear(p.links)
}

// Mend lets connections through again: new ones, and what Delay held up. Those that were turned into black holes stay so.
func (p *Proxy) Mend() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cut, p.hole, p.delay = false, false, 0
}

// Swallow turns the connections that are open into black holes. New ones pass.
func (p *Proxy) Swallow() { p.set(swallowing) }

// SwallowAll turns all connections into black holes, also those that are opened until Mend.
func (p *Proxy) SwallowAll() {
	p.mu.Lock()
	p.hole = true
	p.mu.Unlock()
	p.set(swallowing)
}

// Halve passes half of the next chunk in each direction of the connections that are open, and swallows from then on.
func (p *Proxy) Halve() { p.set(halving) }

// Delay holds up each chunk for that long.
func (p *Proxy) Delay(d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.delay = d
}

// Lead connects new connections to another address. Open ones stay.
func (p *Proxy) Lead(target string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.target = target
}

// Links is how many connections are open through the proxy, black holes included.
func (p *Proxy) Links() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.links)
}

func (p *Proxy) set(f flow) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for l := range p.links {
		l.mode = max(l.mode, f)
	}
}

func (p *Proxy) serve() {
	for {
		c, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.mu.Lock()
		target := p.target
		p.mu.Unlock()
		up, err := net.Dial("tcp", target)
		if err != nil {
			_ = c.Close()
			continue
		}
		l := &link{client: c, server: up}
		if !p.keep(l) {
			l.close()
			continue
		}
		go p.pass(l, c, up)
		go p.pass(l, up, c)
	}
}

func (p *Proxy) keep(l *link) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cut {
		return false
	}
	if p.hole {
		l.mode = swallowing
	}
	p.links[l] = true
	return true
}

func (l *link) close() {
	_ = l.client.Close()
	_ = l.server.Close()
}

// pass carries one direction of a link until either end closes it. Each direction of a link that is being halved passes
// half of its next chunk.
func (p *Proxy) pass(l *link, from, to net.Conn) {
	defer func() {
		l.close()
		p.mu.Lock()
		delete(p.links, l)
		p.mu.Unlock()
	}()
	buf := make([]byte, 32<<10)
	halved := false
	for {
		n, err := from.Read(buf)
		p.mu.Lock()
		mode, delay := l.mode, p.delay
		p.mu.Unlock()
		switch {
		case mode == swallowing || halved:
			n = 0
		case mode == halving:
			n, halved = n/2, true
		}
		if n > 0 {
			time.Sleep(delay)
			if _, err := to.Write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}
