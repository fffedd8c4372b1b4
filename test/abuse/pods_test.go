package abuse

import (
	"bufio"
	"database/sql"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib"

	"github.com/parley-chat/parley/internal/auth"
	"github.com/parley-chat/parley/internal/id"
	"github.com/parley-chat/parley/internal/testenv"
)

const (
	secret = "a secret of at least thirty-two bytes"
	// memoryLimit is the chart's for an api pod.
	memoryLimit = 512 << 20
)

// pod is an api process, with its memory limited as a container's is, if this machine lets one.
type pod struct {
	*testenv.Process
	addr, ops string
	group     string // the cgroup, "" for none
}

type account struct{ id, token string }

// system is two pods on a database with accounts.
type system struct {
	pods     []*pod
	accounts []account
	group    string // a conversation of some of the attackers' with a megabyte of messages
}

func startSystem(t *testing.T, accounts int) *system {
	t.Helper()
	pg, redis := testenv.Postgres(t), testenv.Redis(t)
	db, err := sql.Open("pgx", pg)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	s := &system{}
	tokens := auth.NewTokens([][]byte{[]byte(secret)}, 24*time.Hour)
	for range accounts {
		user := testenv.User(t, db)
		token, err := tokens.Issue(user, id.New())
		if err != nil {
			t.Fatal(err)
		}
		s.accounts = append(s.accounts, account{user, token})
	}
	bin := testenv.ReleaseBinary(t, "api") // the race detector's memory would not fit into the limit
	for n := range 2 {
		p := &pod{addr: fmt.Sprintf("127.0.0.1:%d", testenv.FreePort(t)), ops: fmt.Sprintf("127.0.0.1:%d", testenv.FreePort(t))}
		line := `exec "$@"`
		if p.group = memoryGroup(t, n); p.group != "" {
			line = "echo $$ > " + p.group + "/cgroup.procs && " + line
		}
		p.Process = testenv.Start(t, "/bin/sh", []string{"-c", line, "sh", bin}, []string{
			"PARLEY_DATABASE_URL=" + pg, "PARLEY_REDIS_URL=" + redis.URL(), "PARLEY_JWT_SECRET=" + secret, "PARLEY_LOG_FORMAT=text",
			"PARLEY_LOG_LEVEL=warn", "PARLEY_HTTP_ADDR=" + p.addr, "PARLEY_OPS_ADDR=" + p.ops,
		})
		s.pods = append(s.pods, p)
	}
	for _, p := range s.pods {
		testenv.Eventually(t, time.Minute, func() bool {
			r, err := http.Get("http://" + p.addr + "/api/health/ready")
			if err != nil {
				return false
			}
			defer r.Body.Close()
			return r.StatusCode == http.StatusOK
		}, "the pod is ready")
	}
	return s
}

// memoryGroup makes a cgroup with the limit, of version 1 or 2. Where none can be made the pods run without.
func memoryGroup(t *testing.T, n int) string {
	t.Helper()
	name := fmt.Sprintf("parley-abuse-%d-%d", os.Getpid(), n)
	for _, version := range []struct{ parent, file string }{{"/sys/fs/cgroup/memory/", "memory.limit_in_bytes"}, {"/sys/fs/cgroup/", "memory.max"}} {
		group := version.parent + name
		if os.Mkdir(group, 0o755) != nil {
			continue
		}
		if !exists(group + "/cgroup.procs") { // a plain folder
			_ = os.Remove(group)
			continue
		}
		t.Cleanup(func() {
			testenv.Eventually(t, 10*time.Second, func() bool { return os.Remove(group) == nil }, "the cgroup is removed")
		})
		if os.WriteFile(group+"/"+version.file, []byte(strconv.Itoa(memoryLimit)), 0o600) == nil {
			return group
		}
	}
	t.Log("no cgroup can be made here: the pods' memory is not limited")
	return ""
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// rss is the resident memory of the process in MiB.
func (p *pod) rss() int {
	f, err := os.Open(fmt.Sprintf("/proc/%d/status", p.PID()))
	if err != nil {
		return 0
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if rest, ok := strings.CutPrefix(lines.Text(), "VmRSS:"); ok {
			kib, _ := strconv.Atoi(strings.Fields(rest)[0])
			return kib >> 10
		}
	}
	return 0
}

// metric reads a series of the pod's, -1 if it can't.
func (p *pod) metric(series string) float64 {
	r, err := http.Get("http://" + p.ops + "/metrics")
	if err != nil {
		return -1
	}
	defer r.Body.Close()
	for lines := bufio.NewScanner(r.Body); lines.Scan(); {
		if rest, ok := strings.CutPrefix(lines.Text(), series+" "); ok {
			v, _ := strconv.ParseFloat(rest, 64)
			return v
		}
	}
	return -1
}

func (p *pod) dead() bool {
	select {
	case <-p.Done():
		return true
	default:
		return false
	}
}
