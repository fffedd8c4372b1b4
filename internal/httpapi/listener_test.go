package httpapi

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/parley-chat/parley/internal/budget"
	"github.com/parley-chat/parley/internal/testenv"
)

// listening is an edge that serves on a port of this machine until the test ends.
func listening(t *testing.T, adjust ...func(*Config, *Deps)) (*serverEdge, string) {
	t.Helper()
	e := newServerEdge(t, adjust...)
	return e, e.serve()
}

// serve serves on a port of this machine until the test ends, and returns its address.
func (e *serverEdge) serve() string {
	t := e.t
	t.Helper()
	e.Addr = "127.0.0.1:0"
	l, err := e.Listen()
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- e.app.Listener(l) }()
	t.Cleanup(func() {
		if err := e.closeServer(context.Background(), l); err != nil {
			t.Error(err)
		}
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return l.Addr().String()
}

// dial opens a connection, which is closed when the test ends.
func dial(t *testing.T, addr string) net.Conn {
	t.Helper()
	c, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// respond reads a response from a connection.
func respond(t *testing.T, c net.Conn) (int, string) {
	t.Helper()
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, testenv.Body(t, res)
}

const getHealth = "GET /api/health HTTP/1.1\r\nHost: x\r\n\r\n"

func send(t *testing.T, c net.Conn, text string) {
	t.Helper()
	if _, err := io.WriteString(c, text); err != nil {
		t.Fatal(err)
	}
}

func TestAnAddressHasABoundOfConnections(t *testing.T) {
	t.Parallel()
	e, addr := listening(t, func(c *Config, _ *Deps) { c.ConnectionsPerAddress = 2 })
	first, second := dial(t, addr), dial(t, addr)
	for _, c := range []net.Conn{first, second} {
		send(t, c, getHealth)
		if status, _ := respond(t, c); status != 200 {
			t.Fatalf("a connection within the bound gets %d", status)
		}
	}
	// One more is refused without a request.
	status, body := respond(t, dial(t, addr))
	if status != 503 || !strings.Contains(body, `"code":"unavailable"`) {
		t.Errorf("one more gets %d %s", status, body)
	}
	if n := testutil.ToFloat64(e.conns.refused.WithLabelValues("address")); n != 1 {
		t.Errorf("%v are counted as refused", n)
	}
	if n := testutil.ToFloat64(e.conns.open); n != 2 {
		t.Errorf("%v are counted as open", n)
	}
	_ = first.Close()
	testenv.Eventually(t, time.Minute, func() bool { return testutil.ToFloat64(e.conns.open) == 1 }, "the closed connection is counted no more")
	again := dial(t, addr)
	send(t, again, getHealth)
	if status, _ := respond(t, again); status != 200 {
		t.Errorf("a connection after another was closed gets %d", status)
	}
}

func TestATrustedProxyHasNoBoundOfConnections(t *testing.T) {
	t.Parallel()
	_, addr := listening(t, func(c *Config, _ *Deps) {
		c.ConnectionsPerAddress, c.TrustedProxies = 1, []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	})
	for range 3 {
		c := dial(t, addr)
		send(t, c, getHealth)
		if status, _ := respond(t, c); status != 200 {
			t.Errorf("a connection of a proxy gets %d", status)
		}
	}
}

// A crowded pod gives each address few connections, and a full one none. The counts of the connections are exact afterwards.
func TestBoundsOfACrowdedPod(t *testing.T) {
	t.Parallel()
	e := newServerEdge(t)
	l := &listener{perAddress: 1000, proxies: e.proxies, memory: e.Memory, metrics: e.conns, log: e.Log, open: map[netip.Addr]int{}}
	admit := func(addr string) *conn {
		ours, theirs := net.Pipe()
		t.Cleanup(func() { _, _ = ours.Close(), theirs.Close() })
		go func() { _, _ = io.Copy(io.Discard, theirs) }()
		return l.admit(&addressed{ours, net.TCPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(addr), 1))})
	}
	l.total = crowded
	for n := range crowdedShare + 1 {
		if got := admit("203.0.113.7") != nil; got != (n < crowdedShare) {
			t.Errorf("connection %d of an address to a crowded pod: %t", n, got)
		}
	}
	// All addresses of a network of IPv6 are one.
	for n := range crowdedShare {
		admit(netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, 15: byte(n)}).String())
	}
	if admit("2001:db8::ffff") != nil || admit("2001:db8:1::1") == nil {
		t.Error("addresses of IPv6 are not counted by their network")
	}
	l.total = maxConnections
	if admit("192.0.2.1") != nil {
		t.Error("a full pod admits a connection")
	}
	if a, p := testutil.ToFloat64(e.conns.refused.WithLabelValues("address")), testutil.ToFloat64(e.conns.refused.WithLabelValues("pod")); a != 2 || p != 1 {
		t.Errorf("%v are refused by address and %v by the pod", a, p)
	}
	l.total = 0
	c := admit("192.0.2.2")
	for range 2 { // a second time changes nothing
		_ = c.Close()
		c.uncount()
	}
	if l.total != 0 || l.open[netip.MustParseAddr("192.0.2.2")] != 0 {
		t.Errorf("after its end %d are counted, %v", l.total, l.open)
	}
}

// addressed is a connection from an address.
type addressed struct {
	net.Conn
	from net.Addr
}

func (a *addressed) RemoteAddr() net.Addr { return a.from }

// failing is a listener whose first accepts fail.
type failing struct {
	mu       sync.Mutex
	failures int
	closed   chan struct{}
}

func (f *failing) Accept() (net.Conn, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.failures > 0 {
		f.failures--
		return nil, errors.New("too many open files")
	}
	select {
	case <-f.closed:
		return nil, net.ErrClosed
	default:
	}
	ours, _ := net.Pipe()
	return ours, nil
}

func (f *failing) Close() error {
	close(f.closed)
	return nil
}

func (*failing) Addr() net.Addr { return &net.TCPAddr{} }

// An accept that fails is tried again and logged once, and the end of the listener is the only error.
func TestAcceptsThatFailAreTriedAgain(t *testing.T) {
	t.Parallel()
	e := newServerEdge(t)
	l := &listener{
		Listener: &failing{failures: 3, closed: make(chan struct{})}, proxies: e.proxies, memory: e.Memory, metrics: e.conns, log: e.Log,
		stopped: make(chan struct{}), open: map[netip.Addr]int{},
	}
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	_ = c.Close()
	if n, logged := testutil.ToFloat64(e.conns.acceptErrors), strings.Count(e.log.String(), "too many open files"); n != 3 || logged != 1 {
		t.Errorf("%v errors are counted and %d logged", n, logged)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("a closed listener returns %v", err)
	}
}

// A client that sends a body which is refused gets the response, although it is still sending.
func TestARefusedBodyGetsItsResponse(t *testing.T) {
	t.Parallel()
	_, addr := listening(t)
	c := dial(t, addr)
	send(t, c, "POST /api/auth/login HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 1048576\r\n\r\n")
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		_, _ = io.WriteString(c, strings.Repeat("x", 1<<20))
	}()
	if status, body := respond(t, c); status != 413 || !strings.Contains(body, "payload_too_large") {
		t.Errorf("%d %s", status, body)
	}
	_ = c.Close()
	<-sent
}

// postKeys posts a body by a server key, on a connection of its own.
func postKeys(t *testing.T, addr string, body io.Reader) int {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+addr+"/api/server/keys", body)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", "Bearer "+serverToken)
	req.Close = true
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	return res.StatusCode
}

// Bodies that arrive take memory within the budget, and give it back.
func TestBodiesAreBoundedByTheBudget(t *testing.T) {
	t.Parallel()
	memory := budget.New(100<<10, 100<<10)
	e, addr := listening(t, func(_ *Config, d *Deps) { d.Memory = memory })
	post := func(kib int) int { return postKeys(t, addr, strings.NewReader(strings.Repeat(" ", kib<<10))) }
	if small, large := post(30), post(200); small != 400 || large != 503 {
		t.Errorf("a body of 30 KiB is %d, of 200 KiB %d", small, large)
	}
	testenv.Eventually(t, time.Minute, func() bool { return memory.Used() == 0 }, "the memory is given back")
	if post(30) != 400 || testutil.ToFloat64(e.Server.metrics.unavailable) != 1 {
		t.Error("the budget is used up by bodies that are gone")
	}
}

func TestABodyOfUnknownLengthIsBounded(t *testing.T) {
	t.Parallel()
	_, addr := listening(t)
	for _, c := range []struct{ kib, status int }{{255, 400}, {300, 413}} {
		// A reader of unknown length is sent in chunks.
		body := struct{ io.Reader }{strings.NewReader(strings.Repeat(" ", c.kib<<10))}
		if status := postKeys(t, addr, body); status != c.status {
			t.Errorf("%d KiB in chunks: %d", c.kib, status)
		}
	}
}

// A server that stops finishes the request in progress, and accepts no other.
func TestAServerStopsAfterItsRequests(t *testing.T) {
	t.Parallel()
	entered, release := make(chan struct{}), make(chan struct{})
	e := newServerEdge(t, func(c *Config, _ *Deps) { c.Addr = "127.0.0.1:0" })
	e.withRoute(http.MethodGet, "/test", func(c *fiber.Ctx) error {
		close(entered)
		<-release
		return c.SendString("finished")
	})
	l, err := e.Listen()
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- e.app.Listener(l) }()
	c := dial(t, l.Addr().String())
	send(t, c, "GET /test HTTP/1.1\r\nHost: x\r\n\r\n")
	<-entered
	stopped := make(chan error, 1)
	go func() { stopped <- e.closeServer(context.Background(), l) }()
	testenv.Eventually(t, time.Minute, func() bool {
		probe, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", l.Addr().String())
		if err == nil {
			_ = probe.Close()
		}
		return err != nil
	}, "no connection is accepted any more")
	close(release)
	if status, body := respond(t, c); status != 200 || body != "finished" {
		t.Errorf("the request in progress is %d %s", status, body)
	}
	if err := errors.Join(<-stopped, <-served); err != nil {
		t.Error(err)
	}
}
