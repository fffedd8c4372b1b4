package push

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/parley-chat/parley/internal/id"
	"github.com/parley-chat/parley/internal/postgres"
	"github.com/parley-chat/parley/internal/testenv"
)

// What a browser gets, encrypted and signed, once for each device and conversation.
func TestAPushIsWhatTheContractSays(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	ana, ben := h.users[0], h.users[1]
	h.browser(1, "/ben-1")
	h.browser(1, "/ben-2")
	h.browser(0, "/ana")
	direct := h.direct(ana, ben)
	long := strings.Repeat("ж", 250)
	h.send(direct, ana, "first")
	m := h.send(direct, ana, long)
	h.allDue() // so that both messages are one decision
	h.run(nil)
	h.await("both browsers get a push", func() bool { return len(h.service.list()) >= 2 })
	for _, g := range h.service.list() {
		want := Push{V: 1, Type: "message", ConversationID: direct, MessageID: m.ID, Seq: 2, Title: h.nameOf(ana), Body: long[:400], Count: 2, Unread: Unread{Messages: 2}}
		if g.push != want || g.topic != strings.ReplaceAll(direct, "-", "") || g.ttl != "86400" || g.urgency != "high" {
			t.Errorf("%s got %+v, want %+v; %+v", g.path, g.push, want, g)
		}
	}
	if h.service.tries("/ana") != 0 {
		t.Error("the sender got a push")
	}
	team := h.group(ana, ben, h.users[2])
	h.send(team, h.users[2], "a <b> & c", ben)
	h.await("the group's push", func() bool { return len(h.service.list()) >= 5 })
	for _, g := range h.service.list()[2:] {
		if g.push.Body != "a <b> & c" || g.push.Title != h.nameOf(h.users[2])+" · Team" || g.push.Count != 1 {
			t.Errorf("%s got %+v", g.path, g.push)
		}
		if ben := strings.HasPrefix(g.path, "/ben"); ben && (g.urgency != "high" || g.push.Unread != Unread{Messages: 3, Mentions: 1}) || !ben && g.urgency != "normal" {
			t.Errorf("%s got %+v", g.path, g)
		}
	}
	if n := h.sent(ProviderWebPush, sendDelivered); n != 5 {
		t.Errorf("%v pushes were sent", n)
	}
}

func (h *house) nameOf(userID string) (name string) {
	h.t.Helper()
	if err := h.db.SQL.QueryRow(`SELECT display_name FROM users WHERE id = $1`, userID).Scan(&name); err != nil {
		h.t.Fatal(err)
	}
	return name
}

// The decision asks Postgres and Redis what is so now. Each case has its own users and ends with a message that is pushed to a witness, so
// that the decision on the case has been made.
func TestWhoGetsAPushNow(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.browser(3, "/witness")
	log := slog.New(slog.DiscardHandler)
	attention := NewAttention(h.db.SQL, h.rdb, log)
	type scene struct{ conversation, sender, user string }
	state := func(set string) func(s scene) {
		return func(s scene) {
			mustExec(t, h.db, `UPDATE conversation_members SET `+set+` WHERE conversation_id = $1 AND user_id = $2`, s.conversation, s.user)
		}
	}
	cases := map[string]struct {
		do   func(s scene)
		want bool
	}{
		"unread":          {func(scene) {}, true},
		"read":            {state(`last_read_seq = 1`), false},
		"a buffered read": {func(s scene) { h.pend(s.user, s.conversation, "1", "0:0") }, false},
		"an older read":   {func(s scene) { h.pend(s.user, s.conversation, "1", "7:0") }, true},
		"focused":         {func(s scene) { attention.Focus(t.Context(), s.user, "s", "d", true) }, false},
		"focused and away": {func(s scene) {
			attention.Focus(t.Context(), s.user, "s", "d", true)
			attention.Focus(t.Context(), s.user, "s", "d", false)
		}, true},
		"muted":              {state(`muted_until = 'infinity'`), false},
		"muted until now":    {state(`muted_until = clock_timestamp()`), true},
		"notifications none": {state(`notifications = 'none'`), false},
		"level mentions":     {func(s scene) { mustExec(t, h.db, `INSERT INTO push_preferences VALUES ($1, 'mentions')`, s.user) }, false},
		"blocked": {func(s scene) {
			mustExec(t, h.db, `INSERT INTO blocks (user_id, blocked_id) VALUES ($1, $2)`, s.user, s.sender)
		}, false},
		"blocks": {func(s scene) {
			mustExec(t, h.db, `INSERT INTO blocks (user_id, blocked_id) VALUES ($2, $1)`, s.user, s.sender)
		}, false},
		"left": {func(s scene) {
			mustExec(t, h.db, `DELETE FROM conversation_members WHERE conversation_id = $1 AND user_id = $2`, s.conversation, s.user)
		}, false},
		"banned": {func(s scene) {
			mustExec(t, h.db, `UPDATE users SET banned_at = clock_timestamp() WHERE id = $1`, s.user)
		}, false},
		"deactivated": {func(s scene) {
			mustExec(t, h.db, `UPDATE users SET deactivated_at = clock_timestamp() WHERE id = $1`, s.user)
		}, false},
		"the session ended": {func(s scene) {
			mustExec(t, h.db, `UPDATE sessions SET ended_at = clock_timestamp() WHERE user_id = $1`, s.user)
		}, false},
		"the session expired": {func(s scene) {
			mustExec(t, h.db, `UPDATE sessions SET expires_at = clock_timestamp() WHERE user_id = $1`, s.user)
		}, false},
		"unseen for long": {func(s scene) {
			mustExec(t, h.db, `UPDATE sessions SET last_used_at = now() - interval '61 days' WHERE user_id = $1`, s.user)
			mustExec(t, h.db, `UPDATE push_devices SET seen_at = now() - interval '61 days' WHERE user_id = $1`, s.user)
		}, false},
		"the message is deleted": {func(s scene) {
			mustExec(t, h.db, `UPDATE messages SET deleted_at = now(), content = '' WHERE conversation_id = $1`, s.conversation)
		}, false},
		"registered afterwards": {func(s scene) {
			mustExec(t, h.db, `UPDATE push_devices SET created_at = now() + interval '1 hour' WHERE user_id = $1`, s.user)
		}, false},
		"without preview": {func(s scene) { mustExec(t, h.db, `INSERT INTO push_preferences VALUES ($1, 'all', false)`, s.user) }, true},
	}
	paths := map[string]string{}
	for name, c := range cases {
		s := scene{sender: testenv.User(t, h.db.SQL), user: testenv.User(t, h.db.SQL)}
		path := "/" + strings.ReplaceAll(name, " ", "-")
		paths[name] = path
		if err := h.devices.Put(t.Context(), s.user, session(t, h.db, s.user), "d", h.service.subscribe(path)); err != nil {
			t.Fatal(err)
		}
		s.conversation = h.group(s.sender, s.user, h.users[2])
		h.send(s.conversation, s.sender, "hello "+name)
		c.do(s)
	}
	h.run(nil)
	last := h.direct(h.users[2], h.users[3])
	h.send(last, h.users[2], "the end")
	h.await("the witness gets a push", func() bool { return h.service.tries("/witness") > 0 })
	for name, c := range cases {
		if c.want {
			h.await(name+" gets a push", func() bool { return h.service.tries(paths[name]) > 0 })
		}
	}
	h.await("every conversation is decided on", func() bool {
		var n int
		return h.db.SQL.QueryRow(`SELECT count(*) FROM push_places WHERE behind`).Scan(&n) == nil && n == 0
	})
	for _, g := range h.service.list() {
		name := strings.ReplaceAll(strings.Trim(g.path, "/"), "-", " ")
		if c, ok := cases[name]; ok && !c.want {
			t.Errorf("%s gets %s", name, g.raw)
		}
		if has := strings.Contains(g.raw, `"body"`); has == (name == "without preview") {
			t.Errorf("%s gets %s", name, g.raw)
		}
	}
	for _, o := range []string{outcomeRead, outcomeActive, outcomeMuted, outcomeLevel, outcomeBlocked, outcomeBarred, outcomeEarlier} {
		if o != outcomeBarred && h.decided(o) == 0 {
			t.Errorf("no decision was %s", o)
		}
	}
}

// pend puts a read into Redis as an api does.
func (h *house) pend(userID, conversationID, seq, tag string) {
	h.t.Helper()
	ctx := h.t.Context()
	if err := h.rdb.ZAdd(ctx, "read_dirty_readers", redis.Z{Score: float64(time.Now().UnixMilli()), Member: userID}).Err(); err != nil {
		h.t.Fatal(err)
	}
	if err := h.rdb.HSet(ctx, "read_markers:"+userID, conversationID, seq, conversationID+":v", tag).Err(); err != nil {
		h.t.Fatal(err)
	}
}

// What providers answer: gone, busy, broken, refusing, silent.
func TestAnswersOfProviders(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	ana, ben := h.users[0], h.users[1]
	for _, path := range []string{"/gone", "/missing", "/busy", "/broken", "/refusing", "/foreign", "/fine"} {
		h.browser(1, path)
	}
	var refused atomic.Int64 // when the busy one was answered, Unix ms
	h.service.set(func(path string, n int) (int, http.Header) {
		switch path {
		case "/gone":
			return 410, nil
		case "/missing":
			return 404, nil
		case "/busy":
			if n == 1 {
				refused.Store(time.Now().UnixMilli())
				return 429, http.Header{"Retry-After": {"7"}}
			}
		case "/broken":
			if n == 1 {
				return 503, nil
			}
		case "/refusing":
			return 400, nil
		case "/foreign": // the subscription is bound to another VAPID key, and holds again once that key is back
			return 403, nil
		}
		return 201, nil
	})
	begun := time.Now()
	h.run(nil)
	h.send(h.direct(ana, ben), ana, "hello")
	h.await("what is gone is removed", func() bool {
		list := strings.Fields(devices(t, h.db, ben))
		slices.Sort(list)
		return slices.Equal(list, []string{"broken", "busy", "fine", "foreign", "refusing"})
	})
	h.await("busy and broken ones wait", func() bool { return h.sent(ProviderWebPush, sendRetried) == 2 })
	// due is when a device's push is sent again; not if a busy machine has done so already, after the pause.
	due := func(device string, pause time.Duration) (at time.Time, waits bool) {
		t.Helper()
		err := h.db.SQL.QueryRow(`SELECT s.next_at FROM push_sends s JOIN push_devices d ON d.id = s.device WHERE d.device_id = $1`, device).Scan(&at)
		if err != nil && time.Since(begun) < pause {
			t.Errorf("%s does not wait: %v", device, err)
		}
		return at, err == nil
	}
	if at, waits := due("busy", 7*time.Second); waits && (at.UnixMilli() < refused.Load()+7_000 || time.Until(at) > 7*time.Second) {
		t.Errorf("busy waits until %s", at)
	}
	if at, waits := due("broken", retryPauses[0]*4/5); waits && time.Until(at) > retryPauses[0]*6/5 {
		t.Errorf("broken waits until %s", at)
	}
	mustExec(t, h.db, `UPDATE push_sends SET next_at = clock_timestamp()`)
	h.await("both get it then", func() bool { return h.sent(ProviderWebPush, sendDelivered) == 3 })
	h.await("refused ones are counted", func() bool { return h.sent(ProviderWebPush, sendRefused) == 2 })
	for _, path := range []string{"/refusing", "/foreign"} {
		if n := h.service.tries(path); n != 1 {
			t.Errorf("a push that %s refused was tried %d times", path, n)
		}
	}
	if n := h.sent(ProviderWebPush, sendGone); n != 2 {
		t.Errorf("%v devices are gone", n)
	}
	// The fifth attempt is the last.
	h.service.set(func(string, int) (int, http.Header) { return 500, nil })
	mustExec(t, h.db, `DELETE FROM push_devices WHERE device_id <> 'fine'`)
	before := h.service.tries("/fine")
	h.send(h.direct(ana, ben), ana, "again")
	h.await("it is given up", func() bool {
		mustExec(t, h.db, `UPDATE push_sends SET next_at = clock_timestamp() WHERE lease IS NULL`)
		return h.sent(ProviderWebPush, sendDropped) == 1
	})
	if n := h.service.tries("/fine") - before; n != 5 {
		t.Errorf("it was tried %d times", n)
	}
}

// A push that waits for another attempt is dropped once its message was read, and replaced by a newer one.
func TestAWaitingPushIsReplacedOrDropped(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	ana, ben := h.users[0], h.users[1]
	h.browser(1, "/ben")
	h.service.set(func(string, int) (int, http.Header) { return 503, nil })
	h.run(nil)
	c := h.direct(ana, ben)
	h.send(c, ana, "one")
	h.await("it waits", func() bool { return h.sent(ProviderWebPush, sendRetried) >= 1 })
	second := h.send(c, ana, "two")
	h.await("it is replaced", func() bool {
		var count int
		return h.db.SQL.QueryRow(`SELECT count FROM push_sends WHERE message_id = $1`, second.ID).Scan(&count) == nil && count == 2
	})
	h.service.set(nil)
	h.await("the newer one comes", func() bool { return len(h.service.list()) == 1 })
	if p := h.service.list()[0].push; p.MessageID != second.ID || p.Count != 2 || p.Body != "two" {
		t.Errorf("got %+v", p)
	}
	h.service.set(func(string, int) (int, http.Header) { return 503, nil })
	h.send(c, ana, "three")
	h.await("it waits", func() bool { return h.sent(ProviderWebPush, sendRetried) >= 2 })
	mustExec(t, h.db, `UPDATE conversation_members SET last_read_seq = 3 WHERE user_id = $1`, ben)
	mustExec(t, h.db, `UPDATE push_sends SET next_at = clock_timestamp()`)
	h.await("it is dropped", func() bool { return h.sent(ProviderWebPush, sendUnnecessary) == 1 })
}

// A provider that hangs delays no other, and is given up on in time.
func TestAHangingProviderDelaysNoOther(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.browser(1, "/ben")
	for range 2 * perLane {
		u := testenv.User(t, h.db.SQL)
		if err := h.devices.Put(t.Context(), u, "", "d", tokenOf(id.New())); err != nil {
			t.Fatal(err)
		}
		h.users = append(h.users, u)
	}
	hanging := make(chan struct{})
	h.run(map[string]Provider{ProviderFCM: hangs(hanging)})
	t.Cleanup(func() { close(hanging) })
	team := h.group(append([]string{h.users[0]}, h.users[4:]...)...)
	h.send(team, h.users[0], "for those whose provider hangs")
	h.await("all slots of the provider are taken", func() bool {
		var n int
		return h.db.SQL.QueryRow(`SELECT count(*) FROM push_sends WHERE lease IS NOT NULL`).Scan(&n) == nil && n == perLane
	})
	h.send(h.direct(h.users[0], h.users[1]), h.users[0], "for another")
	h.await("another provider's push comes", func() bool { return len(h.service.list()) == 1 })
}

// hangs is a provider that answers nothing until its channel is closed.
type hangs chan struct{}

func (h hangs) send(ctx context.Context, _ *parcel) answer {
	select {
	case <-h:
	case <-ctx.Done():
	}
	return answer{}
}

// While Redis is unavailable decisions wait, since nobody knows who is active; then they are made.
func TestDecisionsWaitForRedis(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	ana, ben := h.users[0], h.users[1]
	h.browser(1, "/ben")
	c := h.direct(ana, ben)
	h.redis.Stop()
	h.run(nil)
	h.send(c, ana, "hello")
	h.await("the decision was tried", func() bool {
		var waits bool
		return h.db.SQL.QueryRow(`SELECT behind AND next_at IS NOT NULL AND seq = 0 FROM push_places`).Scan(&waits) == nil && waits
	})
	if h.decided(outcomeSent) != 0 {
		t.Error("it was decided without Redis")
	}
	h.redis.Start()
	h.await("the push comes once Redis is back", func() bool { return len(h.service.list()) == 1 })
}

// push.requested goes to the webhooks that want it, whether or not the user has a device.
func TestPushesAreRequestedFromWebhooks(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	ana, ben := h.users[0], h.users[1]
	webhook := func(name, types string) string {
		w := id.New()
		mustExec(t, h.db, `INSERT INTO webhooks (id, name, url, types, secret, watermark) VALUES ($1, $2, 'https://x.example', $3::text[], '', now())`, w, name, types)
		return w
	}
	wants := webhook("wants", "{push.requested}")
	webhook("other", "{message.created}")
	h.run(nil)
	m := h.send(h.direct(ana, ben), ana, "hello")
	var got struct{ webhook, user, typ, data string }
	h.await("it is requested", func() bool {
		return h.db.SQL.QueryRow(`SELECT webhook_id, user_ids[1], type, data FROM outbox`).Scan(&got.webhook, &got.user, &got.typ, &got.data) == nil
	})
	if got.webhook != wants || got.user != ben || got.typ != "push.requested" {
		t.Errorf("requested: %+v", got)
	}
	for _, want := range []string{`"userId": "` + ben, `"messageId": "` + m.ID, `"body": "hello"`, `"count": 1`, `"v": 1`} {
		if !strings.Contains(got.data, want) {
			t.Errorf("%s lacks %s", got.data, want)
		}
	}
	var n int
	if err := h.db.SQL.QueryRow(`SELECT count(*) FROM outbox`).Scan(&n); err != nil || n != 1 {
		t.Errorf("%d rows, %v", n, err)
	}
}

// Two dispatchers send each push once, and a group's burst is one push.
func TestTwoDispatchersPushOnce(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	ana, ben := h.users[0], h.users[1]
	h.browser(1, "/ben")
	conversations := []string{h.direct(ana, ben), h.group(ana, ben, h.users[2]), h.group(ana, ben)}
	burst := func() {
		for range 5 {
			for _, c := range conversations {
				h.send(c, ana, "hello")
			}
		}
	}
	counted := func() (n int64) {
		for _, g := range h.service.list() {
			n += g.push.Count
		}
		return n
	}
	burst()
	h.allDue()
	h.run(nil)
	h.run(nil)
	h.await("all are counted", func() bool { return counted() >= 15 })
	if n := counted(); n != 15 || len(h.service.list()) != len(conversations) {
		t.Errorf("%d messages in %d pushes", n, len(h.service.list()))
	}
	burst() // which may become due one by one
	h.await("all are counted", func() bool { return counted() >= 30 })
	if n := counted(); n != 30 {
		t.Errorf("%d messages are counted of 30", n)
	}
}

func TestDevicesThatEndedByTimeAreSwept(t *testing.T) {
	t.Parallel()
	db := openDB(t)
	s, u := newTestService(db), testenv.User(t, db.SQL)
	ended, lives := session(t, db, u), session(t, db, u)
	for device, sid := range map[string]string{"expired": ended, "lives": lives, "none": "", "unseen": ""} {
		if err := s.Put(t.Context(), u, sid, device, tokenOf(device)); err != nil {
			t.Fatal(err)
		}
	}
	mustExec(t, db, `UPDATE sessions SET expires_at = now() WHERE id = $1`, ended)
	mustExec(t, db, `UPDATE push_devices SET seen_at = now() - interval '61 days' WHERE device_id IN ('unseen', 'lives')`)
	if err := (&places{db.SQL}).sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	list := strings.Fields(devices(t, db, u))
	slices.Sort(list)
	if !slices.Equal(list, []string{"lives", "none"}) {
		t.Errorf("left are %v", list)
	}
}

// What a dispatcher had in hand when it was killed is taken over: a decision after its lease, a send after its own.
func TestAKilledDispatchersWorkIsTakenOver(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	ana, ben := h.users[0], h.users[1]
	h.browser(1, "/ben")
	c := h.direct(ana, ben)
	h.send(c, ana, "hello")
	dead := &places{h.db.SQL}
	mustExec(t, h.db, `UPDATE push_watermark SET at = at - interval '1 minute'`) // the database may have been made in this second
	if _, err := dead.discover(t.Context()); err != nil {
		t.Fatal(err)
	}
	claimed, err := dead.claim(t.Context(), 10)
	if err != nil || len(claimed) != 1 {
		t.Fatalf("claimed %v, %v", claimed, err)
	}
	if again, err := dead.claim(t.Context(), 10); err != nil || len(again) != 0 {
		t.Fatalf("a lease was taken twice: %v, %v", again, err)
	}
	mustExec(t, h.db, `UPDATE push_places SET leased_until = clock_timestamp()`) // time passes
	next, err := dead.claim(t.Context(), 10)
	if err != nil || len(next) != 1 {
		t.Fatalf("taken over: %v, %v", next, err)
	}
	// The first one wakes up and finds its lease gone: it moves nothing, and sends nothing.
	err = dead.request(t.Context(), &claimed[0], 1, []pushed{{userID: ben, messageID: id.New(), seq: 1, count: 1}})
	if !errors.Is(err, postgres.ErrLeaseLost) {
		t.Errorf("a lost lease: %v", err)
	}
	var n int
	if err := h.db.SQL.QueryRow(`SELECT count(*) FROM push_sends`).Scan(&n); err != nil || n != 0 {
		t.Errorf("%d pushes, %v", n, err)
	}
	mustExec(t, h.db, `UPDATE push_places SET leased_until = clock_timestamp()`)
	h.run(nil)
	h.await("the push comes", func() bool { return len(h.service.list()) == 1 })
	// A send whose sender died is due again after its lease.
	h.service.set(func(string, int) (int, http.Header) { return 503, nil })
	h.send(c, ana, "again")
	h.await("it waits", func() bool { return h.sent(ProviderWebPush, sendRetried) >= 1 })
	h.service.set(nil)
	mustExec(t, h.db, `UPDATE push_sends SET lease = gen_random_uuid(), next_at = clock_timestamp()`)
	h.await("it is sent by another", func() bool { return len(h.service.list()) == 2 })
}
