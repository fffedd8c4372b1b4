package test

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/parley-chat/parley/internal/id"
	"github.com/parley-chat/parley/internal/testenv"
)

func TestRegisterAndLogin(t *testing.T) {
	t.Parallel()
	s := plainSystem(t)
	p := s.pods[0]
	name := fmt.Sprintf("anna.%d", names.Add(1)+time.Now().UnixNano()%1_000_000_000)
	var r pair
	a := p.want(t, 201, "", "POST", "/api/auth/register", map[string]any{"username": "A" + name[1:], "password": password, "displayName": "  Anna B  "})
	a.into(t, &r)
	if r.User.Username != name || r.User.DisplayName != "Anna B" || r.ExpiresIn != 900 || r.RefreshToken == "" {
		t.Errorf("registered: %+v", r)
	}
	if strings.Contains(string(a.body), "assword") {
		t.Errorf("a password is shown: %s", a.body)
	}
	if a := p.call(t, "", "POST", "/api/auth/register", map[string]any{"username": strings.ToUpper(name), "password": password}); a.status != 409 || a.code() != "username_taken" {
		t.Errorf("the same name again: %d %s", a.status, a.body)
	}
	p.want(t, 200, "", "POST", "/api/auth/login", map[string]any{"username": strings.ToUpper(name), "password": password})
	var wrong [2]problem
	for i, who := range []string{name, "nobody.at.all"} {
		a := p.want(t, 401, "", "POST", "/api/auth/login", map[string]any{"username": who, "password": "wrong password"})
		wrong[i] = a.problem(t)
		wrong[i].RequestID = ""
	}
	if fmt.Sprint(wrong[0]) != fmt.Sprint(wrong[1]) || wrong[0].Code != "invalid_credentials" {
		t.Errorf("a wrong password and an unknown user are distinguishable: %+v, %+v", wrong[0], wrong[1])
	}
}

func TestBadRegistrations(t *testing.T) {
	t.Parallel()
	s := plainSystem(t)
	const ok = `"password":"correct horse battery"`
	for body, fields := range map[string]string{
		`{}`:                           "password username",
		`{"username":"ab",` + ok + `}`: "username",
		`{"username":"` + strings.Repeat("a", 33) + `",` + ok + `}`:         "username",
		`{"username":"with space",` + ok + `}`:                              "username",
		`{"username":"größe",` + ok + `}`:                                   "username",
		`{"username":7,` + ok + `}`:                                         "username",
		"{\"username\":\"\u212aelvin\"," + ok + "}":                         "username",
		`{"username":"anna","password":"short"}`:                            "password",
		`{"username":"anna","password":"` + strings.Repeat("x", 129) + `"}`: "password",
		`{"username":"anna","password":"Password123"}`:                      "password",
		`{"username":"anna","password":"has\u0000null in it"}`:              "password",
		`{"username":"anna",` + ok + `,"displayName":"x"}`:                  "displayName",
		`{"username":"anna",` + ok + `,"displayName":"  x  "}`:              "displayName",
		`{"username":"anna",` + ok + `,"displayName":"two\nlines"}`:         "displayName",
		`{"username":"anna",` + ok + `,"admin":true}`:                       "admin",
		`{"username":"anna","username":"anna",` + ok + `}`:                  "username",
		`{"Username":"anna",` + ok + `}`:                                    "Username username",
		`{"username":"a","password":"b","displayName":"c","more":1}`:        "displayName more password username",
	} {
		a := s.pods[0].call(t, "", "POST", "/api/auth/register", body)
		if p := a.problem(t); a.status != 400 || p.Code != "invalid_request" || p.fields() != fields {
			t.Errorf("%s: %d %s, want faults of %s", body, a.status, a.body, fields)
		}
	}
	for body, code := range map[string]string{`[]`: "malformed_json", `{"username":`: "malformed_json", "{\"username\":\"\xff\"}": "malformed_json", ``: "malformed_json"} {
		if a := s.pods[0].call(t, "", "POST", "/api/auth/register", body); a.status != 400 || a.code() != code {
			t.Errorf("%q: %d %s", body, a.status, a.body)
		}
	}
}

func TestRefreshTokens(t *testing.T) {
	t.Parallel()
	s := start(t, 2, "PARLEY_REFRESH_REUSE_GRACE=5m")
	p, other := s.pods[0], s.pods[1]
	refresh := func(p *pod, token string) (pair, answer) {
		var r pair
		a := p.call(t, "", "POST", "/api/auth/refresh", map[string]any{"refreshToken": token})
		if a.status == 200 {
			a.into(t, &r)
		}
		return r, a
	}
	u := p.register(t)
	sock := other.open(t, u)
	first, a := refresh(p, u.refresh)
	if a.status != 200 || first.RefreshToken == u.refresh {
		t.Fatalf("the first refresh: %d %s", a.status, a.body)
	}
	second, a := refresh(other, u.refresh) // a lost answer, or another tab
	if a.status != 200 {
		t.Fatalf("repeated within the grace: %d %s", a.status, a.body)
	}
	for _, tab := range []pair{first, second} { // both tabs go on
		if _, a := refresh(p, tab.RefreshToken); a.status != 200 {
			t.Fatalf("a tab's next refresh: %d %s", a.status, a.body)
		}
	}
	if _, a := refresh(p, u.refresh); a.status != 401 || a.code() != "invalid_refresh_token" { // stolen: its children were spent
		t.Fatalf("an older token: %d %s", a.status, a.body)
	}
	if code := sock.closed(5 * time.Second); code != 4401 {
		t.Errorf("the session's socket on the other pod closed with %d", code)
	}
	if _, a := refresh(p, second.RefreshToken); a.status != 401 {
		t.Errorf("after the revocation: %d", a.status)
	}
	p.want(t, 401, second.AccessToken, "GET", "/api/users/me", nil)

	v := p.register(t)
	if _, a := refresh(p, v.refresh); a.status != 200 {
		t.Fatal(a.status)
	}
	testenv.Exec(t, s.pg, `UPDATE refresh_tokens SET spent_at = spent_at - interval '5 minutes 1 second'`)
	if _, a := refresh(p, v.refresh); a.status != 401 {
		t.Errorf("repeated after the grace: %d", a.status)
	}
	if _, a := refresh(p, "no token of ours"); a.status != 401 {
		t.Errorf("a forged token: %d", a.status)
	}
}

func TestRefreshesAtOnce(t *testing.T) {
	t.Parallel()
	s := plainSystem(t)
	u := s.pods[0].register(t)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			a, err := s.pods[i%2].try("", "POST", "/api/auth/refresh", map[string]any{"refreshToken": u.refresh})
			if err != nil || a.status != 200 {
				t.Errorf("refresh %d: %d %s %v", i, a.status, a.body, err)
			}
		})
	}
	wg.Wait()
}

func sign(t *testing.T, method jwt.SigningMethod, key any, change func(jwt.MapClaims)) string {
	t.Helper()
	c := jwt.MapClaims{
		"sub": id.New(), "sid": id.New(), "iss": "parley", "aud": "parley",
		"iat": time.Now().Unix(), "exp": time.Now().Add(time.Minute).Unix(),
	}
	if change != nil {
		change(c)
	}
	s, err := jwt.NewWithClaims(method, c).SignedString(key)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestAccessTokensThatAreRefused(t *testing.T) {
	t.Parallel()
	s := plainSystem(t)
	key := []byte(secret)
	for name, token := range map[string]string{
		"none":           "",
		"garbage":        "abc",
		"alg none":       sign(t, jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, nil),
		"HS512":          sign(t, jwt.SigningMethodHS512, key, nil),
		"another secret": sign(t, jwt.SigningMethodHS256, []byte("another secret of thirty-two bytes"), nil),
		"expired":        sign(t, jwt.SigningMethodHS256, key, func(c jwt.MapClaims) { c["exp"] = time.Now().Add(-time.Minute).Unix() }),
		"no exp":         sign(t, jwt.SigningMethodHS256, key, func(c jwt.MapClaims) { delete(c, "exp") }),
		"issuer":         sign(t, jwt.SigningMethodHS256, key, func(c jwt.MapClaims) { c["iss"] = "x" }),
		"audience":       sign(t, jwt.SigningMethodHS256, key, func(c jwt.MapClaims) { c["aud"] = "x" }),
		"no session":     sign(t, jwt.SigningMethodHS256, key, func(c jwt.MapClaims) { delete(c, "sid") }),
		"odd subject":    sign(t, jwt.SigningMethodHS256, key, func(c jwt.MapClaims) { c["sub"] = "root" }),
	} {
		if a := s.pods[0].call(t, token, "GET", "/api/conversations", nil); a.status != 401 || a.code() != "unauthorized" {
			t.Errorf("%s: %d %s", name, a.status, a.body)
		}
	}
	s.pods[0].want(t, 200, sign(t, jwt.SigningMethodHS256, key, nil), "GET", "/api/conversations", nil)
}

// The documented rotation: every pod verifies the next secret before any signs with it, so that no token is refused meanwhile.
func TestSecretsRotate(t *testing.T) {
	t.Parallel()
	const next = "the next secret of thirty-two bytes too"
	s := start(t, 1)
	before := s.pods[0]
	u := before.register(t)
	added := s.addPod("PARLEY_JWT_SECRET=" + secret + "," + next)
	v := added.register(t)
	before.want(t, 200, v.token, "GET", "/api/users/me", nil) // while the first rollout is on
	added.want(t, 200, u.token, "GET", "/api/users/me", nil)
	signs := s.addPod("PARLEY_JWT_SECRET=" + next + "," + secret)
	w := signs.register(t)
	added.want(t, 200, w.token, "GET", "/api/users/me", nil) // while the second is
	signs.want(t, 200, v.token, "GET", "/api/users/me", nil)
	after := s.addPod("PARLEY_JWT_SECRET=" + next)
	after.want(t, 200, w.token, "GET", "/api/users/me", nil)
	after.want(t, 401, v.token, "GET", "/api/users/me", nil) // when it has expired, in the documented order
}

func TestAnEndedSessionIsRefusedEverywhereWithoutRedisToo(t *testing.T) {
	t.Parallel()
	s := start(t, 2)
	for _, redisIsThere := range []bool{true, false} {
		u := s.pods[0].register(t)
		sock := s.pods[1].open(t, u)
		if !redisIsThere {
			s.redis.Stop()
		}
		s.pods[0].want(t, 204, "", "POST", "/api/auth/logout", map[string]any{"refreshToken": u.refresh})
		if code := sock.closed(5 * time.Second); code != 4401 {
			t.Errorf("redis %v: the socket closed with %d", redisIsThere, code)
		}
		testenv.Eventually(t, 5*time.Second, func() bool { return s.pods[1].call(t, u.token, "GET", "/api/users/me", nil).status == 401 }, "the other pod refuses it")
		s.pods[0].want(t, 401, u.token, "GET", "/api/users/me", nil)
	}
	fresh := s.addPod() // knows what ended before it was born
	u := s.pods[0].register(t)
	s.pods[0].want(t, 204, "", "POST", "/api/auth/logout", map[string]any{"refreshToken": u.refresh})
	_ = fresh
	s.addPod().want(t, 401, u.token, "GET", "/api/users/me", nil)
}

func TestSessionsPasswordAndAccount(t *testing.T) {
	t.Parallel()
	s := plainSystem(t)
	p := s.pods[0]
	u := p.register(t)
	login := func(password string) pair {
		t.Helper()
		var r pair
		p.want(t, 200, "", "POST", "/api/auth/login", map[string]any{"username": u.Username, "password": password}).into(t, &r)
		return r
	}
	phone := login(password)
	var list struct {
		Data []struct {
			ID      string
			Current bool
		}
	}
	p.want(t, 200, u.token, "GET", "/api/auth/sessions", nil).into(t, &list)
	if len(list.Data) != 2 || list.Data[0].Current == list.Data[1].Current {
		t.Fatalf("sessions: %+v", list)
	}
	for _, x := range list.Data {
		if !x.Current {
			stranger := p.register(t)
			p.want(t, 404, stranger.token, "DELETE", "/api/auth/sessions/"+x.ID, nil)
			p.want(t, 204, u.token, "DELETE", "/api/auth/sessions/"+x.ID, nil)
			p.want(t, 404, u.token, "DELETE", "/api/auth/sessions/"+x.ID, nil)
		}
	}
	p.want(t, 401, phone.AccessToken, "GET", "/api/users/me", nil)

	tablet := login(password)
	tabletUser := u
	tabletUser.token = tablet.AccessToken
	sock := s.pods[1].open(t, tabletUser)
	if a := p.call(t, u.token, "POST", "/api/auth/password", map[string]any{"current": "wrong one", "new": "a new password"}); a.status != 403 || a.code() != "wrong_password" {
		t.Errorf("a wrong current password: %d %s", a.status, a.body)
	}
	p.want(t, 204, u.token, "POST", "/api/auth/password", map[string]any{"current": password, "new": "a new password"})
	if code := sock.closed(5 * time.Second); code != 4401 {
		t.Errorf("another session's socket closed with %d", code)
	}
	p.want(t, 200, u.token, "GET", "/api/users/me", nil)
	p.want(t, 401, "", "POST", "/api/auth/login", map[string]any{"username": u.Username, "password": password})

	others := p.users(t, 2)
	g := p.group(t, u, others...)
	d := p.direct(t, u, others[0])
	p.send(t, u, g.ID, "one")
	p.send(t, u, d.ID, "two")
	p.want(t, 403, u.token, "DELETE", "/api/users/me", map[string]any{"password": "wrong one"})
	p.want(t, 204, u.token, "DELETE", "/api/users/me", map[string]any{"password": "a new password"})
	p.want(t, 401, u.token, "GET", "/api/users/me", nil)
	p.want(t, 401, "", "POST", "/api/auth/login", map[string]any{"username": u.Username, "password": "a new password"})
	var shown struct{ DisplayName, Username string }
	p.want(t, 200, others[0].token, "GET", "/api/users/"+u.ID, nil).into(t, &shown)
	if shown.DisplayName != "Deleted user" || strings.Contains(shown.Username, u.Username) {
		t.Errorf("a deleted account is shown as %+v", shown)
	}
	var after conversation
	p.want(t, 200, others[0].token, "GET", "/api/conversations/"+g.ID, nil).into(t, &after)
	if after.MemberCount != 2 || after.LastSeq != 1 || after.Members[0].Role != "owner" {
		t.Errorf("the group is %+v", after)
	}
}

func TestALoginStormLeavesRoomForOthers(t *testing.T) {
	t.Parallel()
	s := start(t, 1)
	p := s.pods[0]
	u := p.register(t)
	var wg sync.WaitGroup
	var mu sync.Mutex
	statuses := map[int]int{}
	for range 150 {
		wg.Go(func() {
			a, err := p.try("", "POST", "/api/auth/login", map[string]any{"username": u.Username, "password": "wrong password"})
			if err != nil {
				t.Error(err)
			}
			mu.Lock()
			defer mu.Unlock()
			statuses[a.status]++
			if a.status == 503 && a.header.Get("Retry-After") == "" {
				t.Error("a 503 without Retry-After")
			}
		})
	}
	for range 20 {
		p.want(t, 200, u.token, "GET", "/api/users/me", nil)
	}
	wg.Wait()
	if statuses[401]+statuses[503] != 150 || statuses[401] == 0 {
		t.Errorf("statuses %v, want 401 and 503 alone", statuses)
	}
}
