package httpapi

import (
	"cmp"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"

	"github.com/parley-chat/parley/internal/auth"
	"github.com/parley-chat/parley/internal/budget"
	"github.com/parley-chat/parley/internal/cursor"
	"github.com/parley-chat/parley/internal/lifecycle"
	"github.com/parley-chat/parley/internal/observe"
	"github.com/parley-chat/parley/internal/principal"
	"github.com/parley-chat/parley/internal/ratelimit"
	"github.com/parley-chat/parley/internal/redisconn"
	"github.com/parley-chat/parley/internal/serverkey"
	"github.com/parley-chat/parley/internal/timestamp"
)

// Ids of the tests. In an exchange {ada} stands for ada, and so on.
const (
	ada     = "01890000-0000-7000-8000-00000000000a"
	bob     = "01890000-0000-7000-8000-00000000000b"
	room    = "01890000-0000-7000-8000-00000000000c"
	hello   = "01890000-0000-7000-8000-00000000000d"
	file    = "01890000-0000-7000-8000-00000000000f"
	session = "01890000-0000-7000-8000-0000000000aa"
	keyID   = "01890000-0000-7000-8000-0000000000bb"

	// adasToken and bobsToken are access tokens, keyToken a server key.
	adasToken = "token-of-ada"
	bobsToken = "token-of-bob"
	keyToken  = "parley_sk_" + "01890000000070008000000000000abc_" + "kkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkk"
)

// noon is the time of everything that the fakes return, afterBob the cursor of bob at noon.
var (
	noon     = timestamp.Time{Time: time.Date(2027, 1, 2, 12, 0, 0, 0, time.UTC)}
	afterBob = cursor.Encode(cursor.Position{Time: noon.Time, ID: bob})
)

var ids = []string{
	"{ada}", ada, "{bob}", bob, "{room}", room, "{hello}", hello, "{file}", file, "{session}", session, "{key}", keyID,
	"{afterBob}", afterBob, "{noon}", noon.UTC().Format(cursor.TimeFormat),
}

// withIDs replaces the names in a text by the ids, withNames the other way round.
func withIDs(text string) string { return strings.NewReplacer(ids...).Replace(text) }

func withNames(text string) string {
	reversed := slices.Clone(ids)
	slices.Reverse(reversed)
	return strings.NewReplacer(reversed...).Replace(text)
}

// edge is a server with its real routes, middleware and problems, and with fakes for its domains. A domain whose fake a test does not set is
// nil: a request that reaches it panics, and so is a 500.
type edge struct {
	*Server
	domains  *domains
	keys     *fakeKeys
	limiter  *fakeLimiter
	sessions *fakeSessions
	standing *fakeStandings
}

// domains records the calls of all fakes of an edge, and has what they return.
type domains struct {
	mu    sync.Mutex // guards the following fields
	calls []string
	err   error // of the next calls
	// yes is the boolean of the next calls: created, repeated, or that there is more. It is read without mu, by requests only.
	yes bool
}

// set sets what the next calls return.
func (d *domains) set(err error, yes bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.err, d.yes = err, yes
}

// record adds a call, such as "Ask {ada} {"userId":"{bob}"}", and returns the error of the fake. A position is written as its cursor, "first" if
// it is nil.
func (d *domains) record(method string, args ...any) error {
	text := method
	for _, a := range args {
		switch a := a.(type) {
		case string:
			text += " " + cmp.Or(a, `""`)
		case *cursor.Position:
			if a == nil {
				text += " first"
			} else {
				text += " " + cursor.Encode(*a)
			}
		default:
			b, err := json.Marshal(a)
			if err != nil {
				b = []byte(err.Error())
			}
			text += " " + string(b)
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.calls = append(d.calls, withNames(text))
	return d.err
}

// recorded returns and forgets the calls, separated by "; ".
func (d *domains) recorded() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	all := strings.Join(d.calls, "; ")
	d.calls = nil
	return all
}

// fakeSessions recognizes adasToken and bobsToken.
type fakeSessions struct {
	accounts
	knownAddresses
	refreshSessions
	keyedSessions
	*domains
	ended    bool  // whether ada's session has ended
	notReady error // of the watch of sessions
}

func (*fakeSessions) Verify(token string) (auth.Identity, error) {
	switch token {
	case adasToken:
		return auth.Identity{UserID: ada, SessionID: session}, nil
	case bobsToken:
		return auth.Identity{UserID: bob, SessionID: keyID}, nil
	}
	return auth.Identity{}, auth.ErrUnauthorized
}

func (s *fakeSessions) Ended(sessionID string) bool { return s.ended && sessionID == session }
func (s *fakeSessions) Ready() error                { return s.notReady }

// fakeStandings refuses every user with err.
type fakeStandings struct{ err, notReady error }

func (s *fakeStandings) Check(string) error                     { return s.err }
func (s *fakeStandings) Standing(context.Context, string) error { return s.err }
func (s *fakeStandings) Ready() error                           { return s.notReady }

// fakeKeys recognizes keyToken, which has scopes.
type fakeKeys struct {
	serverKeys
	scopes principal.Scopes
}

func (k *fakeKeys) Authenticate(_ context.Context, token string) (principal.Principal, error) {
	if token != keyToken {
		return principal.Principal{}, principal.ErrUnauthorized
	}
	return principal.Principal{Kind: principal.Key, KeyID: keyID, Scopes: k.scopes}, nil
}

// fakeLimiter allows everything, unless refuse returns a verdict, and records what is charged. It is asked only for limits that are on in
// Config.Limits.
type fakeLimiter struct {
	mu     sync.Mutex // guards the following fields
	takes  []ratelimit.Take
	refuse func(t ratelimit.Take) *ratelimit.Verdict
}

// refuseBy sets which charges are refused; nil for none.
func (l *fakeLimiter) refuseBy(refuse func(t ratelimit.Take) *ratelimit.Verdict) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.refuse = refuse
}

// refuseIf refuses the charges for which refused returns true. They may be tried again after some time.
func (l *fakeLimiter) refuseIf(refused func(t ratelimit.Take) bool, after time.Duration) {
	l.refuseBy(func(t ratelimit.Take) *ratelimit.Verdict {
		if !refused(t) {
			return nil
		}
		return &ratelimit.Verdict{Limit: t.Rate.Count, Remaining: t.Rate.Count - 1, RetryAfter: after, Reset: after + time.Second}
	})
}

func (l *fakeLimiter) refuseRule(rule string, after time.Duration) {
	l.refuseIf(func(t ratelimit.Take) bool { return t.Rule == rule }, after)
}

// charged returns the charges so far, and forgets them.
func (l *fakeLimiter) charged() []ratelimit.Take {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := l.takes
	l.takes = nil
	return out
}

func (*fakeLimiter) Rules(...string) {}
func (*fakeLimiter) Refused(string)  {}

func (l *fakeLimiter) AllowOne(_ context.Context, t ratelimit.Take) ratelimit.Verdict {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.takes = append(l.takes, t)
	if l.refuse != nil {
		if v := l.refuse(t); v != nil {
			return *v
		}
	}
	return ratelimit.Verdict{Allowed: true, Limit: t.Rate.Count, Remaining: t.Rate.Count - 1, Reset: time.Second}
}

func (l *fakeLimiter) AllowAlso(ctx context.Context, t ratelimit.Take, _ redisconn.Call) (ratelimit.Verdict, *redis.Cmd) {
	return l.AllowOne(ctx, t), nil
}

// fakeAttention records the users who were active.
type fakeAttention struct{ *domains }

func (a fakeAttention) Note(userID, sessionID string) { _ = a.record("Note", userID, sessionID) }

func (a fakeAttention) Focus(_ context.Context, userID, sessionID, deviceID string, active bool) {
	_ = a.record("Focus", userID, sessionID, deviceID, active)
}

// baseDeps are the dependencies of a server without those that have state elsewhere.
func baseDeps(r *prometheus.Registry, log *slog.Logger) Deps {
	return Deps{
		Memory: budget.New(1<<30, 1<<30), Gate: &lifecycle.Gate{}, Registry: r,
		Panics:   prometheus.NewCounterVec(prometheus.CounterOpts{Name: "panics"}, []string{"part"}),
		Refusals: observe.NewOutage(log, "refused", "served"), Log: log,
	}
}

// newEdge makes an edge. change sets the fakes of the domains that a test needs, and settings.
func newEdge(t testing.TB, change func(d *domains, c *Config, deps *Deps)) *edge {
	t.Helper()
	d := &domains{}
	e := &edge{domains: d, keys: &fakeKeys{scopes: principal.AllScopes()}, limiter: &fakeLimiter{}, sessions: &fakeSessions{domains: d}, standing: &fakeStandings{}}
	log := slog.New(slog.NewTextHandler(io.Discard, nil))
	config := Config{}
	deps := baseDeps(prometheus.NewRegistry(), log)
	deps.Auth, deps.Watch, deps.Keys, deps.Standings, deps.Limiter, deps.Attention = e.sessions, e.sessions, e.keys, e.standing, e.limiter, fakeAttention{d}
	if change != nil {
		change(d, &config, &deps)
	}
	s, err := New(config, deps)
	if err != nil {
		t.Fatal(err)
	}
	e.Server = s
	return e
}

// send sends a request with ada's token, unless the header has an Authorization ("" for none). A body is JSON unless the header has a type.
func (e *edge) send(t testing.TB, method, path, body string, header map[string]string) *reply {
	t.Helper()
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	r.Header.Set("Authorization", "Bearer "+adasToken)
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	for name, value := range header {
		if value == "" {
			r.Header.Del(name)
		} else {
			r.Header.Set(name, value)
		}
	}
	return sendDescribed(t, e.Server, r)
}

// asKey has the header with which a request has a server key.
var asKey = map[string]string{"Authorization": "Bearer " + keyToken}

// exchange is a request with the calls and the response that it must lead to. Names such as {ada} in its texts stand for ids.
type exchange struct {
	name    string
	request string // "POST /api/friends/requests"
	body    string
	header  map[string]string // beside or instead of that of a plain request (edge.send)

	err error // of the domain
	yes bool  // its boolean

	calls  string // of the domains, as domains.record writes them, separated by "; "
	status int
	// want is the body: JSON, or for a problem its code, followed by the faulty fields ("invalid_request: name limit").
	want string
	// sets has headers that the response must have.
	sets map[string]string
}

// run tests each exchange in a subtest. They share the edge, one after the other.
func (e *edge) run(t *testing.T, exchanges []exchange) {
	t.Helper()
	for _, x := range exchanges {
		t.Run(x.name, func(t *testing.T) { e.check(t, &x) })
	}
}

func (e *edge) check(t *testing.T, x *exchange) {
	t.Helper()
	e.domains.set(x.err, x.yes)
	method, path, _ := strings.Cut(withIDs(x.request), " ")
	a := e.send(t, method, path, withIDs(x.body), x.header)
	if calls := e.domains.recorded(); calls != x.calls {
		t.Errorf("the domains got\n %s, want\n %s", calls, x.calls)
	}
	if a.status != x.status {
		t.Errorf("%s is %d, want %d: %s", x.request, a.status, x.status, a.body)
	}
	if got := withNames(a.said()); got != compacted(x.want) {
		t.Errorf("the body is\n %s, want\n %s", got, x.want)
	}
	for name, value := range x.sets {
		if got := withNames(a.header.Get(name)); got != value {
			t.Errorf("%s is %q, want %q", name, got, value)
		}
	}
}

// TestRequestsWithoutTheirDomainFail guards the harness: a fake that is missing must fail a test.
func TestRequestsWithoutTheirDomainFail(t *testing.T) {
	t.Parallel()
	e := newEdge(t, nil)
	if a := e.send(t, "GET", "/api/friends", "", nil); a.status != 500 || a.said() != "internal" {
		t.Errorf("a request without its domain is %d %s", a.status, a.body)
	}
	if id, ok := serverkey.Parse(keyToken); !ok || id == "" {
		t.Error("keyToken is not a server key")
	}
}
