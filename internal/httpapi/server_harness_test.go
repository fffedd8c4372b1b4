package httpapi

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
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
	"github.com/parley-chat/parley/internal/config"
	"github.com/parley-chat/parley/internal/directory"
	"github.com/parley-chat/parley/internal/httpapi/apidoc/apidoctest"
	"github.com/parley-chat/parley/internal/lifecycle"
	"github.com/parley-chat/parley/internal/observe"
	"github.com/parley-chat/parley/internal/principal"
	"github.com/parley-chat/parley/internal/ratelimit"
	"github.com/parley-chat/parley/internal/redisconn"
)

// Ids that tests use. All are well-formed.
const (
	idUser         = "0193a000-0000-7000-8000-000000000001"
	idOther        = "0193a000-0000-7000-8000-000000000002"
	idConversation = "0193a000-0000-7000-8000-000000000003"
	idMessage      = "0193a000-0000-7000-8000-000000000004"
	idKey          = "0193a000-0000-7000-8000-000000000005"
	idWebhook      = "0193a000-0000-7000-8000-000000000006"
	idSession      = "0193a000-0000-7000-8000-000000000007"
)

// edgeSecret signs the access tokens of an edge.
const edgeSecret = "a secret of the tests, which is long enough"

// serverToken is the bearer token of a server key with all scopes.
const serverToken = "parley_sk_all"

var validator = sync.OnceValues(apidoctest.New)

// serverEdge is a server with all its routes and middleware. Its domains are fakes that record their calls, so that it needs no process.
type serverEdge struct {
	*Server
	t       *testing.T
	calls   *calls
	limits  *recordingLimiter
	keys    *serverKeysFake
	tokens  *auth.Tokens
	ended   *auth.Watch
	barred  *directory.Watch
	keyed   *keyedDomain
	log     *lockedBuffer
	metrics *prometheus.Registry
}

// lockedBuffer is a log that several goroutines write.
type lockedBuffer struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// newServerEdge makes the server. adjust may change its settings and dependencies before.
func newServerEdge(t *testing.T, adjust ...func(*Config, *Deps)) *serverEdge {
	t.Helper()
	e := &serverEdge{t: t, calls: &calls{}, log: &lockedBuffer{}, metrics: prometheus.NewRegistry()}
	log := slog.New(slog.NewJSONHandler(e.log, nil))
	e.limits = &recordingLimiter{refuse: map[string]time.Duration{}}
	e.keys = &serverKeysFake{calls: e.calls, known: map[string]principal.Principal{
		serverToken: {Kind: principal.Key, KeyID: idKey, Scopes: principal.AllScopes()},
	}}
	e.tokens = auth.NewTokens([][]byte{[]byte(edgeSecret)}, time.Hour)
	e.ended = auth.NewWatch(nil, time.Hour, log, func(...string) {})
	e.barred = directory.NewWatch(nil, time.Hour, log, func(string, error) {})
	e.keyed = &keyedDomain{calls: e.calls}
	c := Config{Limits: config.Limits{Default: config.Rate{Count: 100, Window: time.Minute}, Server: config.Rate{Count: 6000, Window: time.Minute}}}
	d := Deps{
		Auth: &serverAuthFake{Tokens: e.tokens, keyed: e.keyed}, Watch: e.ended, Keys: e.keys, Directory: (*serverUsersFake)(e.keyed),
		Standings: &watchedStandings{Watch: e.barred, keyed: e.keyed}, Audit: (*auditFake)(e.keyed), Webhooks: (*webhooksFake)(e.keyed),
		Conversations: &serverConversationsFake{keyed: e.keyed}, Messages: &serverMessagesFake{keyed: e.keyed},
		Limiter: e.limits, Memory: budget.New(1<<30, 1<<30), Gate: &lifecycle.Gate{}, Registry: e.metrics,
		Panics:   prometheus.NewCounterVec(prometheus.CounterOpts{Name: "panics"}, []string{"part"}),
		Refusals: observe.NewOutage(log, "refused", "served"), Log: log,
	}
	for _, a := range adjust {
		a(&c, &d)
	}
	s, err := New(c, d)
	if err != nil {
		t.Fatal(err)
	}
	e.Server = s
	return e
}

// reply is a response. problem is its body if that is one.
type reply struct {
	status int
	// closes is set if the server closes the connection after it.
	closes  bool
	header  http.Header
	body    string
	problem problem
}

// fields are the fields of a problem's faults.
func (r *reply) fields() []string {
	var out []string
	for _, f := range r.problem.Errors {
		out = append(out, f.Field)
	}
	return out
}

// do sends a request and checks that its response is described in the OpenAPI document. headers are names and values; the body is JSON unless a
// Content-Type is among them.
func (e *serverEdge) do(method, path, token, body string, headers ...string) *reply {
	e.t.Helper()
	var in io.Reader
	if body != "" {
		in = strings.NewReader(body)
	}
	req := httptest.NewRequest(method, "/", in)
	req.RequestURI = path // as it is, even if it is not well encoded
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	r := e.send(req)
	v, err := validator()
	if err != nil {
		e.t.Fatal(err)
	}
	route, _, _ := strings.Cut(path, "?")
	if err := v.Response(method, route, r.status, r.header, []byte(r.body)); err != nil && method != http.MethodOptions {
		e.t.Errorf("the document does not describe the response: %v\n%s", err, r.body)
	}
	return r
}

// send sends a request.
func (e *serverEdge) send(req *http.Request) *reply {
	e.t.Helper()
	res, err := e.app.Test(req, -1)
	if err != nil {
		e.t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		e.t.Fatal(err)
	}
	r := &reply{status: res.StatusCode, closes: res.Close, header: res.Header, body: string(b)}
	if res.Header.Get("Content-Type") == "application/problem+json" && len(b) > 0 {
		if err := json.Unmarshal(b, &r.problem); err != nil {
			e.t.Fatal(err)
		}
	}
	return r
}

// session returns an access token of Parley's own.
func (e *serverEdge) session() string {
	e.t.Helper()
	token, err := e.tokens.Issue(idUser, idSession)
	if err != nil {
		e.t.Fatal(err)
	}
	return token
}

// wantProblem checks a response's status and code.
func (e *serverEdge) wantProblem(r *reply, status int, code string) {
	e.t.Helper()
	if r.status != status || r.problem.Code != code {
		e.t.Errorf("the response is %d %q, want %d %q: %s", r.status, r.problem.Code, status, code, r.body)
	}
	if r.problem.RequestID == "" || r.problem.RequestID != r.header.Get("X-Request-Id") {
		e.t.Errorf("the problem's request is %q, the header's %q", r.problem.RequestID, r.header.Get("X-Request-Id"))
	}
}

// wantCalls checks what reached the domains.
func (e *serverEdge) wantCalls(want ...string) {
	e.t.Helper()
	if got := e.calls.take(); !slices.Equal(got, want) {
		e.t.Errorf("the domains were called with\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// recordingLimiter allows everything that refuse does not name, and records what is charged.
type recordingLimiter struct {
	mu     sync.Mutex // guards the following fields
	refuse map[string]time.Duration
	// refuseCost is set if charges of more than one are refused.
	refuseCost bool
	takes      []ratelimit.Take
}

func (*recordingLimiter) Rules(...string) {}

func (*recordingLimiter) Refused(string) {}

func (l *recordingLimiter) AllowOne(_ context.Context, t ratelimit.Take) ratelimit.Verdict {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.takes = append(l.takes, t)
	after, refused := l.refuse[t.Rule]
	if l.refuseCost && t.Cost > 0 {
		after, refused = time.Second, true
	}
	return ratelimit.Verdict{Allowed: !refused, Limit: t.Rate.Count, Remaining: t.Rate.Count - 1, RetryAfter: after, Reset: after + time.Second}
}

func (l *recordingLimiter) AllowAlso(ctx context.Context, t ratelimit.Take, _ redisconn.Call) (ratelimit.Verdict, *redis.Cmd) {
	return l.AllowOne(ctx, t), nil
}

// charged returns the charges so far, and forgets them.
func (l *recordingLimiter) charged() []ratelimit.Take {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := l.takes
	l.takes = nil
	return out
}
