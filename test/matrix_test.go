package test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/parley-chat/parley/internal/client"
)

// rule is what the kinds of callers get on a route of a conversation or message. Paths name things of a world (see newGroup).
type rule struct {
	op, path string
	body     any
	// Of a group. Whoever is a member by another kind of token, or is blocked by the owner, gets the member's.
	member, admin, owner int
	// readOnly is the member's of a group in which only admins write, 0 for the same as member.
	readOnly int
	// peer is that of one of the two of a direct conversation, blocked that of both while one blocks the other. 0 is not asked.
	peer, blocked int
}

type anyJSON = map[string]any

// rules has a line for every operation on a conversation or message, which TestWhoMayDoWhat checks, and more where the target decides.
var rules = []rule{
	{"GET /api/conversations/{id}", "{c}", nil, 200, 200, 200, 0, 200, 200},
	{"PATCH /api/conversations/{id}", "{c}", anyJSON{"name": "x"}, 403, 200, 200, 0, 409, 409},
	{"DELETE /api/conversations/{id}", "{c}", nil, 403, 403, 204, 0, 409, 409},
	{"PATCH /api/conversations/{id}/me", "{c}/me", anyJSON{"archived": true}, 200, 200, 200, 0, 200, 200},
	{"GET /api/conversations/{id}/members", "{c}/members", nil, 200, 200, 200, 0, 200, 200},
	{"POST /api/conversations/{id}/members", "{c}/members", anyJSON{"userIds": []string{"{extra}"}}, 403, 200, 200, 0, 409, 409},
	{"PATCH /api/conversations/{id}/members/{userId}", "{c}/members/{other}", anyJSON{"role": "admin"}, 403, 403, 200, 0, 409, 409},
	{"PATCH /api/conversations/{id}/members/{userId}", "{c}/members/{extra}", anyJSON{"role": "admin"}, 403, 403, 404, 0, 409, 409},
	{"DELETE /api/conversations/{id}/members/{userId}", "{c}/members/{other}", nil, 403, 204, 204, 0, 409, 409},
	{"DELETE /api/conversations/{id}/members/{userId}", "{c}/members/{self}", nil, 204, 204, 204, 0, 409, 409},
	{"DELETE /api/conversations/{id}/members/{userId}", "{c}/members/{head}", nil, 403, 403, 204, 0, 0, 0},
	{"GET /api/conversations/{id}/messages", "{c}/messages", nil, 200, 200, 200, 0, 200, 200},
	{"GET /api/conversations/{id}/messages", "{c}/messages?afterSeq=0", nil, 200, 200, 200, 0, 200, 200},
	{"GET /api/conversations/{id}/messages", "{c}/messages?around={theirs}", nil, 200, 200, 200, 0, 200, 200},
	{"POST /api/conversations/{id}/messages", "{c}/messages", anyJSON{"content": "x"}, 201, 201, 201, 403, 201, 403},
	{"GET /api/conversations/{id}/pins", "{c}/pins", nil, 200, 200, 200, 0, 200, 200},
	{"GET /api/conversations/{id}/markers", "{c}/markers", nil, 200, 200, 200, 0, 200, 200},
	{"POST /api/conversations/{id}/read", "{c}/read", anyJSON{"upToMessageId": "{theirs}"}, 204, 204, 204, 0, 204, 204},
	{"POST /api/conversations/read", "/api/conversations/read", anyJSON{"conversations": anyJSON{"{id}": "{theirs}"}}, 204, 204, 204, 0, 204, 204},

	{"GET /api/messages/{id}", "/api/messages/{theirs}", nil, 200, 200, 200, 0, 200, 200},
	{"PATCH /api/messages/{id}", "/api/messages/{own}", anyJSON{"content": "x"}, 200, 200, 200, 403, 200, 403},
	{"PATCH /api/messages/{id}", "/api/messages/{theirs}", anyJSON{"content": "x"}, 403, 403, 403, 0, 403, 403},
	{"DELETE /api/messages/{id}", "/api/messages/{own}", nil, 204, 204, 204, 0, 204, 204},
	{"DELETE /api/messages/{id}", "/api/messages/{theirs}", nil, 403, 204, 204, 0, 403, 403},
	{"PUT /api/messages/{id}/pin", "/api/messages/{theirs}/pin", nil, 403, 200, 200, 0, 200, 403},
	{"DELETE /api/messages/{id}/pin", "/api/messages/{theirs}/pin", nil, 403, 200, 200, 0, 200, 403},
	{"GET /api/messages/{id}/reactions", "/api/messages/{theirs}/reactions", nil, 200, 200, 200, 0, 200, 200},
	{"PUT /api/messages/{id}/reactions/{reaction}", "/api/messages/{theirs}/reactions/x", nil, 200, 200, 200, 403, 200, 403},
	{"DELETE /api/messages/{id}/reactions/{reaction}", "/api/messages/{theirs}/reactions/x", nil, 200, 200, 200, 403, 200, 403},
	{"POST /api/messages/{id}/read", "/api/messages/{theirs}/read", nil, 204, 204, 204, 0, 204, 204},
	{"GET /api/messages/{id}/receipts", "/api/messages/{theirs}/receipts", nil, 200, 200, 200, 0, 200, 200},
}

// things fill in what rules name: c, id, theirs, own, other, head, extra and self.
type things map[string]string

func (w things) fill(s string) string {
	for name, v := range w {
		s = strings.ReplaceAll(s, "{"+name+"}", v)
	}
	return s
}

// body is a rule's, filled in.
func (w things) body(t *testing.T, body any) any {
	t.Helper()
	if body == nil {
		return nil
	}
	b, err := client.Body(body)
	if err != nil {
		t.Fatal(err)
	}
	return w.fill(string(b))
}

// caller is somebody who makes requests, as a key that acts for them if that is set.
type caller struct {
	name, id, token string
	acting          []string
}

func (p *pod) by(t *testing.T, c caller, method, path string, body any) answer {
	t.Helper()
	return p.call(t, c.token, method, path, body, c.acting...)
}

// matrix has everybody who calls, and makes groups and direct conversations for them by a server key.
type matrix struct {
	t     *testing.T
	p     *pod
	key   string
	made  int
	other caller
	extra string
	// who calls routes of a group, with the role.
	members, outside []caller
	head             caller
}

// acting is a new user of the product's, for whom the key acts.
func (m *matrix) acting(name string) caller {
	m.made++
	ext := fmt.Sprintf("%s-%d", name, m.made)
	r := m.p.upsert(m.t, m.key, anyJSON{"externalId": ext, "displayName": name})
	return caller{name, *r[0].ID, m.key, []string{"Parley-User", "ext:" + ext}}
}

func newMatrix(t *testing.T) *matrix {
	t.Helper()
	product := newProduct(t)
	s := start(t, 1, product.settings("both", "PARLEY_RATE_LIMIT_SERVER=off", "PARLEY_RATE_LIMIT_REACT=off")...)
	m := &matrix{t: t, p: s.pods[0], key: s.createKey(t, "back end", "users,conversations,act,tokens")}
	session := func(name string) caller {
		u := m.p.register(t)
		return caller{name: name, id: u.ID, token: u.token}
	}
	external := product.token("anna", nil)
	minted := m.acting("minted")
	var pair pair
	m.p.want(t, 201, m.key, "POST", "/api/server/users/"+minted.id+"/tokens", nil).into(t, &pair)
	m.other, m.head, m.extra = m.acting("other"), m.acting("head"), session("extra").id
	m.members = []caller{
		session("owner"), session("admin"), session("member"), session("blocked"), {name: "external", id: m.p.me(t, external).ID, token: external},
		{name: "minted", id: minted.id, token: pair.AccessToken}, m.acting("acting"),
	}
	m.outside = []caller{{name: "anonymous", id: m.extra}, session("stranger"), session("removed")}
	m.p.want(t, 204, m.members[0].token, "PUT", "/api/blocks/"+m.members[3].id, nil)
	return m
}

// newGroup makes a group of all members, with a message of other's and one of the caller's.
func (m *matrix) newGroup(c caller, posting string) things {
	m.t.Helper()
	m.made++
	path := fmt.Sprintf("/api/server/conversations/ext:group-%d", m.made)
	list := []anyJSON{{"user": m.other.id}, {"user": m.head.id, "role": "owner"}, {"user": m.outside[2].id}}
	for _, x := range m.members {
		role := map[string]string{"owner": "owner", "admin": "admin"}[x.name]
		if role == "" {
			role = "member"
		}
		list = append(list, anyJSON{"user": x.id, "role": role})
	}
	var g conversation
	m.p.want(m.t, 201, m.key, "PUT", path, anyJSON{"name": "a group", "members": list}).into(m.t, &g)
	theirs := m.write(m.other, g.ID)
	own := theirs
	if slices.ContainsFunc(m.members, func(x caller) bool { return x.id == c.id }) {
		own = m.write(c, g.ID)
	}
	m.p.want(m.t, 200, m.key, "DELETE", path+"/members", anyJSON{"users": []string{m.outside[2].id}})
	if posting != "" {
		m.p.want(m.t, 200, m.key, "PATCH", path, anyJSON{"posting": posting})
	}
	return things{"c": "/api/conversations/" + g.ID, "id": g.ID, "theirs": theirs, "own": own, "other": m.other.id, "head": m.head.id, "extra": m.extra, "self": c.id}
}

func (m *matrix) write(c caller, conversationID string) string {
	m.t.Helper()
	var x message
	a := m.p.by(m.t, c, "POST", "/api/conversations/"+conversationID+"/messages", anyJSON{"content": "hello"})
	if a.status != 201 {
		m.t.Fatalf("%s writes: %d %s", c.name, a.status, a.body)
	}
	a.into(m.t, &x)
	return x.ID
}

// newDirect makes two people with a direct conversation in which both wrote. The caller is the first; blocked is "", "blocker" or "blocked".
func (m *matrix) newDirect(blocked string) (caller, things) {
	m.t.Helper()
	one, two := m.acting("one"), m.acting("two")
	var c conversation
	m.p.by(m.t, one, "POST", "/api/conversations", anyJSON{"type": "direct", "memberIds": []string{two.id}}).into(m.t, &c)
	w := things{"c": "/api/conversations/" + c.ID, "id": c.ID, "own": m.write(one, c.ID), "theirs": m.write(two, c.ID), "other": two.id, "extra": m.extra, "self": one.id}
	switch blocked {
	case "blocker":
		m.p.by(m.t, one, "PUT", "/api/blocks/"+two.id, nil)
	case "blocked":
		m.p.by(m.t, two, "PUT", "/api/blocks/"+one.id, nil)
	}
	return one, w
}

// cell makes the request of a rule, and reports whether the world is as it was.
func (m *matrix) cell(r rule, c caller, w things, want int) (same bool) {
	m.t.Helper()
	method, _, _ := strings.Cut(r.op, " ")
	a := m.p.by(m.t, c, method, w.fill(r.path), w.body(m.t, r.body))
	if a.status != want {
		m.t.Errorf("%s (%s) by %s: %d %s, want %d", r.op, r.path, c.name, a.status, a.body, want)
	}
	if want == 404 && !strings.HasSuffix(a.code(), "_not_found") {
		m.t.Errorf("%s by %s: %s", r.op, c.name, a.code())
	}
	return a.status >= 300 || !r.destroys(method)
}

// destroys reports whether a rule's request, where it succeeds, leaves a world in which other rules have other results.
func (r rule) destroys(method string) bool {
	if strings.HasSuffix(r.path, "/pin") || strings.Contains(r.path, "/reactions/") {
		return false
	}
	return method == "DELETE" || method != "GET" && strings.Contains(r.path, "/members")
}

func (r rule) wants(c caller) int {
	switch c.name {
	case "owner":
		return r.owner
	case "admin":
		return r.admin
	}
	return r.member
}

// Every operation on conversations and messages by every kind of caller, in groups, in groups in which only admins write, and in direct
// conversations with and without a block. Whoever is not admitted at all is in TestWhoIsAdmittedToEveryRoute.
func TestWhoMayDoWhat(t *testing.T) {
	t.Parallel()
	expectRules(t)
	m := newMatrix(t)
	for _, c := range m.members {
		t.Run(c.name, m.in(func() { m.byMember(c, "") }))
		t.Run(c.name+" where only admins write", m.in(func() { m.byMember(c, "admins") }))
	}
	for _, c := range m.outside {
		t.Run(c.name, m.in(func() { m.byOutsider(c) }))
	}
	for name, blocked := range map[string]string{"a peer": "", "a peer that blocks": "blocker", "a blocked peer": "blocked"} {
		t.Run(name, m.in(func() { m.byPeer(blocked) }))
	}
}

// expectRules checks that every operation on a conversation or message has a rule.
func expectRules(t *testing.T) {
	t.Helper()
	doc, err := document()
	if err != nil {
		t.Fatal(err)
	}
	for _, op := range doc.Operations() {
		_, path, _ := strings.Cut(op, " ")
		of := strings.HasPrefix(path, "/api/conversations/") || strings.HasPrefix(path, "/api/messages/")
		if of && !slices.ContainsFunc(rules, func(r rule) bool { return r.op == op }) {
			t.Errorf("%s has no rule", op)
		}
	}
}

// in is a subtest, which fails if a cell of do does.
func (m *matrix) in(do func()) func(*testing.T) {
	return func(t *testing.T) {
		outer := m.t
		m.t = t
		defer func() { m.t = outer }()
		do()
	}
}

// byOutsider sends the requests as a non-member, for whom nothing exists.
func (m *matrix) byOutsider(c caller) {
	want := 404
	if c.token == "" {
		want = 401
	}
	w := m.newGroup(c, "")
	for _, r := range rules {
		m.cell(r, c, w, want)
	}
}

// byMember makes the requests of a member of a group. With posting only those are made that then have another result.
func (m *matrix) byMember(c caller, posting string) {
	var w things
	for _, r := range rules {
		want := r.wants(c)
		if posting != "" && r.readOnly == 0 {
			continue // as without
		}
		if posting != "" && want == r.member && c.name != "owner" && c.name != "admin" {
			want = r.readOnly
		}
		if w == nil {
			w = m.newGroup(c, posting)
		}
		if !m.cell(r, c, w, want) {
			w = nil
		}
	}
}

// byPeer makes the requests of one of the two of a direct conversation.
func (m *matrix) byPeer(blocked string) {
	var c caller
	var w things
	for _, r := range rules {
		want := r.peer
		if blocked != "" {
			want = r.blocked
		}
		if want == 0 {
			continue
		}
		if w == nil {
			c, w = m.newDirect(blocked)
			c.name += " " + blocked
		}
		if !m.cell(r, c, w, want) {
			w = nil
		}
	}
}
