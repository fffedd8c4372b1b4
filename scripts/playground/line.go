package main

import (
	"context"
	"io"
	"net"
	"strings"
	"sync"
)

// line is one person's network: it hands bytes on between their page and their pod, unless it is cut. All methods may be called
// from any goroutine.
type line struct {
	// pod is the pod's address as a URL, name its process.
	pod, name string
	listener  net.Listener

	mu sync.Mutex
	// cut and conns are guarded by mu. conns are both ends of what is open.
	cut   bool
	conns map[net.Conn]struct{}
}

func newLine(name, pod string) (*line, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // at the start
	if err != nil {
		return nil, err
	}
	return &line{pod: pod, name: name, listener: l, conns: map[net.Conn]struct{}{}}, nil
}

// address is where the page finds the pod.
func (l *line) address() string { return l.listener.Addr().String() }

func (l *line) run(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() {
		_ = l.listener.Close()
		l.set(true)
	})
	defer stop()
	for {
		c, err := l.listener.Accept()
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
		go l.carry(ctx, c)
	}
}

// set cuts the line, or mends it. A cut ends every connection as a lost network does: without a goodbye.
func (l *line) set(cut bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cut = cut
	if !cut {
		return
	}
	for c := range l.conns {
		if t, ok := c.(*net.TCPConn); ok {
			_ = t.SetLinger(0)
		}
		_ = c.Close()
	}
}

func (l *line) isCut() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.cut
}

// hold notes an open connection; it reports whether the line carries it.
func (l *line) hold(c net.Conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.cut {
		return false
	}
	l.conns[c] = struct{}{}
	return true
}

func (l *line) drop(c net.Conn) {
	_ = c.Close()
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.conns, c)
}

func (l *line) carry(ctx context.Context, page net.Conn) {
	defer l.drop(page)
	if !l.hold(page) {
		return
	}
	var d net.Dialer
	pod, err := d.DialContext(ctx, "tcp", strings.TrimPrefix(l.pod, "http://"))
	if err != nil {
		return
	}
	defer l.drop(pod)
	if !l.hold(pod) {
		return
	}
	done := make(chan struct{}, 2)
	copyAll := func(to, from net.Conn) {
		_, _ = io.Copy(to, from)
		done <- struct{}{}
	}
	go copyAll(pod, page)
	go copyAll(page, pod)
	<-done
}
