package test

import (
	"fmt"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/parley-chat/parley/internal/testenv"
)

// receiver is an HTTP server at an address that stays, which can be killed and started again.
type receiver struct {
	t       testing.TB
	addr    string
	handler http.Handler

	serving sync.Mutex // guards the following fields
	server  *http.Server
	conns   map[net.Conn]bool
}

func newReceiver(t testing.TB, h http.Handler) *receiver {
	t.Helper()
	r := &receiver{t: t, addr: fmt.Sprintf("127.0.0.1:%d", testenv.FreePort(t)), handler: h}
	r.start()
	t.Cleanup(r.kill)
	return r
}

func (r *receiver) start() {
	r.t.Helper()
	var l net.Listener
	testenv.Eventually(r.t, 20*time.Second, func() (ok bool) {
		var err error
		l, err = net.Listen("tcp", r.addr)
		return err == nil
	}, "the receiver listens")
	r.serving.Lock()
	defer r.serving.Unlock()
	r.conns = map[net.Conn]bool{}
	r.server = &http.Server{Handler: r.handler, ReadHeaderTimeout: time.Minute, ConnState: func(c net.Conn, s http.ConnState) {
		r.serving.Lock()
		defer r.serving.Unlock()
		if s == http.StateClosed {
			delete(r.conns, c)
		} else {
			r.conns[c] = true
		}
	}}
	go func(s *http.Server) { _ = s.Serve(l) }(r.server)
}

// kill ends it as SIGKILL would: connections are reset, whatever they were about.
func (r *receiver) kill() {
	r.serving.Lock()
	server := r.server
	for c := range r.conns {
		if tcp, ok := c.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0)
		}
	}
	r.serving.Unlock()
	_ = server.Close()
}
