package test

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/parley-chat/parley/internal/testenv"
)

// hook is a product's back end. It holds every delivery against what is promised: an event comes after the one
// before it was accepted, and from then on never again, but for the one that was accepted last.
type hook struct {
	*receiver

	mu       sync.Mutex
	accepted map[string]int    // by conversation, the last revision
	ids      map[string]string // by webhook-id, the conversation and revision
	repeats  int
	pause    time.Duration // before each answer
	refuse   func(conversation string, revision int) bool
}

func newHook(t testing.TB) *hook {
	t.Helper()
	h := &hook{accepted: map[string]int{}, ids: map[string]string{}}
	h.receiver = newReceiver(t, h)
	return h
}

func (h *hook) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	b, err := io.ReadAll(r.Body)
	if err != nil {
		return // cut off: it never came
	}
	var in struct {
		Data struct {
			Revision     int
			Conversation struct{ ID string }
		}
	}
	if err := json.Unmarshal(b, &in); err != nil {
		h.t.Errorf("%s: %v", b, err)
	}
	conversation, revision := in.Data.Conversation.ID, in.Data.Revision
	h.mu.Lock()
	pause, refuse := h.pause, h.refuse
	h.mu.Unlock()
	time.Sleep(pause)
	if refuse != nil && refuse(conversation, revision) {
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	h.accept(r.Header.Get("webhook-id"), conversation, revision)
}

func (h *hook) accept(id, conversation string, revision int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	event := fmt.Sprint(conversation, " ", revision)
	if other, ok := h.ids[id]; ok && other != event {
		h.t.Errorf("%s is %s, and was %s", id, event, other)
	} else if ok {
		h.repeats++
	}
	h.ids[id] = event
	switch last := h.accepted[conversation]; {
	case revision < last:
		h.t.Errorf("%s came after %d: out of order", event, last)
	case revision > last+1:
		h.t.Errorf("%s came after %d: without those between", event, last)
	default:
		h.accepted[conversation] = revision
	}
}

func (h *hook) reached(conversation string) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.accepted[conversation]
}

func (h *hook) repeated() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.repeats
}

// followed is a system with dispatchers and one endpoint.
type followed struct {
	*system
	hook        *hook
	user        user
	groups      []group
	db          *sql.DB
	dispatchers []*testenv.Process
	env         []string
}

type group = struct{ ID string }

// follow starts a system with n dispatchers, and an endpoint that has everything from the beginning.
func follow(t testing.TB, s *system, n, groups int, env ...string) *followed {
	t.Helper()
	s.extra = append(s.extra, "PARLEY_BOOTSTRAP_KEY="+bootstrapKey, "PARLEY_SECRETS_KEY="+strings.Repeat("k", 43)+"=", "PARLEY_WEBHOOK_ALLOW_CIDRS=127.0.0.0/8")
	f := &followed{system: s, hook: newHook(t), env: append([]string{"PARLEY_WEBHOOK_TIMEOUT=1s"}, env...)}
	p := s.addPod()
	testenv.Eventually(t, 20*time.Second, func() bool { return p.call(t, bootstrapKey, "GET", "/api/server/keys", nil).status == 200 }, "the key is made")
	f.user = p.register(t)
	p.want(t, 201, bootstrapKey, "POST", "/api/server/webhooks", map[string]any{
		"name": "hook", "url": "http://" + f.hook.addr, "types": []string{"message.created", "message.updated", "message.deleted", "message.reacted", "conversation.created", "conversation.updated"}, "from": "beginning",
	})
	for range groups {
		var g group
		p.want(t, 201, f.user.token, "POST", "/api/conversations", map[string]any{"type": "group", "name": "g", "memberIds": []string{}}).into(t, &g)
		f.groups = append(f.groups, g)
	}
	var err error
	if f.db, err = sql.Open("pgx", s.pg); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.db.Close() })
	for range n {
		f.dispatchers = append(f.dispatchers, nil)
		f.run(len(f.dispatchers) - 1)
	}
	return f
}

// run starts the dispatcher of that number.
func (f *followed) run(i int) { f.dispatchers[i], _ = f.launchBeside("dispatcher", f.env...) }

// write sends, edits and reacts in a conversation until stop, each until it is done.
func (f *followed) write(stop context.Context, g group) {
	p := f.pods[0]
	var last struct{ ID string }
	for i := 0; stop.Err() == nil; i++ {
		method, path, body := "POST", "/api/conversations/"+g.ID+"/messages", any(map[string]any{"content": "x", "clientMessageId": strconv.Itoa(i)})
		switch {
		case last.ID != "" && i%5 == 3:
			method, path, body = "PATCH", "/api/messages/"+last.ID, map[string]any{"content": fmt.Sprint(i)}
		case last.ID != "" && i%5 == 4:
			method, path, body = "PUT", "/api/messages/"+last.ID+"/reactions/%F0%9F%91%8D", nil
		}
		for stop.Err() == nil {
			a, err := p.try(f.user.token, method, path, body)
			if err == nil && a.status < 300 {
				if method == "POST" {
					_ = json.Unmarshal(a.body, &last)
				}
				break
			}
			time.Sleep(20 * time.Millisecond)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// revisions are those that the conversations have, by id.
func (f *followed) revisions() (map[string]int, error) {
	rows, err := f.db.Query(`SELECT id, revision FROM conversations`)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	out := map[string]int{}
	for rows.Next() {
		var id string
		var revision int
		if err := rows.Scan(&id, &revision); err != nil {
			return nil, err
		}
		out[id] = revision
	}
	return out, rows.Err()
}

// arrives waits until all that was committed was accepted.
func (f *followed) arrives(t testing.TB, within time.Duration) {
	t.Helper()
	var missing string
	testenv.Eventually(t, within, func() bool {
		want, err := f.revisions()
		if err != nil {
			return false
		}
		missing = ""
		for id, revision := range want {
			if got := f.hook.reached(id); got < revision {
				missing += fmt.Sprintf(" %d of %d", got, revision)
			}
		}
		return missing == ""
	}, "every committed event arrives")
}

// kills is how often TestWebhooksSurviveKills kills something. A thousand take an hour.
func kills(t testing.TB) int {
	s := os.Getenv("PARLEY_WEBHOOK_KILLS")
	if s == "" {
		return 12
	}
	n, err := strconv.Atoi(s)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// killAtRandom kills n times one of the dispatchers, the receiver, Postgres or Redis, or has Redis forget everything, after a pause of up to
// most. It returns how often each.
func (f *followed) killAtRandom(t testing.TB, random *rand.Rand, n int, most time.Duration, pg *testenv.PGServer, receiver *receiver) (done map[string]int) {
	t.Helper()
	done = map[string]int{}
	for i := range n {
		time.Sleep(time.Duration(random.Int64N(int64(most))))
		switch k := random.IntN(10); {
		case k < 4:
			d := random.IntN(len(f.dispatchers))
			f.dispatchers[d].Kill()
			f.run(d)
			done["dispatcher"]++
		case k < 7:
			receiver.kill()
			time.Sleep(time.Duration(random.IntN(300)) * time.Millisecond)
			receiver.start()
			done["receiver"]++
		case k < 8:
			pg.Stop()
			pg.Start()
			done["postgres"]++
		case k < 9:
			f.redis.Stop()
			f.redis.Start()
			done["redis"]++
		default:
			f.redis.Flush(t)
			done["flushall"]++
		}
		if i%50 == 49 {
			t.Logf("after %d: %v", i+1, done)
		}
	}
	return done
}

// Dispatchers, the receiver, Postgres and Redis are killed at random instants, and Redis forgets everything. Every committed event
// arrives, in order, under one id.
func TestWebhooksSurviveKills(t *testing.T) {
	t.Parallel()
	pg := testenv.PostgresServer(t)
	f := follow(t, &system{t: t, pg: pg.URL(), redis: testenv.NewRedis(t)}, 2, 4)
	stop, cancel := context.WithCancel(t.Context())
	var writers sync.WaitGroup
	for _, g := range f.groups {
		writers.Go(func() { f.write(stop, g) })
	}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0)) //nolint:gosec // a test's
	done := f.killAtRandom(t, random, kills(t), 400*time.Millisecond, pg, f.hook.receiver)
	cancel()
	writers.Wait()
	f.arrives(t, 2*time.Minute)
	f.hook.mu.Lock()
	defer f.hook.mu.Unlock()
	t.Logf("%v killed: %d events, %d repeated", done, len(f.hook.ids), f.hook.repeats)
	if len(f.hook.ids) < 10 {
		t.Errorf("only %d events", len(f.hook.ids))
	}
}

// A dispatcher that is paused when it is about to send, for longer than its lease, sends nothing once it wakes up: another one has gone on.
func TestAPausedDispatcherSendsNothingLate(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "stall")
	f := follow(t, &system{t: t, pg: testenv.Postgres(t), redis: testenv.NewRedis(t)}, 1, 3, "PARLEY_FAULT=dispatcher.send=stall:"+file)
	for _, g := range f.groups {
		f.pods[0].send(t, f.user, g.ID, "first")
	}
	f.arrives(t, time.Minute)
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		for _, g := range f.groups {
			f.pods[0].send(t, f.user, g.ID, "while it is paused")
		}
	}
	held := func() (n int) {
		if err := f.db.QueryRow(`SELECT count(*) FROM webhook_places WHERE lease IS NOT NULL`).Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	testenv.Eventually(t, 20*time.Second, func() bool { return held() == len(f.groups) }, "it holds all leases")
	f.dispatchers[0].Pause()
	f.env = f.env[:1]
	f.dispatchers = append(f.dispatchers, nil)
	f.run(1)
	f.arrives(t, time.Minute) // by the other one
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	before := f.hook.repeated()
	f.dispatchers[0].Resume()
	for _, g := range f.groups {
		f.pods[0].send(t, f.user, g.ID, "after it woke up")
	}
	f.dispatchers[1].Signal(syscall.SIGTERM)
	f.dispatchers[1].Wait(20 * time.Second)
	f.pods[0].send(t, f.user, f.groups[0].ID, "by the one that was paused")
	f.arrives(t, time.Minute)
	if n := f.hook.repeated() - before; n != 0 {
		t.Errorf("%d events came again", n)
	}
}

// Two dispatchers take turns in being paused at random instants, for longer than their leases last. Nothing comes out of order.
func TestPausedDispatchersKeepTheOrder(t *testing.T) {
	t.Parallel()
	f := follow(t, &system{t: t, pg: testenv.Postgres(t), redis: testenv.NewRedis(t)}, 2, 4)
	stop, cancel := context.WithCancel(t.Context())
	var writers sync.WaitGroup
	for _, g := range f.groups {
		writers.Go(func() { f.write(stop, g) })
	}
	pause, rounds := lasting(t, "PARLEY_WEBHOOK_PAUSE", 2500*time.Millisecond), max(3, kills(t)/10) // leases last 2 s
	for i := range rounds {
		d := f.dispatchers[i%2]
		time.Sleep(time.Duration(rand.IntN(200)) * time.Millisecond) //nolint:gosec // a test's
		d.Pause()
		time.Sleep(pause)
		d.Resume()
	}
	cancel()
	writers.Wait()
	f.arrives(t, time.Minute)
}

// lasting is a time that an environment variable may make long.
func lasting(t testing.TB, name string, usual time.Duration) time.Duration {
	t.Helper()
	s := os.Getenv(name)
	if s == "" {
		return usual
	}
	d, err := time.ParseDuration(s)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// A receiver that was down for as long as PARLEY_WEBHOOK_DOWN says gets all, in order, and nothing has died.
func TestAReceiverThatWasDownGetsAll(t *testing.T) {
	t.Parallel()
	down := lasting(t, "PARLEY_WEBHOOK_DOWN", 0)
	f := follow(t, &system{t: t, pg: testenv.Postgres(t), redis: testenv.NewRedis(t)}, 2, 4, "PARLEY_WEBHOOK_RETRIES=1s,1s")
	f.arrives(t, time.Minute)
	f.hook.kill()
	begun := time.Now()
	sent := 0
	send := func() {
		for _, g := range f.groups {
			f.pods[0].send(t, f.user, g.ID, "while it is down")
		}
		sent++
	}
	testenv.Eventually(t, down+2*time.Minute, func() bool {
		if sent < 20 || time.Since(begun) > time.Duration(sent)*10*time.Second {
			send()
		}
		// One event had more attempts than an event that is refused has.
		return time.Since(begun) >= down && sent >= 20 && f.count(t, `SELECT coalesce(max(n), 0) FROM (SELECT count(*) AS n FROM webhook_attempts GROUP BY event) x`) > 3
	}, "it was down for long enough")
	f.hook.start()
	f.arrives(t, 3*time.Minute) // a probe comes every minute at most
	if n := f.count(t, `SELECT count(*) FROM webhook_dead`); n > 0 {
		t.Errorf("%d events are dead", n)
	}
}
