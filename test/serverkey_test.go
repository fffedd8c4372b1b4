package test

import (
	"encoding/json"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/parley-chat/parley/internal/client"
	"github.com/parley-chat/parley/internal/testenv"
)

const bootstrapKey = "parley_sk_0190000000007000800000000000abcd_0123456789012345678901234567890123456789abc"

// apiKey runs api key … on the system's database.
func (s *system) apiKey(t testing.TB, args ...string) (out string, code int) {
	t.Helper()
	cmd := exec.Command(testenv.Binary(t, "api"), append([]string{"key"}, args...)...)
	cmd.Env = append(cmd.Environ(), s.settings()...)
	b, err := cmd.Output()
	if err != nil && cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(b)), cmd.ProcessState.ExitCode()
}

// createKey makes a key with scopes by the command line.
func (s *system) createKey(t testing.TB, name, scopes string) string {
	t.Helper()
	key, code := s.apiKey(t, "create", "--name", name, "--scopes", scopes)
	if code != 0 || !strings.HasPrefix(key, "parley_sk_") {
		t.Fatalf("create a key: %d %q", code, key)
	}
	return key
}

func TestKeysAreMadeListedAndEnded(t *testing.T) {
	t.Parallel()
	s := start(t, 2, "PARLEY_BOOTSTRAP_KEY="+bootstrapKey)
	a, b := s.pods[0], s.pods[1]
	testenv.Eventually(t, 10*time.Second, func() bool {
		return a.call(t, bootstrapKey, "GET", "/api/server/keys", nil).status == 200
	}, "the bootstrap key is made")
	first := s.createKey(t, "back end", "act,keys")
	if _, code := s.apiKey(t, "create", "--name", "back end", "--scopes", "act"); code != 1 {
		t.Errorf("a name twice: %d", code)
	}
	if _, code := s.apiKey(t, "create", "--name", "x", "--scopes", "root"); code != 1 {
		t.Errorf("no scope: %d", code)
	}
	var made struct{ ID, Key string }
	b.want(t, 201, first, "POST", "/api/server/keys", map[string]any{"name": "second", "scopes": []string{"act:read"}}).into(t, &made)
	b.call(t, first, "POST", "/api/server/keys", map[string]any{"name": "third", "scopes": []string{"act", "users:read"}}).check(t, "more scopes than its own", 403, "scope_missing")
	b.call(t, first, "POST", "/api/server/keys", map[string]any{"name": "second", "scopes": []string{"act"}}).check(t, "a name twice", 409, "name_taken")
	without := b.call(t, made.Key, "GET", "/api/server/keys", nil)
	without.check(t, "without the scope", 403, "scope_missing")
	if !strings.Contains(string(without.body), `"scope":"keys:read"`) {
		t.Errorf("the missing scope is not named: %s", without.body)
	}
	testenv.Eventually(t, 10*time.Second, func() bool {
		used := a.lastUse(t, first, "second")
		return used != nil && used.Minute() == 0 && used.Second() == 0
	}, "the hour of the key's use is stored")
	if out, code := s.apiKey(t, "list"); code != 0 || strings.Count(out, "\n") != 3 || strings.Contains(out, first[50:]) {
		t.Errorf("list: %d %s", code, out)
	}
	user := a.register(t)
	for _, header := range [][]string{{"Origin", "https://x.example.com"}, {"Sec-Fetch-Mode", "cors"}} {
		a.call(t, first, "GET", "/api/users/me", nil, append(header, "Parley-User", user.ID)...).check(t, header[0], 403, "key_in_browser")
	}
	a.want(t, 204, bootstrapKey, "DELETE", "/api/server/keys/"+made.ID, nil)
	a.want(t, 404, bootstrapKey, "DELETE", "/api/server/keys/"+made.ID, nil)
	for _, p := range s.pods {
		testenv.Eventually(t, 5*time.Second, func() bool {
			return p.call(t, made.Key, "GET", "/api/users/me", nil, "Parley-User", user.ID).status == 401
		}, "an ended key is refused")
	}
	refusesAlteredKeys(t, a, first)
}

// lastUse is the time that the list shows for the last use of a key, nil for none.
func (p *pod) lastUse(t testing.TB, key, name string) *time.Time {
	t.Helper()
	var list struct {
		Data []struct {
			Name       string
			LastUsedAt *time.Time
		}
	}
	p.want(t, 200, key, "GET", "/api/server/keys", nil).into(t, &list)
	for _, k := range list.Data {
		if k.Name == name {
			return k.LastUsedAt
		}
	}
	return nil
}

// refusesAlteredKeys checks that nothing that only resembles a key is one.
func refusesAlteredKeys(t *testing.T, p *pod, key string) {
	t.Helper()
	for name, bad := range map[string]string{
		"another secret": key[:len(key)-1] + flip(key[len(key)-1:]), "no secret": key[:43], "short": key[:len(key)-1], "longer": key + "x",
		"another id": strings.Replace(key, key[10:20], "0190000000", 1),
	} {
		if r := p.call(t, bad, "GET", "/api/server/keys", nil); r.status != 401 {
			t.Errorf("%s: %d %s", name, r.status, r.body)
		}
	}
}

func flip(s string) string {
	if s == "A" {
		return "B"
	}
	return "A"
}

func TestAKeyActsForAUser(t *testing.T) {
	t.Parallel()
	s := start(t, 1, "PARLEY_RATE_LIMIT_SERVER=off")
	p := s.pods[0]
	key, reader, other := s.createKey(t, "back end", "act"), s.createKey(t, "reader", "act:read"), s.createKey(t, "other", "users")
	u := p.users(t, 4)
	c := p.group(t, u[0], u[1], u[3])
	acting := func(token string, who string, method, path string, body any, status int, code string) {
		t.Helper()
		var headers []string
		if who != "" {
			headers = []string{"Parley-User", who}
		}
		if r := p.call(t, token, method, path, body, headers...); r.status != status || r.code() != code {
			t.Errorf("%s %s for %s: %d %s, want %d %s", method, path, who, r.status, r.body, status, code)
		}
	}
	path := "/api/conversations/" + c.ID
	acting(key, u[0].ID, "GET", path, nil, 200, "")
	acting(key, u[2].ID, "GET", path, nil, 404, "conversation_not_found")
	acting(reader, u[0].ID, "GET", path, nil, 200, "")
	acting(reader, u[0].ID, "PATCH", path, map[string]any{"name": "x"}, 403, "scope_missing")
	acting(key, u[0].ID, "PATCH", path, map[string]any{"name": "x"}, 200, "")
	acting(key, u[1].ID, "PATCH", path, map[string]any{"name": "x"}, 403, "forbidden")
	acting(other, u[0].ID, "GET", path, nil, 403, "scope_missing")
	acting(key, "", "GET", path, nil, 400, "invalid_request")
	acting(key, "ext:nobody", "GET", path, nil, 404, "user_not_found")
	acting(key, "nonsense", "GET", path, nil, 404, "user_not_found")
	acting(key, u[0].ID, "GET", "/api/server/keys", nil, 403, "scope_missing")
	acting(u[0].token, u[1].ID, "GET", path, nil, 400, "invalid_request")
	acting(u[0].token, "", "GET", "/api/server/keys", nil, 403, "scope_missing")
	acting("", "", "GET", "/api/server/keys", nil, 401, "unauthorized")
	_, err := p.dial(t, "/api/ws", map[string][]string{"Authorization": {"Bearer " + key}, "Parley-User": {u[0].ID}})
	if pr := client.ProblemOf(err); pr == nil || pr.Status != 403 {
		t.Errorf("a socket: %v", err)
	}
	var log struct {
		Data []struct {
			Actor  struct{ UserID, KeyID *string }
			Action string
			Target struct{ Type, ID string }
		}
	}
	auditor := s.createKey(t, "auditor", "audit:read")
	p.want(t, 200, auditor, "GET", "/api/server/audit?actor="+u[0].ID, nil).into(t, &log)
	if len(log.Data) != 1 || log.Data[0].Actor.KeyID == nil || *log.Data[0].Actor.UserID != u[0].ID || log.Data[0].Target.ID != c.ID {
		b, _ := json.Marshal(log)
		t.Errorf("the audit log: %s", b)
	}
}

// A key has the limit of keys on every route, whatever the limit of the route is: here it is off for users.
func TestTheLimitOfAKeyIsItsOwn(t *testing.T) {
	t.Parallel()
	s := start(t, 1, "PARLEY_RATE_LIMIT_SERVER=3/1m")
	p := s.pods[0]
	key, other := s.createKey(t, "back end", "act,keys:read"), s.createKey(t, "other", "keys:read")
	u := p.register(t)
	for range 3 {
		if a := p.want(t, 200, key, "GET", "/api/users/me", nil, "Parley-User", u.ID); a.header.Get("X-RateLimit-Limit") != "3" {
			t.Errorf("the limit is %q", a.header.Get("X-RateLimit-Limit"))
		}
	}
	if a := p.want(t, 429, key, "GET", "/api/server/keys", nil); a.problem(t).RetryAfterSeconds == 0 {
		t.Errorf("the refusal is %s", a.body)
	}
	p.want(t, 200, other, "GET", "/api/server/keys", nil)
	if a := p.want(t, 200, u.token, "GET", "/api/users/me", nil); a.header.Get("X-RateLimit-Limit") != "" {
		t.Errorf("a user's limit that is off is %q", a.header.Get("X-RateLimit-Limit"))
	}
}
