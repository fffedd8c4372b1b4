package httpapi

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/parley-chat/parley/internal/audit"
	"github.com/parley-chat/parley/internal/auth"
	"github.com/parley-chat/parley/internal/config"
	"github.com/parley-chat/parley/internal/identity"
	"github.com/parley-chat/parley/internal/postgres"
	"github.com/parley-chat/parley/internal/principal"
)

// externalFake are the tokens of an issuer, which begin with "ext.", and their users.
type externalFake struct {
	err, userErr error
	users        []string // what User returns, one after the other
	forgotten    int
}

func (*externalFake) Claims(token string) bool { return strings.HasPrefix(token, "ext.") }

func (f *externalFake) Verify(_ context.Context, token string) (identity.Token, error) {
	return identity.Token{Principal: principal.Principal{Kind: principal.External, ExternalID: token[4:], Signer: "s", ExpiresAt: someTime.Time}}, f.err
}

func (f *externalFake) User(context.Context, identity.Token) (string, error) {
	u := f.users[0]
	if len(f.users) > 1 {
		f.users = f.users[1:]
	}
	return u, f.userErr
}

func (*externalFake) Known(string) string                           { return "" }
func (*externalFake) Checked(string) bool                           { return false }
func (f *externalFake) Forget(string)                               { f.forgotten++ }
func (*externalFake) Managed(context.Context, string) (bool, error) { return false, nil }
func (*externalFake) Holds(string) bool                             { return true }

// sessionsOfCaller records for whom the sessions are listed.
type sessionsOfCaller struct {
	*serverAuthFake
	seen []auth.Identity
	err  error
}

func (s *sessionsOfCaller) Sessions(_ context.Context, who auth.Identity) ([]auth.Session, error) {
	s.seen = append(s.seen, who)
	return []auth.Session{}, s.err
}

func (s *sessionsOfCaller) EndSession(ctx context.Context, userID, sessionID string) error {
	return s.keyed.add(ctx, "EndSession", userID, sessionID)
}

// authEdge is an edge whose GET /api/auth/sessions records for whom it is called.
func authEdge(t *testing.T) (*serverEdge, *sessionsOfCaller, *externalFake) {
	t.Helper()
	seen, external := &sessionsOfCaller{}, &externalFake{users: []string{ada}}
	e := newServerEdge(t, func(c *Config, d *Deps) {
		c.AuthMode = config.AuthBoth
		seen.serverAuthFake = d.Auth.(*serverAuthFake) //nolint:forcetypeassert // newServerEdge sets it
		d.Auth, d.Verifier, d.Identity, d.Keyset = seen, external, external, external
	})
	return e, seen, external
}

const ownSessions = "/api/auth/sessions"

func TestBearersOfEveryKindAreRecognized(t *testing.T) {
	t.Parallel()
	e, seen, _ := authEdge(t)
	for _, c := range []struct {
		name, header string
		acting       string
		want         auth.Identity
	}{
		{"an own token", "Bearer " + e.session(), "", auth.Identity{UserID: ada, SessionID: session}},
		{"another case of the scheme", "bEARER " + e.session(), "", auth.Identity{UserID: ada, SessionID: session}},
		{"an external token", "Bearer ext.ada", "", auth.Identity{UserID: ada}},
		{"a key that acts for a user by id", "Bearer " + serverToken, bob, auth.Identity{UserID: bob}},
		{"a key that acts for a user by external id", "Bearer " + serverToken, "ext:ada", auth.Identity{UserID: ada}},
	} {
		headers := []string{"Authorization", c.header}
		if c.acting != "" {
			headers = append(headers, "Parley-User", c.acting)
		}
		r := e.do("GET", ownSessions, "", "", headers...)
		if r.status != 200 || len(seen.seen) != 1 || seen.seen[0] != c.want {
			t.Errorf("%s: %d %s for %+v, want %+v", c.name, r.status, r.body, seen.seen, c.want)
		}
		seen.seen = nil
	}
}

// Whatever is wrong with a token, a client learns no more than that it does not hold.
func TestBearersThatDoNotHold(t *testing.T) {
	t.Parallel()
	e, seen, external := authEdge(t)
	external.err = principal.ErrUnauthorized
	expired, err := auth.NewTokens([][]byte{[]byte(edgeSecret)}, -time.Hour).Issue(ada, session)
	if err != nil {
		t.Fatal(err)
	}
	forged, err := auth.NewTokens([][]byte{[]byte("another secret, which is long enough")}, time.Hour).Issue(ada, session)
	if err != nil {
		t.Fatal(err)
	}
	const none = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJ4In0."
	good := e.session()
	details := map[string]bool{}
	for name, header := range map[string]string{
		"no token": "", "an empty token": "Bearer ", "no scheme": good, "another scheme": "Basic " + good, "an expired token": "Bearer " + expired,
		"a forged token": "Bearer " + forged, "a token without signature": "Bearer " + none, "a cut token": "Bearer " + good[:len(good)-2],
		"two tokens": "Bearer " + good + " " + good, "an unknown key": "Bearer parley_sk_unknown", "a bad external token": "Bearer ext.ada",
		"a long token": "Bearer " + strings.Repeat("x", 7<<10),
	} {
		headers := []string{}
		if header != "" {
			headers = []string{"Authorization", header}
		}
		r := e.do("GET", ownSessions, "", "", headers...)
		if r.status != 401 || r.problem.Code != "unauthorized" || r.header.Get("WWW-Authenticate") != `Bearer realm="parley"` {
			t.Errorf("%s: %d %v %s", name, r.status, r.header, r.body)
		}
		details[r.problem.Detail] = true
	}
	if len(details) != 1 || len(seen.seen) != 0 {
		t.Errorf("the details are %v, the domain was called for %v", details, seen.seen)
	}
}

func TestUsersWhoAreNotAdmitted(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name     string
		standing principal.Standing
		status   int
		code     string
	}{
		{"banned", principal.Standing{Banned: true, ChangedAt: someTime.Time}, 403, "banned"},
		{"banned until later", principal.Standing{Banned: true, Until: time.Now().Add(time.Hour), ChangedAt: someTime.Time}, 403, "banned"},
		{"banned until before", principal.Standing{Banned: true, Until: time.Now().Add(-time.Hour), ChangedAt: someTime.Time}, 200, ""},
		{"deactivated", principal.Standing{Deactivated: true, ChangedAt: someTime.Time}, 403, "deactivated"},
		{"deleted", principal.Standing{Deleted: true, ChangedAt: someTime.Time}, 401, "unauthorized"},
	} {
		e, _, external := authEdge(t)
		e.barred.Note(ada, c.standing)
		for name, r := range map[string]*reply{
			"an own token":      e.do("GET", ownSessions, e.session(), ""),
			"an external token": e.do("GET", ownSessions, "ext.ada", ""),
			"an acting key":     e.do("GET", ownSessions, serverToken, "", "Parley-User", ada),
		} {
			if r.status != c.status || r.problem.Code != c.code {
				t.Errorf("%s, %s: %d %s, want %d %s", c.name, name, r.status, r.body, c.status, c.code)
			}
			if until := r.problem.Until != nil; until != (c.name == "banned until later") {
				t.Errorf("%s, %s: until is %v", c.name, name, r.problem.Until)
			}
		}
		if looked := external.forgotten == 1; looked != c.standing.Deleted {
			t.Errorf("%s: the user of the external token was looked up again: %t", c.name, looked)
		}
	}
}

// A token that was issued after its user was deleted belongs to a new user.
func TestAnExternalTokenAfterADeletionIsOfANewUser(t *testing.T) {
	t.Parallel()
	e, seen, external := authEdge(t)
	external.users = []string{ada, bob}
	e.barred.Note(ada, principal.Standing{Deleted: true, ChangedAt: someTime.Time})
	if r := e.do("GET", ownSessions, "ext.ada", ""); r.status != 200 || len(seen.seen) != 1 || seen.seen[0].UserID != bob {
		t.Errorf("%d %s for %v", r.status, r.body, seen.seen)
	}
}

func TestATokenOfAnEndedSession(t *testing.T) {
	t.Parallel()
	e, _, _ := authEdge(t)
	e.ended.Note(session)
	e.wantProblem(e.do("GET", ownSessions, e.session(), ""), 401, "unauthorized")
	if got := e.limits.charged(); len(got) != 1 || got[0].Subject != "address:0.0.0.0" {
		t.Errorf("charged %+v: the bucket of the former owner is not used up by it", got)
	}
}

// A token that cannot be checked because a dependency is unavailable is not refused as wrong: its client would log out.
func TestATokenThatCannotBeCheckedIsNotRefused(t *testing.T) {
	t.Parallel()
	down := fmt.Errorf("find the key: %w", postgres.ErrConflict)
	for _, c := range []struct {
		name, token, code string
		fail              func(e *serverEdge, x *externalFake)
		status            int
	}{
		{"a key, Postgres is down", serverToken, "unavailable", func(e *serverEdge, _ *externalFake) { e.keys.err = down }, 503},
		{"a key, a bug", serverToken, "internal", func(e *serverEdge, _ *externalFake) { e.keys.err = errors.New("bug") }, 500},
		{"an external token, no key set", "ext.ada", "identity_unavailable", func(_ *serverEdge, x *externalFake) { x.err = identity.ErrUnavailable }, 503},
		{"an external token, Postgres is down", "ext.ada", "unavailable", func(_ *serverEdge, x *externalFake) { x.userErr = down }, 503},
		{"an external token of nobody", "ext.ada", "not_provisioned", func(_ *serverEdge, x *externalFake) { x.userErr = identity.ErrNotProvisioned }, 403},
	} {
		e, seen, external := authEdge(t)
		c.fail(e, external)
		r := e.do("GET", ownSessions, c.token, "", acting(c.token)...)
		e.wantProblem(r, c.status, c.code)
		if (r.header.Get("Retry-After") != "") != (c.status == 503) || len(seen.seen) != 0 {
			t.Errorf("%s: Retry-After is %q, the domain was called for %v", c.name, r.header.Get("Retry-After"), seen.seen)
		}
	}
}

// acting are the headers of a key that acts for a user, none for other tokens.
func acting(token string) []string {
	if token == serverToken {
		return []string{"Parley-User", ada}
	}
	return nil
}

func TestKeysThatAct(t *testing.T) {
	t.Parallel()
	e, seen, _ := authEdge(t)
	e.keys.known["parley_sk_reader"] = principal.Principal{Kind: principal.Key, KeyID: keyID, Scopes: principal.Scopes{"act:read"}}
	e.keys.known["parley_sk_users"] = principal.Principal{Kind: principal.Key, KeyID: keyID, Scopes: principal.Scopes{"users"}}
	end := ownSessions + "/" + session
	for _, c := range []struct {
		name, method, path, token string
		headers                   []string
		status                    int
		code                      string
	}{
		{"nobody named", "GET", ownSessions, serverToken, nil, 400, "invalid_request"},
		{"an unknown user", "GET", ownSessions, serverToken, []string{"Parley-User", "ext:nobody"}, 404, "user_not_found"},
		{"no id", "GET", ownSessions, serverToken, []string{"Parley-User", "ada"}, 404, "user_not_found"},
		{"reads with act:read", "GET", ownSessions, "parley_sk_reader", []string{"Parley-User", ada}, 200, ""},
		{"HEAD with act:read", "HEAD", ownSessions, "parley_sk_reader", []string{"Parley-User", ada}, 200, ""},
		{"changes with act:read", "DELETE", end, "parley_sk_reader", []string{"Parley-User", ada}, 403, "scope_missing"},
		{"changes", "DELETE", end, serverToken, []string{"Parley-User", ada}, 204, ""},
		{"without act", "GET", ownSessions, "parley_sk_users", []string{"Parley-User", ada}, 403, "scope_missing"},
		{"in a browser, by its origin", "GET", ownSessions, serverToken, []string{"Parley-User", ada, "Origin", "https://example.com"}, 403, "key_in_browser"},
		{"in a browser, by its fetch", "GET", ownSessions, serverToken, []string{"Parley-User", ada, "Sec-Fetch-Mode", "cors"}, 403, "key_in_browser"},
		{"an unknown key in a browser", "GET", ownSessions, "parley_sk_unknown", []string{"Origin", "https://example.com"}, 403, "key_in_browser"},
		{"a user who names another", "GET", ownSessions, e.session(), []string{"Parley-User", bob}, 400, "invalid_request"},
		{"the socket", "GET", "/api/ws", serverToken, []string{"Parley-User", ada}, 426, "upgrade_required"},
	} {
		r := e.do(c.method, c.path, c.token, "", c.headers...)
		if r.status != c.status || r.problem.Code != c.code {
			t.Errorf("%s: %d %s, want %d %s", c.name, r.status, r.body, c.status, c.code)
		}
	}
	if len(seen.seen) != 2 {
		t.Errorf("the domain was called for %v", seen.seen)
	}
}

// A change that a key makes for a user has an entry in the audit log with what was changed, a change of a user's own has none. Both name their author.
func TestTheAuthorOfAChange(t *testing.T) {
	t.Parallel()
	e, _, _ := authEdge(t)
	end := ownSessions + "/" + session
	for _, c := range []struct {
		name, token string
		want        audit.Actor
	}{
		{"a user", e.session(), audit.Actor{UserID: ada, IP: "0.0.0.0", RequestID: "r-1"}},
		{"a key", serverToken, audit.Actor{UserID: ada, KeyID: keyID, IP: "0.0.0.0", RequestID: "r-1"}},
	} {
		e.do(http.MethodDelete, end, c.token, "", append(acting(c.token), "X-Request-Id", "r-1")...)
		if got := audit.From(e.keyed.ctx); got != c.want {
			t.Errorf("%s: the author is %+v, want %+v", c.name, got, c.want)
		}
	}
	e.do(http.MethodGet, "/api/server"+pathUser, serverToken, "")
	if got := audit.From(e.keyed.ctx); got.KeyID != keyID || got.UserID != "" {
		t.Errorf("a key's own request is of %+v", got)
	}
}
