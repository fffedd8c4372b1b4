package test

import (
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/parley-chat/parley/internal/testenv"
)

type upsert struct {
	ExternalID string
	ID         *string
	Result     string
	Problem    *problem
}

func (p *pod) upsert(t testing.TB, key string, users ...map[string]any) []upsert {
	t.Helper()
	var r struct{ Data []upsert }
	p.want(t, 200, key, "PUT", "/api/server/users", map[string]any{"users": users}).into(t, &r)
	return r.Data
}

// outcome is the result and, for an error, its code.
func (u upsert) outcome() string {
	if u.Problem == nil {
		return u.Result
	}
	return u.Result + " " + u.Problem.Code
}

type serverUser struct {
	ID, Username, DisplayName, Kind string
	AvatarURL, ExternalID           *string
	Metadata                        json.RawMessage
	UpdatedAt                       time.Time
	DeactivatedAt                   *time.Time
	Ban                             *struct {
		Reason *string
		Until  *time.Time
	}
}

func TestUsersAreUpserted(t *testing.T) {
	t.Parallel()
	s := start(t, 1)
	p := s.pods[0]
	key := s.createKey(t, "back end", "users")
	taken := p.register(t)
	r := p.upsert(t, key,
		map[string]any{"externalId": "b/1 ü", "displayName": "Bea", "username": "Bea_1", "metadata": map[string]any{"n": 1e2}, "kind": "bot"},
		map[string]any{"externalId": "a", "displayName": "Ana"},
		map[string]any{"externalId": "c"},
		map[string]any{"externalId": "d", "displayName": "Dan", "username": taken.Username},
		map[string]any{"externalId": "e", "displayName": "E", "colour": "red", "avatarUrl": "ftp://x"},
		map[string]any{"externalId": "f", "displayName": "Fay", "username": "bea_1"},
		map[string]any{"displayName": "Nobody"},
	)
	want := []string{"created", "created", "error invalid_request", "error username_taken", "error invalid_request", "", "error invalid_request"}
	for n, i := range r {
		if got := i.outcome(); want[n] != "" && got != want[n] {
			t.Errorf("%d: %s, want %s", n, got, want[n])
		}
	}
	if r[5].Result == r[0].Result { // one of the two has the username
		t.Errorf("one username, twice: %+v", r)
	}
	if f := r[4].Problem.fields(); f != "avatarUrl colour displayName" {
		t.Errorf("faults: %s", f)
	}
	var bea serverUser
	path := "/api/server/users/ext:" + url.PathEscape("b/1 ü")
	p.want(t, 200, key, "GET", path, nil).into(t, &bea)
	if bea.ID != *r[0].ID || bea.Username != "bea_1" || bea.Kind != "bot" || string(bea.Metadata) != `{"n":100}` || *bea.ExternalID != "b/1 ü" {
		t.Errorf("a user: %+v %s", bea, bea.Metadata)
	}
	again := p.upsert(t, key, map[string]any{"externalId": "a", "displayName": "Ana"}, map[string]any{"externalId": "b/1 ü", "metadata": nil})
	if again[0].Result != "unchanged" || again[1].Result != "updated" || *again[1].ID != bea.ID {
		t.Errorf("again: %+v", again)
	}
	if r := p.call(t, key, "PUT", "/api/server/users", map[string]any{"users": []any{map[string]any{"externalId": "x"}, map[string]any{"externalId": "x"}}}); r.status != 400 {
		t.Errorf("the same id twice: %d %s", r.status, r.body)
	}
	var patched serverUser
	p.want(t, 200, key, "PATCH", path, map[string]any{"metadata": map[string]any{"a": 1, "b": 2}}).into(t, &patched)
	p.want(t, 200, key, "PATCH", path, map[string]any{"metadata": map[string]any{"a": nil}, "displayName": "Beatrix"}).into(t, &patched)
	if string(patched.Metadata) != `{"b":2}` || patched.DisplayName != "Beatrix" {
		t.Errorf("patched: %+v %s", patched, patched.Metadata)
	}
	p.want(t, 409, key, "PATCH", path, map[string]any{"username": taken.Username})
	p.want(t, 404, key, "GET", "/api/server/users/ext:nobody", nil)
	if r := p.call(t, key, "GET", "/api/users/me", nil, "Parley-User", "ext:a"); r.status != 403 {
		t.Errorf("without act: %d", r.status)
	}
}

func TestAThousandUpsertsRepeatedMakeAThousand(t *testing.T) {
	t.Parallel()
	s := start(t, 2)
	key := s.createKey(t, "back end", "users")
	users := make([]map[string]any, 1000)
	for i := range users {
		users[i] = map[string]any{"externalId": fmt.Sprintf("user-%d", (i*7919)%1000), "displayName": fmt.Sprintf("Person %d", i), "username": fmt.Sprintf("person_%d", i)}
	}
	var wg sync.WaitGroup
	var created, refused atomic.Int64
	for round := range 6 {
		wg.Go(func() {
			body := users
			if round%2 == 1 { // in another order
				body = append(append([]map[string]any{}, users[500:]...), users[:500]...)
			}
			c, r := s.pods[round%2].upsertPatiently(t, key, body)
			created.Add(c)
			refused.Add(r)
		})
	}
	wg.Wait()
	if n := s.count(t, `SELECT count(*) FROM users`); n != 1000 {
		t.Errorf("there are %d users", n)
	}
	// A request that was refused with 503 may have created some before its time was up, and reported none.
	if n := created.Load(); n > 1000 || n < 1000 && refused.Load() == 0 {
		t.Errorf("%d were created, and %d requests refused", n, refused.Load())
	}
	if n := s.count(t, `SELECT count(*) FROM audit_log WHERE action = 'user.create'`); n != 1000 {
		t.Errorf("the audit log has %d", n)
	}
}

// upsertPatiently upserts users and returns how many it created. None may be an error. A busy machine may refuse the request with 503: it is
// repeated then, and counted as refused.
func (p *pod) upsertPatiently(t *testing.T, key string, users []map[string]any) (created, refused int64) {
	t.Helper()
	for limit := testenv.NewLimit(time.Minute); ; time.Sleep(200 * time.Millisecond) {
		r, err := p.try(key, "PUT", "/api/server/users", map[string]any{"users": users})
		if err == nil && r.status == 503 && !limit.Over() {
			refused++
			continue
		}
		if err != nil || r.status != 200 {
			t.Errorf("%v %d %s", err, r.status, r.body)
			return 0, refused
		}
		return countCreated(t, r), refused
	}
}

// countCreated is how many users an upsert created. None may be an error.
func countCreated(t *testing.T, a answer) (created int64) {
	t.Helper()
	var out struct{ Data []upsert }
	if err := json.Unmarshal(a.body, &out); err != nil {
		t.Errorf("%v: %s", err, a.body)
	}
	for _, u := range out.Data {
		switch u.Result {
		case "created":
			created++
		case "error":
			t.Errorf("%+v", u)
		}
	}
	return created
}

func TestListingUsersMissesNothing(t *testing.T) {
	t.Parallel()
	s := start(t, 1)
	p := s.pods[0]
	key := s.createKey(t, "back end", "users:read,users,moderation")
	var users []map[string]any
	for i := range 7 {
		users = append(users, map[string]any{"externalId": fmt.Sprint(i), "displayName": fmt.Sprintf("Person %d", i)})
	}
	p.upsert(t, key, users...)
	walk := func(query string) []string {
		t.Helper()
		return p.listUsers(t, key, query)
	}
	if got := walk(""); len(got) != 7 {
		t.Errorf("all: %v", got)
	}
	if got := walk("&updatedAfter=2020-01-01T00:00:00Z"); len(got) != 0 {
		t.Errorf("what is too young: %v", got)
	}
	if got := walk("&q=person"); len(got) != 7 {
		t.Errorf("by a name: %v", got)
	}
	p.want(t, 200, key, "PUT", "/api/server/users/ext:3/ban", map[string]any{"reason": "spam"})
	p.want(t, 200, key, "POST", "/api/server/users/ext:4/deactivate", nil)
	var found struct {
		Data []struct{ DisplayName string }
	}
	p.want(t, 200, p.register(t).token, "GET", "/api/users/search?q=person", nil).into(t, &found)
	if len(found.Data) != 6 {
		t.Errorf("a deactivated user is found: %v", found)
	}
	for query, want := range map[string]int{"&state=banned": 1, "&state=deactivated": 1, "&state=active": 6, "&q=3": 1} {
		if got := walk(query); len(got) != want {
			t.Errorf("%s: %v", query, got)
		}
	}
	testenv.Eventually(t, 30*time.Second, func() bool { return len(walk("&updatedAfter=2020-01-01T00:00:00Z&q=person")) == 7 }, "all are old enough")
	p.want(t, 400, key, "GET", "/api/server/users?state=lost", nil)
	p.want(t, 400, key, "GET", "/api/server/users?cursor=x", nil)
}

// listUsers are the names of the users that match the query, which begins with &, read two on a page.
func (p *pod) listUsers(t testing.TB, key, query string) (names []string) {
	t.Helper()
	for _, u := range everyPage[serverUser](t, p, key, "/api/server/users?limit=2"+query) {
		names = append(names, u.DisplayName)
	}
	return names
}

// endKey ends a key at a pod, as another key asks.
func (s *system) endKey(t testing.TB, p *pod, key string) {
	t.Helper()
	id, _, _ := strings.Cut(strings.TrimPrefix(key, "parley_sk_"), "_")
	id = id[:8] + "-" + id[8:12] + "-" + id[12:16] + "-" + id[16:20] + "-" + id[20:]
	p.want(t, 204, s.createKey(t, "keeper of "+id, "keys"), "DELETE", "/api/server/keys/"+id, nil)
}

// A ban, a deactivation and the end of a key hold on every pod, for tokens of every kind, also if Redis is unavailable.
func TestBarredUsersAreOutEverywhere(t *testing.T) {
	t.Parallel()
	product := newProduct(t)
	redis := testenv.NewRedis(t)
	s := &system{t: t, pg: testenv.Postgres(t), redis: redis, extra: product.settings("both")}
	a, b := s.addPod(), s.addPod()
	key := s.createKey(t, "back end", "users,moderation,act,tokens")
	external := product.token("anna", nil)
	anna := a.me(t, external)
	var minted pair
	a.want(t, 201, key, "POST", "/api/server/users/ext:anna/tokens", map[string]any{"ttl": "1h"}).into(t, &minted)
	b.me(t, external)
	open := func() *socket {
		sock, err := b.dial(t, "/api/ws", map[string][]string{"Authorization": {"Bearer " + external}})
		if err != nil {
			t.Fatal(err)
		}
		sock.until("ready", 10*time.Second)
		return sock
	}
	sock := open()
	ending := s.createKey(t, "ending", "users:read")
	b.want(t, 200, ending, "GET", "/api/server/users", nil)
	redis.Stop()
	s.endKey(t, a, ending)
	testenv.Eventually(t, 5*time.Second, func() bool { return b.call(t, ending, "GET", "/api/server/users", nil).status == 401 }, "the ended key is refused")
	out := func(code string) {
		t.Helper()
		s.refusedEverywhere(t, code, map[string]string{"external": external, "minted": minted.AccessToken})
		s.refusedEverywhere(t, code, map[string]string{"acting": key}, "Parley-User", anna.ID)
		b.call(t, "", "POST", "/api/auth/refresh", map[string]any{"refreshToken": minted.RefreshToken}).check(t, "a refresh", 403, code)
	}
	until := time.Now().Add(time.Hour).UTC().Format("2006-01-02T15:04:05.000000Z")
	a.want(t, 200, key, "PUT", "/api/server/users/ext:anna/ban", map[string]any{"until": until})
	if code := sock.closed(10 * time.Second); code != 4403 {
		t.Errorf("the socket closed with %d", code)
	}
	out("banned")
	if r := a.call(t, external, "GET", "/api/users/me", nil); !json.Valid(r.body) || !containsJSON(r.body, "until", until) {
		t.Errorf("the ban's end: %s", r.body)
	}
	a.want(t, 204, key, "DELETE", "/api/server/users/ext:anna/ban", nil)
	in := func() {
		t.Helper()
		for _, p := range s.pods {
			p.awaitStatus(t, 200, external, "the token holds again")
		}
	}
	in()
	sock = open()
	a.want(t, 200, key, "POST", "/api/server/users/ext:anna/deactivate", nil)
	if code := sock.closed(10 * time.Second); code != 4403 {
		t.Errorf("the socket closed with %d", code)
	}
	out("deactivated")
	a.want(t, 200, key, "POST", "/api/server/users/ext:anna/reactivate", nil)
	in()
	soon := time.Now().Add(4 * time.Second)
	a.want(t, 200, key, "PUT", "/api/server/users/ext:anna/ban", map[string]any{"until": soon.UTC().Format(time.RFC3339Nano)})
	if r := a.call(t, external, "GET", "/api/users/me", nil); r.status != 403 && time.Now().Before(soon) {
		t.Errorf("a short ban: %d", r.status)
	}
	testenv.Eventually(t, 15*time.Second, func() bool { return b.call(t, external, "GET", "/api/users/me", nil).status == 200 }, "the ban ends at its time")
	a.want(t, 204, key, "DELETE", "/api/server/users/ext:anna/sessions", nil)
	b.awaitStatus(t, 401, minted.AccessToken, "the minted session has ended")
}

// refusedEverywhere waits until each pod refuses each of the tokens with 403 and that code.
func (s *system) refusedEverywhere(t testing.TB, code string, tokens map[string]string, headers ...string) {
	t.Helper()
	for _, p := range s.pods {
		for name, token := range tokens {
			testenv.Eventually(t, 5*time.Second, func() bool {
				r := p.call(t, token, "GET", "/api/users/me", nil, headers...)
				return r.status == 403 && r.code() == code
			}, "a token that is %s is refused: %s", name, code)
		}
	}
}

// awaitStatus waits until the token's own profile is answered with the status.
func (p *pod) awaitStatus(t testing.TB, status int, token, what string) {
	t.Helper()
	testenv.Eventually(t, 5*time.Second, func() bool { return p.call(t, token, "GET", "/api/users/me", nil).status == status }, "%s", what)
}

func containsJSON(body []byte, member, value string) bool {
	var m map[string]any
	_ = json.Unmarshal(body, &m)
	return m[member] == value
}
