package realtime_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/parley-chat/parley/internal/budget"
	"github.com/parley-chat/parley/internal/conversation"
	"github.com/parley-chat/parley/internal/event"
	"github.com/parley-chat/parley/internal/id"
	"github.com/parley-chat/parley/internal/postgres"
	"github.com/parley-chat/parley/internal/realtime"
	"github.com/parley-chat/parley/internal/rediskey"
	"github.com/parley-chat/parley/internal/testenv"
)

// is waits until a gauge or counter has a value.
func (p *pod) is(t *testing.T, name string, want float64) {
	t.Helper()
	testenv.Eventually(t, time.Minute, func() bool { return testenv.Metric(t, p.registry, name) == want }, "%s is %v", name, want)
}

// While Redis is unavailable notices wait, in order, because nothing else brings them. They arrive once the pods are subscribed again.
func TestNoticesOfAnOutageArriveAfterIt(t *testing.T) {
	t.Parallel()
	e := setupPods(t, 2, 3, podConfig{whole: true}) // their probes find out that Redis accepts publications again
	c := e.pods[1].connect(t, e.users[0])
	e.redis.Stop()
	for _, p := range e.pods {
		p.is(t, "parley_subscriber_up", 0)
	}
	const n = 5
	for i := range n {
		e.pods[0].publisher.Notify(event.StateNotice(e.users[0], event.StateUpdated{StateRevision: int64(i)}))
	}
	e.redis.Start()
	for i := range n {
		var got event.StateUpdated
		if f := c.until(event.TypeStateUpdated, time.Minute); json.Unmarshal(f.Data, &got) != nil || got.StateRevision != int64(i) {
			t.Fatalf("got %s, want revision %d", f.Data, i)
		}
	}
	for _, p := range e.pods {
		if lost, back := p.log.Count("the subscription to redis is lost"), p.log.Count("the subscription to redis is established again"); lost == 0 || lost != back { // more than one of each if connecting fails again
			t.Errorf("the log has %d beginnings of the outage and %d ends", lost, back)
		}
	}
}

// Without Postgres no socket opens, and those that are open stay. What the pod did not receive meanwhile is delivered once Postgres is
// back, however long it was unavailable.
func TestEventsOfAnOutageOfPostgresAreDeliveredAfterIt(t *testing.T) {
	t.Parallel()
	e := setup(t, 1, 3)
	other := e.pods[0]
	address := strings.Split(strings.SplitN(e.pg, "@", 2)[1], "/")[0]
	proxy := testenv.NewProxy(t, address)
	p := newPod(t, strings.Replace(e.pg, address, proxy.Addr(), 1), e.redis.URL())
	c := p.connect(t, e.users[0])
	proxy.Cut()
	if s, err := p.hub.Connect(t.Context(), realtime.Identity{UserID: e.users[1]}, nil); s != nil || !postgres.IsUnavailable(err) {
		t.Errorf("a socket opened without its conversations: %v", err)
	}
	if n := testenv.Metric(t, p.registry, "websocket_connections_active"); n != 1 {
		t.Errorf("%v sockets are open, want the first one", n)
	}
	other.events.losing(func(*event.Event) bool { return true })
	newcomer := testenv.User(t, other.db.SQL)
	for i := range 3 {
		other.send(t, e.group, e.users[1], fmt.Sprint(i))
	}
	if _, err := other.conversations.Add(t.Context(), e.group, e.users[0], &conversation.Addition{UserIDs: []string{newcomer}}); err != nil {
		t.Fatal(err)
	}
	testenv.Eventually(t, time.Minute, func() bool { return testenv.Metric(t, p.registry, "parley_poll_errors_total") >= 2 }, "polls fail")
	for len(c.frames) > 0 {
		if f := <-c.frames; f.Type != event.TypePing && f.Type != "protocol ping" {
			t.Errorf("a frame came without Postgres and Redis: %+v", f)
		}
	}
	proxy.Mend()
	c.messages(1, 3, time.Minute)
	c.until(event.TypeMemberAdded, time.Minute)
	if begun, over := p.log.Count("postgres cannot be polled for missed events"), p.log.Count("postgres is polled for missed events again"); begun == 0 || begun != over { // more than one of each if a poll times out under load
		t.Errorf("the log has %d beginnings of the outage and %d ends", begun, over)
	}
}

// A message that can't be read, of another program or a later version, is logged and costs nothing else.
func TestUnreadableMessagesAreSkipped(t *testing.T) {
	t.Parallel()
	e := setupPods(t, 1, 3, podConfig{whole: true})
	p := e.pods[0]
	c := p.connect(t, e.users[0])
	if err := c.session.Subscribe(t.Context(), e.users[1:2], func([]event.Presence) {}); err != nil {
		t.Fatal(err)
	}
	rdb := e.redis.Client(t)
	for channel, line := range map[string]string{
		rediskey.ConversationChannel(e.group): "an event could not be read",
		rediskey.UserChannel(e.users[0]):      "a notice could not be read",
		rediskey.PresenceChannel(e.users[1]):  "presence could not be read",
	} {
		if err := rdb.Publish(t.Context(), channel, "\x01{").Err(); err != nil {
			t.Fatal(err)
		}
		testenv.Eventually(t, time.Minute, func() bool { return p.log.Count(line) == 1 }, "the log has: %s", line)
	}
	m := p.send(t, e.group, e.users[1], "hello")
	c.messages(m.Seq, m.Seq, time.Minute)
	if n := p.log.Count("level=ERROR"); n > 0 {
		t.Errorf("%d errors:\n%s", n, p.log)
	}
}

// The probe notices a pod that receives nothing, even if no client does anything.
func TestTheProbeNoticesSilence(t *testing.T) {
	t.Parallel()
	e := setupPods(t, 1, 1, podConfig{whole: true})
	p := e.pods[0]
	received := func() float64 { return p.value(t, "parley_pubsub_lag_seconds", "") }
	testenv.Eventually(t, time.Minute, func() bool { return received() >= 1 }, "the probe receives its message")
	e.redis.Stop()
	testenv.Eventually(t, time.Minute, func() bool { return testenv.Metric(t, p.registry, "parley_pubsub_silence_seconds") > 3 }, "the silence grows")
	before := received()
	e.redis.Start()
	testenv.Eventually(t, time.Minute, func() bool {
		return received() > before && testenv.Metric(t, p.registry, "parley_pubsub_silence_seconds") < 2
	}, "the silence is over")
}

// Frames that wait for clients that don't read are bounded for all together: the one that needs too much is closed, the others get theirs.
func TestASlowReaderMayNotTakeTheMemoryOfOthers(t *testing.T) {
	t.Parallel()
	memory := budget.New(1<<20, 256<<10)
	e := setupPods(t, 1, 3, podConfig{memory: memory})
	p := e.pods[0]
	quick := p.connect(t, e.users[0])
	slow := p.dial(t, e.users[1])
	content := strings.Repeat("x", 8000)
	for sends := 0; testenv.Metric(t, p.registry, "parley_sockets_slow_total") == 0; sends++ {
		if sends == 20_000 {
			t.Fatal("160 MB were sent, and the client that reads nothing is not closed")
		}
		m := p.send(t, e.group, e.users[2], content)
		quick.messages(m.Seq, m.Seq, time.Minute) // so this one never lags behind
	}
	if n := testenv.Metric(t, p.registry, "parley_socket_frames_dropped_total"); n > 64 {
		t.Errorf("%v frames of 8 kB waited for one client, which has 256 kB", n)
	}
	_ = slow.conn.Close()
	p.is(t, "websocket_connections_active", 1)
	testenv.Eventually(t, time.Minute, func() bool { return memory.Used() == 0 }, "the memory is given back")
}

// A socket ends with the token that it was opened with, unless a newer token extended it; with the keys that signed
// it; and with its user.
func TestSocketsEndWithTheirTokens(t *testing.T) {
	t.Parallel()
	e := setup(t, 1, 3)
	p, now := e.pods[0], time.Now()
	external := func(user int, expires time.Time, signer string) *client {
		return p.connectAs(t, realtime.Identity{UserID: e.users[user], DeviceID: "d", ExpiresAt: expires, Signer: signer})
	}
	closed := func(c *client, want int) {
		t.Helper()
		for f := c.next(time.Minute); ; f = c.next(time.Minute) {
			if f.code != 0 || f.Type == "" {
				if f.code != want {
					t.Errorf("closed with %d, want %d", f.code, want)
				}
				return
			}
		}
	}
	extended := external(0, now.Add(time.Hour), "old")
	extended.session.Extend(now.Add(2*time.Hour), "new")
	if at := extended.session.Expires(); !at.Equal(now.Add(2 * time.Hour)) {
		t.Errorf("it ends at %s", at)
	}
	closed(external(0, now.Add(-time.Minute), "new"), realtime.CloseSessionOver)
	withdrawn, login := external(1, now.Add(time.Hour), "old"), p.connect(t, e.users[1])
	p.hub.EndSigners("old", "older")
	closed(withdrawn, realtime.CloseSessionOver)
	extended.nothingSince(p, "the key of its earlier token was withdrawn")
	login.nothingSince(p, "a login has no key")
	if !login.session.Expires().IsZero() {
		t.Error("a login's socket has an end")
	}
	p.hub.EndUser(e.users[1], realtime.CloseBarred)
	closed(login, realtime.CloseBarred)
	p.hub.EndSigners("new")
	closed(extended, realtime.CloseSessionOver)
	for label, want := range map[string]float64{"session_over": 3, "barred": 1} {
		testenv.Eventually(t, time.Minute, func() bool { return p.value(t, "parley_sockets_closed_total", label) == want }, "%v sockets were closed as %s", want, label)
	}
}

// A user's sockets are served the conversations that they are in, and none of another's.
func TestTheHubKnowsWhichConversationsItServes(t *testing.T) {
	t.Parallel()
	e := setup(t, 1, 3)
	p := e.pods[0]
	c := p.connect(t, e.users[0])
	if !p.hub.Serves(e.users[0], e.group) || p.hub.Serves(e.users[1], e.group) || p.hub.Serves(e.users[0], id.New()) {
		t.Error("it serves the wrong conversations")
	}
	if err := p.conversations.Remove(t.Context(), e.group, e.users[0], e.users[0]); err != nil {
		t.Fatal(err)
	}
	c.until(event.TypeMemberRemoved, time.Minute)
	testenv.Eventually(t, time.Minute, func() bool { return !p.hub.Serves(e.users[0], e.group) }, "a member who left is not served")
}

// The socket's handler waits until a large response was written, and no longer than the socket is open.
func TestAResponseIsAwaited(t *testing.T) {
	t.Parallel()
	e := setup(t, 1, 1)
	p := e.pods[0]
	for name, end := range map[string]func(theirs net.Conn){
		"it is read":           func(theirs net.Conn) { go func() { _, _ = io.Copy(io.Discard, theirs) }() },
		"the client goes away": func(theirs net.Conn) { _ = theirs.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			ours, theirs := net.Pipe() // keeps nothing of what is written
			defer theirs.Close()
			s, err := p.hub.Connect(t.Context(), realtime.Identity{UserID: e.users[0], DeviceID: "d"}, ours)
			if err != nil {
				t.Fatal(err)
			}
			defer s.Detach()
			s.Reply("sync:result", "1", strings.Repeat("x", 1<<20))
			written := make(chan struct{})
			go func() {
				s.AwaitWritten()
				close(written)
			}()
			select {
			case <-written:
				t.Error("it did not wait for a client that does not read")
			case <-time.After(100 * time.Millisecond):
			}
			end(theirs)
			testenv.Receive(t, written, time.Minute, "the end of the wait")
			s.AwaitWritten() // nothing waits
		})
	}
}

// A client that closes gets its code back, and is counted as its own end.
func TestACloseIsEchoed(t *testing.T) {
	t.Parallel()
	e := setup(t, 1, 1)
	p := e.pods[0]
	c := p.connect(t, e.users[0])
	c.session.Pong("payload")
	if f := c.next(time.Minute); f.Type != "protocol pong" {
		t.Errorf("got %+v for a ping", f)
	}
	c.session.Echo(1001)
	c.session.Close(realtime.CloseBadFrame)
	if f := c.next(time.Minute); f.code != 1001 || !c.session.Closing() {
		t.Errorf("got %+v, closing %t", f, c.session.Closing())
	}
	testenv.Eventually(t, time.Minute, func() bool { return p.value(t, "parley_sockets_closed_total", "1001") == 1 }, "the end is counted with the code of the peer")
	bare := p.connect(t, e.users[0])
	bare.session.Echo(1005) // a close frame without a code
	if f := bare.next(time.Minute); f.code != 1005 {
		t.Errorf("got %+v for a close without a code", f)
	}
	p.hub.Refused(realtime.CloseTryAgain)
	if n := p.value(t, "parley_sockets_closed_total", "unavailable"); n != 1 {
		t.Errorf("%v sockets were refused", n)
	}
}
