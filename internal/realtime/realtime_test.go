package realtime_test

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/parley-chat/parley/internal/chat"
	"github.com/parley-chat/parley/internal/conversation"
	"github.com/parley-chat/parley/internal/event"
	"github.com/parley-chat/parley/internal/id"
	"github.com/parley-chat/parley/internal/journal"
	"github.com/parley-chat/parley/internal/jsonbody"
	"github.com/parley-chat/parley/internal/lifecycle"
	"github.com/parley-chat/parley/internal/message"
	"github.com/parley-chat/parley/internal/postgres"
	"github.com/parley-chat/parley/internal/realtime"
	"github.com/parley-chat/parley/internal/realtime/wire"
	"github.com/parley-chat/parley/internal/redisconn"
	"github.com/parley-chat/parley/internal/testenv"
	"github.com/prometheus/client_golang/prometheus"
)

// noMarkers is for tests in which nobody reads.
type noMarkers struct{}

func (noMarkers) Notify(*event.Notice)                                          {}
func (noMarkers) Markers(context.Context, string) map[string]chat.PendingMarker { return nil }

func TestMain(m *testing.M) { testenv.VerifyNoLeaks(m) }

// lossy passes events on to the real publisher, but for those that a test wants lost.
type lossy struct {
	next *realtime.Publisher
	mu   sync.Mutex
	lose func(*event.Event) bool
}

func (l *lossy) Publish(events ...*event.Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, e := range events {
		if l.lose == nil || !l.lose(e) {
			l.next.Publish(e)
		}
	}
}

func (l *lossy) losing(f func(*event.Event) bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lose = f
}

// pod is an api process without its REST.
type pod struct {
	db            *postgres.DB
	hub           *realtime.Hub
	publisher     *realtime.Publisher
	events        *lossy
	messages      *message.Service
	conversations *conversation.Service
	registry      *prometheus.Registry
}

func newPod(t testing.TB, databaseURL, redisURL string) *pod {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	db, err := postgres.Open(postgres.Config{URL: databaseURL, MaxConns: 12, Application: "test"})
	if err != nil {
		t.Fatal(err)
	}
	rdb, err := redisconn.Open(redisconn.Config{URL: redisURL, PoolSize: 10})
	if err != nil {
		t.Fatal(err)
	}
	p := &pod{db: db, registry: prometheus.NewRegistry()}
	metrics := realtime.NewMetrics(p.registry)
	p.publisher = realtime.NewPublisher(rdb, metrics, nil, log)
	p.events = &lossy{next: p.publisher}
	store := message.NewStore(db)
	conversations := conversation.NewStore(db, store)
	p.conversations = conversation.NewService(db, conversations, noMarkers{}, p.events, noMarkers{})
	committer := message.NewCommitter(store, p.events, nil, log, message.NewMetrics(p.registry))
	p.messages = message.NewService(db, store, committer, nil, p.events)
	channels := realtime.NewChannels()
	p.hub = realtime.NewHub(realtime.HubConfig{
		Memberships: conversations, Feed: journal.NewFeed(db.SQL, conversations), Channels: channels, Metrics: metrics, Log: log,
	})
	subscriber := realtime.NewSubscriber(realtime.SubscriberConfig{
		Redis: rdb, Channels: channels, Hub: p.hub, Ended: p.hub.EndSessions, Metrics: metrics, Log: log,
	})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		done <- lifecycle.Run(ctx, lifecycle.Config{Log: log, StopTimeout: 20 * time.Second},
			lifecycle.Part{Name: "publisher", Run: p.publisher.Run},
			lifecycle.Part{Name: "subscriber", Run: subscriber.Run},
			lifecycle.Part{Name: "hub", Run: p.hub.Run},
			lifecycle.Part{Name: "committer", Run: committer.Run})
	}()
	t.Cleanup(func() {
		drain, stop := context.WithTimeout(context.Background(), 10*time.Second)
		defer stop()
		p.hub.Drain(drain)
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		_ = rdb.Close()
		_ = db.Close()
	})
	return p
}

func (p *pod) send(t testing.TB, conversationID, sender, content string) chat.Message {
	t.Helper()
	m, _, err := p.messages.Send(t.Context(), conversationID, sender, &message.Draft{Content: content})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func (p *pod) group(t testing.TB, members ...string) string {
	t.Helper()
	name := "group"
	c, _, err := p.conversations.Create(t.Context(), members[0], &conversation.Creation{Type: "group", MemberIDs: members[1:], Name: &name})
	if err != nil {
		t.Fatal(err)
	}
	return c.ID
}

// frame is one that a client got.
type frame struct {
	Type string          `json:"type"`
	Data json.RawMessage `json:"data"`
	code int             // of a close frame
}

func (f frame) message(t testing.TB) chat.Message {
	t.Helper()
	var m chat.Message
	if err := json.Unmarshal(f.Data, &m); err != nil {
		t.Fatal(err)
	}
	return m
}

// client is the other end of a socket.
type client struct {
	t       testing.TB
	conn    net.Conn
	session *realtime.Session
	frames  chan frame
}

// connect opens a socket of the user's and waits for its ready frame.
func (p *pod) connect(t testing.TB, userID string) *client {
	t.Helper()
	c := p.dial(t, userID)
	go c.read()
	if f := c.next(5 * time.Second); f.Type != event.TypeReady {
		t.Fatalf("the first frame is %+v", f)
	}
	return c
}

// dial opens a socket whose client does not read yet.
func (p *pod) dial(t testing.TB, userID string) *client {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	theirs, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	ours, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	s, err := p.hub.Connect(t.Context(), realtime.Identity{UserID: userID, DeviceID: "d", SessionID: id.New()}, ours)
	if err != nil {
		t.Fatal(err)
	}
	var handler sync.WaitGroup
	handler.Go(func() { // as the socket's handler: read until the end, detach, and the server closes the connection
		_, _ = io.Copy(io.Discard, ours)
		s.Detach()
		_ = ours.Close()
	})
	c := &client{t: t, conn: theirs, session: s, frames: make(chan frame, 100_000)}
	t.Cleanup(func() { _ = theirs.Close(); handler.Wait() })
	return c
}

func (c *client) read() {
	defer close(c.frames)
	r := bufio.NewReader(c.conn)
	for {
		f, err := readFrame(r)
		if err != nil {
			return
		}
		c.frames <- f
		if f.code != 0 {
			_ = c.conn.Close()
		}
	}
}

func readFrame(r *bufio.Reader) (frame, error) {
	var h [2]byte
	if _, err := io.ReadFull(r, h[:]); err != nil {
		return frame{}, err
	}
	n := uint64(h[1])
	switch n {
	case 126:
		var b [2]byte
		if _, err := io.ReadFull(r, b[:]); err != nil {
			return frame{}, err
		}
		n = uint64(binary.BigEndian.Uint16(b[:]))
	case 127:
		var b [8]byte
		if _, err := io.ReadFull(r, b[:]); err != nil {
			return frame{}, err
		}
		n = binary.BigEndian.Uint64(b[:])
	}
	if n > 16<<20 {
		return frame{}, errors.New("a frame longer than any of ours")
	}
	body := make([]byte, n)
	if _, err := io.ReadFull(r, body); err != nil {
		return frame{}, err
	}
	switch h[0] {
	case 0x81:
		var f frame
		return f, json.Unmarshal(body, &f)
	case 0x88:
		return frame{code: int(binary.BigEndian.Uint16(body))}, nil
	case 0x89:
		return frame{Type: "protocol ping"}, nil
	}
	return frame{}, fmt.Errorf("a frame that starts with %x", h[0])
}

// next is the next frame, the zero frame where the connection ended.
func (c *client) next(timeout time.Duration) frame {
	c.t.Helper()
	return testenv.Receive(c.t, c.frames, timeout, "a frame")
}

// until reads frames up to one of the type, and returns it. Each frame may take as long.
func (c *client) until(typ string, timeout time.Duration) frame {
	c.t.Helper()
	for {
		f := c.next(timeout)
		if f.Type == typ {
			return f
		}
		if f.Type == "" {
			c.t.Fatalf("the connection ended with %d where %s was due", f.code, typ)
		}
	}
}

// messages reads the message:new frames up to a seq and checks that each is the successor of the one before.
func (c *client) messages(from, to int64, timeout time.Duration) {
	c.t.Helper()
	for want := from; want <= to; want++ {
		if m := c.until(event.TypeMessageNew, timeout).message(c.t); m.Seq != want {
			c.t.Fatalf("message with seq %d where %d was due", m.Seq, want)
		}
	}
}

func (c *client) silent(d time.Duration) {
	c.t.Helper()
	select {
	case f, open := <-c.frames:
		if open {
			c.t.Fatalf("got %s %s where nothing was due", f.Type, f.Data)
		}
	case <-time.After(d):
	}
}

type env struct {
	pg    string
	redis *testenv.RedisServer
	pods  []*pod
	users []string
	group string
}

func setup(t testing.TB, pods, users int) *env {
	t.Helper()
	e := &env{pg: testenv.Postgres(t), redis: testenv.Redis(t)}
	for range pods {
		e.pods = append(e.pods, newPod(t, e.pg, e.redis.URL()))
	}
	e.users = testenv.Users(t, e.pods[0].db.SQL, users)
	e.group = e.pods[0].group(t, e.users...)
	// Sockets that open while the group is still being delivered may get it too. What is published later comes later.
	for _, p := range e.pods {
		probe := p.connect(t, id.New())
		e.pods[0].publisher.Notify(event.StateNotice(probe.session.UserID, event.StateUpdated{ConversationID: e.group}))
		probe.until(event.TypeStateUpdated, 10*time.Second)
		_ = probe.conn.Close()
	}
	return e
}

func TestAMessageReachesEveryPod(t *testing.T) {
	t.Parallel()
	e := setup(t, 2, 3)
	var clients []*client
	for i, u := range e.users {
		clients = append(clients, e.pods[i%2].connect(t, u))
	}
	for n := range 50 {
		e.pods[n%2].send(t, e.group, e.users[n%3], fmt.Sprint(n))
	}
	for _, c := range clients {
		c.messages(1, 50, 5*time.Second)
	}
}

func TestTopicDeliversEachRevisionOnceInOrder(t *testing.T) {
	t.Parallel()
	e := setup(t, 1, 3)
	p := e.pods[0]
	c := p.connect(t, e.users[0])
	p.events.losing(func(x *event.Event) bool { // doubled, late and lost
		if x.Revision%3 == 0 {
			p.publisher.Publish(x, x)
		}
		return x.Revision%4 == 0
	})
	for n := range 40 {
		p.send(t, e.group, e.users[1], fmt.Sprint(n))
	}
	c.messages(1, 40, 10*time.Second)
	p.events.losing(nil)
	p.send(t, e.group, e.users[1], "last")
	c.messages(41, 41, 5*time.Second)
}

func TestEventsOfLostPublishesAreDelivered(t *testing.T) {
	t.Parallel()
	e := setup(t, 2, 4)
	a, b := e.pods[0], e.pods[1]
	watching := b.connect(t, e.users[1])
	leaving := b.connect(t, e.users[2])
	a.events.losing(func(*event.Event) bool { return true })
	m := a.send(t, e.group, e.users[0], "one")
	ctx := t.Context()
	if _, err := a.messages.Edit(ctx, m.ID, e.users[0], &message.Edit{Content: jsonbody.Optional[string]{Set: true, Value: "two"}}); err != nil {
		t.Fatal(err)
	}
	if err := a.messages.Delete(ctx, m.ID, e.users[0]); err != nil {
		t.Fatal(err)
	}
	if _, err := a.conversations.Update(ctx, e.group, e.users[0], &conversation.Patch{Name: jsonbody.Optional[string]{Set: true, Value: "new"}}); err != nil {
		t.Fatal(err)
	}
	if _, err := a.conversations.SetRole(ctx, e.group, e.users[0], e.users[3], &conversation.RoleChange{Role: conversation.RoleAdmin}); err != nil {
		t.Fatal(err)
	}
	if err := a.conversations.Remove(ctx, e.group, e.users[0], e.users[2]); err != nil {
		t.Fatal(err)
	}
	newcomer := testenv.User(t, a.db.SQL)
	joining := b.connect(t, newcomer)
	if _, err := a.conversations.Add(ctx, e.group, e.users[0], &conversation.Addition{UserIDs: []string{newcomer}}); err != nil {
		t.Fatal(err)
	}
	a.send(t, e.group, e.users[0], "secret")
	for _, want := range []string{
		event.TypeMessageNew, event.TypeMessageUpdated, event.TypeMessageDeleted, event.TypeConversationUpdated,
		event.TypeMemberUpdated, event.TypeMemberRemoved, event.TypeMemberAdded, event.TypeMessageNew,
	} {
		if f := watching.next(8 * time.Second); f.Type != want {
			t.Fatalf("got %s %s where %s was due", f.Type, f.Data, want)
		}
	}
	if f := joining.next(8 * time.Second); f.Type != event.TypeConversationCreated {
		t.Fatalf("the newcomer's first frame is %s", f.Type)
	}
	if f := joining.next(8 * time.Second); f.Type != event.TypeMessageNew {
		t.Fatalf("the newcomer's second frame is %s", f.Type)
	}
	if f := leaving.next(8 * time.Second); f.Type != event.TypeMemberRemoved {
		t.Fatalf("who was removed gets %s %s", f.Type, f.Data)
	}
	leaving.silent(3 * time.Second)
}

func TestRemovalIsDeliveredBeforeLaterEvents(t *testing.T) {
	t.Parallel()
	e := setup(t, 2, 3)
	removed, stays := e.pods[1].connect(t, e.users[2]), e.pods[1].connect(t, e.users[1])
	e.pods[0].events.losing(func(x *event.Event) bool { return x.Type == event.TypeMemberRemoved })
	if err := e.pods[0].conversations.Remove(t.Context(), e.group, e.users[0], e.users[2]); err != nil {
		t.Fatal(err)
	}
	for range 5 {
		e.pods[0].send(t, e.group, e.users[0], "not for the removed")
	}
	stays.messages(1, 5, 5*time.Second)
	if f := removed.next(5 * time.Second); f.Type != event.TypeMemberRemoved {
		t.Fatalf("the removed member got %s %s", f.Type, f.Data)
	}
	removed.silent(time.Second)
}

func TestRedisAwayDuringSends(t *testing.T) {
	t.Parallel()
	e := setup(t, 2, 3)
	clients := []*client{e.pods[0].connect(t, e.users[0]), e.pods[1].connect(t, e.users[1]), e.pods[1].connect(t, e.users[2])}
	for range 5 {
		e.pods[0].send(t, e.group, e.users[0], "before")
	}
	e.redis.Stop()
	for n := range 20 {
		e.pods[n%2].send(t, e.group, e.users[0], "away")
	}
	newcomer := e.pods[1].connect(t, e.users[0]) // a socket opens without Redis too
	e.redis.Start()
	for _, c := range clients {
		c.messages(1, 25, 5*time.Second)
	}
	e.pods[0].send(t, e.group, e.users[0], "after")
	for _, c := range clients {
		c.messages(26, 26, 5*time.Second)
	}
	if m := newcomer.until(event.TypeMessageNew, 5*time.Second).message(t); m.Seq < 25 {
		t.Logf("the newcomer got seq %d, which is allowed", m.Seq)
	}
}

func TestAnAddedUserGetsTheConversationAndLaterEvents(t *testing.T) {
	t.Parallel()
	e := setup(t, 2, 3)
	newcomer := testenv.User(t, e.pods[0].db.SQL)
	c := e.pods[1].connect(t, newcomer)
	for round := range 3 {
		if _, err := e.pods[0].conversations.Add(t.Context(), e.group, e.users[0], &conversation.Addition{UserIDs: []string{newcomer}}); err != nil {
			t.Fatal(err)
		}
		m := e.pods[0].send(t, e.group, e.users[0], "hello")
		if f := c.next(5 * time.Second); f.Type != event.TypeConversationCreated {
			t.Fatalf("round %d: the first frame is %s", round, f.Type)
		}
		if got := c.until(event.TypeMessageNew, 5*time.Second).message(t); got.ID != m.ID {
			t.Fatalf("round %d: got seq %d, want %d", round, got.Seq, m.Seq)
		}
		if err := e.pods[0].conversations.Remove(t.Context(), e.group, e.users[0], newcomer); err != nil {
			t.Fatal(err)
		}
		e.pods[0].send(t, e.group, e.users[0], "not for you")
		if f := c.next(5 * time.Second); f.Type != event.TypeMemberRemoved {
			t.Fatalf("round %d: got %s", round, f.Type)
		}
		c.silent(200 * time.Millisecond)
	}
}

// A poll returns joins that a socket got long ago. If the pod has dropped the conversation since, because the user was removed, it reads
// the conversation again from the join on: the socket must not get the same events again.
func TestUserAddedAgainGetsNoEventTwice(t *testing.T) {
	t.Parallel()
	e := setup(t, 2, 3)
	newcomer := testenv.User(t, e.pods[0].db.SQL)
	c := e.pods[1].connect(t, newcomer)
	add := func() {
		t.Helper()
		if _, err := e.pods[0].conversations.Add(t.Context(), e.group, e.users[0], &conversation.Addition{UserIDs: []string{newcomer}}); err != nil {
			t.Fatal(err)
		}
	}
	due := func(want string, seq int64) {
		t.Helper()
		f := c.next(8 * time.Second)
		if f.Type != want || want == event.TypeMessageNew && f.message(t).Seq != seq {
			t.Fatalf("got %s %s where %s was due (seq %d)", f.Type, f.Data, want, seq)
		}
	}
	remove := func() {
		t.Helper()
		if err := e.pods[0].conversations.Remove(t.Context(), e.group, e.users[0], newcomer); err != nil {
			t.Fatal(err)
		}
	}
	add()
	e.pods[0].send(t, e.group, e.users[0], "hello")
	due(event.TypeConversationCreated, 0)
	due(event.TypeMessageNew, 1)
	remove()
	due(event.TypeMemberRemoved, 0)
	e.pods[0].send(t, e.group, e.users[0], "not for you")
	e.pods[0].events.losing(func(*event.Event) bool { return true }) // so that a poll delivers both joins at once
	add()
	e.pods[0].send(t, e.group, e.users[0], "hello again")
	due(event.TypeConversationCreated, 0)
	due(event.TypeMessageNew, 3)
	e.pods[0].events.losing(nil)
	remove()
	due(event.TypeMemberRemoved, 0)
	c.silent(200 * time.Millisecond)
}

// Redis loses a join, and before a poll finds it the pod comes to serve the conversation for another's socket, as it is by then.
func TestALostJoinIsDeliveredIfTheTopicWasMadeSince(t *testing.T) {
	t.Parallel()
	e := setup(t, 2, 3)
	newcomer := testenv.User(t, e.pods[0].db.SQL)
	c := e.pods[1].connect(t, newcomer)
	e.pods[0].events.losing(func(*event.Event) bool { return true })
	if _, err := e.pods[0].conversations.Add(t.Context(), e.group, e.users[0], &conversation.Addition{UserIDs: []string{newcomer}}); err != nil {
		t.Fatal(err)
	}
	e.pods[0].send(t, e.group, e.users[0], "one")
	e.pods[1].connect(t, e.users[1])
	e.pods[0].send(t, e.group, e.users[0], "two")
	if f := c.next(8 * time.Second); f.Type != event.TypeConversationCreated {
		t.Fatalf("the first frame is %s", f.Type)
	}
	c.messages(1, 2, 8*time.Second)
	e.pods[0].events.losing(nil)
	e.pods[0].send(t, e.group, e.users[0], "three")
	c.messages(3, 3, 8*time.Second)
	c.silent(200 * time.Millisecond)
}

func TestSlowReaderIsClosed(t *testing.T) {
	t.Parallel()
	e := setup(t, 1, 3)
	p := e.pods[0]
	quick := p.connect(t, e.users[0])
	slow := p.dial(t, e.users[1])
	big := string(make([]byte, 0, 30<<10))
	for len(big) < 30<<10 {
		big += "0123456789abcdef"
	}
	big = big[:8000]
	const n = 1200
	var g sync.WaitGroup
	g.Go(func() {
		for range n {
			p.send(t, e.group, e.users[2], big)
		}
	})
	testenv.Eventually(t, 60*time.Second, func() bool { return count(t, p.registry, "parley_sockets_slow_total") >= 1 }, "the slow reader is noticed")
	go slow.read() // soon: the close frame waits for it a few seconds only
	quick.messages(1, n, 60*time.Second)
	g.Wait()
	for f := slow.next(20 * time.Second); ; f = slow.next(20 * time.Second) {
		if f.code == 4408 {
			break
		}
		if f.Type == "" {
			t.Fatalf("the connection ended without 4408 (%+v)", f)
		}
	}
}

func count(t testing.TB, r *prometheus.Registry, name string) float64 {
	t.Helper()
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			return f.GetMetric()[0].GetCounter().GetValue() + f.GetMetric()[0].GetGauge().GetValue()
		}
	}
	t.Fatalf("no metric %s", name)
	return 0
}

func TestTypingExpires(t *testing.T) {
	t.Parallel()
	e := setup(t, 2, 3)
	writer, reader := e.pods[0].connect(t, e.users[0]), e.pods[1].connect(t, e.users[1])
	e.pods[0].publisher.Publish(event.UserTyping(event.Typing{ConversationID: e.group, UserID: e.users[0], Active: true}))
	for _, want := range []bool{true, false} {
		var y event.Typing
		if err := json.Unmarshal(reader.until(event.TypeTyping, 8*time.Second).Data, &y); err != nil || y.Active != want || y.UserID != e.users[0] {
			t.Fatalf("got %+v, %v", y, err)
		}
	}
	writer.silent(50 * time.Millisecond)
}

// Nobody who is excepted from an event gets it, on any pod, however many they are.
func TestExceptedUsersDoNotGetAnEvent(t *testing.T) {
	t.Parallel()
	e := setup(t, 2, 3)
	a, b, c := e.pods[0].connect(t, e.users[0]), e.pods[1].connect(t, e.users[1]), e.pods[1].connect(t, e.users[2])
	for n, except := range [][]string{{e.users[0]}, {e.users[0], e.users[1]}, nil} {
		e.pods[0].publisher.Publish(event.MarkersMoved(event.Markers{
			ConversationID: e.group, Markers: []event.Marker{{UserID: e.users[2], LastReadSeq: int64(n)}},
		}, except))
	}
	for who, want := range map[*client][]int64{a: {2}, b: {0, 2}, c: {0, 1, 2}} {
		for _, seq := range want {
			var m event.Markers
			if err := json.Unmarshal(who.until(event.TypeConversationMarkers, 8*time.Second).Data, &m); err != nil || m.Markers[0].LastReadSeq != seq {
				t.Fatalf("got %+v, %v, want %d of %v", m, err, seq, want)
			}
		}
	}
}

func TestAnEndedSessionsSocketsCloseOnEveryPod(t *testing.T) {
	t.Parallel()
	e := setup(t, 2, 3)
	c := e.pods[1].connect(t, e.users[0])
	e.pods[0].publisher.SessionsEnded(t.Context(), []string{c.session.SessionID})
	if f := c.next(5 * time.Second); f.code != 4401 {
		t.Errorf("got %+v, want a close with 4401", f)
	}
}

func TestDrainClosesAllWith1012(t *testing.T) {
	t.Parallel()
	e := setup(t, 1, 3)
	var clients []*client
	for range 5 {
		clients = append(clients, e.pods[0].connect(t, e.users[0]))
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	e.pods[0].hub.Drain(ctx)
	for _, c := range clients {
		if f := c.next(5 * time.Second); f.code != 1012 {
			t.Errorf("got %+v, want a close with 1012", f)
		}
	}
	if _, err := e.pods[0].hub.Connect(t.Context(), realtime.Identity{UserID: e.users[0]}, clients[0].conn); !errors.Is(err, realtime.ErrDraining) {
		t.Errorf("a socket that comes late: %v", err)
	}
}

func TestTheOldestOfTooManySocketsGivesWay(t *testing.T) {
	t.Parallel()
	e := setup(t, 1, 3)
	oldest := e.pods[0].connect(t, e.users[0])
	for range 20 {
		e.pods[0].connect(t, e.users[0])
	}
	if f := oldest.next(5 * time.Second); f.code != 4409 {
		t.Errorf("got %+v, want a close with 4409", f)
	}
}

// A connection belongs to its handler: after Detach a late event may not reach it, even if it is reused by then.
func TestNothingIsWrittenAfterDetach(t *testing.T) {
	t.Parallel()
	e := setup(t, 1, 3)
	p := e.pods[0]
	stop := make(chan struct{})
	var sender sync.WaitGroup
	sender.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				_, _, _ = p.messages.Send(context.Background(), e.group, e.users[2], &message.Draft{Content: "late"})
			}
		}
	})
	for range 30 {
		ours, theirs := net.Pipe()
		seen := make(chan int, 1)
		go func() {
			b := make([]byte, 64<<10)
			n := 0
			for {
				k, err := theirs.Read(b)
				n += k
				if err != nil {
					seen <- n
					return
				}
			}
		}()
		w := &watched{Conn: ours}
		s, err := p.hub.Connect(t.Context(), realtime.Identity{UserID: e.users[0], DeviceID: "d", SessionID: id.New()}, w)
		if err != nil {
			t.Fatal(err)
		}
		testenv.Eventually(t, 5*time.Second, func() bool { return w.writes.Load() > 1 }, "something is written")
		s.Detach()
		before := w.writes.Load()
		s.Send(event.TypePing, wire.NewFrame("x", nil))
		s.Close(realtime.CloseBadFrame)
		p.send(t, e.group, e.users[1], "later")
		if after := w.writes.Load(); after != before {
			t.Fatalf("%d writes after the detach", after-before)
		}
		_ = ours.Close()
		<-seen
	}
	close(stop)
	sender.Wait()
}

// watched counts writes.
type watched struct {
	net.Conn
	writes atomic.Int64
}

func (w *watched) Write(b []byte) (int, error) {
	w.writes.Add(1)
	return w.Conn.Write(b)
}
