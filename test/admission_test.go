package test

import (
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/parley-chat/parley/internal/httpapi/apidoc/apidoctest"
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

// door tries operations as different callers and counts how often.
type door struct {
	t         *testing.T
	p         *pod
	doc       *apidoctest.Validator
	described map[string]bool // operation and outcome: once each, since that is slow
	tries     int

	product                              *product
	keys                                 map[string]string // by scope
	stranger, banned, deactivated, acted user
}

// operation is one of the document's, with a path that leads nowhere and a body that no handler does anything with.
type operation struct {
	name, method, path, scope string
	body                      any
}

var pathParameter = regexp.MustCompile(`\{[^}]+\}`)

// operations are those of the document that need a scope, but for the socket.
func (d *door) operations() (out []operation) {
	for _, op := range d.doc.Operations() {
		method, template, _ := strings.Cut(op, " ")
		o := operation{name: op, method: method, scope: d.doc.Scope(op)}
		if o.scope == "" || template == "/api/ws" {
			continue
		}
		o.path = pathParameter.ReplaceAllStringFunc(template, func(string) string { return id.New() })
		if err := d.doc.Request(method, o.path, []byte("{}")); method != "GET" && (err == nil || !strings.Contains(err.Error(), "no body is described")) {
			o.body = map[string]any{"nonsense": true}
		}
		out = append(out, o)
	}
	return out
}

// is checks with what the caller is refused, or that it is let in.
func (d *door) is(o operation, caller, token, want string, headers ...string) {
	d.t.Helper()
	d.tries++
	a, err := d.p.try(token, o.method, o.path, o.body, headers...)
	if err != nil {
		d.t.Fatal(err)
	}
	if admission(a) != want {
		d.t.Errorf("%s by %s: %d %s, want %s", o.name, caller, a.status, a.body, want)
	}
	if kind := o.name + want; !d.described[kind] {
		d.described[kind] = true
		if err := d.doc.Response(o.method, o.path, a.status, a.header, a.body); err != nil {
			d.t.Errorf("%s by %s: not as in the OpenAPI document: %v", o.name, caller, err)
		}
	}
}

// people are callers without a key.
func (d *door) people(o operation) {
	d.t.Helper()
	byUser := "in"
	if o.scope != "act" {
		byUser = "scope_missing"
	}
	d.is(o, "anonymous", "", "unauthorized")
	d.is(o, "nonsense", "nonsense", "unauthorized")
	d.is(o, "a banned user", d.banned.token, "banned")
	d.is(o, "a deactivated user", d.deactivated.token, "deactivated")
	if o.name != "DELETE /api/users/me" { // takes no body from one of the product's
		d.is(o, "an external user", d.product.token(fmt.Sprint("user ", d.tries), nil), byUser)
	}
	d.is(o, "a stranger", d.stranger.token, byUser)
}

// servers are callers with the key of one scope.
func (d *door) servers(o operation) {
	d.t.Helper()
	needed := o.scope
	if needed == "act" && o.method == "GET" {
		needed = principal.Read("act")
	}
	var acting []string
	if strings.HasPrefix(needed, "act") {
		acting = []string{"Parley-User", d.acted.ID}
	}
	for scope, key := range d.keys {
		want := "scope_missing"
		if (principal.Scopes{scope}).Allow(needed) {
			want = "in"
		}
		if want != "in" || o.name != "DELETE /api/users/me" {
			d.is(o, "a key with "+scope, key, want, acting...)
		}
		if want == "in" && acting != nil {
			d.is(o, "a key acting for a banned user", key, "banned", "Parley-User", d.banned.ID)
			d.is(o, "a key acting for a deactivated user", key, "deactivated", "Parley-User", d.deactivated.ID)
			d.is(o, "a key in a browser", key, "key_in_browser", "Parley-User", d.acted.ID, "Origin", "https://x.example.com")
		}
	}
}

// Every operation that the document has, by every kind of caller. What members may do is in TestWhoMayDoWhat.
func TestWhoIsAdmittedToEveryRoute(t *testing.T) {
	t.Parallel()
	product := newProduct(t)
	s := start(t, 1, product.settings("both", "PARLEY_RATE_LIMIT_SERVER=off", "PARLEY_RATE_LIMIT_REFRESH=off", "PARLEY_RATE_LIMIT_UPLOAD=off", "PARLEY_RATE_LIMIT_REACT=off")...)
	p := s.pods[0]
	doc, err := document()
	if err != nil {
		t.Fatal(err)
	}
	d := &door{t: t, p: p, doc: doc, described: map[string]bool{}, product: product, keys: map[string]string{}}
	d.stranger, d.banned, d.deactivated, d.acted = p.register(t), p.register(t), p.register(t), p.register(t)
	admin := s.createKey(t, "admin", "users,moderation")
	p.want(t, 200, admin, "PUT", "/api/server/users/"+d.banned.ID+"/ban", nil)
	p.want(t, 200, admin, "POST", "/api/server/users/"+d.deactivated.ID+"/deactivate", nil)
	for _, scope := range principal.AllScopes() {
		for _, sc := range []string{scope, principal.Read(scope)} {
			d.keys[sc] = s.createKey(t, "only "+strings.ReplaceAll(sc, ":", " "), sc)
		}
	}
	for _, o := range d.operations() {
		d.people(o)
		d.servers(o)
	}
	if d.tries < 1500 {
		t.Errorf("there are only %d tries", d.tries)
	}
}
