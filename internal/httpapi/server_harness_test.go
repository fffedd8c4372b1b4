package httpapi

import (
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

	"github.com/parley-chat/parley/internal/auth"
	"github.com/parley-chat/parley/internal/config"
	"github.com/parley-chat/parley/internal/directory"
	"github.com/parley-chat/parley/internal/principal"
)

const idWebhook = "0193a000-0000-7000-8000-000000000006"

// edgeSecret signs the access tokens of an edge.
const edgeSecret = "a secret of the tests, which is long enough"

// serverToken is the bearer token of a server key with all scopes.
const serverToken = "parley_sk_all"

// serverEdge is a server with all its routes and middleware. Its domains are fakes that record their calls, so that it needs no process.
type serverEdge struct {
	*Server
	t       *testing.T
	calls   *calls
	limits  *fakeLimiter
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
	e.limits = &fakeLimiter{}
	e.keys = &serverKeysFake{calls: e.calls, known: map[string]principal.Principal{
		serverToken: {Kind: principal.Key, KeyID: keyID, Scopes: principal.AllScopes()},
	}}
	e.tokens = auth.NewTokens([][]byte{[]byte(edgeSecret)}, time.Hour)
	e.ended = auth.NewWatch(nil, time.Hour, log, func(...string) {})
	e.barred = directory.NewWatch(nil, time.Hour, log, func(string, error) {})
	e.keyed = &keyedDomain{calls: e.calls}
	c := Config{Limits: config.Limits{Default: config.Rate{Count: 100, Window: time.Minute}, Server: config.Rate{Count: 6000, Window: time.Minute}}}
	d := baseDeps(e.metrics, log)
	d.Auth, d.Watch, d.Keys, d.Limiter = &serverAuthFake{Tokens: e.tokens, keyed: e.keyed}, e.ended, e.keys, e.limits
	d.Directory, d.Standings = (*serverUsersFake)(e.keyed), &watchedStandings{Watch: e.barred, keyed: e.keyed}
	d.Audit, d.Webhooks = (*auditFake)(e.keyed), (*webhooksFake)(e.keyed)
	d.Conversations, d.Messages = &serverConversationsFake{keyed: e.keyed}, &serverMessagesFake{keyed: e.keyed}
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
	return sendDescribed(e.t, e.Server, req)
}

// send is do for a request that the document need not describe.
func (e *serverEdge) send(req *http.Request) *reply {
	e.t.Helper()
	return sendRequest(e.t, e.Server, req)
}

// session returns an access token of Parley's own.
func (e *serverEdge) session() string {
	e.t.Helper()
	token, err := e.tokens.Issue(ada, session)
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
