package testenv

import (
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"regexp"
	"sync"
	"testing"
)

// CommitProxy stands before a Proxy to Postgres and knows the protocol (Frontend/Backend Protocol 3.0, without TLS). Armed, it
// cuts all connections right after the answer to the next commit of a write has gone through: whatever the process asks next
// fails.
type CommitProxy struct {
	*Proxy
	listener net.Listener

	mu    sync.Mutex // guards armed
	armed bool
}

// NewCommitProxy starts one to a server's address. It ends with the test.
func NewCommitProxy(t testing.TB, target string) *CommitProxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	p := &CommitProxy{Proxy: NewProxy(t, target), listener: l}
	go p.serveCommits()
	return p
}

func (p *CommitProxy) serveCommits() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("tcp", p.Proxy.Addr())
		if err != nil {
			_ = client.Close()
			continue
		}
		c := &pgConn{proxy: p, statements: map[string]bool{}}
		go c.requests(client, server)
		go c.answers(server, client)
	}
}

// Addr is the address that the process connects to.
func (p *CommitProxy) Addr() string { return p.listener.Addr().String() }

// Arm has the next commit of a write cut.
func (p *CommitProxy) Arm() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.armed = true
}

// Mend lets connections through again, and reports whether a commit was cut since Arm.
func (p *CommitProxy) Mend() (cut bool) {
	p.mu.Lock()
	cut = !p.armed
	p.armed = false
	p.mu.Unlock()
	p.Proxy.Mend()
	return cut
}

// passCommit passes on the answer to a commit of a write. If the proxy is armed it then cuts, before a caller that saw the answer
// can have Mend return.
func (p *CommitProxy) passCommit(pass func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	pass()
	if p.armed {
		p.armed = false
		p.Cut()
	}
}

// pgConn is one connection. A prepared statement that writes makes its transaction one that does.
type pgConn struct {
	proxy *CommitProxy

	mu         sync.Mutex // guards what follows
	statements map[string]bool
	wrote      bool
}

var writing = regexp.MustCompile(`(?is)\b(insert\s+into|update\s+"?\w+"?\s+(\w+\s+)?set|delete\s+from)\b`)

// requests passes what the client sends on, and notices writes.
func (c *pgConn) requests(from, to net.Conn) {
	defer func() { _ = to.Close(); _ = from.Close() }()
	var length [4]byte // of the startup message, which has no type
	if _, err := io.ReadFull(from, length[:]); err != nil {
		return
	}
	if _, err := to.Write(length[:]); err != nil {
		return
	}
	if _, err := io.CopyN(to, from, int64(binary.BigEndian.Uint32(length[:]))-4); err != nil {
		return
	}
	eachMessage(from, func(typ byte, message []byte) error {
		c.noticeWrite(typ, message[5:])
		_, err := to.Write(message)
		return err
	})
}

// noticeWrite remembers whether the open transaction writes.
func (c *pgConn) noticeWrite(typ byte, body []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch typ {
	case 'P': // Parse: name, query
		name, query, _ := bytes.Cut(body, []byte{0})
		c.statements[string(name)] = writing.Match(query)
	case 'B': // Bind: portal, statement
		_, rest, _ := bytes.Cut(body, []byte{0})
		name, _, _ := bytes.Cut(rest, []byte{0})
		c.wrote = c.wrote || c.statements[string(name)]
	case 'Q':
		c.wrote = c.wrote || writing.Match(body)
	}
}

// answers passes on what the server sends, and cuts after the end of a transaction that wrote.
func (c *pgConn) answers(from, to net.Conn) {
	defer func() { _ = to.Close(); _ = from.Close() }()
	failed := false
	eachMessage(from, func(typ byte, message []byte) (err error) {
		pass := func() { _, err = to.Write(message) }
		failed = failed || typ == 'E'
		if typ != 'Z' || len(message) != 6 || message[5] != 'I' { // ReadyForQuery, idle: no transaction is open
			pass()
			return err
		}
		c.mu.Lock()
		wrote := c.wrote
		c.wrote = false
		c.mu.Unlock()
		if wrote && !failed {
			c.proxy.passCommit(pass)
		} else {
			pass()
		}
		failed = false
		return err
	})
}

// eachMessage calls do with each message: its type, and the whole of it with type and length.
func eachMessage(from io.Reader, do func(typ byte, message []byte) error) {
	head := make([]byte, 5)
	for {
		if _, err := io.ReadFull(from, head); err != nil {
			return
		}
		message := make([]byte, 1+binary.BigEndian.Uint32(head[1:]))
		copy(message, head)
		if _, err := io.ReadFull(from, message[5:]); err != nil {
			return
		}
		if do(head[0], message) != nil {
			return
		}
	}
}
