package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/parley-chat/parley/internal/testenv"
	"github.com/parley-chat/parley/test/cluster/report"
)

// The load finds nothing wrong with a pod that works, and finds what is missing.
func TestTheLoadAgainstAPod(t *testing.T) {
	t.Parallel()
	url := testenv.Postgres(t)
	port := testenv.FreePort(t)
	base := fmt.Sprintf("http://127.0.0.1:%d", port)
	p := testenv.Start(t, testenv.Binary(t, "api"), nil, append(testenv.NewRedis(t).Settings(),
		"PARLEY_DATABASE_URL="+url, "PARLEY_JWT_SECRET=a secret of at least thirty-two bytes", fmt.Sprintf("PARLEY_HTTP_ADDR=127.0.0.1:%d", port), "PARLEY_OPS_ADDR=127.0.0.1:0",
		"PARLEY_RATE_LIMIT_DEFAULT=off", "PARLEY_RATE_LIMIT_AUTH=off", "PARLEY_RATE_LIMIT_SEND=off", "PARLEY_RATE_LIMIT_SOCKET=off", "PARLEY_RATE_LIMIT_REACT=off"))
	testenv.Eventually(t, time.Minute, func() bool {
		r, err := http.Get(base + "/api/health/ready")
		if err != nil {
			return false
		}
		defer r.Body.Close()
		return r.StatusCode == http.StatusOK
	}, "the api is ready: %s", p.Logs())
	l, err := newLoad(base, 3, true)
	if err != nil {
		t.Fatal(err)
	}
	stop, out := filepath.Join(t.TempDir(), "stop"), &testenv.Output{}
	ended := make(chan error, 1)
	go func() { ended <- l.run(out, 40, stop) }()
	testenv.Eventually(t, time.Minute, func() bool { return strings.Contains(out.String(), report.Progress+" 80") }, "people chat")
	if err := os.WriteFile(stop, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	var r report.Load
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &r); err != nil {
		t.Fatal(err)
	}
	if r.Sent < 80 || r.Failed+r.Lost+r.Gaps+r.Doubled+r.Unseen+len(r.Wrong) != 0 || r.Features < 40 {
		t.Errorf("the report is %+v", r)
	}
	for name, statement := range map[string]string{
		"reactions": `UPDATE messages SET reactions = NULL`,
		"mentions":  `UPDATE messages SET mention_ids = NULL, mention_all = NULL`,
		"edits":     `UPDATE messages SET content = 'x'`,
		"pins":      `UPDATE messages SET pinned_at = NULL WHERE pinned_at IS NOT NULL`,
		"mutes":     `UPDATE conversation_members SET muted_until = CASE WHEN muted_until IS NULL THEN now() + interval '1 day' END`,
	} {
		before, err := l.verifyFeatures()
		if err != nil {
			t.Fatal(err)
		}
		testenv.Exec(t, url, statement)
		after, err := l.verifyFeatures()
		if err != nil {
			t.Fatal(err)
		}
		if after[name] <= before[name] {
			t.Errorf("without its %s nothing more is wrong: %v before, %v after", name, before, after)
		}
	}
}
