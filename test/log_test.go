package test

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/parley-chat/parley/internal/testenv"
)

// What TestLogsTellNoSecrets writes, and must not find in a log.
const (
	loggedContent, loggedEdit, loggedName, loggedSearch = "content-of-a-message", "content-that-was-edited", "name-of-a-group", "what-somebody-looks-for"
	loggedPGPassword, loggedToken, loggedPassword       = "password-of-postgres", "token-of-the-metrics", "another correct horse"
)

// At its most talkative the log reveals no secret and nothing that people write, and calls nothing an error that a client or a
// dependency's outage can cause.
func TestLogsTellNoSecrets(t *testing.T) {
	t.Parallel()
	pg, redis := testenv.PostgresServer(t), testenv.NewRedis(t)
	database, err := url.Parse(pg.URL())
	if err != nil {
		t.Fatal(err)
	}
	q := database.Query()
	q.Set("password", loggedPGPassword) // the server asks for none
	database.RawQuery = q.Encode()
	s := &system{t: t, pg: database.String(), redis: redis, extra: append([]string{
		"PARLEY_LOG_LEVEL=debug", "PARLEY_LOG_FORMAT=json", "PARLEY_METRICS_TOKEN=" + loggedToken, "PARLEY_RATE_LIMIT_FRAMES=1000/1s",
	}, presenceTimes...)}
	p := s.addPod()
	watcher, _ := s.addBeside("presence-watcher")
	worker, _ := s.addBeside("receipt-worker")

	u := p.users(t, 3)
	g := p.group(t, u[0], u[1:]...)
	sock, err := p.dial(t, "/api/ws", nil, "parley.v1", "bearer."+u[1].token)
	if err != nil {
		t.Fatal(err)
	}
	sock.until("ready", time.Minute)
	c := chatter{p, u, g, sock}
	c.write(t)
	p.call(t, u[1].token, "POST", "/api/auth/password", map[string]any{"current": password, "new": loggedPassword})
	redis.Stop()
	c.write(t)
	redis.Start()
	pg.Stop()
	c.write(t)
	pg.Start()
	testenv.Eventually(t, time.Minute, func() bool {
		return p.call(t, "", "GET", "/api/health/ready", nil).status == http.StatusOK
	}, "the pod is ready again")
	c.write(t)
	sock.write(loggedContent) // no frame: the socket is closed
	sock.closed(time.Minute)

	for process, logs := range map[string]string{"api": p.Logs(), "presence-watcher": watcher.Logs(), "receipt-worker": worker.Logs()} {
		t.Run(process, func(t *testing.T) {
			expectNone(t, logs, loggedContent, loggedEdit, loggedName, loggedSearch, password, loggedPassword, loggedPGPassword, loggedToken, secret,
				u[0].token, u[1].token, u[2].refresh, "bearer.", `"level":"ERROR"`)
			expectRecords(t, logs)
		})
	}
	if !strings.Contains(p.Logs(), `"level":"WARN"`) || !strings.Contains(p.Logs(), `"request_id"`) {
		t.Error("the log has no warning with a request's id: nothing of the outages")
	}
}

// chatter are users, the first with requests and the second with a socket, who write what no log may have.
type chatter struct {
	p     *pod
	u     []user
	group conversation
	sock  *socket
}

// write makes requests that succeed and requests that fail. A dependency may be away.
func (c chatter) write(t *testing.T) {
	t.Helper()
	p, owner, member := c.p, c.u[0], c.u[1]
	path := "/api/conversations/" + c.group.ID + "/messages"
	a := p.call(t, owner.token, "POST", path, map[string]any{"content": loggedContent, "clientMessageId": loggedContent})
	p.call(t, owner.token, "POST", path, `{"content": "`+loggedContent+`", "nonsense": 1}`)
	p.call(t, owner.token, "POST", path, `{"content": "`+loggedContent)
	if a.status == 201 {
		var m message
		a.into(t, &m)
		p.call(t, owner.token, "PATCH", "/api/messages/"+m.ID, map[string]any{"content": loggedEdit})
		p.call(t, member.token, "PATCH", "/api/messages/"+m.ID, map[string]any{"content": loggedEdit})
		p.call(t, owner.token, "DELETE", "/api/messages/"+m.ID, nil)
	}
	p.call(t, owner.token, "PATCH", "/api/conversations/"+c.group.ID, map[string]any{"name": loggedName})
	p.call(t, owner.token, "GET", "/api/users/search?q="+loggedSearch, nil)
	p.call(t, "", "POST", "/api/auth/login", map[string]any{"username": owner.Username, "password": password})
	p.call(t, "", "POST", "/api/auth/login", map[string]any{"username": owner.Username, "password": "wrong " + loggedPassword})
	p.call(t, "", "POST", "/api/auth/refresh", map[string]any{"refreshToken": c.u[2].refresh})
	p.call(t, owner.token+"x", "GET", "/api/users/me", nil)
	p.call(t, "", "GET", "/api/metrics", nil, "Authorization", "Bearer "+loggedToken)
	c.sock.ask("message:send", map[string]any{"conversationId": c.group.ID, "content": loggedContent, "clientMessageId": "c"})
	c.sock.ask(loggedContent, loggedContent)
}

// expectNone checks that a log has none of the texts.
func expectNone(t *testing.T, logs string, texts ...string) {
	t.Helper()
	for _, text := range texts {
		if strings.Contains(logs, text) {
			t.Errorf("the log contains %q", text)
		}
	}
}

// expectRecords checks that each line of a log is a record.
func expectRecords(t *testing.T, logs string) {
	t.Helper()
	for line := range strings.Lines(logs) {
		if !json.Valid([]byte(line)) {
			t.Errorf("a line is no record: %s", line)
		}
	}
}
