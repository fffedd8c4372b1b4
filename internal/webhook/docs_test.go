package webhook

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"
	"time"
)

// docCase is a delivery for a snippet, with what it should say.
type docCase struct {
	Name    string            `json:"name"`
	Secret  string            `json:"secret"`
	Headers map[string]string `json:"headers"`
	Body    []byte            `json:"body"` // in base64
	Valid   bool              `json:"valid"`
}

func docCases() []docCase {
	secret, other := newSecret(), newSecret()
	body := []byte(`{"type":"message.created","data":{"content":"Größe \u2028"}}`)
	build := func(name string, valid bool, at time.Time, signed []byte, secrets ...[]byte) docCase {
		return docCase{name, shown(secret), map[string]string{
			"webhook-id": "evt_1", "webhook-timestamp": strconv.FormatInt(at.Unix(), 10), "webhook-signature": Sign(secrets, "evt_1", at.Unix(), signed),
		}, body, valid}
	}
	now := time.Now()
	list := []docCase{
		build("as it is sent", true, now, body, secret),
		build("while both secrets sign", true, now, body, other, secret),
		build("with another secret", false, now, body, other),
		build("another body", false, now, body[1:], secret),
		build("an old one", false, now.Add(-10*time.Minute), body, secret),
		build("one of the future", false, now.Add(10*time.Minute), body, secret),
	}
	for header, values := range map[string][]string{
		"webhook-signature": {"", "v1,", "v1", "v1," + base64.StdEncoding.EncodeToString(newSecret()), " ", "v2,é"},
		"webhook-timestamp": {"", "soon", "1e9"}, "webhook-id": {"evt_2"},
	} {
		for _, v := range values {
			c := build(header+": "+v, false, now, body, secret)
			c.Headers[header] = v
			list = append(list, c)
		}
		c := build("without "+header, false, now, body, secret)
		delete(c.Headers, header)
		list = append(list, c)
	}
	return list
}

// The snippets of docs/webhooks.md are run as they stand there, in the languages that this machine has.
func TestTheSnippetsOfTheDocumentVerify(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../docs/webhooks.md")
	if err != nil {
		t.Fatal(err)
	}
	cases := docCases()
	input, err := json.Marshal(cases)
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range []struct {
		name, file, before, main, mainFile string
		command                            []string
	}{
		{"go", "verify.go", "package main\n\nimport (\"crypto/hmac\"; \"crypto/sha256\"; \"encoding/base64\"; \"fmt\"; \"net/http\"; \"slices\"; \"strconv\"; \"strings\"; \"time\")\n", `package main

import ("encoding/json"; "net/http"; "os")

func main() {
	var in []struct { Secret string; Headers map[string]string; Body []byte }
	if err := json.NewDecoder(os.Stdin).Decode(&in); err != nil { panic(err) }
	out := []bool{}
	for _, c := range in {
		h := http.Header{}
		for k, v := range c.Headers { h.Set(k, v) }
		out = append(out, verify(c.Secret, h, c.Body))
	}
	_ = json.NewEncoder(os.Stdout).Encode(out)
}`, "main.go", []string{"go", "run", "verify.go", "main.go"}},
		{"js", "verify.mjs", "", `import { readFileSync } from "node:fs";
import { verify } from "./verify.mjs";
console.log(JSON.stringify(JSON.parse(readFileSync(0)).map((c) => verify(c.secret, c.headers, Buffer.from(c.body, "base64")))));`, "main.mjs", []string{"node", "main.mjs"}},
		{"python", "verify.py", "", `import base64, json, sys
from verify import verify
print(json.dumps([verify(c["secret"], c["headers"], base64.b64decode(c["body"])) for c in json.load(sys.stdin)]))`, "main.py", []string{"python3", "main.py"}},
	} {
		t.Run(l.name, func(t *testing.T) {
			t.Parallel()
			found := regexp.MustCompile("(?s)```" + l.name + "\n(.*?)```").FindSubmatch(page)
			if found == nil {
				t.Fatal("the document has no snippet")
			}
			if _, err := exec.LookPath(l.command[0]); err != nil {
				t.Skipf("%s is not installed", l.command[0])
			}
			dir := t.TempDir()
			for name, content := range map[string]string{l.file: l.before + string(found[1]), l.mainFile: l.main} {
				if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			cmd := exec.Command(l.command[0], l.command[1:]...)
			cmd.Dir, cmd.Stdin = dir, bytes.NewReader(input)
			var problems bytes.Buffer
			cmd.Stderr = &problems
			out, err := cmd.Output()
			if err != nil {
				t.Fatalf("%v: %s", err, problems.String())
			}
			var got []bool
			if err := json.Unmarshal(out, &got); err != nil || len(got) != len(cases) {
				t.Fatalf("%s: %v", out, err)
			}
			for i, c := range cases {
				if got[i] != c.Valid {
					t.Errorf("%s: %t", c.Name, got[i])
				}
			}
		})
	}
}
