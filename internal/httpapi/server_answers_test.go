package httpapi

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/parley-chat/parley/internal/cursor"
	"github.com/parley-chat/parley/internal/directory"
	"github.com/parley-chat/parley/internal/principal"
	"github.com/parley-chat/parley/internal/ratelimit"
	"github.com/parley-chat/parley/internal/serverkey"
)

// In a bulk a faulty user fails alone, in its place.
func TestAFaultyUserOfABulkFailsAlone(t *testing.T) {
	t.Parallel()
	e := newServerEdge(t)
	r := e.do("PUT", "/api/server/users", serverToken, `{"users":[{"externalId":"a","displayName":"Ada"},{"externalId":"b","displayName":"x","age":7},{"displayName":"Bob"}]}`)
	var got struct{ Data []upserted }
	if err := json.Unmarshal([]byte(r.body), &got); err != nil || r.status != 200 || len(got.Data) != 3 {
		t.Fatalf("%d %s: %v", r.status, r.body, err)
	}
	if a := got.Data[0]; a.ExternalID != "a" || a.ID == nil || *a.ID != ada || a.Result != "created" || a.Problem != nil {
		t.Errorf("the good user is %+v", a)
	}
	for i, fields := range [][]string{1: {"age", "displayName"}, 2: {"externalId"}} {
		if i == 0 {
			continue
		}
		u := got.Data[i]
		if u.ID != nil || u.Result != "error" || u.Problem == nil || u.Problem.Status != 400 || u.Problem.RequestID != r.header.Get("X-Request-Id") {
			t.Fatalf("user %d is %+v", i, u)
		}
		if f := (&reply{problem: *u.Problem}).fields(); !slices.Equal(f, fields) {
			t.Errorf("the faults of user %d are of %v, want %v", i, f, fields)
		}
	}
}

// An error of one user that the domain finds is that user's problem, and does not reveal its text.
func TestADomainsErrorForOneUserOfABulk(t *testing.T) {
	t.Parallel()
	for code, cause := range map[string]error{"username_taken": directory.ErrUsernameTaken, "internal": fmt.Errorf("secret")} {
		e := newServerEdge(t)
		e.keyed.itemErr = cause
		r := e.do("PUT", "/api/server/users", serverToken, `{"users":[{"externalId":"a"}]}`)
		if r.status != 200 || !strings.Contains(r.body, `"code":"`+code+`"`) || !strings.Contains(r.body, `"id":null`) || strings.Contains(r.body, "secret") {
			t.Errorf("%d %s", r.status, r.body)
		}
	}
}

// A bulk costs one more for each hundred items, and nothing is done if the key has less left.
func TestBulksAreChargedByTheirItems(t *testing.T) {
	t.Parallel()
	e := newServerEdge(t)
	for _, c := range []struct {
		name, method, path, body string
		cost                     int
	}{
		{"99 users", "PUT", "/users", `{"users":` + members(99, `{"externalId":"u%d"}`) + `}`, 0},
		{"250 users", "PUT", "/users", `{"users":` + members(250, `{"externalId":"u%d"}`) + `}`, 2},
		{"300 members of a group", "PUT", "/conversations/ext:x", `{"name":"x","members":` + members(300, `{"user":"0193a000-0000-7000-8000-%012d"}`) + `}`, 3},
		{"100 to add", "POST", pathConversation + "/members", `{"users":` + members(100, `{"user":"0193a000-0000-7000-8000-%012d"}`) + `}`, 1},
		{"1000 to remove", "DELETE", pathConversation + "/members", `{"users":` + members(1000, `"0193a000-0000-7000-8000-%012d"`) + `}`, 10},
	} {
		if r := e.do(c.method, "/api/server"+c.path, serverToken, c.body); r.status != 200 {
			t.Errorf("%s: %d %s", c.name, r.status, r.body)
		}
		got := e.limits.charged()[1:] // without the request's own
		if c.cost == 0 && len(got) != 0 || c.cost > 0 && (len(got) != 1 || got[0].Cost != c.cost || got[0].Subject != "key:"+keyID) {
			t.Errorf("%s: charged %+v, want a cost of %d", c.name, got, c.cost)
		}
		e.calls.take()
		e.limits.refuseIf(func(t ratelimit.Take) bool { return t.Cost > 0 }, time.Second)
		r := e.do(c.method, "/api/server"+c.path, serverToken, c.body)
		e.limits.refuseBy(nil)
		if c.cost > 0 {
			e.wantProblem(r, 429, "rate_limited")
			e.wantCalls()
		}
		e.calls.take()
		e.limits.charged()
	}
}

func TestWhatWasThereBeforeIsNot201(t *testing.T) {
	t.Parallel()
	e := newServerEdge(t)
	const send = `{"sender":"ext:ada","content":"hi","clientMessageId":"c1"}`
	put := func() int { return e.do("PUT", "/api/server/conversations/ext:x", serverToken, `{"name":"x"}`).status }
	post := func() int { return e.do("POST", "/api/server"+pathConversation+"/messages", serverToken, send).status }
	if p, m := put(), post(); p != 200 || m != 201 {
		t.Errorf("a known group is %d, a new message %d", p, m)
	}
	e.keyed.created, e.keyed.repeated = true, true
	if p, m := put(), post(); p != 201 || m != 200 {
		t.Errorf("a new group is %d, a known message %d", p, m)
	}
}

// The cursor of a page is the position of its last item, and that page's request has it.
func TestTheCursorOfServerListsIsOfTheLastItem(t *testing.T) {
	t.Parallel()
	e := newServerEdge(t)
	e.keyed.more = true
	for path, last := range map[string]string{
		"/users": bob, "/conversations": room, pathConversation + "/messages": hello, "/audit": bob,
		pathWebhook + "/attempts": bob, pathWebhook + "/dead": bob,
	} {
		r := e.do("GET", "/api/server"+path, serverToken, "")
		var page struct{ Pagination pagination }
		if err := json.Unmarshal([]byte(r.body), &page); err != nil || page.Pagination.NextCursor == nil || !page.Pagination.HasMore {
			t.Errorf("%s: %s: %v", path, r.body, err)
			continue
		}
		if at, err := cursor.Decode(*page.Pagination.NextCursor); err != nil || at.ID != last || !at.Time.Equal(someTime.Time) {
			t.Errorf("%s: the cursor is %+v (%v), want %s", path, at, err, last)
		}
	}
	// A list by seq has no cursor: its next page begins after its last seq.
	if r := e.do("GET", "/api/server"+pathConversation+"/messages?afterSeq=1", serverToken, ""); !strings.Contains(r.body, `{"nextCursor":null,"hasMore":true}`) {
		t.Errorf("after a seq: %s", r.body)
	}
}

func TestWebhooksThatAreNotConfigured(t *testing.T) {
	t.Parallel()
	e := newServerEdge(t, func(_ *Config, d *Deps) { d.Webhooks = nil })
	checked := 0
	for _, c := range serverCases {
		if strings.HasPrefix(c.path, "/webhooks") {
			checked++
			e.wantProblem(c.do(e, serverToken), 404, "webhooks_not_configured")
		}
	}
	e.wantCalls()
	if checked < 12 {
		t.Errorf("only %d requests were checked", checked)
	}
}

// A key cannot open a session for a banned or deactivated user.
func TestNoSessionForABarredUser(t *testing.T) {
	t.Parallel()
	e := newServerEdge(t)
	for code, cause := range map[string]error{"banned": &principal.BannedError{Until: someTime.Time}, "deactivated": principal.ErrDeactivated} {
		e.keyed.standing = cause
		r := e.do("POST", "/api/server"+pathUser+"/tokens", serverToken, "")
		e.wantProblem(r, 403, code)
		if (r.problem.Until != nil) != (code == "banned") {
			t.Errorf("%s until %v", code, r.problem.Until)
		}
	}
	e.wantCalls()
}

func TestAKeyBeyondItsMaker(t *testing.T) {
	t.Parallel()
	e := newServerEdge(t)
	e.keys.domainErr = &serverkey.BeyondError{Scopes: principal.Scopes{"act", "audit"}}
	r := e.do("POST", "/api/server/keys", serverToken, `{"name":"x","scopes":["act"]}`)
	e.wantProblem(r, 403, "scope_missing")
	if r.problem.Scope != "act" || strings.Contains(r.body, "parley_sk_") {
		t.Errorf("the problem is %s", r.body)
	}
	e.keys.domainErr = nil
	if r := e.do("POST", "/api/server/keys", serverToken, `{"name":"x","scopes":["act"],"expiresAt":"2999-01-01T00:00:00Z"}`); r.status != 201 || r.header.Get("Cache-Control") != "no-store" {
		t.Errorf("a new key is %d, cached as %q", r.status, r.header.Get("Cache-Control"))
	}
	e.calls.take()
	until := time.Now().Add(-time.Minute).UTC().Format(time.RFC3339)
	r = e.do("POST", "/api/server/keys", serverToken, `{"name":"x","scopes":["act"],"expiresAt":"`+until+`"}`)
	if !slices.Equal(r.fields(), []string{"expiresAt"}) {
		t.Errorf("a key that has expired: %s", r.body)
	}
}
