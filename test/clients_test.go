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

	"github.com/parley-chat/parley/internal/testenv"
)

// The TypeScript client chats over two pods, which are killed under it. scripts/clients.sh builds the client; without it there is
// nothing to test here.
func TestTheTypeScriptClientOverTwoPods(t *testing.T) {
	t.Parallel()
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
	s := start(t, 2, "PARLEY_ACCESS_TOKEN_TTL=10s")
	urls := []string{s.pods[0].url, s.pods[1].url}
	cmd := exec.CommandContext(t.Context(), node, "live.mjs")
	cmd.Dir = filepath.Join(clients, "scripts")
	cmd.Env = append(os.Environ(), "PARLEY_TEST_URLS="+strings.Join(urls, ","))
	var faults bytes.Buffer
	cmd.Stderr = &faults
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	last := ""
	for lines := bufio.NewScanner(out); lines.Scan(); {
		last = lines.Text()
		if n := 0; strings.HasPrefix(last, "@kill ") {
			if _, err := fmt.Sscanf(last, "@kill %d", &n); err != nil {
				t.Fatal(err)
			}
			p := s.pods[n]
			p.Kill()
			<-p.Done()
			p.Process = testenv.Start(t, testenv.Binary(t, "api"), nil, p.env)
			fmt.Fprintln(in, "done")
		}
	}
	if err := cmd.Wait(); err != nil || last != "all as promised" {
		t.Fatalf("the client ended with %v after %q:\n%s", err, last, faults.String())
	}
}
