package httpapi

import (
	"net"
	"syscall"
	"testing"
)

// An accepted connection has the listener's options, without system calls of its own.
func TestConnectionsInheritTheirOptions(t *testing.T) {
	t.Parallel()
	l, err := listenConfig.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	client, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	raw, err := c.(*net.TCPConn).SyscallConn() //nolint:forcetypeassert // it listens on TCP
	if err != nil {
		t.Fatal(err)
	}
	for name, option := range map[string]struct{ option, want int }{
		"SO_SNDBUF": {syscall.SO_SNDBUF, 2 * sendBuffer}, "SO_KEEPALIVE": {syscall.SO_KEEPALIVE, 0},
	} {
		var got int
		var failed error
		if err := raw.Control(func(fd uintptr) { got, failed = syscall.GetsockoptInt(int(fd), syscall.SOL_SOCKET, option.option) }); err != nil || failed != nil {
			t.Fatal(err, failed)
		}
		if got != option.want {
			t.Errorf("%s is %d, want %d", name, got, option.want)
		}
	}
}
