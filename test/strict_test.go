package test

import (
	"bytes"
	"net/http"
	"testing"
	"time"
)

// Input that encoding/json, the database or a library would change or choke on is refused by name, never a 500.
func TestInputThatIsNotTextIsRefused(t *testing.T) {
	t.Parallel()
	s := start(t, 1, "PARLEY_BOOTSTRAP_KEY="+bootstrapKey)
	p := s.pods[0]
	u := p.users(t, 2)
	d := p.direct(t, u[0], u[1])
	m := p.send(t, u[0], d.ID, "hello")
	messages, server := "/api/conversations/"+d.ID+"/messages", "/api/server/conversations/"+d.ID
	for _, c := range []struct {
		token, method, path, body string
		status                    int
		code, fields              string
	}{
		{u[0].token, "POST", messages, `{"content":"half \ud83d"}`, 400, "invalid_request", "content"},
		{u[0].token, "POST", messages, `{"content":"x","clientMessageId":"\ud800"}`, 400, "invalid_request", "clientMessageId"},
		{u[0].token, "POST", messages, `{"content":"x","metadata":{"a":"\udc00"}}`, 400, "invalid_request", "metadata"},
		{u[0].token, "POST", messages, `{"content":"x","metadata":{"a":{"b":1,"b":2}}}`, 400, "invalid_request", "metadata"},
		{u[0].token, "POST", messages, `{"content":"x","mentions":{"all":true,"all":false}}`, 400, "invalid_request", "mentions"},
		{u[0].token, "POST", messages, `{"content":"whole \ud83d\ude00"}`, 201, "", ""},
		{u[1].token, "PUT", "/api/messages/" + m.ID + "/reactions/%ff", "", 400, "invalid_request", "reaction"},
		{u[1].token, "PUT", "/api/messages/" + m.ID + "/reactions/%00", "", 400, "invalid_request", "reaction"},
		{u[1].token, "GET", "/api/messages/" + m.ID + "/reactions?reaction=%ff", "", 400, "invalid_request", "reaction"},
		{u[1].token, "GET", "/api/conversations?q=%ff", "", 400, "invalid_request", "q"},
		{u[1].token, "GET", "/api/conversations?cursor=%00", "", 400, "invalid_request", "cursor"},
		{bootstrapKey, "GET", "/api/server/users/ext:%ff", "", 404, "user_not_found", ""},
		{bootstrapKey, "GET", "/api/server/users/ext:%00", "", 404, "user_not_found", ""},
		{bootstrapKey, "GET", "/api/server/users?q=%00", "", 400, "invalid_request", "q"},
		{bootstrapKey, "GET", "/api/server/conversations/ext:%ff", "", 404, "conversation_not_found", ""},
		{bootstrapKey, "GET", "/api/server/audit?actor=%ff", "", 400, "invalid_request", "actor"},
		{bootstrapKey, "POST", server + "/messages", `{"sender":"ext:\u0000","content":"x","clientMessageId":"k"}`, 404, "user_not_found", ""},
		{bootstrapKey, "PUT", "/api/server/conversations/ext:room", `{"name":"Room","members":[{"user":"ext:\u0000"}]}`, 404, "user_not_found", ""},
	} {
		var body any
		if c.body != "" {
			body = c.body
		}
		a := p.call(t, c.token, c.method, c.path, body)
		if a.status != c.status || a.status >= 400 && a.code() != c.code || a.status == 400 && a.problem(t).fields() != c.fields {
			t.Errorf("%s %s %s: %d %s, want %d %s of %q", c.method, c.path, c.body, a.status, a.body, c.status, c.code, c.fields)
		}
	}
	sock := p.open(t, u[0])
	var pr problem
	f := sock.ask("message:send", map[string]any{"conversationId": d.ID, "content": "x", "clientMessageId": "k", "metadata": rawJSON(`{"a":"\ud800"}`)})
	if f.into(t, &pr); f.Type != "error" || pr.fields() != "metadata" {
		t.Errorf("half of a pair in a frame: %s %s", f.Type, f.Data)
	}
}

// rawJSON is sent as it is.
type rawJSON string

func (r rawJSON) MarshalJSON() ([]byte, error) { return []byte(r), nil }

func TestTheSchemeOfATokenHasAnyCaseAndSubProtocolsAnyOrder(t *testing.T) {
	t.Parallel()
	p := start(t, 1).pods[0]
	u := p.register(t)
	for _, scheme := range []string{"Bearer", "bearer", "BEARER"} {
		if a := p.call(t, "", "GET", "/api/users/me", nil, "Authorization", scheme+" "+u.token); a.status != 200 {
			t.Errorf("%s: %d %s", scheme, a.status, a.body)
		}
		if _, err := p.dial(t, "/api/ws", http.Header{"Authorization": {scheme + " " + u.token}}); err != nil {
			t.Errorf("%s, a socket: %v", scheme, err)
		}
	}
	sock, err := p.dial(t, "/api/ws", nil, "bearer."+u.token, "parley.v1")
	if err != nil || sock.conn.Subprotocol() != "parley.v1" {
		t.Fatalf("the token first: %+v %v", sock, err)
	}
	if f := sock.next(5 * time.Second); f.Type != "ready" {
		t.Errorf("the first frame is %s", f.Type)
	}
}

func TestEveryListHasItsPagination(t *testing.T) {
	t.Parallel()
	p := start(t, 1, "PARLEY_BOOTSTRAP_KEY="+bootstrapKey, "PARLEY_SECRETS_KEY=MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=").pods[0]
	u := p.register(t)
	for path, token := range map[string]string{
		"/api/auth/sessions": u.token, "/api/friends": u.token, "/api/blocks": u.token, "/api/conversations": u.token,
		"/api/server/keys": bootstrapKey, "/api/server/webhooks": bootstrapKey, "/api/server/audit": bootstrapKey,
	} {
		if a := p.want(t, 200, token, "GET", path, nil); !bytes.Contains(a.body, []byte(`"pagination":{"nextCursor":null,"hasMore":false}`)) {
			t.Errorf("%s: %s", path, a.body)
		}
	}
}
