package test

import (
	"database/sql"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/parley-chat/parley/internal/id"
)

type relation struct {
	User      struct{ ID string }
	CreatedAt string
}

type friendState struct {
	Status string
	User   struct{ ID string }
}

func (p *pod) ask(t testing.TB, from, to user, status int) friendState {
	t.Helper()
	var s friendState
	p.want(t, status, from.token, "POST", "/api/friends/requests", map[string]any{"userId": to.ID}).into(t, &s)
	return s
}

// friends are the ids on a user's list, and the numbers of open requests.
func (p *pod) friends(t testing.TB, u user) (ids []string, incoming, outgoing int) {
	t.Helper()
	var l struct{ Data []relation }
	p.want(t, 200, u.token, "GET", "/api/friends?limit=100", nil).into(t, &l)
	for _, r := range l.Data {
		ids = append(ids, r.User.ID)
	}
	var q struct{ Incoming, Outgoing []relation }
	p.want(t, 200, u.token, "GET", "/api/friends/requests", nil).into(t, &q)
	return ids, len(q.Incoming), len(q.Outgoing)
}

func (s *socket) friend(typ string, who user) {
	s.t.Helper()
	var d struct {
		User struct{ ID, Username, DisplayName string }
	}
	if s.until(typ, 5*time.Second).into(s.t, &d); d.User.ID != who.ID || d.User.Username != who.Username {
		s.t.Errorf("%s reports %+v, want %s", typ, d, who.Username)
	}
}

func TestFriends(t *testing.T) {
	t.Parallel()
	s := plainSystem(t)
	p, q := s.pods[0], s.pods[1]
	u := p.users(t, 3)
	anna, ben := p.open(t, u[0]), q.open(t, u[1])
	check := func(name string, who user, friends, in, out int) {
		t.Helper()
		if ids, i, o := q.friends(t, who); len(ids) != friends || i != in || o != out {
			t.Errorf("%s: %d friends, %d incoming, %d outgoing; want %d, %d, %d", name, len(ids), i, o, friends, in, out)
		}
	}
	if f := p.ask(t, u[0], u[1], 201); f.Status != "pending" || f.User.ID != u[1].ID {
		t.Errorf("asked: %+v", f)
	}
	ben.friend("friend:requested", u[0])
	p.ask(t, u[0], u[1], 200) // again
	check("who asked", u[0], 0, 0, 1)
	check("who was asked", u[1], 0, 1, 0)
	if f := q.ask(t, u[1], u[0], 200); f.Status != "accepted" { // asking back accepts
		t.Errorf("asked back: %+v", f)
	}
	anna.friend("friend:accepted", u[1])
	check("friends", u[0], 1, 0, 0)
	check("friends", u[1], 1, 0, 0)
	p.want(t, 204, u[0].token, "DELETE", "/api/friends/"+u[1].ID, nil)
	ben.friend("friend:removed", u[0])
	p.want(t, 404, u[0].token, "DELETE", "/api/friends/"+u[1].ID, nil)
	check("strangers again", u[1], 0, 0, 0)

	p.ask(t, u[0], u[1], 201)
	q.want(t, 200, u[1].token, "POST", "/api/friends/requests/"+u[0].ID+"/accept", nil)
	anna.friend("friend:accepted", u[1])
	q.want(t, 200, u[1].token, "POST", "/api/friends/requests/"+u[0].ID+"/accept", nil) // again
	q.want(t, 204, u[1].token, "DELETE", "/api/friends/"+u[0].ID, nil)
	p.ask(t, u[0], u[1], 201)
	q.want(t, 204, u[1].token, "DELETE", "/api/friends/requests/"+u[0].ID, nil) // declines
	anna.friend("friend:removed", u[1])
	p.ask(t, u[0], u[1], 201)
	p.want(t, 204, u[0].token, "DELETE", "/api/friends/requests/"+u[1].ID, nil) // cancels
	for _, path := range []string{"/accept", ""} {
		method := map[bool]string{true: "POST", false: "DELETE"}[path != ""]
		if a := q.call(t, u[1].token, method, "/api/friends/requests/"+u[0].ID+path, nil); a.status != 404 || a.code() != "request_not_found" {
			t.Errorf("a request that is gone: %d %s", a.status, a.body)
		}
	}
	if a := p.call(t, u[0].token, "POST", "/api/friends/requests", map[string]any{"userId": u[0].ID}); a.status != 400 || a.problem(t).fields() != "userId" {
		t.Errorf("asking oneself: %d %s", a.status, a.body)
	}
	if a := p.call(t, u[0].token, "POST", "/api/friends/requests", map[string]any{"userId": "x"}); a.status != 400 {
		t.Errorf("asking no id: %d %s", a.status, a.body)
	}
	p.want(t, 401, "", "GET", "/api/friends", nil)
}

func TestABlockLooksLikeNobody(t *testing.T) {
	t.Parallel()
	s := plainSystem(t)
	p, q := s.pods[0], s.pods[1]
	u := p.users(t, 5)
	a, b, other := u[0], u[1], u[2]
	nobody := user{ID: id.New()}
	p.ask(t, a, b, 201)
	p.want(t, 200, b.token, "POST", "/api/friends/requests/"+a.ID+"/accept", nil)
	direct := p.direct(t, a, b)
	group := p.group(t, other, a, u[3])
	bens := q.open(t, b)
	p.want(t, 204, a.token, "PUT", "/api/blocks/"+b.ID, nil)
	bens.friend("friend:removed", a) // as an unfriending
	p.want(t, 204, a.token, "PUT", "/api/blocks/"+b.ID, nil)
	p.want(t, 204, b.token, "PUT", "/api/blocks/"+nobody.ID, nil)
	if x := p.call(t, a.token, "PUT", "/api/blocks/"+a.ID, nil); x.status != 400 {
		t.Errorf("blocking oneself: %d %s", x.status, x.body)
	}
	for name, x := range map[string]struct {
		method, path string
		body         func(id string) any // nil for none
	}{
		"a profile":             {"GET", "/api/users/{}", nil},
		"a request":             {"POST", "/api/friends/requests", func(x string) any { return map[string]any{"userId": x} }},
		"unfriending":           {"DELETE", "/api/friends/{}", nil},
		"a direct conversation": {"POST", "/api/conversations", func(x string) any { return map[string]any{"type": "direct", "memberIds": []string{x}} }},
		"a group": {"POST", "/api/conversations", func(x string) any {
			return map[string]any{"type": "group", "name": "x", "memberIds": []string{x, other.ID}}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			q.looksLikeNobody(t, a, b, x.method, x.path, x.body)
			q.looksLikeNobody(t, b, a, x.method, x.path, x.body)
		})
	}
	p.want(t, 200, other.token, "PATCH", "/api/conversations/"+group.ID+"/members/"+a.ID, map[string]any{"role": "admin"})
	p.call(t, a.token, "POST", "/api/conversations/"+group.ID+"/members", map[string]any{"userIds": []string{b.ID}}).check(t, "adding across a block", 404, "user_not_found")
	p.want(t, 200, other.token, "POST", "/api/conversations/"+group.ID+"/members", map[string]any{"userIds": []string{b.ID}}) // by a third
	for _, who := range []user{a, b} {
		p.call(t, who.token, "POST", "/api/conversations/"+direct.ID+"/messages", map[string]any{"content": "x"}).check(t, "a direct message", 403, "cannot_message")
		p.send(t, who, group.ID, "in the group")
		p.cannotType(t, who, direct.ID)
		if ids, in, out := p.friends(t, who); len(ids)+in+out != 0 {
			t.Errorf("something is left of the friendship: %v %d %d", ids, in, out)
		}
	}
	var l struct{ Data []relation }
	p.want(t, 200, a.token, "GET", "/api/blocks", nil).into(t, &l)
	if len(l.Data) != 1 || l.Data[0].User.ID != b.ID {
		t.Errorf("blocks: %+v", l)
	}
	p.want(t, 204, a.token, "DELETE", "/api/blocks/"+b.ID, nil)
	p.want(t, 204, a.token, "DELETE", "/api/blocks/"+b.ID, nil)
	p.want(t, 200, b.token, "GET", "/api/users/"+a.ID, nil)
	p.send(t, b, direct.ID, "hello again")
}

// looksLikeNobody checks that a request of who about whom gets a 404, the same that it gets about nobody.
func (p *pod) looksLikeNobody(t *testing.T, who, whom user, method, path string, body func(id string) any) {
	t.Helper()
	refusal := func(about string) (status int, text string) {
		var in any
		if body != nil {
			in = body(about)
		}
		a := p.call(t, who.token, method, strings.ReplaceAll(path, "{}", about), in)
		pr := a.problem(t)
		return a.status, fmt.Sprint(pr.Type, pr.Title, pr.Status, pr.Detail, pr.Code, pr.Errors)
	}
	status, got := refusal(whom.ID)
	statusOfNobody, want := refusal(id.New())
	if status != 404 || got != want {
		t.Errorf("across a block %d %s, of nobody %d %s", status, got, statusOfNobody, want)
	}
}

// cannotType checks that a user who types in the conversation gets the error cannot_message.
func (p *pod) cannotType(t *testing.T, who user, conversationID string) {
	t.Helper()
	f := p.open(t, who).ask("typing:start", map[string]any{"conversationId": conversationID})
	var pr problem
	if f.into(t, &pr); f.Type != "error" || pr.Code != "cannot_message" {
		t.Errorf("typing: %s %s", f.Type, f.Data)
	}
}

// Whatever two do at once, they end as friends of each other, as one who asked, or as nothing: the same on both sides.
func TestRacesEndInOneState(t *testing.T) {
	t.Parallel()
	s := plainSystem(t)
	u := s.pods[0].users(t, 2)
	a, b := u[0], u[1]
	ask := func(who, whom user) func(p *pod) {
		return func(p *pod) {
			_, _ = p.try(who.token, "POST", "/api/friends/requests", map[string]any{"userId": whom.ID})
		}
	}
	do := func(who user, method, path string) func(p *pod) {
		return func(p *pod) { _, _ = p.try(who.token, method, path, nil) }
	}
	for name, c := range map[string]struct {
		before func(p *pod)
		first  func(p *pod)
		second func(p *pod)
		ends   []string
	}{
		"both ask":                {nil, ask(a, b), ask(b, a), []string{"friends"}},
		"accept while cancelling": {ask(a, b), do(b, "POST", "/api/friends/requests/"+a.ID+"/accept"), do(a, "DELETE", "/api/friends/requests/"+b.ID), []string{"friends", "nothing"}},
		"block while accepting":   {ask(a, b), do(b, "POST", "/api/friends/requests/"+a.ID+"/accept"), do(a, "PUT", "/api/blocks/"+b.ID), []string{"nothing"}},
		"ask while blocking":      {nil, ask(a, b), do(b, "PUT", "/api/blocks/"+a.ID), []string{"nothing"}},
		"both unfriend":           {func(p *pod) { ask(a, b)(p); ask(b, a)(p) }, do(a, "DELETE", "/api/friends/"+b.ID), do(b, "DELETE", "/api/friends/"+a.ID), []string{"nothing"}},
	} {
		for range 15 {
			if c.before != nil {
				c.before(s.pods[0])
			}
			var wg sync.WaitGroup
			wg.Go(func() { c.first(s.pods[0]) })
			wg.Go(func() { c.second(s.pods[1]) })
			wg.Wait()
			if end, details := s.friendship(t, a, b); !slices.Contains(c.ends, end) {
				t.Fatalf("%s ends as %s: %s", name, end, details)
			}
			for _, x := range []struct{ who, whom user }{{a, b}, {b, a}} {
				do(x.who, "DELETE", "/api/blocks/"+x.whom.ID)(s.pods[0])
				do(x.who, "DELETE", "/api/friends/"+x.whom.ID)(s.pods[0])
				do(x.who, "DELETE", "/api/friends/requests/"+x.whom.ID)(s.pods[0])
			}
		}
	}
}

// friendship is what one pod shows to a and another one to b: "friends", "nothing", or else "inconsistent". details are the lists of both.
func (s *system) friendship(t testing.TB, a, b user) (is, details string) {
	t.Helper()
	fa, ia, oa := s.pods[0].friends(t, a)
	fb, ib, ob := s.pods[1].friends(t, b)
	is, details = "inconsistent", fmt.Sprintf("%v %d %d, %v %d %d", fa, ia, oa, fb, ib, ob)
	switch {
	case len(fa) == 1 && len(fb) == 1 && ia+oa+ib+ob == 0:
		is = "friends"
	case len(fa)+len(fb)+ia+oa+ib+ob == 0:
		is = "nothing"
	}
	return is, details
}

func TestListsOfFriendsArePaged(t *testing.T) {
	t.Parallel()
	s := plainSystem(t)
	p := s.pods[0]
	u := p.users(t, 8)
	for _, x := range u[1:] {
		p.ask(t, x, u[0], 201)
		p.ask(t, u[0], x, 200)
	}
	list := everyPage[relation](t, p, u[0].token, "/api/friends?limit=3")
	if len(list) != 7 || list[0].User.ID != u[7].ID || list[6].User.ID != u[1].ID {
		t.Errorf("%d friends are listed, want 7, from %s to %s: %+v", len(list), u[7].ID, u[1].ID, list)
	}
	for _, path := range []string{"/api/friends", "/api/friends/requests", "/api/blocks"} {
		for _, cursor := range []string{"", "x", "W10", "eyJ9", "WzEsMl0"} {
			p.expectInvalidCursor(t, u[0].token, path, cursor)
		}
	}
}

func TestOpenRequestsAreBounded(t *testing.T) {
	t.Parallel()
	s := plainSystem(t)
	p := s.pods[0]
	u := p.register(t)
	for i, other := range s.bareUsers(t, 102) {
		a := p.call(t, u.token, "POST", "/api/friends/requests", map[string]any{"userId": other})
		if want := map[bool]int{true: 201, false: 409}[i < 100]; a.status != want {
			t.Fatalf("request %d: %d %s", i+1, a.status, a.body)
		}
	}
}

// To block is a 204 for any id, so what it leaves must not reveal whether the user exists either.
func TestBlockingBackShowsNothing(t *testing.T) {
	t.Parallel()
	s := plainSystem(t)
	p := s.pods[0]
	u := p.users(t, 2)
	a, b := u[0], u[1]
	blocks := func(who user) (n int) {
		var l struct{ Data []relation }
		p.want(t, 200, who.token, "GET", "/api/blocks", nil).into(t, &l)
		return len(l.Data)
	}
	p.want(t, 204, a.token, "PUT", "/api/blocks/"+b.ID, nil)
	p.want(t, 204, b.token, "PUT", "/api/blocks/"+a.ID, nil)
	if x, y := blocks(a), blocks(b); x != 1 || y != 0 {
		t.Errorf("who blocked first lists %d, who blocked back %d; want 1 and 0", x, y)
	}
	p.want(t, 204, a.token, "DELETE", "/api/blocks/"+b.ID, nil)
	if x, y := blocks(a), blocks(b); x != 0 || y != 1 {
		t.Errorf("after the first is gone: %d and %d, want 0 and 1", x, y)
	}
	p.want(t, 404, a.token, "GET", "/api/users/"+b.ID, nil) // the second block holds
}

// One's own other sockets follow; a block that ends a request looks like a declined one.
func TestFriendEventsReachBothSides(t *testing.T) {
	t.Parallel()
	s := plainSystem(t)
	p, q := s.pods[0], s.pods[1]
	u := p.users(t, 3)
	a, b, c := u[0], u[1], u[2]
	as, bs, cs := q.open(t, a), q.open(t, b), q.open(t, c)
	p.ask(t, a, b, 201)
	bs.friend("friend:requested", a)
	p.want(t, 200, b.token, "POST", "/api/friends/requests/"+a.ID+"/accept", nil)
	as.friend("friend:accepted", b)
	bs.friend("friend:accepted", a)
	p.want(t, 204, a.token, "DELETE", "/api/friends/"+b.ID, nil)
	as.friend("friend:removed", b)
	bs.friend("friend:removed", a)
	p.ask(t, c, a, 201)
	as.friend("friend:requested", c)
	p.want(t, 204, a.token, "PUT", "/api/blocks/"+c.ID, nil)
	cs.friend("friend:removed", a)
	p.want(t, 204, b.token, "PUT", "/api/blocks/"+c.ID, nil) // they were nothing to each other
	cs.silent(500*time.Millisecond, "friend:")
}

func TestDeletedUsersAreUnknown(t *testing.T) {
	t.Parallel()
	s := plainSystem(t)
	p := s.pods[0]
	u := p.users(t, 3)
	gone := u[2]
	for _, x := range u[:2] {
		p.ask(t, gone, x, 201)
	}
	p.ask(t, u[0], gone, 200)
	p.want(t, 204, gone.token, "DELETE", "/api/users/me", map[string]any{"password": password})
	for _, x := range u[:2] {
		if ids, in, out := p.friends(t, x); len(ids)+in+out != 0 {
			t.Errorf("left of a deleted user: %v %d %d", ids, in, out)
		}
		if r := p.call(t, x.token, "POST", "/api/friends/requests", map[string]any{"userId": gone.ID}); r.status != 404 || r.code() != "user_not_found" {
			t.Errorf("asking a deleted user: %d %s", r.status, r.body)
		}
		p.want(t, 204, x.token, "PUT", "/api/blocks/"+gone.ID, nil)
	}
}

// The last free place goes to one of two who are accepted at once, over two pods.
func TestFriendsAreBounded(t *testing.T) {
	t.Parallel()
	s := plainSystem(t)
	u := s.pods[0].users(t, 3)
	popular := u[0]
	db, err := sql.Open("pgx", s.pg)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.Exec(`WITH f AS (INSERT INTO users (id, username, display_name, password_hash)
		SELECT gen_random_uuid(), left(md5($1::uuid::text || n), 20), 'Bulk', '!' FROM generate_series(1, 4999) n RETURNING id)
		INSERT INTO friendships (user_id, friend_id, status) SELECT $1::uuid, id, 'accepted' FROM f`, popular.ID); err != nil {
		t.Fatal(err)
	}
	var ok, full atomic.Int64
	var wg sync.WaitGroup
	for i, x := range u[1:] {
		s.pods[0].ask(t, x, popular, 201)
		wg.Go(func() {
			switch a, err := s.pods[i].try(popular.token, "POST", "/api/friends/requests/"+x.ID+"/accept", nil); {
			case err == nil && a.status == 200:
				ok.Add(1)
			case err == nil && a.status == 409 && a.code() == "limit_reached":
				full.Add(1)
			}
		})
	}
	wg.Wait()
	if ok.Load() != 1 || full.Load() != 1 {
		t.Errorf("with one place left %d were accepted and %d refused", ok.Load(), full.Load())
	}
}
