package test

import (
	"database/sql"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/parley-chat/parley/internal/testenv"
)

func TestAPodKilledBetweenCommitAndPublish(t *testing.T) {
	t.Parallel()
	s := start(t, 1)
	u := s.pods[0].users(t, 3)
	c := s.pods[0].group(t, u[0], u[1:]...)
	trigger := filepath.Join(t.TempDir(), "now")
	doomed := s.addPod("PARLEY_FAULT=message.committed=kill:" + trigger)
	live := s.pods[0].open(t, u[1])
	doomed.want(t, 201, u[0].token, "POST", "/api/conversations/"+c.ID+"/messages", map[string]any{"content": "one"})
	live.messages(1, 1, 5*time.Second)
	if err := os.WriteFile(trigger, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	body := map[string]any{"content": "two", "clientMessageId": "two"}
	if a, err := doomed.try(u[0].token, "POST", "/api/conversations/"+c.ID+"/messages", body); err == nil {
		t.Fatalf("the pod that was killed answered %d", a.status)
	}
	doomed.Wait(5 * time.Second)
	live.messages(2, 2, 5*time.Second)
	var m message
	s.pods[0].want(t, 200, u[0].token, "POST", "/api/conversations/"+c.ID+"/messages", body).into(t, &m)
	if m.Seq != 2 {
		t.Errorf("the repeated send is %+v", m)
	}
	live.silent(300*time.Millisecond, "message:")
}

func TestRedisAwayDuringSends(t *testing.T) {
	t.Parallel()
	s := start(t, 2)
	u := s.pods[0].users(t, 3)
	c := s.pods[0].group(t, u[0], u[1:]...)
	a, b := s.pods[0].open(t, u[0]), s.pods[1].open(t, u[1])
	s.pods[0].send(t, u[0], c.ID, "before")
	s.redis.Stop()
	var ready struct{ Status string }
	s.pods[0].want(t, 200, "", "GET", "/api/health/ready", nil).into(t, &ready)
	if ready.Status != "degraded" {
		t.Errorf("without Redis the pod is %s", ready.Status)
	}
	var m message
	for n := range 10 {
		s.pods[n%2].want(t, 201, u[0].token, "POST", "/api/conversations/"+c.ID+"/messages", map[string]any{"content": fmt.Sprint(n)}).into(t, &m)
	}
	s.pods[1].want(t, 200, u[0].token, "PATCH", "/api/messages/"+m.ID, map[string]any{"content": "edited"})
	s.pods[0].want(t, 204, u[0].token, "DELETE", "/api/conversations/"+c.ID+"/members/"+u[2].ID, nil)
	s.redis.Start()
	for _, x := range []*socket{a, b} {
		x.messages(1, 11, 5*time.Second)
		x.until("message:updated", 5*time.Second)
		x.until("conversation:member_removed", 5*time.Second)
	}
}

func TestPostgresAwayAndBack(t *testing.T) {
	t.Parallel()
	pg := testenv.PostgresServer(t)
	s := &system{t: t, pg: pg.URL(), redis: testenv.NewRedis(t)}
	p := s.addPod()
	u := p.users(t, 3)
	c := p.group(t, u[0], u[1:]...)
	sock := p.open(t, u[1])
	pg.Stop()
	a := p.call(t, u[0].token, "POST", "/api/conversations/"+c.ID+"/messages", map[string]any{"content": "x", "clientMessageId": "k"})
	if a.status != 503 || a.code() != "unavailable" || a.header.Get("Retry-After") == "" {
		t.Errorf("a send: %d %s %v", a.status, a.body, a.header)
	}
	if f := sock.ask("message:send", map[string]any{"conversationId": c.ID, "content": "x", "clientMessageId": "k"}); f.Type != "error" {
		t.Errorf("a send by socket: %s %s", f.Type, f.Data)
	}
	p.want(t, 200, "", "GET", "/api/health", nil)
	if a := p.call(t, "", "GET", "/api/health/ready", nil); a.status != 503 {
		t.Errorf("ready: %d %s", a.status, a.body)
	}
	pg.Start()
	testenv.Eventually(t, 10*time.Second, func() bool {
		return p.call(t, "", "GET", "/api/health/ready", nil).status == http.StatusOK
	}, "the pod is ready again")
	testenv.Eventually(t, 10*time.Second, func() bool { // the first connection to be used may find out that its server is gone
		status := p.call(t, u[0].token, "POST", "/api/conversations/"+c.ID+"/messages", map[string]any{"content": "x", "clientMessageId": "k"}).status
		return status == 201 || status == 200
	}, "the pod stores the message")
	sock.messages(1, 1, 5*time.Second)
}

// While a conversation can't be written, more sends than the pod holds are refused, and say when to come again.
func TestMoreSendsThanThePodHoldsAreRefused(t *testing.T) {
	t.Parallel()
	const senders = 2300 // more than a pod holds
	s := start(t, 1, "PARLEY_CONNECTIONS_PER_ADDRESS=off")
	p := s.pods[0]
	u := s.withTokens(t, 3)
	c := p.group(t, u[0], u[1:]...)
	release := s.locked(t, c.ID)
	var taken, refused atomic.Int64
	var wg sync.WaitGroup
	for range senders {
		wg.Go(func() {
			a, err := p.try(u[0].token, "POST", "/api/conversations/"+c.ID+"/messages", map[string]any{"content": "x"})
			switch {
			case err == nil && a.status == 201:
				taken.Add(1)
			case err == nil && a.status == 503 && a.code() == "unavailable" && a.header.Get("Retry-After") == "1":
				refused.Add(1)
			default:
				t.Errorf("a send: %d %s %v", a.status, a.body, err)
			}
		})
	}
	full := func() bool { return metric(t, p.ops, "parley_messages_refused_busy_total") > 0 && refused.Load() > 0 }
	testenv.Eventually(t, time.Minute, full, "sends are refused")
	release()
	wg.Wait()
	p.send(t, u[0], c.ID, "next")
	if n := s.count(t, `SELECT count(*) FROM messages`); n <= int(taken.Load()) {
		t.Errorf("%d messages are stored of %d that were acknowledged", n, taken.Load()+1)
	}
}

// locked holds a conversation's row until release is called.
func (s *system) locked(t testing.TB, conversationID string) (release func()) {
	t.Helper()
	db, err := sql.Open("pgx", s.pg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	tx, err := db.Begin()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(`SELECT FROM conversations WHERE id = $1 FOR UPDATE`, conversationID); err != nil {
		t.Fatal(err)
	}
	return func() { _ = tx.Rollback() }
}

func TestAPodStartsBeforeItsDatabases(t *testing.T) {
	t.Parallel()
	pg := testenv.PostgresServer(t)
	pg.Stop()
	s := &system{t: t, pg: pg.URL(), redis: testenv.NewRedis(t)}
	s.redis.Stop()
	p := s.launch()
	testenv.Eventually(t, 10*time.Second, func() bool {
		a, err := p.try("", "GET", "/api/health", nil)
		return err == nil && a.status == http.StatusOK
	}, "the pod lives")
	p.want(t, 503, "", "GET", "/api/health/ready", nil)
	pg.Start()
	s.redis.Start()
	p.awaitReady(t)
	u := p.users(t, 2)
	c := p.direct(t, u[0], u[1])
	sock := p.open(t, u[1])
	p.send(t, u[0], c.ID, "hello")
	sock.messages(1, 1, 5*time.Second)
}

func TestAnOldSchemaIsNotReady(t *testing.T) {
	t.Parallel()
	pg := testenv.PostgresServer(t)
	s := &system{t: t, pg: pg.URL(), redis: testenv.NewRedis(t)}
	testenv.Exec(t, pg.URL(), `DELETE FROM goose_db_version WHERE version_id = (SELECT max(version_id) FROM goose_db_version)`)
	p := s.launch()
	testenv.Eventually(t, 10*time.Second, func() bool {
		a, err := p.try("", "GET", "/api/health/ready", nil)
		return err == nil && a.status == http.StatusServiceUnavailable
	}, "the pod refuses")
	var r struct{ Checks struct{ Schema string } }
	if p.call(t, "", "GET", "/api/health/ready", nil).into(t, &r); r.Checks.Schema != "outdated" {
		t.Errorf("the schema is %q", r.Checks.Schema)
	}
}

func TestMigrationsOfSeveralPodsAtOnce(t *testing.T) {
	t.Parallel()
	url := testenv.EmptyPostgres(t)
	bin := testenv.Binary(t, "api")
	var wg sync.WaitGroup
	for range 3 {
		m := testenv.Start(t, bin, []string{"migrate"}, []string{"PARLEY_DATABASE_URL=" + url})
		wg.Go(func() {
			if code := m.Wait(30 * time.Second); code != 0 {
				t.Errorf("migrate exited with %d: %s", code, m.Logs())
			}
		})
	}
	wg.Wait()
	s := &system{t: t, pg: url, redis: testenv.NewRedis(t)}
	s.addPod()
}

// A person reconnects after missing everything, and misses nothing.
func TestSyncAfterAReconnect(t *testing.T) {
	t.Parallel()
	s := plainSystem(t)
	u := s.pods[0].users(t, 3)
	c := s.pods[0].group(t, u[0], u[1:]...)
	s.pods[0].send(t, u[0], c.ID, "held")
	var m message
	for n := range 5 {
		m = s.pods[n%2].send(t, u[0], c.ID, fmt.Sprint(n))
	}
	s.pods[0].want(t, 204, u[0].token, "DELETE", "/api/messages/"+m.ID, nil)
	other := s.pods[0].group(t, u[0], u[1:]...)
	sock := s.pods[1].open(t, u[1])
	f := sock.ask("sync", map[string]any{"conversations": map[string]int64{c.ID: 2}})
	var a struct {
		Conversations map[string]struct {
			Messages     []message
			Conversation *conversation
			Revision     int64
			Complete     bool
		}
		Unknown, Gone []string
	}
	f.into(t, &a)
	part := a.Conversations[c.ID]
	if !part.Complete || part.Revision != 8 || len(part.Messages) != 5 || part.Messages[4].DeletedAt == nil || part.Messages[0].Content != "0" ||
		part.Conversation == nil || part.Conversation.UnreadCount != 6 || len(a.Unknown) != 1 || a.Unknown[0] != other.ID || len(a.Gone) != 0 {
		t.Errorf("sync answers %s", f.Data)
	}
}
