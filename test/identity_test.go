package test

import (
	"database/sql"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/parley-chat/parley/internal/issuer"
	"github.com/parley-chat/parley/internal/testenv"
)

// product is a product with an issuer of its own.
type product struct {
	*issuer.Issuer
	t      testing.TB
	server *httptest.Server
	key    *issuer.Key
}

func newProduct(t testing.TB) *product {
	t.Helper()
	p := &product{Issuer: issuer.New("https://id.example.com", "chat"), t: t, key: issuerKey(t, "k1")}
	p.Publish(p.key)
	p.server = httptest.NewServer(p.Issuer)
	t.Cleanup(p.server.Close)
	return p
}

func issuerKey(t testing.TB, id string) *issuer.Key {
	t.Helper()
	k, err := issuer.NewKey(id, "ES256")
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// settings have an api accept the product's tokens.
func (p *product) settings(mode string, more ...string) []string {
	return append([]string{
		"PARLEY_AUTH_MODE=" + mode, "PARLEY_AUTH_JWKS_URL=" + p.server.URL, "PARLEY_AUTH_ISSUER=" + p.Name, "PARLEY_AUTH_AUDIENCE=" + p.Audience,
	}, more...)
}

func (p *product) token(subject string, more map[string]any) string {
	p.t.Helper()
	s, err := p.Token(subject, more)
	if err != nil {
		p.t.Fatal(err)
	}
	return s
}

type profile struct {
	ID, Username, DisplayName string
	AvatarURL                 *string
}

func (p *pod) me(t testing.TB, token string) profile {
	t.Helper()
	var me profile
	p.want(t, 200, token, "GET", "/api/users/me", nil).into(t, &me)
	return me
}

func TestAProductsUserComesToBeByTheFirstRequest(t *testing.T) {
	t.Parallel()
	product := newProduct(t)
	s := start(t, 2, product.settings("both", "PARLEY_AUTH_CLAIM_USERNAME=preferred_username")...)
	a, b := s.pods[0], s.pods[1]
	token := product.token("auth0|Anna", map[string]any{"name": "Anna Ćirić", "picture": "https://img.example.com/anna.png", "preferred_username": "Anna_1"})
	anna := a.me(t, token)
	if anna.Username != "anna_1" || anna.DisplayName != "Anna Ćirić" || anna.AvatarURL == nil || *anna.AvatarURL != "https://img.example.com/anna.png" {
		t.Errorf("the user is %+v", anna)
	}
	if again := b.me(t, token); again.ID != anna.ID {
		t.Errorf("on another pod it is %+v", again)
	}
	other := a.me(t, product.token("auth0|anna", map[string]any{"preferred_username": "anna_1"}))
	if other.ID == anna.ID || !strings.HasPrefix(other.Username, "user_") || len(other.Username) != 17 {
		t.Errorf("an id that differs by case: %+v", other)
	}
	registered := a.register(t)
	if taken := a.me(t, product.token("thief", map[string]any{"preferred_username": registered.Username, "email": "x@example.com"})); taken.ID == registered.ID {
		t.Error("a user was handed over by name")
	}
	if r := a.call(t, product.token("auth0|Anna", nil)+"x", "GET", "/api/users/me", nil); r.status != 401 || r.code() != "unauthorized" {
		t.Errorf("a spoiled token: %d %s", r.status, r.body)
	}
	if m := metric(t, a.ops, `parley_auth_rejected_total{reason="form"}`) + metric(t, a.ops, `parley_auth_rejected_total{reason="signature"}`); m != 1 {
		t.Errorf("rejections: %v", m)
	}
	var sessions struct{ Data []any }
	a.want(t, 200, token, "GET", "/api/auth/sessions", nil).into(t, &sessions)
	if len(sessions.Data) != 0 {
		t.Errorf("sessions: %v", sessions)
	}
}

func TestAThousandFirstRequestsMakeOneUser(t *testing.T) {
	t.Parallel()
	product := newProduct(t)
	s := start(t, 2, product.settings("external")...)
	token := product.token("newcomer", map[string]any{"name": "New Comer"})
	ids := make([]string, 1000)
	var wg sync.WaitGroup
	begin := make(chan struct{})
	for i := range ids {
		wg.Go(func() {
			<-begin
			r, err := s.pods[i%2].try(token, "GET", "/api/users/me", nil)
			if err != nil || r.status != 200 {
				ids[i] = fmt.Sprint(err, r.status, string(r.body))
				return
			}
			var me profile
			_ = json.Unmarshal(r.body, &me)
			ids[i] = me.ID
		})
	}
	close(begin)
	wg.Wait()
	for i := range ids {
		if ids[i] != ids[0] || len(ids[0]) != 36 {
			t.Fatalf("%q and %q", ids[0], ids[i])
		}
	}
	if n := s.count(t, `SELECT count(*) FROM users`); n != 1 {
		t.Errorf("there are %d users", n)
	}
}

func TestModesCloseWhatIsNotTheirs(t *testing.T) {
	t.Parallel()
	product := newProduct(t)
	builtin := start(t, 1).pods[0]
	if r := builtin.call(t, product.token("anna", nil), "GET", "/api/users/me", nil); r.status != 401 {
		t.Errorf("builtin: an external token: %d", r.status)
	}
	p := start(t, 1, product.settings("external")...).pods[0]
	for path, body := range map[string]any{
		"/api/auth/register": map[string]any{"username": "anna", "password": password}, "/api/auth/login": map[string]any{"username": "anna", "password": password},
		"/api/auth/refresh": map[string]any{"refreshToken": "x"}, "/api/auth/password": map[string]any{"current": password, "new": password + "2"},
	} {
		for _, token := range []string{"", product.token("anna", nil)} {
			if r, err := p.try(token, "POST", path, body); err != nil || r.status != 404 || r.code() != "not_found" {
				t.Errorf("external: %s: %v %d %s", path, err, r.status, r.body)
			}
		}
	}
	p.me(t, product.token("anna", nil))
	anna := product.token("anna", nil)
	p.want(t, 204, anna, "DELETE", "/api/users/me", nil)
	testenv.Eventually(t, 5*time.Second, func() bool { return p.call(t, anna, "GET", "/api/users/me", nil).status == 401 }, "the old token is refused")
	time.Sleep(time.Second) // iat has whole seconds
	if again := p.me(t, product.token("anna", nil)); again.Username == "" {
		t.Error("the user can't come back")
	}
}

func TestTheProfileFollowsTheTokenOrNot(t *testing.T) {
	t.Parallel()
	product := newProduct(t)
	sync := start(t, 1, product.settings("external")...)
	testenv.Exec(t, sync.pg, `INSERT INTO webhooks (id, name, url, types, secret, watermark) VALUES (gen_random_uuid(), 'all', 'https://example.com', '{*}', '', now())`)
	p := sync.pods[0]
	p.me(t, product.token("anna", map[string]any{"name": "Anna", "picture": "https://img.example.com/1"}))
	if r := p.call(t, product.token("anna", nil), "PATCH", "/api/users/me", map[string]any{"displayName": "Other"}); r.status != 403 || r.code() != "managed_externally" {
		t.Errorf("a PATCH of the user's own: %d %s", r.status, r.body)
	}
	second := sync.addPod() // which has not checked yet
	if me := second.me(t, product.token("anna", map[string]any{"name": "Anna Maria", "picture": nil})); me.DisplayName != "Anna Maria" || me.AvatarURL != nil {
		t.Errorf("the profile is %+v", me)
	}
	db, err := sql.Open("pgx", sync.pg)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	var types string
	err = db.QueryRow(`SELECT string_agg(type, ' ' ORDER BY id) FROM outbox WHERE actor_id = user_ids[1] AND key_id IS NULL`).Scan(&types)
	if err != nil || types != "user.created user.updated" {
		t.Errorf("the user's own events are %q, %v", types, err)
	}
	first := start(t, 1, product.settings("external", "PARLEY_AUTH_PROFILE=first")...)
	p = first.pods[0]
	p.me(t, product.token("anna", map[string]any{"name": "Anna"}))
	p.want(t, 200, product.token("anna", nil), "PATCH", "/api/users/me", map[string]any{"displayName": "Annie"})
	if me := first.addPod().me(t, product.token("anna", map[string]any{"name": "Anna Maria"})); me.DisplayName != "Annie" {
		t.Errorf("the profile is %+v", me)
	}
}

func TestUsersHaveToBeCreatedBefore(t *testing.T) {
	t.Parallel()
	product := newProduct(t)
	p := start(t, 1, product.settings("external", "PARLEY_AUTH_PROVISION=existing")...).pods[0]
	if r := p.call(t, product.token("anna", nil), "GET", "/api/users/me", nil); r.status != 403 || r.code() != "not_provisioned" {
		t.Errorf("%d %s", r.status, r.body)
	}
}

// readyAs is a ready frame.
type readyAs struct {
	SessionID *string
	ExpiresAt *time.Time
}

func TestASocketEndsWithItsToken(t *testing.T) {
	t.Parallel()
	product := newProduct(t)
	p := start(t, 1, product.settings("both")...).pods[0]
	open := func(token string) (*socket, readyAs) {
		s, err := p.dial(t, "/api/ws", http.Header{"Authorization": {"Bearer " + token}})
		if err != nil {
			t.Fatal(err)
		}
		var r readyAs
		s.next(10*time.Second).into(t, &r)
		return s, r
	}
	short := func(subject string, seconds int64) string {
		return product.token(subject, map[string]any{"exp": time.Now().Unix() + seconds})
	}
	const soon = 4 // s; a busy machine opens both sockets within that and the leeway of 5 s
	ends, ready := open(short("anna", soon))
	if ready.SessionID != nil || ready.ExpiresAt == nil {
		t.Fatalf("ready is %+v", ready)
	}
	goesOn, _ := open(short("anna", soon))
	goesOn.write(map[string]any{"type": "auth", "id": "1", "data": map[string]any{"token": "nonsense"}})
	if f := goesOn.next(5 * time.Second); f.Type != "error" || f.ID != "1" {
		t.Errorf("a bad token: %+v", f)
	}
	later := short("anna", 3600)
	goesOn.write(map[string]any{"type": "auth", "id": "2", "data": map[string]any{"token": later}})
	f := goesOn.next(5 * time.Second)
	var ack struct{ ExpiresAt time.Time }
	f.into(t, &ack)
	if f.Type != "ack" || f.ID != "2" || time.Until(ack.ExpiresAt) < 50*time.Minute {
		t.Errorf("a good token: %+v", f)
	}
	stranger, _ := open(short("anna", 3600))
	stranger.write(map[string]any{"type": "auth", "data": map[string]any{"token": short("ben", 3600)}})
	if code := stranger.closed(5 * time.Second); code != 4401 {
		t.Errorf("another user's token: closed with %d", code)
	}
	code := ends.closed(20 * time.Second)
	if late := time.Since(*ready.ExpiresAt); code != 4401 || late < 5*time.Second {
		t.Errorf("%s after its time: closed with %d", late, code)
	}
	goesOn.write(map[string]any{"type": "ping", "id": "3"})
	if f := goesOn.next(5 * time.Second); f.Type != "pong" {
		t.Errorf("the renewed socket: %+v", f)
	}
	user := p.register(t)
	own := p.open(t, user)
	own.write(map[string]any{"type": "auth", "id": "4", "data": map[string]any{"token": user.token}})
	if f := own.next(5 * time.Second); f.Type != "ack" || string(f.Data) != `{"expiresAt":null}` {
		t.Errorf("a session's socket: %s %s", f.Type, f.Data)
	}
}

func TestAKeyThatLeftTheSetIsRefused(t *testing.T) {
	t.Parallel()
	product := newProduct(t)
	s := start(t, 2, product.settings("external", "PARLEY_AUTH_JWKS_REFRESH=1s")...)
	old := product.token("anna", nil)
	a := s.pods[0]
	a.me(t, old)
	socket, err := s.pods[1].dial(t, "/api/ws", http.Header{"Authorization": {"Bearer " + old}})
	if err != nil {
		t.Fatal(err)
	}
	socket.until("ready", 10*time.Second)
	next := issuerKey(t, "k2")
	product.Publish(next, product.key)
	fresh := product.token("anna", nil)
	for range 20 {
		a.me(t, old)
		a.me(t, fresh)
	}
	product.Publish(next)
	testenv.Eventually(t, 10*time.Second, func() bool { return a.call(t, old, "GET", "/api/users/me", nil).status == 401 }, "the old key's token is refused")
	a.me(t, fresh)
	if code := socket.closed(10 * time.Second); code != 4401 {
		t.Errorf("the old key's socket closed with %d", code)
	}
}

func TestWithoutKeysNoTokenHolds(t *testing.T) {
	t.Parallel()
	product := newProduct(t)
	s := start(t, 1, product.settings("both", "PARLEY_AUTH_JWKS_REFRESH=1s", "PARLEY_AUTH_JWKS_MAX_STALE=4s")...)
	p := s.pods[0]
	token := product.token("anna", nil)
	p.me(t, token)
	user := p.register(t)
	product.server.Close()
	testenv.Eventually(t, 20*time.Second, func() bool {
		r := p.call(t, token, "GET", "/api/users/me", nil)
		return r.status == 503 && r.code() == "identity_unavailable" && r.header.Get("Retry-After") != ""
	}, "external tokens are refused")
	expectContains(t, "readiness", p.want(t, 200, "", "GET", "/api/health/ready", nil).body, `"status":"degraded"`, `"identity":"down"`)
	p.me(t, user.token)
	if metric(t, p.ops, "parley_jwks_age_seconds") < 4 {
		t.Error("the age is not shown")
	}
	never := s.launch()
	testenv.Eventually(t, 20*time.Second, func() bool {
		r, err := never.try("", "GET", "/api/health/ready", nil)
		return err == nil && r.status == 503 && strings.Contains(string(r.body), `"identity":"down"`)
	}, "a pod that never had a set is not ready")
}

// Whatever is wrong with a token, the response is the same but for the request's id.
func TestEverySpoiltTokenGetsTheSameAnswer(t *testing.T) {
	t.Parallel()
	product := newProduct(t)
	p := start(t, 1, product.settings("both")...).pods[0]
	good := product.token("anna", nil)
	p.me(t, good)
	part := strings.Split(good, ".")
	now := time.Now().Unix()
	var first string
	for name, token := range map[string]string{
		"none": "", "no token": "x", "a flipped bit": part[0] + "." + part[1] + "." + strings.ToUpper(part[2]), "no signature": part[0] + "." + part[1] + ".",
		"expired": product.token("anna", map[string]any{"iat": now - 100, "exp": now - 50}), "the future": product.token("anna", map[string]any{"iat": now + 100}),
		"another audience": product.token("anna", map[string]any{"aud": "x"}), "another issuer": product.token("anna", map[string]any{"iss": "https://x.example.com"}),
		"the api's issuer": product.token("anna", map[string]any{"iss": "parley"}), "a number": product.token("anna", map[string]any{"sub": 1}),
		"too long": product.token("anna", map[string]any{"x": strings.Repeat("x", 10<<10)}), "a key": bootstrapKey, "half a key": bootstrapKey[:40],
	} {
		a := p.call(t, token, "GET", "/api/users/me", nil)
		if token != "" && len(token) > 8<<10 && a.status == 431 { // headers have a bound of their own
			continue
		}
		body := strings.ReplaceAll(string(a.body), a.header.Get("X-Request-Id"), "")
		if first == "" {
			first = body
		}
		if a.status != 401 || body != first {
			t.Errorf("%s: %d %s, want %s", name, a.status, body, first)
		}
	}
}

// Keys change three times while requests go on over two pods: announced before they sign, and once without.
func TestARotationUnderLoadRefusesNobody(t *testing.T) {
	t.Parallel()
	product := newProduct(t)
	s := start(t, 2, product.settings("both", "PARLEY_AUTH_JWKS_REFRESH=1s", "PARLEY_RATE_LIMIT_DEFAULT=off")...)
	stop := make(chan struct{})
	var requests atomic.Int64
	var wg sync.WaitGroup
	for i := range 3 {
		wg.Go(func() { product.requestUntil(t, stop, s, i, &requests) })
	}
	old := product.key
	for i := range 3 {
		next := issuerKey(t, fmt.Sprint("rotated ", i))
		if i > 0 { // the first time the pods learn of the key from a token
			product.Publish(old, next)
			product.awaitFetched(t, 4) // each pod once at least
		}
		product.Publish(next, old)
		product.awaitFetched(t, 4)
		old = next
	}
	close(stop)
	wg.Wait()
	if requests.Load() < 100 {
		t.Errorf("only %d requests were made, want 100 at least", requests.Load())
	}
}

// requestUntil makes requests to all pods in turn until stop is closed or one is refused. Each has a new token, which no pod has verified.
func (p *product) requestUntil(t *testing.T, stop <-chan struct{}, s *system, client int, requests *atomic.Int64) {
	for n := 0; ; n++ {
		select {
		case <-stop:
			return
		default:
		}
		token, err := p.Token("anna", map[string]any{"n": n, "i": client})
		if err != nil {
			t.Error(err)
			return
		}
		r, err := s.pods[n%len(s.pods)].try(token, "GET", "/api/users/me", nil)
		if requests.Add(1); err != nil || r.status != 200 {
			t.Errorf("request %d of client %d: %v %d %s, want 200", n, client, err, r.status, r.body)
			return
		}
	}
}

// awaitFetched waits until the set of keys was fetched so many times more.
func (p *product) awaitFetched(t *testing.T, times int) {
	t.Helper()
	from := p.Fetched()
	testenv.Eventually(t, 30*time.Second, func() bool { return p.Fetched() >= from+times }, "the pods fetch the set of keys %d times", times)
}
