package test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/parley-chat/parley/internal/testenv"
)

// rawClient is a client that writes its requests byte by byte.
type rawClient struct {
	t testing.TB
	net.Conn
	r *bufio.Reader
}

// rawFrom connects from an address of this machine, "" for any.
func (p *pod) rawFrom(t testing.TB, address string) *rawClient {
	t.Helper()
	d := net.Dialer{Timeout: 10 * time.Second}
	if address != "" {
		d.LocalAddr = &net.TCPAddr{IP: net.ParseIP(address)}
	}
	c, err := d.Dial("tcp", strings.TrimPrefix(p.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return &rawClient{t, c, bufio.NewReader(c)}
}

func (r *rawClient) write(format string, args ...any) {
	r.t.Helper()
	if _, err := fmt.Fprintf(r, format, args...); err != nil {
		r.t.Fatal(err)
	}
}

// answer reads one answer.
func (r *rawClient) answer() answer {
	r.t.Helper()
	_ = r.SetReadDeadline(time.Now().Add(2 * time.Minute))
	res, err := http.ReadResponse(r.r, nil)
	if err != nil {
		r.t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	return answer{res.StatusCode, res.Header, b}
}

// ended waits until the server closes the connection, and returns what it still sent.
func (r *rawClient) ended(within time.Duration) string {
	r.t.Helper()
	var out []byte
	for limit := testenv.NewLimit(within); ; {
		_ = r.SetReadDeadline(time.Now().Add(within))
		b, err := io.ReadAll(r.r)
		out = append(out, b...)
		if n, ok := err.(net.Error); !ok || !n.Timeout() { //nolint:errorlint // as net returns it
			return string(out)
		}
		if limit.Over() {
			r.t.Fatalf("the connection is open after %s", limit)
		}
	}
}

const jsonPost = "POST %s HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"

// Memory grows with what arrived, not with what was announced, and what is announced too large is refused at once.
func TestAnnouncedBodiesTakeNoMemory(t *testing.T) {
	t.Parallel()
	p := start(t, 1).pods[0]
	before := metric(t, p.ops, "go_memstats_heap_inuse_bytes") + metric(t, p.ops, "go_memstats_stack_inuse_bytes")
	const n = 200
	for range n {
		r := p.rawFrom(t, "")
		r.write(jsonPost+"Content-Length: 262144\r\n\r\n{", "/api/auth/logout")
	}
	testenv.Eventually(t, 20*time.Second, func() bool { return metric(t, p.ops, "parley_http_connections_open") >= n }, "the connections are open")
	after := metric(t, p.ops, "go_memstats_heap_inuse_bytes") + metric(t, p.ops, "go_memstats_stack_inuse_bytes")
	if grown := after - before; grown > n*64<<10 {
		t.Errorf("%d announced bodies took %.0f MiB", n, grown/(1<<20))
	}
	for _, length := range []string{"262145", "2000000", "9223372036854775807"} {
		r := p.rawFrom(t, "")
		r.write(jsonPost+"Content-Length: %s\r\n\r\n", "/api/auth/login", length)
		if a := r.answer(); a.status != 413 || a.code() != "payload_too_large" {
			t.Errorf("announced %s: %d %s", length, a.status, a.body)
		}
		r.ended(10 * time.Second)
	}
}

func TestBodiesArriveInManyWays(t *testing.T) {
	t.Parallel()
	p := start(t, 1).pods[0]
	login := `{"username":"nobody.at.all","password":"wrong password"}`
	chunk := func(s string) string { return fmt.Sprintf("%x\r\n%s\r\n", len(s), s) }
	t.Run("in chunks", func(t *testing.T) {
		r := p.rawFrom(t, "")
		r.write(jsonPost+"Transfer-Encoding: chunked\r\n\r\n%s", "/api/auth/login", chunk(login[:10])+chunk(login[10:])+"0\r\n\r\n")
		r.wantStatus(t, "the request", 401)
		r.write(jsonPost+"Content-Length: %d\r\n\r\n%s", "/api/auth/login", len(login), login)
		r.wantStatus(t, "the next on the connection", 401)
	})
	t.Run("in too many chunks", func(t *testing.T) {
		r := p.rawFrom(t, "")
		r.write(jsonPost+"Transfer-Encoding: chunked\r\n\r\n", "/api/auth/login")
		for range 40 {
			r.write("%s", chunk(strings.Repeat(" ", 8<<10)))
		}
		r.wantStatus(t, "the request", 413)
		r.ended(10 * time.Second)
	})
	t.Run("piece by piece", func(t *testing.T) {
		r := p.rawFrom(t, "")
		body := strings.Repeat(" ", 200<<10) + login
		r.write(jsonPost+"Content-Length: %d\r\n\r\n", "/api/auth/login", len(body))
		for len(body) > 0 {
			n := min(len(body), 5000)
			r.write("%s", body[:n])
			body = body[n:]
		}
		r.wantStatus(t, "the request", 401)
	})
	t.Run("after 100 Continue", func(t *testing.T) {
		r := p.rawFrom(t, "")
		r.write(jsonPost+"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n", "/api/auth/login", len(login))
		_ = r.SetReadDeadline(time.Now().Add(2 * time.Minute))
		line, err := r.r.ReadString('\n')
		if err != nil || !strings.HasPrefix(line, "HTTP/1.1 100") {
			t.Fatalf("%q, %v", line, err)
		}
		_, _ = r.r.ReadString('\n')
		r.write("%s", login)
		r.wantStatus(t, "the request", 401)
	})
	t.Run("refused before 100 Continue", func(t *testing.T) {
		r := p.rawFrom(t, "")
		r.write(jsonPost+"Expect: 100-continue\r\nContent-Length: 300000\r\n\r\n", "/api/auth/login")
		r.wantStatus(t, "the request", 413)
	})
	t.Run("with a GET, which has none", func(t *testing.T) {
		r := p.rawFrom(t, "")
		inner := "GET /api/health/ready HTTP/1.1\r\nHost: x\r\n\r\n"
		r.write("GET /api/health HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", len(inner), inner)
		r.wantStatus(t, "the request", 200)
		if more := r.ended(10 * time.Second); more != "" {
			t.Errorf("the body was taken for a request: %s", more)
		}
	})
	t.Run("as a form", func(t *testing.T) {
		a := p.call(t, "", "POST", "/api/auth/login", "--b\r\n\r\n\r\n--b--", "Content-Type", "multipart/form-data; boundary=b")
		if a.status != 415 {
			t.Errorf("%d %s", a.status, a.body)
		}
	})
	t.Run("cut off", func(t *testing.T) {
		r := p.rawFrom(t, "")
		r.write(jsonPost+"Content-Length: 20000\r\n\r\n%s", "/api/auth/login", strings.Repeat(" ", 10_000))
		if c, ok := r.Conn.(*net.TCPConn); ok {
			_ = c.CloseWrite()
		}
		r.wantStatus(t, "the request", 400)
	})
}

// wantStatus reads an answer and fails the test, which goes on, if it has another status.
func (r *rawClient) wantStatus(t testing.TB, what string, status int) {
	t.Helper()
	if a := r.answer(); a.status != status {
		t.Errorf("%s: %d %v %s, want %d", what, a.status, a.header, a.body, status)
	}
}

// A client that is refused while it sends reads its answer: it is not cut off.
func TestARefusedClientReadsItsAnswer(t *testing.T) {
	t.Parallel()
	p := start(t, 1).pods[0]
	for range 20 {
		a := p.call(t, "", "POST", "/api/auth/login", strings.Repeat("x", 1500<<10))
		if a.status != 413 || a.code() != "payload_too_large" {
			t.Fatalf("%d %s", a.status, a.body)
		}
	}
}

// An answer that nobody reads does not stay.
func TestAnswersThatNobodyReads(t *testing.T) {
	t.Parallel()
	p := start(t, 1).pods[0]
	const n = 16
	for range n {
		r := p.rawFrom(t, "")
		c, _ := r.Conn.(*net.TCPConn)
		if err := c.SetReadBuffer(4096); err != nil {
			t.Fatal(err)
		}
		r.write("GET /api/docs/swagger-ui-bundle.js HTTP/1.1\r\nHost: x\r\n\r\n")
	}
	open := func() float64 { return metric(t, p.ops, "parley_http_connections_open") }
	testenv.Eventually(t, 20*time.Second, func() bool { return open() >= n }, "the connections are open")
	testenv.Eventually(t, 2*time.Minute, func() bool { return open() < n/2 }, "they are closed, though nobody read")
	p.want(t, 200, "", "GET", "/api/health", nil)
}

// Connections are bounded by address; those that became sockets are not counted, they are bounded by their users.
func TestConnectionsOfAnAddressAreBounded(t *testing.T) {
	t.Parallel()
	p := start(t, 1, "PARLEY_CONNECTIONS_PER_ADDRESS=20").pods[0]
	u := p.register(t)
	httpClient.CloseIdleConnections()
	for i := range 15 {
		s, err := p.dial(t, fmt.Sprintf("/api/ws?deviceId=d%d", i), http.Header{"Authorization": {"Bearer " + u.token}})
		if err != nil {
			t.Fatal(err)
		}
		s.until("ready", 10*time.Second)
	}
	for range 20 {
		p.rawFrom(t, "127.0.0.7")
	}
	refused := func() float64 { return metric(t, p.ops, `parley_http_connections_refused_total{reason="address"}`) }
	r := p.rawFrom(t, "127.0.0.7")
	if a := r.answer(); a.status != 503 || a.code() != "unavailable" || a.header.Get("X-Request-Id") == "" {
		t.Errorf("the 21st: %d %s", a.status, a.body)
	}
	if refused() != 1 {
		t.Errorf("%v are counted as refused", refused())
	}
	other := p.rawFrom(t, "127.0.0.8")
	other.write("GET /api/health HTTP/1.1\r\nHost: x\r\n\r\n")
	if a := other.answer(); a.status != 200 {
		t.Errorf("of another address: %d", a.status)
	}
}

// A process that has no file descriptor left goes on, and accepts again once it has.
func TestNoFileDescriptorsLeft(t *testing.T) {
	t.Parallel()
	p := start(t, 1).pods[0]
	u := p.register(t)
	sock := p.open(t, u)
	limit := func(n uint64) {
		l := [2]uint64{n, n} // it is not raised again
		if _, _, errno := syscall.RawSyscall6(syscall.SYS_PRLIMIT64, uintptr(p.PID()), syscall.RLIMIT_NOFILE, uintptr(unsafe.Pointer(&l)), 0, 0, 0); errno != 0 {
			t.Fatal(errno)
		}
	}
	limit(uint64(metric(t, p.ops, "process_open_fds")) + 5)
	var conns []*rawClient
	for range 40 {
		conns = append(conns, p.rawFrom(t, ""))
	}
	testenv.Eventually(t, 20*time.Second, func() bool { return strings.Contains(p.Logs(), "connections cannot be accepted") }, "the log says so")
	if f := sock.ask("ping", nil); f.Type != "pong" {
		t.Errorf("an open socket: %+v", f)
	}
	for _, c := range conns {
		_ = c.Close()
	}
	testenv.Eventually(t, 20*time.Second, func() bool {
		a, err := p.try(u.token, "GET", "/api/users/me", nil)
		return err == nil && a.status == 200
	}, "it accepts again")
	if metric(t, p.ops, "parley_accept_errors_total") == 0 {
		t.Error("no error was counted")
	}
}
