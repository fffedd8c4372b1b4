// Package harness is what the benchmarks share: a built api on real databases, cheap clients, and what processes cost.
package harness

import (
	"bufio"
	"database/sql"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib" // the driver

	"github.com/parley-chat/parley/internal/auth"
	"github.com/parley-chat/parley/internal/id"
	"github.com/parley-chat/parley/internal/testenv"
)

const secret = "a secret of at least thirty-two bytes"

// System is Parley without limits on databases of its own. Run by `make bench`, Postgres syncs every commit.
type System struct {
	b      testing.TB
	URL    string
	DB     *sql.DB
	Redis  *testenv.RedisServer
	Pods   []*Pod
	tokens *auth.Tokens
}

// Pod is an api process, built as it is for production.
type Pod struct {
	*testenv.Process
	Addr string
}

var builtAPI = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "parley-bench-")
	return filepath.Join(dir, "api"), err
})

// Start starts n pods.
func Start(b testing.TB, n int) *System {
	b.Helper()
	raiseLimit(b)
	bin, err := builtAPI()
	if err != nil {
		b.Fatal(err)
	}
	build := exec.Command("go", "build", "-o", bin, "./cmd/api")
	build.Dir = testenv.Root(b)
	if out, err := build.CombinedOutput(); err != nil {
		b.Fatalf("%v: %s", err, out)
	}
	s := &System{b: b, URL: testenv.Postgres(b), Redis: testenv.Redis(b), tokens: auth.NewTokens([][]byte{[]byte(secret)}, time.Hour)}
	if s.DB, err = sql.Open("pgx", s.URL); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = s.DB.Close() })
	for range n {
		p := &Pod{Addr: fmt.Sprintf("127.0.0.1:%d", testenv.FreePort(b))}
		env := []string{
			"PARLEY_DATABASE_URL=" + s.URL, "PARLEY_REDIS_URL=" + s.Redis.URL(), "PARLEY_JWT_SECRET=" + secret, "PARLEY_HTTP_ADDR=" + p.Addr,
			fmt.Sprintf("PARLEY_OPS_ADDR=127.0.0.1:%d", testenv.FreePort(b)),
		}
		for _, l := range []string{"DEFAULT", "AUTH", "SEARCH", "SEND", "SOCKET", "FRAMES"} {
			env = append(env, "PARLEY_RATE_LIMIT_"+l+"=off")
		}
		p.Process = testenv.Start(b, bin, nil, env)
		testenv.Eventually(b, 20*time.Second, func() bool {
			r, err := http.Get("http://" + p.Addr + "/api/health/ready")
			if err != nil {
				return false
			}
			defer r.Body.Close()
			return r.StatusCode == http.StatusOK
		}, "the api is ready")
		s.Pods = append(s.Pods, p)
	}
	return s
}

func raiseLimit(b testing.TB) {
	b.Helper()
	var l syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l); err != nil {
		b.Fatal(err)
	}
	l.Cur = l.Max
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &l); err != nil {
		b.Fatal(err)
	}
}

// Token is an access token of a user's, signed as the api signs them.
func (s *System) Token(userID string) string {
	s.b.Helper()
	token, err := s.tokens.Issue(userID, id.New())
	if err != nil {
		s.b.Fatal(err)
	}
	return token
}

// Group makes a group of the users, straight in the database.
func (s *System) Group(users []string) string {
	s.b.Helper()
	c := id.New()
	for _, q := range []struct {
		sql  string
		args []any
	}{
		{`INSERT INTO conversations (id, type, name, member_count, created_at, last_message_at) VALUES ($1, 'group', 'bench', $2, now(), now())`, []any{c, len(users)}},
		{`INSERT INTO conversation_members (conversation_id, user_id, role) SELECT $1, unnest($2::text[]::uuid[]), 'member'`, []any{c, users}},
		{`INSERT INTO conversation_changes (conversation_id, revision, last_seq, kind, user_ids) VALUES ($1, 1, 0, 'created', $2::text[]::uuid[])`, []any{c, users}},
	} {
		if _, err := s.DB.Exec(q.sql, q.args...); err != nil {
			s.b.Fatal(err)
		}
	}
	return c
}

// CPU is what a process has used, and its children that ended, in seconds.
func CPU(b testing.TB, pid int) float64 {
	b.Helper()
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	f := strings.Fields(string(raw[strings.LastIndexByte(string(raw), ')')+2:]))
	sum := 0.0
	for _, i := range []int{11, 12, 13, 14} {
		v, _ := strconv.ParseFloat(f[i], 64)
		sum += v
	}
	return sum / 100
}

// PostgresCPU is what the whole server has used, in seconds.
func (s *System) PostgresCPU() float64 {
	s.b.Helper()
	var dir string
	if err := s.DB.QueryRow(`SHOW data_directory`).Scan(&dir); err != nil {
		s.b.Fatal(err)
	}
	raw, err := os.ReadFile(filepath.Join(dir, "postmaster.pid"))
	if err != nil {
		s.b.Fatal(err)
	}
	pid, _ := strconv.Atoi(strings.SplitN(string(raw), "\n", 2)[0])
	sum := CPU(s.b, pid)
	kids, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	for _, k := range strings.Fields(string(kids)) {
		n, _ := strconv.Atoi(k)
		sum += CPU(s.b, n)
	}
	return sum
}

// RSS is a process's resident memory in KiB.
func RSS(b testing.TB, pid int) float64 {
	b.Helper()
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		b.Fatal(err)
	}
	for _, line := range strings.Split(string(raw), "\n") {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			v, _ := strconv.ParseFloat(strings.Fields(rest)[0], 64)
			return v
		}
	}
	return 0
}

// Client is the other end of a socket: it counts text frames, and reads no more of them than their lengths.
type Client struct {
	Conn   net.Conn
	r      *bufio.Reader
	frames *atomic.Int64
	// OnFrame, if set before Read, sees each text frame.
	OnFrame func(payload []byte)
}

var sources atomic.Int64

// Dial opens a socket and reads its ready frame. frames counts the text frames that follow.
func (s *System) Dial(p *Pod, userID string, frames *atomic.Int64) (*Client, error) {
	n := sources.Add(1) // one source address has some 28,000 ports
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, byte(2+n/10_000))}}
	conn, err := d.Dial("tcp", p.Addr)
	if err != nil {
		return nil, err
	}
	_, err = fmt.Fprintf(conn, "GET /api/ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"+
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nAuthorization: Bearer %s\r\n\r\n", s.Token(userID))
	if err != nil {
		return nil, err
	}
	c := &Client{Conn: conn, r: bufio.NewReaderSize(conn, 4096), frames: frames}
	for {
		line, err := c.r.ReadString('\n')
		if err != nil {
			return nil, err
		}
		if strings.HasPrefix(line, "HTTP/1.1") && !strings.Contains(line, "101") {
			return nil, fmt.Errorf("upgrade: %s", line)
		}
		if line == "\r\n" {
			break
		}
	}
	_, err = c.next()
	return c, err
}

// Read counts frames until the connection ends.
func (c *Client) Read() {
	for {
		op, err := c.next()
		if err != nil {
			return
		}
		if op == 1 {
			c.frames.Add(1)
		}
	}
}

func (c *Client) next() (op byte, err error) {
	var h [2]byte
	if _, err := io.ReadFull(c.r, h[:]); err != nil {
		return 0, err
	}
	n := int(h[1])
	if n == 126 {
		var b [2]byte
		if _, err := io.ReadFull(c.r, b[:]); err != nil {
			return 0, err
		}
		n = int(binary.BigEndian.Uint16(b[:]))
	} else if n == 127 {
		return 0, fmt.Errorf("a frame longer than 64 KiB")
	}
	if c.OnFrame == nil {
		_, err = c.r.Discard(n)
		return h[0] & 15, err
	}
	payload := make([]byte, n)
	if _, err = io.ReadFull(c.r, payload); err == nil && h[0]&15 == 1 {
		c.OnFrame(payload)
	}
	return h[0] & 15, err
}

// Write sends a text frame, masked by zeros.
func (c *Client) Write(payload []byte) error {
	f := []byte{0x81, 0x80 | 126, byte(len(payload) >> 8), byte(len(payload)), 0, 0, 0, 0}
	if len(payload) < 126 {
		f = []byte{0x81, 0x80 | byte(len(payload)), 0, 0, 0, 0}
	}
	_, err := c.Conn.Write(append(f, payload...))
	return err
}
