package lifecycle_test

import (
	"bytes"
	"log/slog"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"github.com/parley-chat/parley/internal/lifecycle"
)

// TestMemoryLimitHelper is the process whose limit the tests below look at.
func TestMemoryLimitHelper(*testing.T) {
	if os.Getenv("PARLEY_TEST_MEMORY") == "" {
		return
	}
	lifecycle.LimitMemory(slog.New(slog.NewTextHandler(os.Stdout, nil)))
}

// limitOf runs the helper by a shell line that ends in exec "$@", and returns what it logs.
func limitOf(t *testing.T, line string, env ...string) string {
	t.Helper()
	cmd := exec.Command("sh", "-c", line, "sh", os.Args[0], "-test.run", "^TestMemoryLimitHelper$")
	cmd.Env = append(os.Environ(), append(env, "PARLEY_TEST_MEMORY=1")...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v: %s", err, out.String())
	}
	return out.String()
}

func TestTheMemoryLimitOfTheEnvironmentWins(t *testing.T) {
	t.Parallel()
	if got := limitOf(t, `exec "$@"`, "GOMEMLIMIT=123MiB"); !strings.Contains(got, "mib=123") {
		t.Error(got)
	}
}

func TestTheMemoryLimitFollowsTheContainer(t *testing.T) {
	t.Parallel()
	group := "/sys/fs/cgroup/memory/parley-test-" + strconv.Itoa(os.Getpid())
	if err := os.Mkdir(group, 0o755); err != nil {
		t.Skipf("no cgroup can be made here: %v", err)
	}
	defer func() { _ = os.Remove(group) }()
	if err := os.WriteFile(group+"/memory.limit_in_bytes", []byte("419430400"), 0o600); err != nil {
		t.Skipf("no cgroup of version 1: %v", err)
	}
	if got := limitOf(t, `echo $$ > `+group+`/cgroup.procs && exec "$@"`); !strings.Contains(got, "mib=340") {
		t.Errorf("85 %% of 400 MiB: %s", got)
	}
}
