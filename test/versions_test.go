package test

import (
	"database/sql"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/parley-chat/parley/internal/testenv"
)

// older is the version before kinds of changes that pods didn't know were borne.
const older = "dc26b3d"

// errNoOlder is for a checkout without the older version's sources.
var errNoOlder = errors.New("the older version's sources are not here")

// olderBinaries builds the processes of the older version, all at once and once for all tests, into the folder that it returns.
var olderBinaries = sync.OnceValues(func() (string, error) {
	dir, err := testenv.Dir("older")
	if err != nil {
		return "", err
	}
	for _, args := range [][]string{{"git", "-C", "..", "archive", "-o", dir + "/tree.tar", older}, {"tar", "-xf", dir + "/tree.tar", "-C", dir}} {
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil { //nolint:gosec // fixed commands
			return "", fmt.Errorf("%w: %s: %w: %s", errNoOlder, args, err, out)
		}
	}
	return dir + "/bin", testenv.BuildRelease(dir, dir+"/bin", nil, "api", "presence-watcher", "receipt-worker")
})

// olderBinary is a process of the older version.
func olderBinary(t *testing.T, name string) string {
	t.Helper()
	dir, err := olderBinaries()
	if errors.Is(err, errNoOlder) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatalf("build the older version: %v", err)
	}
	return filepath.Join(dir, name)
}

// seen is what a socket heard of one conversation, by revision.
type seen struct {
	*socket
	mu   sync.Mutex
	last int64
	of   map[int64]string // types
}

// watch reads a socket's frames and notes those of a conversation. They must follow each other by revision.
func watch(t *testing.T, name string, sock *socket, from int64) *seen {
	w := &seen{socket: sock, last: from, of: map[int64]string{}}
	go func() {
		for f := range sock.frames {
			var d struct {
				ID, ConversationID string
				Revision           int64
			}
			if f.Type == "" || f.code != 0 || f.Type == "ready" || f.Type == "error" {
				continue
			}
			f.into(t, &d)
			if d.Revision == 0 {
				continue
			}
			w.mu.Lock()
			if w.last == from && d.Revision <= from { // what was there before the socket may still be on its way to it
				w.mu.Unlock()
				continue
			}
			if d.Revision != w.last+1 {
				t.Errorf("%s: %s with revision %d after %d", name, f.Type, d.Revision, w.last)
			}
			w.last, w.of[d.Revision] = d.Revision, f.Type
			w.mu.Unlock()
		}
	}()
	return w
}

func (w *seen) reached() int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.last
}

// typesOf are the frames that a change of each kind is: as this version has it, and as the older one repairs it.
var typesOf = map[string][2]string{
	"updated":         {"conversation:updated", "conversation:updated"},
	"member_updated":  {"conversation:member_updated", "conversation:updated"},
	"member_added":    {"conversation:member_added", "conversation:member_added"},
	"member_removed":  {"conversation:member_removed", "conversation:member_removed"},
	"message_updated": {"message:updated", "message:updated"},
	"message_deleted": {"message:deleted", "message:deleted"},
	// What is no edit has no time of an edit, without which the older version can't replay message:updated.
	"message_reacted":   {"message:reacted", "conversation:updated"},
	"message_annotated": {"message:updated", "conversation:updated"},
	"":                  {"message:new", "message:new"},
}

// Pods, watchers and workers of the version before this one and of this one run together on one database and one Redis, as during
// an upgrade, while people write and both kinds are killed. Redis goes away in between, so that each version has to read from the
// database what the other one wrote. Every socket hears every change once, in order, as what it is.
func TestTwoVersionsRunTogether(t *testing.T) {
	t.Parallel()
	if testing.Short() || testenv.Engine() != "" {
		t.Skip("builds another version")
	}
	s := start(t, 1)
	now := s.pods[0]
	old := s.launchOlder(t)
	old.older = true
	s.launchOlderBeside(t, "presence-watcher")
	s.launchOlderBeside(t, "receipt-worker")
	s.addBeside("presence-watcher")
	s.addBeside("receipt-worker")

	u := s.withTokens(t, 6)
	g := now.group(t, u[0], u[1:]...)
	watches := map[string]*seen{
		"a socket of the older version": watch(t, "older", old.open(t, u[1]), g.Revision),
		"a socket of this version":      watch(t, "this", now.open(t, u[2]), g.Revision),
	}
	path := "/api/conversations/" + g.ID
	change := func(round int) {
		for i, p := range []*pod{now, old} {
			m := p.send(t, u[i], g.ID, fmt.Sprintf("%d of pod %d", round, i))
			now.want(t, 200, u[4].token, "PUT", "/api/messages/"+m.ID+"/reactions/first", nil)
			now.want(t, 200, u[0].token, "PUT", "/api/messages/"+m.ID+"/pin", nil)
			now.want(t, 200, u[i].token, "PATCH", "/api/messages/"+m.ID, map[string]any{"metadata": map[string]any{"round": round}})
			p.want(t, 200, u[i].token, "PATCH", "/api/messages/"+m.ID, map[string]any{"content": "edited"})
			role := []string{"admin", "member"}[(round+i)%2]
			p.want(t, 200, u[0].token, "PATCH", path+"/members/"+u[3].ID, map[string]any{"role": role})
			p.want(t, 200, u[0].token, "PATCH", path, map[string]any{"name": fmt.Sprintf("name %d %d", round, i)})
			now.want(t, 200, u[4].token, "PUT", "/api/messages/"+m.ID+"/reactions/yes", nil)
			p.want(t, 204, u[0].token, "DELETE", path+"/members/"+u[5].ID, nil)
			p.want(t, 200, u[0].token, "POST", path+"/members", map[string]any{"userIds": []string{u[5].ID}})
			p.want(t, 204, u[i].token, "DELETE", "/api/messages/"+m.ID, nil)
		}
	}
	for round := range 2 {
		change(2 * round)
		s.redis.Stop() // what follows is read from the database
		change(2*round + 1)
		s.redis.Start()
		// A pod of each version dies while it writes.
		for _, p := range []*pod{s.launchOlder(t), s.addPod()} {
			done := make(chan struct{})
			var sent atomic.Int64
			go func() {
				defer close(done)
				for n := 0; ; n++ {
					if _, _, err := p.sendOnce(u[0], g.ID, map[string]any{"content": "x", "clientMessageId": fmt.Sprintf("%s-%d", p.url, n)}); err != nil {
						return
					}
					sent.Add(1)
				}
			}()
			testenv.Eventually(t, time.Minute, func() bool { return sent.Load() > int64(10+round) }, "messages are sent")
			p.Kill()
			<-done
		}
	}
	checkWatches(t, s, g.ID, watches)

	// The older version is gone, and a newer one writes a kind that this one doesn't know.
	old.Kill()
	delete(watches, "a socket of the older version")
	testenv.Exec(t, s.pg, fmt.Sprintf(`WITH c AS (UPDATE conversations SET revision = revision + 1, changed_at = date_trunc('second', clock_timestamp())
		WHERE id = '%s' RETURNING id, revision, last_seq)
		INSERT INTO conversation_changes (conversation_id, revision, last_seq, kind) SELECT id, revision, last_seq, 'from_the_future' FROM c`, g.ID))
	now.send(t, u[0], g.ID, "after it")
	checkWatches(t, s, g.ID, watches)
}

// checkWatches waits until every socket has heard of the last revision, and compares what each heard with the database.
func checkWatches(t *testing.T, s *system, conversationID string, watches map[string]*seen) {
	t.Helper()
	db, err := sql.Open("pgx", s.pg)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	var last int64
	if err := db.QueryRow(`SELECT revision FROM conversations WHERE id = $1`, conversationID).Scan(&last); err != nil {
		t.Fatal(err)
	}
	kinds := map[int64]string{}
	rows, err := db.Query(`SELECT revision, coalesce(detail, kind) FROM conversation_changes WHERE conversation_id = $1`, conversationID)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var r int64
		var k string
		if err := rows.Scan(&r, &k); err != nil {
			t.Fatal(err)
		}
		kinds[r] = k
	}
	for name, w := range watches {
		testenv.Eventually(t, 30*time.Second, func() bool { return w.reached() == last }, "%s hears of revision %d", name, last)
		w.mu.Lock()
		for r, typ := range w.of {
			k := kinds[r]
			want, known := typesOf[k]
			if !known {
				want = [2]string{"conversation:changed", "conversation:changed"}
			}
			if typ != want[0] && !(strings.Contains(name, "older") && typ == want[1]) {
				t.Errorf("%s heard of revision %d, a %q, as %s", name, r, k, typ)
			}
		}
		w.mu.Unlock()
	}
}

func (s *system) launchOlder(t *testing.T) *pod {
	t.Helper()
	p := &pod{port: [2]int{testenv.FreePort(t), testenv.FreePort(t)}}
	p.url, p.ops = fmt.Sprintf("http://127.0.0.1:%d", p.port[0]), fmt.Sprintf("http://127.0.0.1:%d", p.port[1])
	p.env = append(s.settings(), fmt.Sprintf("PARLEY_HTTP_ADDR=127.0.0.1:%d", p.port[0]), fmt.Sprintf("PARLEY_OPS_ADDR=127.0.0.1:%d", p.port[1]))
	p.Process = testenv.Start(t, olderBinary(t, "api"), nil, p.env)
	p.awaitReady(t)
	return p
}

func (s *system) launchOlderBeside(t *testing.T, name string) {
	t.Helper()
	testenv.Start(t, olderBinary(t, name), nil, append(s.settings(), fmt.Sprintf("PARLEY_OPS_ADDR=127.0.0.1:%d", testenv.FreePort(t))))
}
