package httpapi

import (
	"context"
	"testing"
	"time"

	"github.com/parley-chat/parley/internal/auth"
	"github.com/parley-chat/parley/internal/chat"
	"github.com/parley-chat/parley/internal/config"
	"github.com/parley-chat/parley/internal/principal"
	"github.com/parley-chat/parley/internal/ratelimit"
)

// adasOwn is the own profile that the fakes return.
var adasOwn = chat.Own{Profile: chat.Profile{ID: ada, Username: "ada", DisplayName: "Ada"}, CreatedAt: noon, Privacy: chat.Privacy{PresenceSharing: "friends"}}

const (
	adasPrivacyJSON = `{"presenceSharing":"friends","readReceiptsEnabled":false}`
	adasOwnJSON     = `{"id":"{ada}","username":"ada","displayName":"Ada","avatarUrl":null,"createdAt":"{noon}","privacy":` + adasPrivacyJSON + `}`
)

// fakeAccounts are fakeSessions with logins. holder is the holder of every refresh token.
type fakeAccounts struct {
	*fakeSessions
	holder auth.Holder
}

func (f *fakeAccounts) pair(err error) (auth.Pair, error) {
	return auth.Pair{User: adasOwn, SessionID: session, AccessToken: "access", RefreshToken: "refresh", ExpiresIn: 15 * time.Minute}, err
}

func (f *fakeAccounts) Register(_ context.Context, r *auth.Registration, c auth.Client) (auth.Pair, error) {
	return f.pair(f.record("Register", r, c))
}

func (f *fakeAccounts) Login(_ context.Context, in *auth.Credentials, c auth.Client) (auth.Pair, error) {
	return f.pair(f.record("Login", in, c.UserAgent))
}

func (f *fakeAccounts) HolderOf(context.Context, *auth.RefreshToken) (auth.Holder, error) {
	return f.holder, nil
}

func (f *fakeAccounts) Refresh(_ context.Context, r *auth.RefreshToken, c auth.Client) (auth.Pair, error) {
	return f.pair(f.record("Refresh", r, c.UserAgent))
}

func (f *fakeAccounts) Logout(_ context.Context, r *auth.RefreshToken) error {
	return f.record("Logout", r)
}

func (f *fakeAccounts) Sessions(_ context.Context, who auth.Identity) ([]auth.Session, error) {
	return []auth.Session{{ID: session, UserAgent: "curl", CreatedAt: noon, LastUsedAt: noon, ExpiresAt: noon, Current: true}}, f.record("Sessions", who.UserID, who.SessionID)
}

func (f *fakeAccounts) EndSession(_ context.Context, userID, sessionID string) error {
	return f.record("EndSession", userID, sessionID)
}

func (f *fakeAccounts) ChangePassword(_ context.Context, who auth.Identity, p *auth.PasswordChange, c auth.Client) error {
	return f.record("ChangePassword", who.UserID, who.SessionID, p, c.UserAgent)
}

func (f *fakeAccounts) DeleteAccount(_ context.Context, userID string, d *auth.Deletion) error {
	return f.record("DeleteAccount", userID, d)
}

func (f *fakeAccounts) DeleteExternal(_ context.Context, userID string) error {
	return f.record("DeleteExternal", userID)
}

func (f *fakeAccounts) KnownAddress(context.Context, string, string) (bool, error) {
	return f.yes, nil
}

func accountsEdge(t *testing.T, mode string, holder auth.Holder) *edge {
	t.Helper()
	return newEdge(t, func(d *domains, c *Config, deps *Deps) {
		c.AuthMode = mode
		deps.Auth = &fakeAccounts{&fakeSessions{domains: d}, holder}
	})
}

// anonymous has the header of a request without a token, from a client that names itself.
var anonymous = map[string]string{"Authorization": "", "User-Agent": "browser"}

const pairJSON = `{"user":` + adasOwnJSON + `,"accessToken":"access","refreshToken":"refresh","expiresIn":900}`

func TestRegistration(t *testing.T) {
	t.Parallel()
	const body = `{"username":"Ada","password":"correct horse"}`
	const call = `Register {"username":"ada","password":"correct horse","displayName":"ada"} {"UserAgent":"browser","Address":"0.0.0.0"}`
	accountsEdge(t, config.AuthBuiltin, auth.Holder{}).run(t, []exchange{
		{name: "registered", request: "POST /api/auth/register", body: body, header: anonymous, calls: call, status: 201, want: pairJSON, sets: map[string]string{"Cache-Control": "no-store"}},
		{name: "the name is taken", request: "POST /api/auth/register", body: body, header: anonymous, err: auth.ErrUsernameTaken, calls: call, status: 409, want: "username_taken"},
		{name: "too busy", request: "POST /api/auth/register", body: body, header: anonymous, err: auth.ErrBusy, calls: call, status: 503, want: "unavailable", sets: map[string]string{"Retry-After": "1"}},
		{name: "all faults at once", request: "POST /api/auth/register", body: `{"username":"a","password":"short","displayName":"","admin":true}`, header: anonymous,
			status: 400, want: "invalid_request: admin username password displayName"},
		{name: "another type", request: "POST /api/auth/register", body: body, header: map[string]string{"Content-Type": "text/plain"}, status: 415, want: "unsupported_media_type"},
		{name: "compressed", request: "POST /api/auth/register", body: body, header: map[string]string{"Content-Encoding": "gzip"}, status: 415, want: "unsupported_media_type"},
		{name: "no list", request: "POST /api/auth/register", body: `[]`, header: anonymous, status: 400, want: "malformed_json"},
	})
}

func TestLogin(t *testing.T) {
	t.Parallel()
	const body, call = `{"username":"Ada","password":"secret"}`, `Login {"username":"ada","password":"secret"} browser`
	accountsEdge(t, config.AuthBuiltin, auth.Holder{}).run(t, []exchange{
		{name: "logged in", request: "POST /api/auth/login", body: body, header: anonymous, calls: call, status: 200, want: pairJSON},
		{name: "wrong", request: "POST /api/auth/login", body: body, header: anonymous, err: auth.ErrInvalidCredentials, calls: call, status: 401, want: "invalid_credentials"},
		{name: "banned", request: "POST /api/auth/login", body: body, header: anonymous, err: principal.ErrBanned, calls: call, status: 403, want: "banned"},
		{name: "faults", request: "POST /api/auth/login", body: `{"username":1,"password":2}`, header: anonymous, status: 400, want: "invalid_request: username password"},
	})
}

func TestRefreshAndLogout(t *testing.T) {
	t.Parallel()
	const body, call = `{"refreshToken":"r"}`, `Refresh {"refreshToken":"r"} browser`
	accountsEdge(t, config.AuthBuiltin, auth.Holder{UserID: ada}).run(t, []exchange{
		{name: "refreshed", request: "POST /api/auth/refresh", body: body, header: anonymous, calls: call, status: 200, want: pairJSON},
		{name: "a token that is none", request: "POST /api/auth/refresh", body: body, header: anonymous, err: auth.ErrInvalidRefresh, calls: call, status: 401, want: "invalid_refresh_token"},
		{name: "no token", request: "POST /api/auth/refresh", body: `{}`, header: anonymous, status: 400, want: "invalid_request: refreshToken"},
		{name: "logged out", request: "POST /api/auth/logout", body: body, header: anonymous, calls: `Logout {"refreshToken":"r"}`, status: 204},
		{name: "logout without a token", request: "POST /api/auth/logout", body: `{"refreshToken":""}`, header: anonymous, status: 400, want: "invalid_request: refreshToken"},
	})
}

// With tokens of the product's issuer alone, only sessions that a key opened are refreshed, and there are no passwords.
func TestExternalModeHasNoPasswords(t *testing.T) {
	t.Parallel()
	const body = `{"refreshToken":"r"}`
	accountsEdge(t, config.AuthExternal, auth.Holder{UserID: ada}).run(t, []exchange{
		{name: "register", request: "POST /api/auth/register", body: `{}`, status: 404, want: "not_found"},
		{name: "login", request: "POST /api/auth/login", body: `{}`, status: 404, want: "not_found"},
		{name: "refresh", request: "POST /api/auth/refresh", body: body, status: 404, want: "not_found"},
		{name: "delete the account", request: "DELETE /api/users/me", calls: "DeleteExternal {ada}", status: 204},
	})
	accountsEdge(t, config.AuthExternal, auth.Holder{UserID: ada, Minted: true}).run(t, []exchange{
		{name: "refresh a session of a key", request: "POST /api/auth/refresh", body: body, header: anonymous, calls: `Refresh {"refreshToken":"r"} browser`, status: 200, want: pairJSON},
	})
}

func TestOwnSessions(t *testing.T) {
	t.Parallel()
	accountsEdge(t, config.AuthBuiltin, auth.Holder{}).run(t, []exchange{
		{name: "list", request: "GET /api/auth/sessions", calls: "Sessions {ada} {session}", status: 200,
			want: `{"data":[{"id":"{session}","userAgent":"curl","createdAt":"{noon}","lastUsedAt":"{noon}","expiresAt":"{noon}","current":true}],"pagination":{"nextCursor":null,"hasMore":false}}`},
		{name: "end", request: "DELETE /api/auth/sessions/{session}", calls: "EndSession {ada} {session}", status: 204},
		{name: "end an unknown session", request: "DELETE /api/auth/sessions/{bob}", err: auth.ErrSessionNotFound, calls: "EndSession {ada} {bob}", status: 404, want: "session_not_found"},
		{name: "end a bad id", request: "DELETE /api/auth/sessions/x", status: 404, want: "session_not_found"},
	})
}

func TestPasswords(t *testing.T) {
	t.Parallel()
	const body = `{"current":"old one","new":"correct horse"}`
	const call = `ChangePassword {ada} {session} {"current":"old one","new":"correct horse"} browser`
	client := map[string]string{"User-Agent": "browser"}
	accountsEdge(t, config.AuthBuiltin, auth.Holder{}).run(t, []exchange{
		{name: "changed", request: "POST /api/auth/password", body: body, header: client, calls: call, status: 204},
		{name: "wrong", request: "POST /api/auth/password", body: body, header: client, err: auth.ErrWrongPassword, calls: call, status: 403, want: "wrong_password"},
		{name: "faults", request: "POST /api/auth/password", body: `{"current":1,"new":"short"}`, status: 400, want: "invalid_request: current new"},
		{name: "delete the account", request: "DELETE /api/users/me", body: `{"password":"p"}`, calls: `DeleteAccount {ada} {"password":"p"}`, status: 204},
		{name: "delete with a wrong password", request: "DELETE /api/users/me", body: `{"password":"p"}`, err: auth.ErrWrongPassword, calls: `DeleteAccount {ada} {"password":"p"}`, status: 403, want: "wrong_password"},
		{name: "delete without a password", request: "DELETE /api/users/me", status: 415, want: "unsupported_media_type"},
	})
}

// Each attempt is charged before the check of the password, and given back unless the password was wrong.
func TestOnlyWrongPasswordsAreCharged(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		err     error
		known   bool // whether the user logged in from the address before
		refuse  bool
		costs   []int
		subject string
		status  int
	}{
		"right":                {costs: []int{0, -1}, subject: "ada", status: 200},
		"wrong":                {err: auth.ErrInvalidCredentials, costs: []int{0}, subject: "ada", status: 401},
		"banned":               {err: principal.ErrBanned, costs: []int{0, -1}, subject: "ada", status: 403},
		"from a known address": {known: true, costs: []int{0, -1}, subject: "ada from 0.0.0.0", status: 200},
		"refused":              {refuse: true, costs: []int{0}, subject: "ada", status: 429},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := newEdge(t, func(d *domains, c *Config, deps *Deps) {
				c.Limits.Auth = config.Rate{Count: 5, Window: time.Minute}
				deps.Auth = &fakeAccounts{&fakeSessions{domains: d}, auth.Holder{}}
			})
			e.domains.set(c.err, c.known)
			e.limiter.refuse = func(take ratelimit.Take) *ratelimit.Verdict {
				if c.refuse && take.Rule == ruleFailures {
					return &ratelimit.Verdict{Limit: 20, RetryAfter: 1500 * time.Millisecond}
				}
				return nil
			}
			a := e.send(t, "POST", "/api/auth/login", `{"username":"ada","password":"secret"}`, anonymous)
			if a.status != c.status {
				t.Errorf("it is %d, want %d: %s", a.status, c.status, a.body)
			}
			if called := e.domains.recorded() != ""; called == c.refuse {
				t.Errorf("the password is checked: %t", called)
			}
			if c.refuse && (a.header.Get("Retry-After") != "2" || a.said() != "rate_limited") {
				t.Errorf("the refusal has Retry-After %q and %s", a.header.Get("Retry-After"), a.body)
			}
			checkFailures(t, e.limiter.takes, c.subject, c.costs)
		})
	}
}

func checkFailures(t *testing.T, takes []ratelimit.Take, subject string, costs []int) {
	t.Helper()
	var charged []int
	for _, take := range takes {
		if take.Rule != ruleFailures {
			continue
		}
		charged = append(charged, take.Cost)
		if take.Subject != subject {
			t.Errorf("%q is charged, want %q", take.Subject, subject)
		}
	}
	if len(charged) != len(costs) {
		t.Fatalf("charged are %v, want %v", charged, costs)
	}
	for i := range costs {
		if charged[i] != costs[i] {
			t.Errorf("charged are %v, want %v", charged, costs)
		}
	}
}
