package test

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/parley-chat/parley/internal/testenv"
)

// clientScript is a script of clients/scripts, which runs the built TypeScript client against pods.
type clientScript struct {
	t   *testing.T
	cmd *exec.Cmd
}

// newClientScript skips the test if the client is not built, which scripts/clients.sh does.
func newClientScript(t *testing.T, name string) *clientScript {
	t.Helper()
	clients := os.Getenv("PARLEY_TEST_CLIENTS")
	if clients == "" {
		clients = filepath.Join("..", "clients")
	}
	if _, err := os.Stat(filepath.Join(clients, "typescript", "dist", "index.js")); err != nil {
		t.Skip("the client is not built: scripts/clients.sh does it")
	}
	node, err := exec.LookPath("node")
	if err != nil {
		t.Skip("there is no node")
	}
	cmd := exec.CommandContext(t.Context(), node, name)
	cmd.Dir = filepath.Join(clients, "scripts")
	return &clientScript{t, cmd}
}

// run runs the script over the pods. What it asks for, a line "@what" each, is done by bringAbout, whose answer it gets.
func (c *clientScript) run(s *system, bringAbout func(what string) (answer string)) {
	t := c.t
	t.Helper()
	var urls []string
	for _, p := range s.pods {
		urls = append(urls, p.url)
	}
	c.cmd.Env = append(os.Environ(), "PARLEY_TEST_URLS="+strings.Join(urls, ","))
	var faults bytes.Buffer
	c.cmd.Stderr = &faults
	in, err := c.cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	last := ""
	for lines := bufio.NewScanner(out); lines.Scan(); {
		last = lines.Text()
		if what, ok := strings.CutPrefix(last, "@"); ok {
			_, _ = fmt.Fprintln(in, bringAbout(what))
		}
	}
	if err := c.cmd.Wait(); err != nil || last != "all as promised" {
		t.Fatalf("the client ended with %v after %q:\n%s", err, last, faults.String())
	}
}

// The TypeScript client chats over two pods, which are killed under it.
func TestTheTypeScriptClientOverTwoPods(t *testing.T) {
	t.Parallel()
	c := newClientScript(t, "live.mjs")
	s := start(t, 2, "PARLEY_ACCESS_TOKEN_TTL=10s")
	c.run(s, func(what string) string {
		n := 0
		if _, err := fmt.Sscanf(what, "kill %d", &n); err != nil {
			t.Fatal(err)
		}
		p := s.pods[n]
		p.Kill()
		<-p.Done()
		p.Process = testenv.Start(t, testenv.Binary(t, "api"), nil, p.env)
		return "done"
	})
}

// Postgres loses a tail that both clients hold: they end with what is left, and go on from there.
func TestTheTypeScriptClientAfterAFailover(t *testing.T) {
	t.Parallel()
	c := newClientScript(t, "failover.mjs")
	primary := testenv.PostgresServer(t)
	s, proxy := behindProxy(t, primary)
	s.addPod()
	s.addPod()
	var standby *testenv.PGServer
	c.run(s, func(what string) string {
		if what == "standby" {
			standby = primary.Replica(t)
			standby.Follow(t, primary)
			standby.Unfollow(t, primary)
			return "done"
		}
		proxy.Lead(standby.Addr())
		primary.Stop()
		standby.Promote(t)
		for _, p := range s.pods {
			testenv.Eventually(t, time.Minute, func() bool { return p.ready(t) == 200 }, "the pods are ready again")
		}
		return "done"
	})
}

// A socket lives on by tokens of another issuer that are shown on it in time.
func TestTheTypeScriptClientShowsNewTokens(t *testing.T) {
	t.Parallel()
	c := newClientScript(t, "renewal.mjs")
	product := newProduct(t)
	c.run(start(t, 1, product.settings("external")...), func(string) string {
		now := time.Now().Unix()
		return product.token("anna", map[string]any{"name": "Anna", "iat": now, "exp": now + 6})
	})
}
