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
	name string
	from int64 // the revision before the first that it must hear

	mu   sync.Mutex // guards what follows
	last int64
	of   map[int64]string // types
}

// watch reads a socket's frames and notes those of a conversation. They must follow each other by revision.
func watch(t *testing.T, name string, sock *socket, from int64) *seen {
	w := &seen{socket: sock, name: name, from: from, last: from, of: map[int64]string{}}
	go func() {
		for f := range sock.frames {
			if f.Type != "" && f.code == 0 && f.Type != "ready" && f.Type != "error" {
				w.noteFrame(t, f)
			}
		}
	}()
	return w
}

// noteFrame keeps the type of a frame that has a revision, which must follow the one before.
func (w *seen) noteFrame(t *testing.T, f frame) {
	var d struct {
		ID, ConversationID string
		Revision           int64
	}
	f.into(t, &d)
	w.mu.Lock()
	defer w.mu.Unlock()
	early := w.last == w.from && d.Revision <= w.from // what was there before the socket may still be on its way to it
	if d.Revision == 0 || early {
		return
	}
	if d.Revision != w.last+1 {
		t.Errorf("%s: %s with revision %d after %d", w.name, f.Type, d.Revision, w.last)
	}
	w.last, w.of[d.Revision] = d.Revision, f.Type
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
	both := &upgrading{system: s, now: now, old: old, users: u, group: g.ID}
	for round := range 2 {
		both.change(t, 2*round)
		s.redis.Stop() // what follows is read from the database
		both.change(t, 2*round+1)
		s.redis.Start()
		for _, p := range []*pod{s.launchOlder(t), s.addPod()} {
			both.killWhileWriting(t, p, 10+round)
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

// upgrading is a group of six on a pod of this version and one of the older.
type upgrading struct {
	*system
	now, old *pod
	users    []user
	group    string
}

// change makes changes of every kind over both pods. What the older version has no route for goes to the other pod.
func (x *upgrading) change(t *testing.T, round int) {
	t.Helper()
	path, u, now := "/api/conversations/"+x.group, x.users, x.now
	for i, p := range []*pod{now, x.old} {
		m := p.send(t, u[i], x.group, fmt.Sprintf("%d of pod %d", round, i))
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

// killWhileWriting sends by a pod, and kills the pod after more than n messages.
func (x *upgrading) killWhileWriting(t *testing.T, p *pod, n int) {
	t.Helper()
	var sent atomic.Int64
	var writer sync.WaitGroup
	writer.Go(func() {
		for i := 0; ; i++ {
			if _, _, err := p.sendOnce(x.users[0], x.group, map[string]any{"content": "x", "clientMessageId": fmt.Sprintf("%s-%d", p.url, i)}); err != nil {
				return
			}
			sent.Add(1)
		}
	})
	testenv.Eventually(t, time.Minute, func() bool { return sent.Load() > int64(n) }, "messages are sent")
	p.Kill()
	writer.Wait()
}

// checkWatches waits until every socket has heard of the last revision, and compares what each heard with the database.
func checkWatches(t *testing.T, s *system, conversationID string, watches map[string]*seen) {
	t.Helper()
	last, kinds := s.revision(t, conversationID), s.changeKinds(t, conversationID)
	for name, w := range watches {
		testenv.Eventually(t, 30*time.Second, func() bool { return w.reached() == last }, "%s hears of revision %d", name, last)
		w.expectTypes(t, kinds)
	}
}

// changeKinds are the kinds of a conversation's changes by revision; of a message there is none.
func (s *system) changeKinds(t *testing.T, conversationID string) map[int64]string {
	t.Helper()
	db, err := sql.Open("pgx", s.pg)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	rows, err := db.Query(`SELECT revision, coalesce(detail, kind) FROM conversation_changes WHERE conversation_id = $1`, conversationID)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	kinds := map[int64]string{}
	for rows.Next() {
		var revision int64
		var kind string
		if err := rows.Scan(&revision, &kind); err != nil {
			t.Fatal(err)
		}
		kinds[revision] = kind
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return kinds
}

// expectTypes checks that each change was heard as a frame of its kind. A kind that is not known is a conversation:changed.
func (w *seen) expectTypes(t *testing.T, kinds map[int64]string) {
	t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	for revision, typ := range w.of {
		kind := kinds[revision]
		want, known := typesOf[kind]
		if !known {
			want = [2]string{"conversation:changed", "conversation:changed"}
		}
		if typ != want[0] && !(strings.Contains(w.name, "older") && typ == want[1]) {
			t.Errorf("%s heard of revision %d, a %q, as %s, want %s", w.name, revision, kind, typ, want[0])
		}
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
