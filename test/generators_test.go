package test

import (
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// generatorsDir has a flow for each generator of clients: register, make a conversation, send, read the history.
const generatorsDir = "generators"

// Clients that openapi-typescript, hey-api and orval make of the served document pass a strict type check, and chat.
func TestGeneratedTypeScriptClientsChat(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("npm"); err != nil {
		t.Skip("there is no npm")
	}
	dir, env := generatorFlow(t)
	const bin = "node_modules/.bin/"
	for _, step := range [][]string{
		{"npm", "ci", "--silent", "--prefer-offline", "--no-audit", "--no-fund", "--ignore-scripts"},
		{bin + "openapi-typescript", "openapi.json", "-o", "generated/types.ts"},
		{bin + "openapi-ts", "-i", "openapi.json", "-o", "generated/hey", "-c", "@hey-api/client-fetch"},
		{bin + "orval", "--input", "openapi.json", "--output", "generated/orval.ts", "--client", "fetch"},
		{bin + "tsc", "-p", "."},
		{bin + "esbuild", "flow.ts", "--bundle", "--platform=node", "--format=esm", "--outfile=generated/flow.mjs"},
		{"node", "generated/flow.mjs"},
	} {
		runIn(t, dir, env, step...)
	}
}

// So does the one that oapi-codegen makes for Go, of the tags that its flow needs.
func TestGeneratedGoClientChats(t *testing.T) {
	t.Parallel()
	dir, env := generatorFlow(t)
	dir = filepath.Join(dir, "oapi")
	runIn(t, dir, env, "go", "tool", "oapi-codegen", "-generate", "types,client", "-package", "main", "-include-tags", "auth,conversations,messages",
		"-o", "gen.go", "../openapi.json")
	runIn(t, dir, env, "go", "run", ".")
}

// generatorFlow copies the flows beside the document of a pod, whose address is in env.
func generatorFlow(t *testing.T) (dir string, env []string) {
	t.Helper()
	p := start(t, 1).pods[0]
	dir = t.TempDir()
	for _, name := range []string{"package.json", "package-lock.json", "tsconfig.json", "flow.ts", "oapi/go.mod", "oapi/go.sum", "oapi/main.go"} {
		b, err := os.ReadFile(filepath.Join(generatorsDir, name))
		if err != nil {
			t.Fatal(err)
		}
		writeFile(t, filepath.Join(dir, name), b)
	}
	a := p.call(t, "", http.MethodGet, "/api/docs/openapi.json", nil)
	if a.status != http.StatusOK {
		t.Fatalf("the document: %d %s", a.status, a.body)
	}
	writeFile(t, filepath.Join(dir, "openapi.json"), a.body)
	return dir, append(os.Environ(), "PARLEY_URL="+p.url, "GOFLAGS=-mod=mod", "GOWORK=off")
}

func writeFile(t *testing.T, path string, b []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

func runIn(t *testing.T, dir string, env []string, line ...string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), line[0], line[1:]...)
	if filepath.Base(line[0]) != line[0] {
		cmd.Path = filepath.Join(dir, line[0])
	}
	cmd.Dir, cmd.Env = dir, env
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", line, err, out)
	}
}
