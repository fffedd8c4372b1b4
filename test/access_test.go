package test

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/parley-chat/parley/internal/id"
)

func TestUnknownAndMalformedIDsAreTheSame(t *testing.T) {
	t.Parallel()
	s := plainSystem(t)
	p := s.pods[0]
	u := p.register(t)
	for path, code := range map[string]string{
		"GET /api/users/%s":                            "user_not_found",
		"GET /api/conversations/%s":                    "conversation_not_found",
		"GET /api/conversations/%s/messages":           "conversation_not_found",
		"POST /api/conversations/%s/messages":          "conversation_not_found",
		"GET /api/conversations/%s/members":            "conversation_not_found",
		"DELETE /api/conversations/%s/members/" + u.ID: "conversation_not_found",
		"PATCH /api/messages/%s":                       "message_not_found",
		"DELETE /api/messages/%s":                      "message_not_found",
		"DELETE /api/auth/sessions/%s":                 "session_not_found",
	} {
		method, path, _ := strings.Cut(path, " ")
		for _, bad := range []string{id.New(), "42", "not-an-id", strings.ToUpper(id.New()), "%00", "..%2f..", id.New() + "x", url.PathEscape("' OR 1=1")} {
			var body any
			if method == "POST" || method == "PATCH" {
				body = map[string]any{"content": "x"}
			}
			if a := p.call(t, u.token, method, fmt.Sprintf(path, bad), body); a.status != 404 || a.code() != code {
				t.Errorf("%s %s of %q: %d %s", method, path, bad, a.status, a.body)
			}
		}
	}
}

func TestMalformedCursorsOfEveryList(t *testing.T) {
	t.Parallel()
	s := plainSystem(t)
	p := s.pods[0]
	u := p.users(t, 3)
	c := p.group(t, u[0], u[1:]...)
	b64 := func(v string) string { return base64.StdEncoding.EncodeToString([]byte(v)) }
	const at = `"2026-11-23T10:00:00.123456Z"`
	bad := []string{
		"", "x", "***", b64("hello"), b64("{}"), b64("[]"), b64("[" + at + "]"), b64("[1,2]"), b64("[null,null]"),
		b64(`["yesterday","` + c.ID + `"]`), b64(`[` + at + `,"42"]`), b64(`[` + at + `,"` + c.ID + `",1]`),
		b64(`["2026-11-23T10:00:00Z","` + c.ID + `"]`), b64(`[`+at+`,"`+c.ID+`"]`) + "!", b64(`[` + at + `,"` + strings.ToUpper(c.ID) + `"]`),
		strings.Repeat("A", 4000),
	}
	messages := "/api/conversations/" + c.ID + "/messages"
	for _, list := range []string{"/api/conversations", "/api/conversations/" + c.ID + "/members", messages} {
		for _, cursor := range bad {
			p.expectInvalidCursor(t, u[0].token, list, cursor)
		}
		for _, limit := range []string{"0", "101", "-1", "x", "1.5"} {
			expectFaults(t, p.call(t, u[0].token, "GET", list+"?limit="+limit, nil), list+" with limit "+limit, "limit")
		}
	}
	for _, q := range []string{"afterSeq=-1", "afterSeq=x", "afterSeq=", "afterSeq=1&cursor=" + url.QueryEscape(b64(`[`+at+`,"`+c.ID+`"]`))} {
		if a := p.call(t, u[0].token, "GET", messages+"?"+q, nil); a.status != 400 {
			t.Errorf("%s: %d %s, want 400", q, a.status, a.body)
		}
	}
}

// Conversations are listed by their last messages, the newest first. A big group shows the first of its members, and lists them all.
func TestListsOfConversationsAndMembers(t *testing.T) {
	t.Parallel()
	p := plainSystem(t).pods[0]
	u := p.users(t, 25)
	t.Run("conversations", func(t *testing.T) {
		var want []string
		for range 7 {
			want = append([]string{p.group(t, u[0], u[1], u[2]).ID}, want...)
		}
		newest := want[4]
		p.send(t, u[1], newest, "makes it the newest")
		want = append([]string{newest}, slices.Delete(want, 4, 5)...)
		var got []string
		for _, c := range everyPage[conversation](t, p, u[0].token, "/api/conversations?limit=3") {
			got = append(got, c.ID)
		}
		if !slices.Equal(got, want) {
			t.Errorf("conversations are listed as\n%v, want\n%v", got, want)
		}
	})
	t.Run("members", func(t *testing.T) {
		big := p.group(t, u[0], u[1:]...)
		if len(big.Members) != 20 || big.MemberCount != 25 || big.Members[0].User.ID != u[0].ID || big.Members[0].Role != "owner" {
			t.Errorf("a group of 25 shows %d members of %d, %+v first, want 20 of 25, its owner first", len(big.Members), big.MemberCount, big.Members[0])
		}
		list := everyPage[struct{ User struct{ ID string } }](t, p, u[0].token, "/api/conversations/"+big.ID+"/members?limit=10")
		if len(list) != 25 || list[0].User.ID != u[0].ID || list[24].User.ID != u[24].ID {
			t.Errorf("%d members are listed, want 25, from %s to %s: %v", len(list), u[0].ID, u[24].ID, list)
		}
	})
}

func TestConversationsAreMadeWell(t *testing.T) {
	t.Parallel()
	s := plainSystem(t)
	p := s.pods[0]
	u := p.users(t, 4)
	first := p.direct(t, u[0], u[1])
	if again := s.pods[1].direct(t, u[1], u[0]); again.ID != first.ID {
		t.Error("the other side got another direct conversation")
	}
	ids := make(chan string, 20)
	for i := range 20 {
		go func() {
			a, _ := s.pods[i%2].try(u[2+i%2].token, "POST", "/api/conversations", map[string]any{"type": "direct", "memberIds": []string{u[3-i%2].ID}})
			var c conversation
			a.into(t, &c)
			ids <- c.ID
		}()
	}
	one := <-ids
	for range 19 {
		if x := <-ids; x != one {
			t.Fatal("both asking at once made two direct conversations")
		}
	}
	for name, c := range map[string]struct {
		body   string
		status int
		code   string
		fields string
	}{
		"nothing":             {`{}`, 400, "invalid_request", "type"},
		"another type":        {`{"type":"channel","memberIds":["` + u[1].ID + `"]}`, 400, "invalid_request", "type"},
		"oneself":             {`{"type":"direct","memberIds":["` + u[0].ID + `"]}`, 400, "invalid_request", "memberIds"},
		"two in a direct one": {`{"type":"direct","memberIds":["` + u[1].ID + `","` + u[2].ID + `"]}`, 400, "invalid_request", "memberIds"},
		"a direct name":       {`{"type":"direct","memberIds":["` + u[1].ID + `"],"name":"x"}`, 400, "invalid_request", "name"},
		"none in a direct":    {`{"type":"direct"}`, 400, "invalid_request", "memberIds"},
		"no name":             {`{"type":"group","memberIds":["` + u[1].ID + `","` + u[2].ID + `"]}`, 400, "invalid_request", "name"},
		"an empty name":       {`{"type":"group","memberIds":["` + u[1].ID + `","` + u[2].ID + `"],"name":"  "}`, 400, "invalid_request", "name"},
		"a long name":         {`{"type":"group","memberIds":["` + u[1].ID + `","` + u[2].ID + `"],"name":"` + strings.Repeat("ü", 101) + `"}`, 400, "invalid_request", "name"},
		"no ids":              {`{"type":"group","memberIds":["x"],"name":"x"}`, 400, "invalid_request", "memberIds"},
		"a string":            {`{"type":"group","memberIds":"` + u[1].ID + `","name":"x"}`, 400, "invalid_request", "memberIds"},
		"nobody":              {`{"type":"direct","memberIds":["` + id.New() + `"]}`, 404, "user_not_found", ""},
	} {
		a := p.call(t, u[0].token, "POST", "/api/conversations", c.body)
		if pr := a.problem(t); a.status != c.status || pr.Code != c.code || pr.fields() != c.fields {
			t.Errorf("%s: %d %s, want %d %s %s", name, a.status, a.body, c.status, c.code, c.fields)
		}
	}
	d := "/api/conversations/" + first.ID
	for name, a := range map[string]answer{
		"rename": p.call(t, u[0].token, "PATCH", d, map[string]any{"name": "x"}),
		"add":    p.call(t, u[0].token, "POST", d+"/members", map[string]any{"userIds": []string{u[2].ID}}),
		"role":   p.call(t, u[0].token, "PATCH", d+"/members/"+u[1].ID, map[string]any{"role": "admin"}),
		"leave":  p.call(t, u[0].token, "DELETE", d+"/members/"+u[0].ID, nil),
	} {
		if a.status != 409 || a.code() != "direct_conversation" {
			t.Errorf("%s of a direct one: %d %s", name, a.status, a.body)
		}
	}
}

func TestTheLastOwnerLeaves(t *testing.T) {
	t.Parallel()
	s := plainSystem(t)
	p := s.pods[0]
	u := p.users(t, 4)
	g := p.group(t, u[0], u[1], u[2], u[3])
	path := "/api/conversations/" + g.ID
	if a := p.call(t, u[0].token, "PATCH", path+"/members/"+u[0].ID, map[string]any{"role": "member"}); a.status != 409 || a.code() != "last_owner" {
		t.Errorf("the last owner steps down: %d %s", a.status, a.body)
	}
	p.want(t, 200, u[0].token, "PATCH", path+"/members/"+u[2].ID, map[string]any{"role": "admin"})
	roles := func(token string) string {
		var c conversation
		p.want(t, 200, token, "GET", path, nil).into(t, &c)
		var out []string
		for _, m := range c.Members {
			out = append(out, m.Role)
		}
		return strings.Join(out, " ")
	}
	p.want(t, 204, u[0].token, "DELETE", path+"/members/"+u[0].ID, nil)
	if got := roles(u[1].token); got != "member owner member" {
		t.Errorf("the oldest admin inherits: %s", got)
	}
	p.want(t, 204, u[2].token, "DELETE", path+"/members/"+u[2].ID, nil)
	if got := roles(u[1].token); got != "owner member" {
		t.Errorf("the oldest member inherits: %s", got)
	}
}

func TestProblems(t *testing.T) {
	t.Parallel()
	s := start(t, 1, "PARLEY_ALLOWED_ORIGINS=https://chat.example.com")
	p := s.pods[0]
	u := p.register(t)
	for name, c := range map[string]struct {
		a      answer
		status int
		code   string
	}{
		"no such route":  {p.call(t, u.token, "GET", "/api/nothing", nil), 404, "not_found"},
		"no such page":   {p.call(t, "", "GET", "/", nil), 404, "not_found"},
		"method":         {p.call(t, u.token, "PUT", "/api/users/me", `{}`), 405, "method_not_allowed"},
		"too large":      {p.call(t, u.token, "POST", "/api/conversations", `{"x":"`+strings.Repeat("x", 300<<10)+`"}`), 413, "payload_too_large"},
		"no JSON":        {p.call(t, u.token, "POST", "/api/conversations", `{}`, "Content-Type", "text/plain"), 415, "unsupported_media_type"},
		"large headers":  {p.call(t, u.token, "GET", "/api/users/me", nil, "X-Large", strings.Repeat("x", 8<<10)), 431, "headers_too_large"},
		"a null in JSON": {p.call(t, u.token, "POST", "/api/conversations", `null`), 400, "malformed_json"},
	} {
		pr := c.a.problem(t)
		if c.a.status != c.status || pr.Code != c.code || pr.Status != c.status || pr.Title == "" || pr.Detail == "" || pr.Type == "" || pr.RequestID == "" ||
			c.a.header.Get("Content-Type") != "application/problem+json" || c.a.header.Get("X-Request-Id") != pr.RequestID {
			t.Errorf("%s: %d %v %s", name, c.a.status, c.a.header, c.a.body)
		}
	}
	for sent, taken := range map[string]bool{"abc-DEF_123": true, strings.Repeat("a", 64): true, strings.Repeat("a", 65): false, "a b": false, "a\u00e9": false} {
		got := p.call(t, "", "GET", "/api/health", nil, "X-Request-Id", sent).header.Get("X-Request-Id")
		if (got == sent) != taken || got == "" {
			t.Errorf("request id %q became %q", sent, got)
		}
	}
	pre := p.call(t, "", "OPTIONS", "/api/users/me", nil, "Origin", "https://chat.example.com", "Access-Control-Request-Method", "PATCH")
	if pre.status != 204 || pre.header.Get("Access-Control-Allow-Origin") != "https://chat.example.com" || !strings.Contains(pre.header.Get("Access-Control-Allow-Headers"), "Authorization") {
		t.Errorf("preflight: %d %v", pre.status, pre.header)
	}
	cross := p.call(t, u.token, "GET", "/api/users/me", nil, "Origin", "https://chat.example.com")
	if cross.header.Get("Access-Control-Allow-Origin") == "" || !strings.Contains(cross.header.Get("Access-Control-Expose-Headers"), "X-RateLimit-Reset") {
		t.Errorf("cross origin: %v", cross.header)
	}
	if a := p.call(t, u.token, "GET", "/api/users/me", nil, "Origin", "https://evil.example"); a.header.Get("Access-Control-Allow-Origin") != "" {
		t.Errorf("a foreign origin is allowed: %v", a.header)
	}
}

func TestMetricsAreGuardedAndBounded(t *testing.T) {
	t.Parallel()
	s := start(t, 1)
	guarded := s.addPod("PARLEY_METRICS_TOKEN=let me see")
	proxied := s.addPod("PARLEY_TRUSTED_PROXIES=127.0.0.1")
	s.pods[0].want(t, 200, "", "GET", "/api/metrics", nil)
	guarded.want(t, 401, "", "GET", "/api/metrics", nil)
	guarded.want(t, 401, "wrong", "GET", "/api/metrics", nil)
	guarded.want(t, 200, "let me see", "GET", "/api/metrics", nil)
	proxied.want(t, 404, "", "GET", "/api/metrics", nil)
	p := s.pods[0]
	u := p.register(t)
	series := func() (n int, text string) {
		text = string(p.want(t, 200, "", "GET", "/api/metrics", nil).body)
		for _, line := range strings.Split(text, "\n") {
			if strings.HasPrefix(line, "http_request") {
				n++
			}
		}
		return n, text
	}
	for i := range 5 {
		p.call(t, u.token, "GET", "/api/users/"+id.New(), nil)
		p.call(t, "", "GET", fmt.Sprintf("/nowhere/%d", i), nil)
	}
	before, _ := series()
	for i := range 60 {
		p.call(t, u.token, "GET", "/api/users/"+id.New(), nil)
		p.call(t, "", "GET", fmt.Sprintf("/%d/%s", i, strings.Repeat("x", i)), nil)
		_, _ = p.try("", fmt.Sprintf("ODD%d", i), "/api/users/me", nil)
	}
	after, text := series()
	if after > before+16 {
		t.Errorf("%d series of requests became %d", before, after)
	}
	for _, want := range []string{`http_requests_total{method="GET",route="/api/users/:id",status="404"}`, `route="unmatched"`, "websocket_connections_active 0", "go_goroutines", "process_cpu_seconds_total"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %s in the metrics", want)
		}
	}
	r, err := http.Get(p.ops + "/metrics")
	if err != nil || r.StatusCode != 200 {
		t.Fatalf("ops metrics: %v %v", r, err)
	}
	_ = r.Body.Close()
}
