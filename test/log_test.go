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

// At its most talkative the log reveals no secret and nothing that people write, and calls nothing an error that a client or a
// dependency's outage can cause.
func TestLogsTellNoSecrets(t *testing.T) {
	t.Parallel()
	const content, edited, name, search = "content-of-a-message", "content-that-was-edited", "name-of-a-group", "what-somebody-looks-for"
	const pgPassword, metricsToken, newPassword = "password-of-postgres", "token-of-the-metrics", "another correct horse"
	pg, redis := testenv.PostgresServer(t), testenv.NewRedis(t)
	database, err := url.Parse(pg.URL())
	if err != nil {
		t.Fatal(err)
	}
	q := database.Query()
	q.Set("password", pgPassword) // the server asks for none
	database.RawQuery = q.Encode()
	s := &system{t: t, pg: database.String(), redis: redis, extra: append([]string{
		"PARLEY_LOG_LEVEL=debug", "PARLEY_LOG_FORMAT=json", "PARLEY_METRICS_TOKEN=" + metricsToken, "PARLEY_RATE_LIMIT_FRAMES=1000/1s",
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
	path := "/api/conversations/" + g.ID + "/messages"
	everything := func() {
		a := p.call(t, u[0].token, "POST", path, map[string]any{"content": content, "clientMessageId": content})
		p.call(t, u[0].token, "POST", path, `{"content": "`+content+`", "nonsense": 1}`)
		p.call(t, u[0].token, "POST", path, `{"content": "`+content)
		if a.status == 201 {
			var m message
			a.into(t, &m)
			p.call(t, u[0].token, "PATCH", "/api/messages/"+m.ID, map[string]any{"content": edited})
			p.call(t, u[1].token, "PATCH", "/api/messages/"+m.ID, map[string]any{"content": edited})
			p.call(t, u[0].token, "DELETE", "/api/messages/"+m.ID, nil)
		}
		p.call(t, u[0].token, "PATCH", "/api/conversations/"+g.ID, map[string]any{"name": name})
		p.call(t, u[0].token, "GET", "/api/users/search?q="+search, nil)
		p.call(t, "", "POST", "/api/auth/login", map[string]any{"username": u[0].Username, "password": password})
		p.call(t, "", "POST", "/api/auth/login", map[string]any{"username": u[0].Username, "password": "wrong " + newPassword})
		p.call(t, "", "POST", "/api/auth/refresh", map[string]any{"refreshToken": u[2].refresh})
		p.call(t, u[0].token+"x", "GET", "/api/users/me", nil)
		p.call(t, "", "GET", "/api/metrics", nil, "Authorization", "Bearer "+metricsToken)
		sock.ask("message:send", map[string]any{"conversationId": g.ID, "content": content, "clientMessageId": "c"})
		sock.ask(content, content)
	}
	everything()
	p.call(t, u[1].token, "POST", "/api/auth/password", map[string]any{"current": password, "new": newPassword})
	redis.Stop()
	everything()
	redis.Start()
	pg.Stop()
	everything()
	pg.Start()
	testenv.Eventually(t, time.Minute, func() bool {
		return p.call(t, "", "GET", "/api/health/ready", nil).status == http.StatusOK
	}, "the pod is ready again")
	everything()
	sock.write(content) // no frame: the socket is closed
	sock.closed(time.Minute)

	for process, logs := range map[string]string{"api": p.Logs(), "presence-watcher": watcher.Logs(), "receipt-worker": worker.Logs()} {
		for _, secret := range []string{
			content, edited, name, search, password, newPassword, pgPassword, metricsToken, secret, u[0].token, u[1].token, u[2].refresh, "bearer.",
		} {
			if strings.Contains(logs, secret) {
				t.Errorf("the log of %s contains %q", process, secret)
			}
		}
		for line := range strings.Lines(logs) {
			if !json.Valid([]byte(line)) {
				t.Errorf("a line of %s is no record: %s", process, line)
			}
		}
		if strings.Contains(logs, `"level":"ERROR"`) {
			t.Errorf("%s logged an error", process)
		}
	}
	if !strings.Contains(p.Logs(), `"level":"WARN"`) || !strings.Contains(p.Logs(), `"request_id"`) {
		t.Error("the log has nothing of the outages")
	}
}
