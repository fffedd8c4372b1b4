package httpapi

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/parley-chat/parley/internal/conversation"
	"github.com/parley-chat/parley/internal/cursor"
	"github.com/parley-chat/parley/internal/directory"
	"github.com/parley-chat/parley/internal/message"
	"github.com/parley-chat/parley/internal/postgres"
	"github.com/parley-chat/parley/internal/principal"
	"github.com/parley-chat/parley/internal/webhook"
)

// serverCase is a good request of a server key.
type serverCase struct {
	name, method, path, body string
	// scope is what the key needs.
	scope string
	// reaches is the call that reaches the domain.
	reaches string
	status  int
	// has is a part of the response's body.
	has string
}

func (c *serverCase) do(e *serverEdge, token string, headers ...string) *reply {
	e.t.Helper()
	return e.do(c.method, "/api/server"+c.path, token, c.body, headers...)
}

const (
	pathUser         = "/users/" + ada
	pathConversation = "/conversations/" + room
	pathMessage      = "/messages/" + hello
	pathWebhook      = "/webhooks/" + idWebhook
)

// page2 is a cursor, and page2Call how brief writes it.
var (
	page2     = cursor.Encode(cursor.Position{Time: someTime.Time, ID: bob})
	page2Call = "{Time:2027-01-02T03:04:05Z ID:" + bob + "}"
)

// serverCases has a good request for each route of the server API, and more where its parameters decide what reaches the domain.
var serverCases = []serverCase{
	{"a user by id", "GET", pathUser, "", "users:read", "Get " + ada, 200, `"id":"` + ada + `"`},
	{"a user by external id", "GET", "/users/ext:ada", "", "users:read", "Get " + ada, 200, `"username":"ada"`},
	{"a user by an encoded external id", "GET", "/users/ext:bob%2F1", "", "users:read", "Get " + bob, 200, `"id":"` + bob + `"`},
	{"change a user", "PATCH", pathUser, `{"displayName":" Ada L. ","avatarUrl":null}`, "users", "Update " + ada + " {DisplayName:Ada L. AvatarURL:null}", 200, `"id"`},
	{"deactivate", "POST", pathUser + "/deactivate", "", "users", "Deactivate " + ada, 200, `"id"`},
	{"reactivate", "POST", pathUser + "/reactivate", "", "users", "Reactivate " + ada, 200, `"id"`},
	{"a session", "POST", pathUser + "/tokens", "", "tokens", "Mint " + ada + " " + keyID + " 0s", 201, `"expiresIn":900`},
	{"a session of a day", "POST", pathUser + "/tokens", `{"ttl":"24h"}`, "tokens", "Mint " + ada + " " + keyID + " 24h0m0s", 201, `"refreshToken":"refresh"`},
	{"end sessions", "DELETE", pathUser + "/sessions", "", "tokens", "EndAll " + ada, 204, ""},
	{"ban", "PUT", pathUser + "/ban", "", "moderation", "Ban " + ada + " {}", 200, `"id"`},
	{"ban for a while", "PUT", pathUser + "/ban", `{"reason":"spam","until":"2099-01-01T00:00:00Z"}`, "moderation", "Ban " + ada + " {Reason:spam Until:{2099-01-01T00:00:00Z}}", 200, `"id"`},
	{"lift a ban", "DELETE", pathUser + "/ban", "", "moderation", "Unban " + ada, 204, ""},
	{"users", "GET", "/users", "", "users:read", "List {Limit:50}", 200, `"hasMore":false`},
	{
		"users by all filters", "GET", "/users?q=ad&state=banned&updatedAfter=2027-01-01T00:00:00Z&limit=200&cursor=" + page2, "", "users:read",
		"List {Text:ad State:banned UpdatedAfter:2027-01-01T00:00:00Z After:" + page2Call + " Limit:200}", 200, `"nextCursor":null`,
	},
	{"a bulk", "PUT", "/users", `{"users":[{"externalId":"ada","displayName":"Ada"}]}`, "users", "Upsert {ExternalID:ada DisplayName:Ada} created", 200, `"result":"created"`},

	{"conversations", "GET", "/conversations", "", "conversations:read", "ListByKey {Limit:50}", 200, `"updatedAt"`},
	{
		"conversations by all filters", "GET", "/conversations?member=ext:ada&updatedAfter=2027-01-01T00:00:00Z&limit=7&cursor=" + page2, "", "conversations:read",
		"ListByKey {MemberID:" + ada + " UpdatedAfter:2027-01-01T00:00:00Z After:" + page2Call + " Limit:7}", 200, `"updatedAt"`,
	},
	{"put a group", "PUT", "/conversations/ext:room%2F1", `{"name":"Room"}`, "conversations", "PutByKey room/1 {Name:Room Members:[]}", 200, `"type":"group"`},
	{
		"put a group with exactly these members", "PUT", "/conversations/ext:new?members=exact",
		`{"name":"Room","description":"d","posting":"admins","metadata":{"a":1},"members":[{"user":"ext:ada","role":"owner"},{"user":"ext:bob/1"}]}`, "conversations",
		`PutByKey new {Name:Room Description:d Metadata:{"a":1} Posting:admins Members:[{UserID:` + ada + ` Role:owner} {UserID:` + bob + `}] Exact:true}`, 200, `"id"`,
	},
	{"a conversation", "GET", pathConversation, "", "conversations:read", "GetByKey " + room, 200, `"id":"` + room + `"`},
	{"a conversation by its external id", "GET", "/conversations/ext:room%2F1", "", "conversations:read", "GetByKey " + room, 200, `"updatedAt"`},
	{"change a conversation", "PATCH", pathConversation, `{"name":"New"}`, "conversations", "UpdateByKey " + room + " {Name:New}", 200, `"id"`},
	{"delete a conversation", "DELETE", pathConversation, "", "conversations", "DeleteByKey " + room, 204, ""},
	{
		"add members", "POST", pathConversation + "/members", `{"users":[{"user":"ext:ada","role":"admin"},{"user":"` + bob + `"}]}`, "conversations",
		"AddByKey " + room + " [{UserID:" + ada + " Role:admin} {UserID:" + bob + "}]", 200, `"members"`,
	},
	{"remove members", "DELETE", pathConversation + "/members", `{"users":["ext:ada","` + bob + `"]}`, "conversations", "RemoveByKey " + room + " [" + ada + " " + bob + "]", 200, `"members"`},

	{"history", "GET", pathConversation + "/messages", "", "messages:read", "HistoryByKey " + room + " nil 50", 200, `"hasMore":false`},
	{"the next page of history", "GET", pathConversation + "/messages?limit=100&cursor=" + page2, "", "messages:read", "HistoryByKey " + room + " " + page2Call + " 100", 200, `"seq":7`},
	{"messages after a seq", "GET", "/conversations/ext:room%2F1/messages?afterSeq=0&limit=1", "", "messages:read", "AfterSeqByKey " + room + " 0 1", 200, `"seq":7`},
	{
		"send", "POST", pathConversation + "/messages", `{"sender":"ext:ada","content":"hi","clientMessageId":"c1"}`, "messages",
		"SendByKey " + room + " {SenderID:" + ada + "} {Content:hi ClientMessageID:c1}", 201, `"seq":7`,
	},
	{
		"send as a bot for the system", "POST", pathConversation + "/messages", `{"sender":"ext:bob/1","content":"hi","clientMessageId":"c1","kind":"system","metadata":{"a":1}}`, "messages",
		"SendByKey " + room + " {SenderID:" + bob + ` Bot:true Kind:system} {Content:hi ClientMessageID:c1 Metadata:{"a":1}}`, 201, `"seq":7`,
	},
	{"send a text", "POST", pathConversation + "/messages", `{"sender":"ext:ada","content":"hi","clientMessageId":"c1","kind":"text"}`, "messages", "SendByKey " + room + " {SenderID:" + ada + "} {Content:hi ClientMessageID:c1}", 201, ""},
	{"a message", "GET", pathMessage, "", "messages:read", "GetByKey " + hello, 200, `"id":"` + hello + `"`},
	{"edit a message", "PATCH", pathMessage, `{"content":"new","ifRevision":4}`, "messages", "EditByKey " + hello + " {Content:new IfRevision:4}", 200, `"revision":9`},
	{"delete a message", "DELETE", pathMessage, "", "messages", "DeleteByKey " + hello, 204, ""},

	{"keys", "GET", "/keys", "", "keys:read", "List", 200, `"name":"back end"`},
	{"a key", "POST", "/keys", `{"name":" second ","scopes":["users","act:read","users"]}`, "keys", "Create " + keyID + " {Name:second Scopes:[act:read users]}", 201, `"key":"` + newKey + `"`},
	{"end a key", "DELETE", "/keys/" + keyID, "", "keys", "End " + keyID, 204, ""},
	{"the audit log", "GET", "/audit", "", "audit:read", "List {Limit:50}", 200, `"action":"user.ban"`},
	{
		"the audit log by all filters", "GET", "/audit?actor=" + keyID + "&action=user.ban&target=t&from=2027-01-01T00:00:00Z&to=2027-02-01T00:00:00Z&limit=1&cursor=" + page2, "", "audit:read",
		"List {Actor:" + keyID + " Action:user.ban Target:t From:2027-01-01T00:00:00Z To:2027-02-01T00:00:00Z After:" + page2Call + " Limit:1}", 200, `"ip":"192.0.2.1"`,
	},

	{"webhooks", "GET", "/webhooks", "", "webhooks:read", "List", 200, `"nextCursor":null`},
	{"a new webhook", "POST", "/webhooks", `{"name":"hook","url":"https://example.com/","types":["*"],"from":"beginning"}`, "webhooks", "Create {Name:hook URL:https://example.com/ Types:[*] From:beginning}", 201, `"secret":"whsec_AAAA"`},
	{"a webhook", "GET", pathWebhook, "", "webhooks:read", "Get " + idWebhook, 200, `"state":"active"`},
	{"change a webhook", "PATCH", pathWebhook, `{"state":"disabled"}`, "webhooks", "Update " + idWebhook + " {State:disabled}", 200, `"id"`},
	{"delete a webhook", "DELETE", pathWebhook, "", "webhooks", "Delete " + idWebhook, 204, ""},
	{"rotate a secret", "POST", pathWebhook + "/rotate", "", "webhooks", "Rotate " + idWebhook, 200, `{"secret":"whsec_BBBB"}`},
	{"test a webhook", "POST", pathWebhook + "/test", "", "webhooks", "Test " + idWebhook, 200, `{"status":204,"durationMs":3,"error":null}`},
	{"replay", "POST", pathWebhook + "/replay", `{"from":"2020-01-01T00:00:00Z","conversation":"ext:room"}`, "webhooks", "Replay " + idWebhook + " {From:{2020-01-01T00:00:00Z} Conversation:ext:room}", 202, `"conversation":"` + room + `"`},
	{"attempts", "GET", pathWebhook + "/attempts?limit=5&cursor=" + page2, "", "webhooks:read", "Attempts " + idWebhook + " " + page2Call + " 5", 200, `"event":"evt"`},
	{"dead events", "GET", pathWebhook + "/dead", "", "webhooks:read", "DeadEvents " + idWebhook + " nil 50", 200, `"error":"timeout"`},
	{"retry a dead event", "POST", pathWebhook + "/dead/a%2Fb/retry", "", "webhooks", "Retry " + idWebhook + " a/b", 202, ""},
	{"forget a dead event", "DELETE", pathWebhook + "/dead/a%2Fb", "", "webhooks", "Forget " + idWebhook + " a/b", 204, ""},
}

func TestServerRequestsReachTheirDomain(t *testing.T) {
	t.Parallel()
	e := newServerEdge(t)
	for _, c := range serverCases {
		r := c.do(e, serverToken)
		if r.status != c.status || !strings.Contains(r.body, c.has) || (c.has == "" && c.status != 201 && r.body != "") {
			t.Errorf("%s: %d %s, want %d with %s", c.name, r.status, r.body, c.status, c.has)
		}
		e.wantCalls(c.reaches)
	}
}

// The cases are those of every route.
func TestServerCasesHaveEveryRoute(t *testing.T) {
	t.Parallel()
	e := newServerEdge(t)
	tested := map[string]bool{}
	for _, c := range serverCases {
		path, _, _ := strings.Cut(c.path, "?")
		tested[fmt.Sprint(c.method, " ", len(strings.Split(path, "/")), " ", strings.Split(path, "/")[1], " ", path[strings.LastIndex(path, "/")+1:])] = true
	}
	for _, r := range e.serverRoutes(limit{}) {
		path := strings.NewReplacer(":user", ada, ":conversation", room, ":event", "a%2Fb").Replace(strings.TrimPrefix(r.path, serverPath))
		path = strings.NewReplacer("/messages/:id", pathMessage, "/webhooks/:id", pathWebhook, "/keys/:id", "/keys/"+keyID).Replace(path)
		if r.method == http.MethodPut && strings.HasPrefix(path, "/conversations") {
			path = "/conversations/ext:room%2F1"
		}
		name := fmt.Sprint(r.method, " ", len(strings.Split(path, "/")), " ", strings.Split(path, "/")[1], " ", path[strings.LastIndex(path, "/")+1:])
		if !tested[name] {
			t.Errorf("no case has %s %s", r.method, r.path)
		}
	}
}

func TestServerRoutesNeedTheirScope(t *testing.T) {
	t.Parallel()
	e := newServerEdge(t)
	for _, c := range serverCases {
		e.keys.known["parley_sk_with"] = principal.Principal{Kind: principal.Key, KeyID: keyID, Scopes: principal.Scopes{c.scope}}
		var others principal.Scopes
		for _, s := range principal.AllScopes() {
			if s != strings.TrimSuffix(c.scope, ":read") {
				others = append(others, s)
			} else if !strings.HasSuffix(c.scope, ":read") {
				others = append(others, principal.Read(s)) // reading does not allow changes
			}
		}
		e.keys.known["parley_sk_without"] = principal.Principal{Kind: principal.Key, KeyID: keyID, Scopes: others}
		if r := c.do(e, "parley_sk_with"); r.status != c.status {
			t.Errorf("%s with %s: %d %s", c.name, c.scope, r.status, r.body)
		}
		e.calls.take()
		for name, refused := range map[string]*reply{"a key without the scope": c.do(e, "parley_sk_without"), "a user": c.do(e, e.session())} {
			e.wantProblem(refused, 403, "scope_missing")
			if refused.problem.Scope != c.scope {
				t.Errorf("%s, %s: the scope is %q, want %q", c.name, name, refused.problem.Scope, c.scope)
			}
		}
		r := c.do(e, serverToken, "Parley-User", "ext:ada")
		e.wantProblem(r, 400, "invalid_request")
		e.wantProblem(c.do(e, ""), 401, "unauthorized")
		e.wantCalls()
	}
}

// A domain's error is its problem on every route, whatever the route is.
func TestServerRoutesReturnTheErrorsOfTheirDomain(t *testing.T) {
	t.Parallel()
	for _, failure := range []struct {
		err    error
		status int
		code   string
	}{
		{fmt.Errorf("wrapped: %w", directory.ErrNotFound), 404, "user_not_found"},
		{directory.ErrUsernameTaken, 409, "username_taken"},
		{conversation.ErrNotFound, 404, "conversation_not_found"},
		{conversation.ErrDirect, 409, "direct_conversation"},
		{conversation.ErrLastOwner, 409, "last_owner"},
		{conversation.ErrTooManyMembers, 409, "limit_reached"},
		{message.ErrNotFound, 404, "message_not_found"},
		{message.ErrDeleted, 409, "message_deleted"},
		{message.ErrRevisionMismatch, 412, "revision_mismatch"},
		{message.ErrBusy, 503, "unavailable"},
		{webhook.ErrNotFound, 404, "webhook_not_found"},
		{webhook.ErrNameTaken, 409, "name_taken"},
		{webhook.ErrTooManyReplays, 409, "limit_reached"},
		{postgres.ErrConflict, 503, "unavailable"},
		{errors.New("password=hunter2"), 500, "internal"},
	} {
		e := newServerEdge(t)
		e.keyed.err, e.keys.domainErr = failure.err, failure.err
		for _, c := range serverCases {
			req := httptest.NewRequest(c.method, "/api/server"+c.path, strings.NewReader(c.body))
			req.Header.Set("Authorization", "Bearer "+serverToken)
			req.Header.Set("Content-Type", "application/json")
			r := e.send(req)
			e.wantProblem(r, failure.status, failure.code)
			if again := r.header.Get("Retry-After"); (again != "") != (failure.status == 503) {
				t.Errorf("%s, %d: Retry-After is %q", c.name, r.status, again)
			}
			if strings.Contains(r.body, "hunter2") {
				t.Errorf("%s: the response reveals the error: %s", c.name, r.body)
			}
		}
	}
}

func TestServerRequestsAreChargedToTheKey(t *testing.T) {
	t.Parallel()
	e := newServerEdge(t)
	for _, c := range serverCases {
		c.do(e, serverToken)
		if got := e.limits.charged(); len(got) != 1 || got[0].Rule != "server" || got[0].Subject != "key:"+keyID || got[0].Cost != 0 {
			t.Errorf("%s: charged %+v", c.name, got)
		}
	}
	e.calls.take()
	e.limits.refuseRule("server", 1500*time.Millisecond)
	for _, c := range serverCases {
		r := c.do(e, serverToken)
		e.wantProblem(r, 429, "rate_limited")
		if r.header.Get("Retry-After") != "2" || r.problem.RetryAfterSeconds != 2 {
			t.Errorf("%s: Retry-After is %q, in the problem %d, want 2", c.name, r.header.Get("Retry-After"), r.problem.RetryAfterSeconds)
		}
	}
	e.wantCalls()
}
