package httpapi

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// members makes a list of n members, or users, of a body.
func members(n int, format string) string {
	list := make([]string, n)
	for i := range list {
		list[i] = fmt.Sprintf(format, i)
	}
	return "[" + strings.Join(list, ",") + "]"
}

// A faulty request is refused with all its faults before anything reaches the domain.
func TestServerRequestsWithFaults(t *testing.T) {
	t.Parallel()
	const put, send = "/conversations/ext:new", pathConversation + "/messages"
	e := newServerEdge(t)
	for _, c := range []struct{ name, method, path, body, fields string }{
		{"a bulk without users", "PUT", "/users", `{"users":[],"more":1}`, "more users"},
		{"a bulk that is too large", "PUT", "/users", `{"users":` + members(1001, `{"externalId":"u%d"}`) + `}`, "users"},
		{"a bulk with a user twice", "PUT", "/users", `{"users":[{"externalId":"a"},{"externalId":"a"}]}`, "users"},
		{"a user with faults in all fields", "PATCH", pathUser, `{"username":"no spaces","displayName":null,"avatarUrl":"ftp://x","kind":"cat","Kind":1}`, "Kind username displayName avatarUrl kind"},
		{"a user without changes", "PATCH", pathUser, `{}`, "body"},
		{"a ban with an empty reason", "PUT", pathUser + "/ban", `{"reason":" ","until":"tomorrow"}`, "until reason"},
		{"a session of no time", "POST", pathUser + "/tokens", `{"ttl":"0s","x":1}`, "x ttl"},
		{"a session that is too long", "POST", pathUser + "/tokens", `{"ttl":"90000h"}`, "ttl"},
		{"users by bad filters", "GET", "/users?limit=201&state=away&updatedAfter=1&q=" + strings.Repeat("x", 129), "", "updatedAfter limit state q"},

		{"a group without a name, by unknown properties", "PUT", put, `{"posting":"nobody","colour":"red"}`, "colour name posting"},
		{"members with faults", "PUT", put, `{"name":"x","members":[{"user":"ext:ada","role":"king"},{"role":"owner"},7]}`, "members[0] members[1] members[2]"},
		{"a member twice", "PUT", put, `{"name":"x","members":[{"user":"ext:ada"},{"user":"ext:ada"}]}`, "members"},
		{"a member twice, by both names", "PUT", put, `{"name":"x","members":[{"user":"ext:ada"},{"user":"` + ada + `"}]}`, "members"},
		{"an unknown mode", "PUT", put + "?members=all", `{"name":"x"}`, "members"},
		{"nobody to add", "POST", pathConversation + "/members", `{"users":[]}`, "users"},
		{"too many to add", "POST", pathConversation + "/members", `{"users":` + members(1001, `{"user":"ext:%d"}`) + `}`, "users"},
		{"nobody to remove", "DELETE", pathConversation + "/members", `{"users":[]}`, "users"},
		{"too many to remove", "DELETE", pathConversation + "/members", `{"users":` + members(1001, `"ext:%d"`) + `}`, "users"},
		{"one to remove twice", "DELETE", pathConversation + "/members", `{"users":["ext:ada","` + ada + `"]}`, "users"},
		{"conversations by bad filters", "GET", "/conversations?limit=0&updatedAfter=x", "", "updatedAfter limit"},

		{"a message without anything", "POST", send, `{"kind":"poem","text":"x"}`, "text sender content clientMessageId kind"},
		{"an empty edit", "PATCH", pathMessage, `{}`, "body"},
		{"messages after no seq", "GET", send + "?afterSeq=-1&limit=101&cursor=" + page2, "", "limit afterSeq cursor"},
		{"messages after an empty seq", "GET", send + "?afterSeq=", "", "afterSeq"},

		{"a key without anything", "POST", "/keys", `{"name":"","scopes":["root"],"expiresAt":"2020-01-01T00:00:00Z","key":"x"}`, "key name scopes expiresAt"},
		{"the audit log by bad filters", "GET", "/audit?limit=101&actor=me&from=x&to=y", "", "limit actor from to"},

		{"a webhook with faults", "POST", "/webhooks", `{"name":"","types":["nothing"],"from":"then","secret":"x"}`, "secret url name types from"},
		{"a webhook without changes", "PATCH", pathWebhook, `{}`, "body"},
		{"a webhook with bad changes", "PATCH", pathWebhook, `{"url":null,"types":[],"state":"failing"}`, "url types state"},
		{"a replay of the future", "POST", pathWebhook + "/replay", `{"from":"2999-01-01T00:00:00Z","conversation":"","x":1}`, "x from conversation"},
		{"attempts by a bad limit", "GET", pathWebhook + "/attempts?limit=x", "", "limit"},
		{"a parameter twice", "GET", "/users?state=active&state=banned", "", "state"},
	} {
		r := e.do(c.method, "/api/server"+c.path, serverToken, c.body)
		e.wantProblem(r, 400, "invalid_request")
		got, want := r.fields(), strings.Fields(c.fields)
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Errorf("%s: the faults are of %v, want %v", c.name, got, want)
		}
		e.wantCalls()
	}
}

func TestServerRequestsForThingsThatCannotExist(t *testing.T) {
	t.Parallel()
	e := newServerEdge(t)
	for _, c := range []struct{ method, path, body, code string }{
		{"GET", "/users/ada", "", "user_not_found"},
		{"GET", "/users/ext:nobody", "", "user_not_found"},
		{"PATCH", "/users/ext:%zz", `{"displayName":"Ada"}`, "user_not_found"},
		{"POST", "/users/nobody/tokens", "", "user_not_found"},
		{"GET", "/conversations?member=ext:nobody", "", "user_not_found"},
		{"POST", pathConversation + "/messages", `{"sender":"","content":"x","clientMessageId":"c"}`, "user_not_found"},
		{"POST", pathConversation + "/members", `{"users":[{"user":"nobody"}]}`, "user_not_found"},
		{"DELETE", pathConversation + "/members", `{"users":["nobody"]}`, "user_not_found"},
		{"PUT", "/conversations/ext:x", `{"name":"x","members":[{"user":"nobody"}]}`, "user_not_found"},
		{"PUT", "/conversations/ext:", `{"name":"x"}`, "conversation_not_found"},
		{"PUT", "/conversations/ext:" + strings.Repeat("x", 129), `{"name":"x"}`, "conversation_not_found"},
		{"PUT", pathConversation, `{"name":"x"}`, "conversation_not_found"},
		{"GET", "/conversations/room", "", "conversation_not_found"},
		{"GET", "/conversations/ext:nothing", "", "conversation_not_found"},
		{"GET", "/conversations/ext:%00", "", "conversation_not_found"},
		{"GET", "/conversations/room/messages", "", "conversation_not_found"},
		{"POST", "/conversations/room/messages", `{}`, "conversation_not_found"},
		{"GET", "/messages/1", "", "message_not_found"},
		{"PATCH", "/messages/" + strings.ToUpper(hello), `{"content":"x"}`, "message_not_found"},
		{"DELETE", "/messages/1", "", "message_not_found"},
		{"DELETE", "/keys/parley_sk_x", "", "key_not_found"},
		{"GET", "/webhooks/1", "", "webhook_not_found"},
		{"PATCH", "/webhooks/1", `{}`, "webhook_not_found"},
		{"DELETE", "/webhooks/1", "", "webhook_not_found"},
		{"POST", "/webhooks/1/rotate", "", "webhook_not_found"},
		{"POST", "/webhooks/1/test", "", "webhook_not_found"},
		{"POST", "/webhooks/1/replay", `{}`, "webhook_not_found"},
		{"GET", "/webhooks/1/attempts", "", "webhook_not_found"},
		{"GET", "/webhooks/1/dead", "", "webhook_not_found"},
		{"POST", "/webhooks/1/dead/x/retry", "", "webhook_not_found"},
		{"DELETE", pathWebhook + "/dead/%00", "", "webhook_not_found"},
		{"POST", pathWebhook + "/dead/%zz/retry", "", "webhook_not_found"},
		{"GET", "/nothing", "", "not_found"},
	} {
		e.wantProblem(e.do(c.method, "/api/server"+c.path, serverToken, c.body), 404, c.code)
		if calls := e.calls.take(); calls != nil {
			t.Errorf("%s %s reached the domain: %v", c.method, c.path, calls)
		}
	}
}

// Every route that reads a body refuses one that it cannot read, and every list a cursor that is none.
func TestServerRequestsThatCannotBeRead(t *testing.T) {
	t.Parallel()
	e := newServerEdge(t)
	checked := 0
	for _, c := range serverCases {
		path := "/api/server" + c.path
		if strings.Contains(c.path, "cursor=") {
			checked++
			e.wantProblem(e.do(c.method, strings.Replace(path, page2, "none", 1), serverToken, ""), 400, "invalid_cursor")
			e.wantProblem(e.do(c.method, strings.Replace(path, page2, "", 1), serverToken, ""), 400, "invalid_cursor")
		}
		if c.body == "" {
			continue
		}
		checked++
		e.wantProblem(e.do(c.method, path, serverToken, c.body, "Content-Type", "text/plain"), 415, "unsupported_media_type")
		e.wantProblem(e.do(c.method, path, serverToken, c.body, "Content-Encoding", "gzip"), 415, "unsupported_media_type")
		e.wantProblem(e.do(c.method, path, serverToken, "["+c.body+"]"), 400, "malformed_json")
		e.wantProblem(e.do(c.method, path, serverToken, c.body[1:]), 400, "malformed_json")
		e.wantProblem(e.do(c.method, path, serverToken, `{"more":1,`+c.body[1:]), 400, "invalid_request")
		e.wantCalls()
		if r := e.do(c.method, path, serverToken, c.body, "Content-Type", "Application/JSON; charset=utf-8"); r.status != c.status {
			t.Errorf("%s with another case and a charset: %d %s", c.name, r.status, r.body)
		}
		e.calls.take()
	}
	if checked < 15 {
		t.Errorf("only %d requests were checked", checked)
	}
}

func TestTheLargestBodiesOfServerRoutes(t *testing.T) {
	t.Parallel()
	e := newServerEdge(t)
	const users, group = "/api/server/users", "/api/server/conversations/ext:x"
	padded := func(kib int) string { return `{"name":"x"}` + strings.Repeat(" ", kib<<10-12) }
	for _, c := range []struct {
		name, method, path, token string
		kib, status               int
		detail                    string
	}{
		{"a bulk of 4 MiB", "PUT", users, serverToken, 4 << 10, 400, ""},
		{"a bulk of more", "PUT", users, serverToken, 4<<10 + 1, 413, "4096 KiB"},
		{"a bulk of a user", "PUT", users, e.session(), 257, 413, "256 KiB"},
		{"a group of 1 MiB", "PUT", group, serverToken, 1 << 10, 200, ""},
		{"a group of more", "PUT", group, serverToken, 1<<10 + 1, 413, "1024 KiB"},
		{"a webhook of 256 KiB", "POST", "/api/server/webhooks", serverToken, 256, 400, ""},
		{"a webhook of more", "POST", "/api/server/webhooks", serverToken, 257, 413, "256 KiB"},
		{"a conversation's change", "PATCH", "/api/server" + pathConversation, serverToken, 257, 413, "256 KiB"},
	} {
		r := e.do(c.method, c.path, c.token, padded(c.kib))
		if r.status != c.status || !strings.Contains(r.problem.Detail, c.detail) {
			t.Errorf("%s: %d %q, want %d %q", c.name, r.status, r.problem.Detail, c.status, c.detail)
		}
	}
}
