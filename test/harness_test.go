// Package test holds the tests that run Parley as its users do: real processes on a real Postgres and a real Redis.
package test

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/parley-chat/parley/internal/client"
	"github.com/parley-chat/parley/internal/httpapi/apidoc/apidoctest"
	"github.com/parley-chat/parley/internal/testenv"
)

const secret = "a secret of at least thirty-two bytes"

// system is Parley with its databases.
type system struct {
	t     testing.TB
	pg    string
	redis testenv.RedisEngine
	pods  []*pod
	extra []string
	// database are the settings that reach Postgres.
	database []string
}

// pod is an api process.
type pod struct {
	*testenv.Process
	url, ops string
	port     [2]int
	env      []string
	older    bool // of a version before this one, whose answers are not held against this version's document
}

// start starts n api processes on databases of their own. env are further settings.
func start(t testing.TB, n int, env ...string) *system {
	t.Helper()
	s := &system{t: t, pg: testenv.Postgres(t), redis: testenv.NewRedis(t), extra: env}
	for range n {
		s.addPod()
	}
	return s
}

func (s *system) settings() []string {
	if s.database == nil {
		s.database = []string{"PARLEY_DATABASE_URL=" + s.pg}
		if testenv.Engine() == testenv.PgBouncer {
			s.database = []string{"PARLEY_DATABASE_URL=" + testenv.Pooled(s.t, s.pg), "PARLEY_DATABASE_MODE=pgbouncer", "PARLEY_MIGRATE_DATABASE_URL=" + s.pg}
		}
	}
	return slices.Concat(s.database, s.redis.Settings(), []string{
		"PARLEY_JWT_SECRET=" + secret, "PARLEY_LOG_FORMAT=text",
		"PARLEY_RATE_LIMIT_DEFAULT=off", "PARLEY_RATE_LIMIT_AUTH=off", "PARLEY_RATE_LIMIT_SEARCH=off", "PARLEY_RATE_LIMIT_SEND=off",
		"PARLEY_RATE_LIMIT_SOCKET=off", "PARLEY_RATE_LIMIT_REFRESH=off", "PARLEY_RATE_LIMIT_SYNC=off",
	}, s.extra)
}

// addPod starts one more api process and waits until it is ready.
func (s *system) addPod(env ...string) *pod {
	s.t.Helper()
	p := s.launch(env...)
	p.awaitReady(s.t)
	return p
}

// launch starts one more api process.
func (s *system) launch(env ...string) *pod {
	s.t.Helper()
	p := &pod{port: [2]int{testenv.FreePort(s.t), testenv.FreePort(s.t)}}
	p.url, p.ops = fmt.Sprintf("http://127.0.0.1:%d", p.port[0]), fmt.Sprintf("http://127.0.0.1:%d", p.port[1])
	p.env = append(append(s.settings(), fmt.Sprintf("PARLEY_HTTP_ADDR=127.0.0.1:%d", p.port[0]), fmt.Sprintf("PARLEY_OPS_ADDR=127.0.0.1:%d", p.port[1])), env...)
	p.Process = testenv.Start(s.t, testenv.Binary(s.t, "api"), nil, p.env)
	s.pods = append(s.pods, p)
	return p
}

func (p *pod) awaitReady(t testing.TB) {
	t.Helper()
	testenv.Eventually(t, 20*time.Second, func() bool {
		select {
		case <-p.Done():
			t.Fatalf("the api ended: %s", p.Logs())
		default:
		}
		r, err := http.Get(p.url + "/api/health/ready")
		if err != nil {
			return false
		}
		defer r.Body.Close()
		return r.StatusCode == http.StatusOK
	}, "the api is ready")
}

// answer is what a request got.
type answer struct {
	status int
	header http.Header
	body   []byte
}

// problem is the body of what went wrong.
type problem struct{ client.Problem }

func (a answer) into(t testing.TB, v any) {
	t.Helper()
	if err := json.Unmarshal(a.body, v); err != nil {
		t.Fatalf("%d %s: %v", a.status, a.body, err)
	}
}

func (a answer) problem(t testing.TB) problem {
	t.Helper()
	var p problem
	a.into(t, &p)
	return p
}

func (a answer) code() string {
	var p problem
	_ = json.Unmarshal(a.body, &p)
	return p.Code
}

// check fails the test, which goes on, if an answer has another status or, for a problem, another code.
func (a answer) check(t testing.TB, what string, status int, code string) {
	t.Helper()
	if a.status != status || a.code() != code {
		t.Errorf("%s: %d %s, want %d %s", what, a.status, a.body, status, code)
	}
}

// expectFaults checks that a request was refused for faults of the fields, and of no other ones.
func expectFaults(t *testing.T, a answer, request, fields string) {
	t.Helper()
	if a.status != 400 || a.problem(t).fields() != fields {
		t.Errorf("%.60q: %d %s, want 400 with faults of %s", request, a.status, a.body, fields)
	}
}

// expectContains checks that all of the texts are in a body, a frame's data or a log.
func expectContains[T string | []byte | json.RawMessage](t testing.TB, what string, got T, texts ...string) {
	t.Helper()
	for _, text := range texts {
		if !strings.Contains(string(got), text) {
			t.Errorf("%s: got %s, want %s in it", what, got, text)
		}
	}
}

// fields are those with a fault, sorted.
func (p problem) fields() string {
	set := map[string]bool{}
	for _, e := range p.Errors {
		set[e.Field] = true
	}
	return strings.Join(slices.Sorted(maps.Keys(set)), " ")
}

var httpClient = &http.Client{Timeout: 2 * time.Minute} // a busy machine may be slow to answer a crowd

// call makes a request. body is nil, a string that is sent as it is, or a value that is sent as JSON.
func (p *pod) call(t testing.TB, token, method, path string, body any, headers ...string) answer {
	t.Helper()
	a, err := p.try(token, method, path, body, headers...)
	if err != nil {
		t.Fatal(err)
	}
	if p.older {
		return a
	}
	v, err := document()
	if err != nil {
		t.Fatal(err)
	}
	plain, _, _ := strings.Cut(path, "?")
	if err := v.Response(method, plain, a.status, a.header, a.body); err != nil && method != "OPTIONS" {
		t.Errorf("not as in the OpenAPI document: %v", err)
	}
	if body != nil && a.status < 300 {
		sent, err := client.Body(body)
		if err == nil {
			err = v.Request(method, plain, sent)
		}
		if err != nil {
			t.Errorf("taken, and not as in the OpenAPI document: %v", err)
		}
	}
	return a
}

// document is the OpenAPI document, which every answer to call is held against, and every body that was taken.
var document = sync.OnceValues(apidoctest.New)

func (p *pod) try(token, method, path string, body any, headers ...string) (answer, error) {
	r, err := client.Server{Base: p.url, Token: token, HTTP: httpClient}.Do(context.Background(), method, path, body, headers...)
	return answer{r.Status, r.Header, r.Body}, err
}

// want makes a request that must have a status.
func (p *pod) want(t testing.TB, status int, token, method, path string, body any, headers ...string) answer {
	t.Helper()
	a := p.call(t, token, method, path, body, headers...)
	if a.status != status {
		t.Fatalf("%s %s: %d %s, want %d", method, path, a.status, a.body, status)
	}
	return a
}

type user struct {
	ID, Username string
	token        string
	refresh      string
}

type pair struct {
	User                      struct{ ID, Username, DisplayName string }
	AccessToken, RefreshToken string
	ExpiresIn                 int
}

const password = "correct horse battery"

var names atomic.Int64

// prepare makes a request that prepares a test and must have one of the statuses. One that is refused with 503 is made again: a database that
// hangs for a moment, because others load the machine, is not what its callers test.
func (p *pod) prepare(t testing.TB, token, method, path string, body any, statuses ...int) answer {
	t.Helper()
	for limit := testenv.NewLimit(30 * time.Second); ; time.Sleep(200 * time.Millisecond) {
		a := p.call(t, token, method, path, body)
		if slices.Contains(statuses, a.status) {
			return a
		}
		if a.status != http.StatusServiceUnavailable || limit.Over() {
			t.Fatalf("%s %s: %d %s, want %v", method, path, a.status, a.body, statuses)
		}
	}
}

// register makes a user. A name is tried once: the user of one that was refused may have been made.
func (p *pod) register(t testing.TB) user {
	t.Helper()
	for limit := testenv.NewLimit(30 * time.Second); ; time.Sleep(200 * time.Millisecond) {
		name := fmt.Sprintf("user%d_%d", names.Add(1), time.Now().UnixNano()%1_000_000)
		a := p.call(t, "", "POST", "/api/auth/register", map[string]any{"username": name, "password": password})
		if a.status == http.StatusServiceUnavailable && !limit.Over() {
			continue
		}
		if a.status != http.StatusCreated {
			t.Fatalf("register: %d %s", a.status, a.body)
		}
		var r pair
		a.into(t, &r)
		return user{r.User.ID, name, r.AccessToken, r.RefreshToken}
	}
}

func (p *pod) users(t testing.TB, n int) []user {
	t.Helper()
	out := make([]user, n)
	for i := range out {
		out[i] = p.register(t)
	}
	return out
}

type conversation struct {
	ID, Type, Name           string
	MemberCount              int
	Revision, LastSeq        int64
	LastReadSeq, UnreadCount int64
	LastMessageID            *string
	Members                  []struct {
		User struct{ ID string }
		Role string
	}
}

type message struct {
	ID, ConversationID, SenderID, Content string
	Seq, Revision                         int64
	ClientMessageID, ReplyToID            *string
	CreatedAt                             string
	EditedAt, DeletedAt                   *string
}

func (p *pod) group(t testing.TB, creator user, others ...user) conversation {
	t.Helper()
	ids := make([]string, len(others))
	for i, o := range others {
		ids[i] = o.ID
	}
	var c conversation
	p.prepare(t, creator.token, "POST", "/api/conversations", map[string]any{"type": "group", "name": "a group", "memberIds": ids}, 201).into(t, &c)
	return c
}

func (p *pod) direct(t testing.TB, a, b user) conversation {
	t.Helper()
	var c conversation
	p.prepare(t, a.token, "POST", "/api/conversations", map[string]any{"type": "direct", "memberIds": []string{b.ID}}, 200, 201).into(t, &c)
	return c
}

func (p *pod) send(t testing.TB, u user, conversationID, content string) message {
	t.Helper()
	var m message
	body := map[string]any{"content": content, "clientMessageId": fmt.Sprint("sent-", names.Add(1))} // one that is repeated is one message
	p.prepare(t, u.token, "POST", "/api/conversations/"+conversationID+"/messages", body, 200, 201).into(t, &m)
	return m
}

// bareUsers makes users who can't log in, straight in the database.
func (s *system) bareUsers(t testing.TB, n int) []string {
	t.Helper()
	db, err := sql.Open("pgx", s.pg)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	return testenv.Users(t, db, n)
}

// metric reads a series, with its labels as they are written, from a process's ops endpoint; 0 where there is none.
func metric(t testing.TB, ops, series string) float64 {
	t.Helper()
	r, err := http.Get(ops + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, series+" "); ok {
			v, err := strconv.ParseFloat(strings.TrimSpace(rest), 64)
			if err != nil {
				t.Fatalf("%q: %v", line, err)
			}
			return v
		}
	}
	return 0
}
