package webhook

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/parley-chat/parley/internal/chat"
	"github.com/parley-chat/parley/internal/conversation"
	"github.com/parley-chat/parley/internal/event"
	"github.com/parley-chat/parley/internal/journal"
	"github.com/parley-chat/parley/internal/jsonbody"
	"github.com/parley-chat/parley/internal/lifecycle"
	"github.com/parley-chat/parley/internal/message"
	"github.com/parley-chat/parley/internal/outbound"
	"github.com/parley-chat/parley/internal/postgres"
	"github.com/parley-chat/parley/internal/testenv"
)

type nothing struct{}

func (nothing) Publish(...*event.Event)                                       {}
func (nothing) Notify(*event.Notice)                                          {}
func (nothing) Markers(context.Context, string) map[string]chat.PendingMarker { return nil }

// got is a delivery as a receiver sees it.
type got struct {
	id, typ, conversation string
	revision              int
	replay                bool
	actor                 string // "user/key"
}

// receiver is a product's back end.
type receiver struct {
	*httptest.Server
	t      *testing.T
	mu     sync.Mutex
	secret []byte
	got    []got
	answer func(g got) int // nil for 200
	// retryAfter is the header of answers that are not 200, "" for none.
	retryAfter string
}

func newReceiver(t *testing.T) *receiver {
	r := &receiver{t: t}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		b, _ := io.ReadAll(req.Body)
		id := req.Header.Get("webhook-id")
		at, _ := strconv.ParseInt(req.Header.Get("webhook-timestamp"), 10, 64)
		r.mu.Lock()
		defer r.mu.Unlock()
		if Sign([][]byte{r.secret}, id, at, b) != req.Header.Get("webhook-signature") {
			t.Errorf("%s is signed %s", id, req.Header.Get("webhook-signature"))
		}
		var in struct {
			Type string
			Data struct {
				Revision     int
				Conversation struct{ ID string }
			}
			Actor struct{ UserID, KeyID string }
		}
		if err := json.Unmarshal(b, &in); err != nil {
			t.Errorf("%s: %v", b, err)
		}
		g := got{id, in.Type, in.Data.Conversation.ID, in.Data.Revision, req.Header.Get("parley-replay") == "true", in.Actor.UserID + "/" + in.Actor.KeyID}
		if r.answer != nil {
			if status := r.answer(g); status != 200 {
				if r.retryAfter != "" {
					w.Header().Set("Retry-After", r.retryAfter)
				}
				w.WriteHeader(status)
				return
			}
		}
		r.got = append(r.got, g)
	}))
	t.Cleanup(r.Close)
	return r
}

func (r *receiver) set(answer func(g got) int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.answer = answer
}

func (r *receiver) list() []got {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]got(nil), r.got...)
}

// await waits until the receiver has what ok wants.
func (r *receiver) await(what string, ok func([]got) bool) []got {
	r.t.Helper()
	limit := testenv.NewLimit(2 * time.Minute)
	for {
		list := r.list()
		if ok(list) {
			return list
		}
		if limit.Over() {
			r.t.Fatalf("%s: %d deliveries: %v", what, len(list), list)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func (r *receiver) messages(group string) (n int) {
	for _, g := range r.list() {
		if g.typ == "message.created" && g.conversation == group {
			n++
		}
	}
	return n
}

// house is a database with what writes to it and dispatchers.
type house struct {
	t        *testing.T
	db       *postgres.DB
	messages *message.Service
	groups   *conversation.Service
	feed     *journal.Feed
	sealer   *Sealer
	guard    *outbound.Guard
	service  *Service
	users    []string
}

func newHouse(t *testing.T) *house {
	t.Helper()
	db := testenv.Open(t, postgres.Config{URL: testenv.Postgres(t), MaxConns: 24})
	store := message.NewStore(db)
	conversations := conversation.NewStore(db, store)
	metrics := message.NewMetrics(prometheus.NewRegistry())
	committer := message.NewCommitter(store, nothing{}, nil, slog.New(slog.DiscardHandler), metrics)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = committer.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	sealer, err := NewSealer([][]byte{[]byte(strings.Repeat("k", 32))})
	if err != nil {
		t.Fatal(err)
	}
	h := &house{
		t: t, db: db, messages: message.NewService(db, store, committer, nil, nothing{}), users: testenv.Users(t, db.SQL, 3),
		groups: conversation.NewService(db, conversations, nothing{}, nothing{}, nothing{}), feed: journal.NewFeed(db.SQL, conversations),
		sealer: sealer, guard: &outbound.Guard{Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}},
	}
	h.service = NewService(db, sealer, h.guard, 5*time.Second)
	return h
}

func (h *house) group() string {
	h.t.Helper()
	name := "group"
	c, _, err := h.groups.Create(h.t.Context(), h.users[0], &conversation.Creation{Type: "group", MemberIDs: h.users[1:], Name: &name})
	if err != nil {
		h.t.Fatal(err)
	}
	return c.ID
}

func (h *house) send(group, content string) chat.Message {
	h.t.Helper()
	m, _, err := h.messages.Send(h.t.Context(), group, h.users[0], &message.Draft{Content: content})
	if err != nil {
		h.t.Fatal(err)
	}
	return m
}

func (h *house) endpoint(r *receiver, body string) WithSecret {
	h.t.Helper()
	var d Draft
	if err := jsonbody.Decode([]byte(fmt.Sprintf(body, r.URL)), &d); err != nil {
		h.t.Fatal(err)
	}
	e, err := h.service.Create(h.t.Context(), &d)
	if err != nil {
		h.t.Fatal(err)
	}
	secret, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(e.Secret, "whsec_"))
	if err != nil || len(secret) != 32 {
		h.t.Fatalf("the secret is %q", e.Secret)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.secret = secret
	return e
}

// dispatcher starts one, and returns what stops it.
func (h *house) dispatcher(retries ...time.Duration) (stop func()) {
	d := NewDispatcher(Config{Timeout: 5 * time.Second, Retries: retries, DisableAfter: time.Hour, OutboxKeep: time.Hour},
		h.db.SQL, h.feed, h.sealer, h.guard, nil, NewMetrics(prometheus.NewRegistry()), slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		g := lifecycle.NewGroup(ctx)
		g.Go("dispatcher", d.Run)
		_ = g.Wait()
	}()
	stop = sync.OnceFunc(func() { cancel(); <-done })
	h.t.Cleanup(stop)
	return stop
}

// checkOrder fails unless each conversation's revisions rise, repeats of the last one aside.
func checkOrder(t *testing.T, list []got) {
	t.Helper()
	last := map[string]int{}
	for _, g := range list {
		if g.conversation != "" && g.revision < last[g.conversation] {
			t.Errorf("revision %d of %s came after %d", g.revision, g.conversation, last[g.conversation])
		}
		last[g.conversation] = max(last[g.conversation], g.revision)
	}
}

const fromNow = `{"name":"a","url":%q,"types":["*"]}`

func TestTwoDispatchersDeliverInOrder(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	old := h.group()
	h.send(old, "before")
	r := newReceiver(t)
	h.endpoint(r, fromNow)
	stop := h.dispatcher(time.Second)
	h.dispatcher(time.Second)
	groups := []string{old, h.group(), h.group()}
	for i := range 20 {
		for _, g := range groups {
			h.send(g, fmt.Sprint(i))
		}
		if i == 10 {
			stop()
			h.dispatcher(time.Second)
		}
	}
	r.await("all messages", func([]got) bool {
		for _, g := range groups {
			if r.messages(g) < 20 {
				return false
			}
		}
		return true
	})
	list := r.list()
	checkOrder(t, list)
	for _, g := range list {
		if g.conversation == old && g.revision <= 2 {
			t.Errorf("%v is older than the endpoint", g)
		}
		if g.id == "" || !strings.HasPrefix(g.id, "evt_"+g.conversation) {
			t.Errorf("the id is %q", g.id)
		}
	}
	if r.messages(groups[1]) != 20 {
		t.Errorf("%d of 20 messages of a conversation, without a fault", r.messages(groups[1]))
	}
}

func TestFromTheBeginningOfItsTypes(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	g := h.group()
	h.send(g, "before")
	r := newReceiver(t)
	h.endpoint(r, `{"name":"a","url":%q,"types":["message.created"],"from":"beginning"}`)
	h.dispatcher(time.Second)
	h.send(g, "after")
	list := r.await("both", func(l []got) bool { return len(l) >= 2 })
	if len(list) != 2 || list[0].revision != 2 || list[1].revision != 3 || list[0].typ != "message.created" {
		t.Errorf("got %v", list)
	}
}

// An endpoint that refuses one event and accepts others gets all others, and the one is dead.
func TestOneRefusedEventDies(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	r := newReceiver(t)
	e := h.endpoint(r, fromNow)
	poisoned, other := h.group(), h.group()
	var id string
	r.set(func(g got) int {
		if g.conversation == poisoned && g.revision == 2 {
			id = g.id
			return 500
		}
		return 200
	})
	h.dispatcher(time.Second, time.Second)
	h.send(poisoned, "refused")
	h.send(poisoned, "behind it")
	r.await("the event behind the refused one", func([]got) bool {
		h.send(other, "meanwhile")
		return r.messages(poisoned) == 1
	})
	checkOrder(t, r.list())
	dead, _, err := h.service.DeadEvents(t.Context(), e.ID, nil, 10)
	if err != nil || len(dead) != 1 || dead[0].Event != id || dead[0].Type != "message.created" {
		t.Fatalf("dead are %+v, %v", dead, err)
	}
	failed, _, err := h.service.Attempts(t.Context(), e.ID, nil, 10)
	if err != nil || len(failed) < 3 || *failed[0].Status != 500 {
		t.Errorf("failed are %+v, %v", failed, err)
	}
	r.set(nil)
	if err := h.service.Retry(t.Context(), e.ID, id); err != nil || r.messages(poisoned) != 2 {
		t.Errorf("retried: %d messages, %v", r.messages(poisoned), err)
	}
	if err := h.service.Forget(t.Context(), e.ID, id); !errors.Is(err, ErrNotFound) {
		t.Errorf("forgotten after it was delivered: %v", err)
	}
}

// While an endpoint is down nothing dies, and all comes in order once it is back.
func TestAnEndpointThatIsDownLosesNothing(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	r := newReceiver(t)
	e := h.endpoint(r, fromNow)
	r.set(func(got) int { return 503 })
	g := h.group()
	h.dispatcher(time.Second, time.Second)
	for i := range 10 {
		h.send(g, fmt.Sprint(i))
	}
	limit := testenv.NewLimit(2 * time.Minute)
	for {
		failed, _, err := h.service.Attempts(t.Context(), e.ID, nil, 10)
		if err != nil {
			t.Fatal(err)
		}
		if len(failed) >= 5 { // more than an event that is refused gets
			break
		}
		if limit.Over() {
			t.Fatalf("%d attempts", len(failed))
		}
		time.Sleep(50 * time.Millisecond)
	}
	if got, err := h.service.Get(t.Context(), e.ID); err != nil || got.State != StateFailing || got.Dead != 0 || got.Lag.Conversations != 1 {
		t.Errorf("it is %+v, %v", got, err)
	}
	r.set(nil)
	list := r.await("all of it", func([]got) bool { return r.messages(g) >= 10 })
	checkOrder(t, list)
	if got, err := h.service.Get(t.Context(), e.ID); err != nil || got.Dead != 0 {
		t.Errorf("it is %+v, %v", got, err)
	}
}

func TestAnEndpointThatIsGoneIsDisabled(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	r := newReceiver(t)
	e := h.endpoint(r, fromNow)
	r.set(func(got) int { return 410 })
	h.dispatcher(time.Second)
	g := h.group()
	state := func() string {
		got, err := h.service.Get(t.Context(), e.ID)
		if err != nil {
			t.Fatal(err)
		}
		return got.State
	}
	testenv.Eventually(t, time.Minute, func() bool { return state() == StateDisabled }, "the endpoint is disabled")
	r.set(nil)
	h.send(g, "kept")
	active := jsonbody.Optional[string]{Set: true, Value: StateActive}
	if _, err := h.service.Update(t.Context(), e.ID, &Change{State: active}); err != nil {
		t.Fatal(err)
	}
	checkOrder(t, r.await("what was kept", func([]got) bool { return r.messages(g) == 1 }))
}

// A dispatcher that has lost its lease moves nothing.
func TestALostLeaseMovesNothing(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	r := newReceiver(t)
	h.endpoint(r, fromNow)
	h.group()
	p := &places{db: h.db.SQL, lease: time.Second}
	claim := func() work {
		t.Helper()
		for limit := testenv.NewLimit(time.Minute); !limit.Over(); time.Sleep(20 * time.Millisecond) {
			list, err := p.endpoints(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if _, err := p.discover(t.Context(), list[0].id); err != nil {
				t.Fatal(err)
			}
			if got, err := p.claim(t.Context(), &list[0], 16); err != nil {
				t.Fatal(err)
			} else if len(got) == 1 {
				return got[0]
			}
		}
		t.Fatal("no place is due")
		return work{}
	}
	paused := claim()
	awake := claim() // once the first lease is over
	for name, err := range map[string]error{
		"renew": p.renew(t.Context(), &paused), "advance": p.advance(t.Context(), &paused, 1), "postpone": p.postpone(t.Context(), &paused, 1, time.Second),
	} {
		if !errors.Is(err, postgres.ErrLeaseLost) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := p.advance(t.Context(), &awake, 1); err != nil {
		t.Error(err)
	}
}

func TestUsersAndFriendsComeFromTheOutbox(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	exec := func(query string, args ...any) {
		t.Helper()
		if _, err := h.db.SQL.Exec(query, args...); err != nil {
			t.Fatal(err)
		}
	}
	exec(`UPDATE users SET display_name = 'before' WHERE id = $1`, h.users[0])
	r := newReceiver(t)
	h.endpoint(r, fromNow)
	exec(`UPDATE users SET display_name = 'after' WHERE id = $1`, h.users[0])
	exec(`UPDATE users SET last_seen_at = now() WHERE id = $1`, h.users[0])
	exec(`UPDATE users SET banned_at = now() WHERE id = $1`, h.users[0])
	exec(`UPDATE users SET banned_at = NULL WHERE id = $1`, h.users[0])
	exec(`INSERT INTO friendships (user_id, friend_id, status) VALUES ($1, $2, 'accepted'), ($2, $1, 'accepted')`, h.users[1], h.users[2])
	exec(`DELETE FROM friendships`)
	h.dispatcher(time.Second)
	list := r.await("five events", func(l []got) bool { return len(l) >= 5 })
	var users, friends []string
	for _, g := range list {
		if strings.HasPrefix(g.typ, "user.") {
			users = append(users, g.typ)
		} else {
			friends = append(friends, g.typ)
		}
	}
	if strings.Join(users, " ") != "user.updated user.banned user.unbanned" || strings.Join(friends, " ") != "friend.added friend.removed" {
		t.Errorf("got %v and %v", users, friends)
	}
}

func TestManagement(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	r := newReceiver(t)
	e := h.endpoint(r, fromNow)
	var again Draft
	if err := jsonbody.Decode([]byte(fmt.Sprintf(fromNow, r.URL)), &again); err != nil {
		t.Fatal(err)
	}
	if _, err := h.service.Create(t.Context(), &again); !errors.Is(err, ErrNameTaken) {
		t.Errorf("a taken name: %v", err)
	}
	if trial, err := h.service.Test(t.Context(), e.ID); err != nil || *trial.Status != 200 || trial.Error != nil {
		t.Errorf("tested: %+v, %v", trial, err)
	}
	var sealed []byte
	if err := h.db.SQL.QueryRow(`SELECT secret FROM webhooks`).Scan(&sealed); err != nil || strings.Contains(string(sealed), string(r.secret)) {
		t.Errorf("the secret is stored as it is, %v", err)
	}
	former := r.secret
	text, err := h.service.Rotate(t.Context(), e.ID)
	if err != nil {
		t.Fatal(err)
	}
	tgt, err := h.service.store.target(t.Context(), e.ID)
	if err != nil || len(tgt.secrets) != 2 {
		t.Fatalf("%d secrets sign after a rotation, %v", len(tgt.secrets), err)
	}
	first, _ := h.sealer.Open(e.ID, tgt.secrets[0])
	second, _ := h.sealer.Open(e.ID, tgt.secrets[1])
	if shown(first) != text || string(second) != string(former) {
		t.Error("the secrets are others")
	}
	if _, err := h.db.SQL.Exec(`UPDATE webhooks SET former_until = former_until - interval '24 hours'`); err != nil {
		t.Fatal(err)
	}
	rows, err := (&places{db: h.db.SQL}).endpoints(t.Context())
	if tgt, failed := h.service.store.target(t.Context(), e.ID); err != nil || failed != nil || len(tgt.secrets) != 1 || len(rows[0].secrets) != 1 {
		t.Errorf("%d secrets sign a day after a rotation, %v, %v", len(tgt.secrets), err, failed)
	}
	if err := h.service.Delete(t.Context(), e.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := h.service.Get(t.Context(), e.ID); !errors.Is(err, ErrNotFound) {
		t.Errorf("a deleted one: %v", err)
	}
}

func TestAddresses(t *testing.T) {
	t.Parallel()
	g := &outbound.Guard{}
	for in, valid := range map[string]bool{
		"https://example.com/hook": true, "https://example.com:8443/": true, "http://hooks.chat.svc:8080/": true, "http://hooks.chat.svc.cluster.local/": true,
		"http://example.com/": false, "ftp://example.com/": false, "https://u:p@example.com/": false, "": false, "/hook": false,
		"https://127.0.0.1/": false, "https://[::1]/": false, "https://10.0.0.1/": false, "https://169.254.169.254/": false, "https://0.0.0.0/": false,
		"https://[::ffff:127.0.0.1]/": false, "https://[fd00:ec2::254]/": false, "https://192.168.1.1/": false, "https://100.64.0.1/": false,
		"https://2130706433/": false, "https://0x7f000001/": false, "https://0177.0.0.1/": false, "https://127.1/": false, "https://127.0.0.1./": false,
		"https://localhost/": false, "https://a.localhost/": false, "https://[fe80::1%25eth0]/": false, "https://[::127.0.0.1]/": false,
		"https://[2002:7f00:1::]/": false, "https://[2001:0:5db8:d822::80ff:fffe]/": false, "https://[fec0::1]/": false, "https://[2001:db8::1]/": true, "https://0x5db8d822/": true, "https://1.example.com/": true, "https://12.com/": true,
	} {
		if why := g.CheckURL(in); (why == "") != valid {
			t.Errorf("%q: %q", in, why)
		}
	}
	for ip, ok := range map[string]bool{"127.0.0.1": false, "::ffff:127.0.0.1": false, "10.1.2.3": false, "93.184.216.34": true, "169.254.169.254": false, "fe80::1%eth0": false} {
		if err := g.CheckAddress("example.com", netip.MustParseAddr(ip)); (err == nil) != ok {
			t.Errorf("example.com at %s: %v", ip, err)
		}
	}
	if g.CheckAddress("a.b.svc", netip.MustParseAddr("10.1.2.3")) != nil || g.CheckAddress("a.b.svc", netip.MustParseAddr("127.0.0.1")) == nil {
		t.Error("a Service of the cluster is at a private address, and never at loopback")
	}
}

// What resolves to loopback at the dial is not reached, in whatever spelling, and redirects are not followed.
func TestDialsAreChecked(t *testing.T) {
	t.Parallel()
	r := newReceiver(t)
	_, port, _ := strings.Cut(strings.TrimPrefix(r.URL, "http://"), ":")
	for _, host := range []string{"localhost", "127.0.0.1", "0.0.0.0", "[::ffff:127.0.0.1]", "2130706433"} {
		res, err := (&outbound.Guard{}).Client(time.Second, 1).Get("http://" + host + ":" + port)
		if err == nil {
			res.Body.Close()
			t.Errorf("%s was reached", host)
		}
	}
	redirect := httptest.NewServer(http.RedirectHandler(r.URL, http.StatusFound))
	defer redirect.Close()
	res, err := (&outbound.Guard{Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}).Client(5*time.Second, 1).Get(redirect.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusFound || len(r.list()) != 0 {
		t.Errorf("a redirect was followed: %d", res.StatusCode)
	}
}

// The vector of the Standard Webhooks specification's own tests.
func TestSignature(t *testing.T) {
	t.Parallel()
	secret, err := base64.StdEncoding.DecodeString("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
	if err != nil {
		t.Fatal(err)
	}
	got := Sign([][]byte{secret}, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, []byte(`{"test": 2432232314}`))
	if want := "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}
