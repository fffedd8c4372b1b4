package test

import (
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/parley-chat/parley/internal/id"
	"github.com/parley-chat/parley/internal/principal"
)

// admission is whether a request got as far as its handler: "in", or the code with which it was refused before.
func admission(a answer) string {
	switch a.code() {
	case "unauthorized", "banned", "deactivated", "scope_missing", "key_in_browser", "not_provisioned":
		return a.code()
	}
	return "in"
}

// Every operation that the document has, by every kind of caller. What members may do is in TestWhoMayDoWhat.
func TestWhoIsAdmittedToEveryRoute(t *testing.T) {
	t.Parallel()
	product := newProduct(t)
	s := start(t, 1, product.settings("both", "PARLEY_RATE_LIMIT_SERVER=off", "PARLEY_RATE_LIMIT_REFRESH=off", "PARLEY_RATE_LIMIT_UPLOAD=off", "PARLEY_RATE_LIMIT_REACT=off")...)
	p := s.pods[0]
	admin := s.createKey(t, "admin", "users,moderation")
	stranger, banned, deactivated, acted := p.register(t), p.register(t), p.register(t), p.register(t)
	p.want(t, 200, admin, "PUT", "/api/server/users/"+banned.ID+"/ban", nil)
	p.want(t, 200, admin, "POST", "/api/server/users/"+deactivated.ID+"/deactivate", nil)
	keys := map[string]string{}
	for _, scope := range principal.AllScopes() {
		for _, sc := range []string{scope, principal.Read(scope)} {
			keys[sc] = s.createKey(t, "only "+strings.ReplaceAll(sc, ":", " "), sc)
		}
	}
	doc, err := document()
	if err != nil {
		t.Fatal(err)
	}
	param := regexp.MustCompile(`\{[^}]+\}`)
	cells, described := 0, map[string]bool{}
	for _, op := range doc.Operations() {
		method, template, _ := strings.Cut(op, " ")
		needed := doc.Scope(op)
		if needed == "" || template == "/api/ws" {
			continue
		}
		path := param.ReplaceAllStringFunc(template, func(string) string { return id.New() })
		var body any
		if err := doc.Request(method, path, []byte("{}")); method != "GET" && (err == nil || !strings.Contains(err.Error(), "no body is described")) {
			body = map[string]any{"nonsense": true} // no handler does anything with it
		}
		is := func(caller, token, want string, headers ...string) {
			t.Helper()
			cells++
			a, err := p.try(token, method, path, body, headers...)
			if err != nil {
				t.Fatal(err)
			}
			if admission(a) != want {
				t.Errorf("%s by %s: %d %s, want %s", op, caller, a.status, a.body, want)
			}
			if kind := op + want; !described[kind] { // which is slow
				described[kind] = true
				if err := doc.Response(method, path, a.status, a.header, a.body); err != nil {
					t.Errorf("%s by %s: not as in the OpenAPI document: %v", op, caller, err)
				}
			}
		}
		byUser := "in"
		if needed != "act" {
			byUser = "scope_missing"
		}
		is("anonymous", "", "unauthorized")
		is("nonsense", "nonsense", "unauthorized")
		is("a banned user", banned.token, "banned")
		is("a deactivated user", deactivated.token, "deactivated")
		if op != "DELETE /api/users/me" { // takes no body from one of the product's
			is("an external user", product.token(fmt.Sprint("user ", cells), nil), byUser)
		}
		is("a stranger", stranger.token, byUser)
		if needed == "act" && method == "GET" {
			needed = principal.Read("act")
		}
		for scope, key := range keys {
			want := "scope_missing"
			if (principal.Scopes{scope}).Allow(needed) {
				want = "in"
			}
			var acting []string
			if strings.HasPrefix(needed, "act") {
				acting = []string{"Parley-User", acted.ID}
			}
			if op == "DELETE /api/server/keys/{id}" || op == "POST /api/server/keys" || want != "in" || op != "DELETE /api/users/me" {
				is("a key with "+scope, key, want, acting...)
			}
			if want == "in" && acting != nil {
				is("a key acting for a banned user", key, "banned", "Parley-User", banned.ID)
				is("a key acting for a deactivated user", key, "deactivated", "Parley-User", deactivated.ID)
				is("a key in a browser", key, "key_in_browser", "Parley-User", acted.ID, "Origin", "https://x.example.com")
			}
		}
	}
	if cells < 1500 {
		t.Errorf("there are only %d cells", cells)
	}
}
