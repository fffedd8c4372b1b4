package testenv

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"
)

// Pooler is PgBouncer in transaction mode in front of one server. It ends with the test.
type Pooler struct {
	t       testing.TB
	program string
	dir     string
	url     url.URL
	child   *child
}

// NewPooler starts one. settings, such as "max_client_conn = 5", replace those of here.
func NewPooler(t testing.TB, database string, settings ...string) *Pooler {
	t.Helper()
	u, err := url.Parse(database)
	if err != nil {
		t.Fatal(err)
	}
	p := &Pooler{t: t, dir: tempDir(t, "pgbouncer")}
	if p.program, err = exec.LookPath("pgbouncer"); err != nil {
		p.program = "/usr/sbin/pgbouncer" // Debian keeps it there, off the path of other users than root
	}
	port := FreePort(t)
	login := "user=" + u.User.Username()
	if password, ok := u.User.Password(); ok {
		login += " password=" + password
	}
	config := fmt.Sprintf("[databases]\n* = host=%s port=%s %s\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = %d\n"+
		"unix_socket_dir =\nauth_type = any\npool_mode = transaction\nmax_client_conn = 1000\ndefault_pool_size = 15\nserver_login_retry = 1\nadmin_users = %s\n%s\n",
		u.Hostname(), u.Port(), login, port, u.User.Username(), strings.Join(settings, "\n"))
	if err := os.WriteFile(p.config(), []byte(config), 0o644); err != nil { //nolint:gosec // for the user that runs it
		t.Fatal(err)
	}
	p.url = *u
	p.url.Host, p.url.User, p.url.RawQuery = fmt.Sprintf("127.0.0.1:%d", port), url.User(u.User.Username()), "sslmode=disable"
	p.Start()
	t.Cleanup(p.Stop)
	return p
}

func (p *Pooler) config() string { return filepath.Join(p.dir, "pgbouncer.ini") }

// URL is the database's through it.
func (p *Pooler) URL() string { return p.url.String() }

// Start starts it again at the same address, and waits until it takes connections.
func (p *Pooler) Start() {
	p.t.Helper()
	attr, err := unprivileged(p.dir)
	if err != nil {
		p.t.Fatal(err)
	}
	cmd := exec.Command(p.program, p.config())
	cmd.SysProcAttr, cmd.Dir = attr, p.dir
	if p.child, err = startChild(cmd, p.dir, syscall.SIGKILL); err != nil {
		p.t.Fatal(err)
	}
	Eventually(p.t, engineStart, func() bool {
		if p.child.gone() {
			p.t.Fatalf("pgbouncer ended: %s", p.child.output())
		}
		conn, err := dial(p.url.Host)
		if err == nil {
			_ = conn.Close()
		}
		return err == nil
	}, "pgbouncer takes connections")
}

// Stop kills it, with all its connections.
func (p *Pooler) Stop() { p.child.end(syscall.SIGKILL) }

// Logs is what it logged, since the first start.
func (p *Pooler) Logs() string { return p.child.output() }

// Command runs a command of its console, such as PAUSE.
func (p *Pooler) Command(command string) {
	p.t.Helper()
	u := p.url
	u.Path = "/pgbouncer"
	cfg, err := pgx.ParseConfig(u.String())
	if err != nil {
		p.t.Fatal(err)
	}
	cfg.DefaultQueryExecMode = pgx.QueryExecModeSimpleProtocol // the console knows no other
	c, err := pgx.ConnectConfig(context.Background(), cfg)
	if err != nil {
		p.t.Fatal(err)
	}
	defer func() { _ = c.Close(context.Background()) }()
	if _, err := c.Exec(context.Background(), command); err != nil {
		p.t.Fatalf("%s: %v", command, err)
	}
}
