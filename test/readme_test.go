package test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

var shellBlock = regexp.MustCompile("(?s)```sh\n(.*?)```")

// What README says to paste works when it is pasted: two people, a conversation, and a socket's JavaScript that runs.
func TestReadmeWorksWhenPasted(t *testing.T) {
	t.Parallel()
	b, err := os.ReadFile(filepath.Join("..", "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	blocks := shellBlock.FindAllStringSubmatch(string(b), -1)
	if len(blocks) != 2 {
		t.Fatalf("README has %d shell blocks, want two people's chat and the socket's", len(blocks))
	}
	needTools(t, "bash", "curl")
	s := start(t, 1, "PARLEY_ALLOWED_ORIGINS=http://localhost:*,http://127.0.0.1:*")
	chat := strings.ReplaceAll(blocks[0][1]+blocks[1][1], "http://127.0.0.1:8081", s.pods[0].url)
	pasted, err := exec.Command("bash", "-euc", chat).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, pasted)
	}
	out := string(pasted)
	if strings.Count(out, `"content":"Hello, Ben"`) != 2 || !strings.Contains(out, `"hasMore":false`) {
		t.Errorf("sent and listed:\n%s", out)
	}
	_, script, found := strings.Cut(out, "const ws")
	if !found {
		t.Fatalf("no script for the socket:\n%s", out)
	}
	expectChatInNode(t, "const ws"+script)
}

// needTools skips the test on a machine that lacks one of the programs.
func needTools(t *testing.T, programs ...string) {
	t.Helper()
	for _, program := range programs {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("no %s here", program)
		}
	}
}

// expectChatInNode runs the README's JavaScript, which must connect, send a message, and get its ack and the message.
func expectChatInNode(t *testing.T, script string) {
	t.Helper()
	needTools(t, "node")
	// Node 20 has the browsers' WebSocket behind a flag.
	node := exec.Command("node", "--experimental-websocket", "-e", script+"setTimeout(() => process.exit(0), 10_000);\nws.addEventListener('message', (e) => e.data.includes('\"ack\"') && setTimeout(() => process.exit(0), 500));")
	node.WaitDelay = 20 * time.Second
	b, err := node.CombinedOutput()
	if err != nil && strings.Contains(string(b), "bad option") {
		t.Skip("this node has no WebSocket")
	}
	for _, want := range []string{`"type":"ready"`, `"type":"ack"`, `"content":"Hello, Anna"`} {
		if !strings.Contains(string(b), want) {
			t.Errorf("the socket shows no %s: %v\n%s", want, err, b)
		}
	}
}

func TestADevServersOriginIsAllowed(t *testing.T) {
	t.Parallel()
	s := start(t, 1, "PARLEY_ALLOWED_ORIGINS=http://localhost:*,https://chat.example.com")
	p := s.pods[0]
	for origin, allowed := range map[string]bool{
		"http://localhost:5173": true, "http://localhost": true, "http://LOCALHOST:3000": true, "https://chat.example.com": true,
		"https://localhost:5173": false, "http://localhost:5173.evil.example": false, "http://localhost.evil.example": false,
		"http://localhost:": false, "http://localhost:99999": false, "https://chat.example.com:444": false, "null": false,
	} {
		pre := p.call(t, "", "OPTIONS", "/api/users/me", nil, "Origin", origin, "Access-Control-Request-Method", "PATCH")
		if got := pre.header.Get("Access-Control-Allow-Origin") != ""; got != allowed {
			t.Errorf("%s: allowed %v, want %v", origin, got, allowed)
		}
	}
}
