package test

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"io"
	mathrand "math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/parley-chat/parley/internal/testenv"
)

// pushHouse is FCM, the service of its tokens, and a back end that wants push.requested.
type pushHouse struct {
	*receiver

	mu sync.Mutex
	// requested are the decisions that the back end got, in order, by user and conversation; ids those that it knows.
	requested map[string][]decision
	ids       map[string]bool
	// pushed are the seqs that FCM accepted, by device and conversation.
	pushed map[string][]int64
}

// decision is a push that was decided on: count messages up to seq.
type decision struct{ seq, count int64 }

func newPushHouse(t testing.TB) *pushHouse {
	t.Helper()
	h := &pushHouse{requested: map[string][]decision{}, ids: map[string]bool{}, pushed: map[string][]int64{}}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /token", func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(map[string]any{"access_token": "token", "expires_in": 3600})
	})
	mux.HandleFunc("POST /v1/projects/a-project/messages:send", h.push)
	mux.HandleFunc("POST /hook", h.request)
	h.receiver = newReceiver(t, mux)
	return h
}

func (h *pushHouse) push(_ http.ResponseWriter, r *http.Request) {
	var in struct {
		Message struct {
			Token string
			Data  struct{ ConversationID, Seq string }
		}
	}
	if b, err := io.ReadAll(r.Body); err != nil || json.Unmarshal(b, &in) != nil {
		return // cut off: it never came
	}
	seq, err := strconv.ParseInt(in.Message.Data.Seq, 10, 64)
	if err != nil {
		h.t.Error(err)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	at := in.Message.Token + " " + in.Message.Data.ConversationID
	h.pushed[at] = append(h.pushed[at], seq)
}

func (h *pushHouse) request(_ http.ResponseWriter, r *http.Request) {
	var in struct {
		Data struct {
			UserID string
			Push   struct {
				ConversationID string
				Seq, Count     int64
			}
		}
	}
	if b, err := io.ReadAll(r.Body); err != nil || json.Unmarshal(b, &in) != nil {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if id := r.Header.Get("webhook-id"); !h.ids[id] {
		h.ids[id] = true
		at := in.Data.UserID + " " + in.Data.Push.ConversationID
		h.requested[at] = append(h.requested[at], decision{in.Data.Push.Seq, in.Data.Push.Count})
	}
}

// last is the seq of the last push that a device and a back end got of a user in a conversation.
func (h *pushHouse) last(u user, conversation string) (device, backend int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, s := range h.pushed[u.ID+" "+conversation] {
		device = max(device, s)
	}
	if list := h.requested[u.ID+" "+conversation]; len(list) > 0 {
		backend = list[len(list)-1].seq
	}
	return device, backend
}

// settings have FCM at the house.
func (h *pushHouse) settings() []string {
	h.t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		h.t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		h.t.Fatal(err)
	}
	account, err := json.Marshal(map[string]string{
		"type": "service_account", "project_id": "a-project", "client_email": "parley@example.iam", "private_key_id": "1",
		"private_key": string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})), "token_uri": "http://" + h.addr + "/token",
	})
	if err != nil {
		h.t.Fatal(err)
	}
	return []string{"PARLEY_PUSH_FCM_CREDENTIALS=" + string(account), "PARLEY_PUSH_FCM_ENDPOINT=http://" + h.addr, "PARLEY_PUSH_DELAY=1s"}
}

// Dispatchers, the provider, Postgres and Redis are killed at random instants, and Redis forgets everything. A message is decided on once:
// each push of a user begins where the one before ended. Users who muted the conversation or block the sender get none. The last message is
// pushed: it replaces what was lost.
func TestPushesSurviveKills(t *testing.T) {
	t.Parallel()
	pg := testenv.PostgresServer(t)
	house := newPushHouse(t)
	retries := "PARLEY_WEBHOOK_RETRIES=" + strings.Repeat("1s,", 30) + "1s" // so that no decision dies
	f := follow(t, &system{t: t, pg: pg.URL(), redis: testenv.NewRedis(t)}, 2, 0, append(house.settings(), retries)...)
	p := f.pods[0]
	p.want(t, 201, bootstrapKey, "POST", "/api/server/webhooks", map[string]any{"name": "pushes", "url": "http://" + house.addr + "/hook", "types": []string{"push.requested"}})
	u := p.users(t, 4)
	away, muted, blocking := u[1], u[2], u[3]
	for _, x := range u[1:] {
		p.want(t, 204, x.token, "PUT", "/api/push/devices/phone", map[string]any{"provider": "fcm", "token": x.ID})
	}
	for range 8 {
		c := p.group(t, u[0], u[1:]...)
		f.groups = append(f.groups, group{ID: c.ID})
		p.want(t, 200, muted.token, "PATCH", "/api/conversations/"+c.ID+"/me", map[string]any{"mutedUntil": "forever"})
	}
	p.want(t, 204, blocking.token, "PUT", "/api/blocks/"+u[0].ID, nil)
	f.user = u[0]
	seed := mathrand.Uint64()
	t.Logf("seed %d", seed)
	random := mathrand.New(mathrand.NewPCG(seed, 0)) //nolint:gosec // a test's
	var done map[string]int
	f.chatDuring(t, func() {
		done = f.killAtRandom(t, random, kills(t), 2*time.Second, pg, house.receiver) // there is a decision in between
	})
	house.awaitLast(t, away, f.sendLast(t))
	house.mu.Lock()
	defer house.mu.Unlock()
	house.expectEachDecidedOnce(t)
	for _, x := range []user{muted, blocking} {
		house.expectNone(t, x, f.groups)
	}
	t.Logf("%v killed: %d decisions", done, len(house.ids))
}

// awaitLast waits until a user's device and the back end got the push of each message.
func (h *pushHouse) awaitLast(t *testing.T, u user, messages []message) {
	t.Helper()
	for _, m := range messages {
		testenv.Eventually(t, 3*time.Minute, func() bool {
			device, backend := h.last(u, m.ConversationID)
			return device == m.Seq && backend == m.Seq
		}, "the last message, of seq %d, is pushed", m.Seq)
	}
}

// expectEachDecidedOnce checks that each push of a user counts the messages since the one before, none of them twice. mu is held.
func (h *pushHouse) expectEachDecidedOnce(t *testing.T) {
	t.Helper()
	for at, list := range h.requested {
		from := int64(0)
		for _, d := range list {
			if d.seq <= from || d.count != d.seq-from {
				t.Errorf("%s: %d messages up to %d were decided on, after those up to %d", at, d.count, d.seq, from)
			}
			from = d.seq
		}
	}
}

// expectNone checks that a user got no push in the conversations, neither a device nor by the back end. mu is held.
func (h *pushHouse) expectNone(t *testing.T, u user, groups []group) {
	t.Helper()
	for _, g := range groups {
		if at := u.ID + " " + g.ID; len(h.requested[at])+len(h.pushed[at]) > 0 {
			t.Errorf("a user who wants none got pushes: %v, %v", h.requested[at], h.pushed[at])
		}
	}
}

// chatDuring sends messages in all groups while a function runs.
func (f *followed) chatDuring(t *testing.T, run func()) {
	t.Helper()
	stop, cancel := context.WithCancel(t.Context())
	defer cancel()
	var writers sync.WaitGroup
	for _, g := range f.groups {
		writers.Go(func() { f.chat(stop, g) })
	}
	run()
	cancel()
	writers.Wait()
}

// sendLast sends one more message in each group, and returns them.
func (f *followed) sendLast(t *testing.T) (last []message) {
	t.Helper()
	for _, g := range f.groups {
		m, _, err := f.pods[0].sendAgain(f.user, g.ID, map[string]any{"content": "the last one", "clientMessageId": "last"})
		if err != nil {
			t.Fatal(err)
		}
		last = append(last, m)
	}
	return last
}

// chat sends messages in a conversation until stop, each until it is accepted.
func (f *followed) chat(stop context.Context, g group) {
	for i := 0; stop.Err() == nil; i++ {
		body := map[string]any{"content": strings.Repeat("x", 1+i%3), "clientMessageId": strconv.Itoa(i)}
		for stop.Err() == nil {
			if a, err := f.pods[0].try(f.user.token, "POST", "/api/conversations/"+g.ID+"/messages", body); err == nil && a.status < 300 {
				break
			}
			time.Sleep(20 * time.Millisecond)
		}
		time.Sleep(200 * time.Millisecond)
	}
}
