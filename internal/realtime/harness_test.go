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
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/parley-chat/parley/internal/auth"
	"github.com/parley-chat/parley/internal/budget"
	"github.com/parley-chat/parley/internal/chat"
	"github.com/parley-chat/parley/internal/conversation"
	"github.com/parley-chat/parley/internal/event"
	"github.com/parley-chat/parley/internal/history"
	"github.com/parley-chat/parley/internal/id"
	"github.com/parley-chat/parley/internal/journal"
	"github.com/parley-chat/parley/internal/lifecycle"
	"github.com/parley-chat/parley/internal/message"
	"github.com/parley-chat/parley/internal/postgres"
	"github.com/parley-chat/parley/internal/presence"
	"github.com/parley-chat/parley/internal/realtime"
	"github.com/parley-chat/parley/internal/redisconn"
	"github.com/parley-chat/parley/internal/testenv"
	"github.com/parley-chat/parley/internal/user"
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
	users         *user.Service // nil unless the pod is whole
	registry      *prometheus.Registry
	log           *testenv.Output
}

// podConfig is how a pod differs from the usual one.
type podConfig struct {
	// whole is for a pod that also delivers presence and profiles, follows the epoch and has a probe, as an api process does.
	whole bool
	// memory bounds the frames that wait for slow clients; nil for no bound.
	memory *budget.Budget
}

func newPod(t testing.TB, databaseURL, redisURL string) *pod {
	t.Helper()
	return startPod(t, databaseURL, redisURL, podConfig{})
}

func startPod(t testing.TB, databaseURL, redisURL string, c podConfig) *pod {
	t.Helper()
	p := &pod{registry: prometheus.NewRegistry(), log: &testenv.Output{}}
	log := slog.New(slog.NewTextHandler(p.log, nil))
	database := postgres.Config{URL: databaseURL, MaxConns: 12, Application: "test"}
	var epochs *history.Watch
	if c.whole {
		epochs = history.New(p.registry, log)
		database.Identify = epochs.Identify
	}
	db, err := postgres.Open(database)
	if err != nil {
		t.Fatal(err)
	}
	rdb, err := redisconn.Open(redisconn.Config{URL: redisURL, PoolSize: 10})
	if err != nil {
		t.Fatal(err)
	}
	p.db = db
	metrics := realtime.NewMetrics(p.registry)
	p.publisher = realtime.NewPublisher(realtime.PublisherConfig{Redis: rdb, History: epochs, Metrics: metrics, Log: log})
	p.events = &lossy{next: p.publisher}
	store := message.NewStore(db)
	conversations := conversation.NewStore(db, store)
	p.conversations = conversation.NewService(db, conversations, noMarkers{}, p.events, noMarkers{})
	committer := message.NewCommitter(store, p.events, nil, log, message.NewMetrics(p.registry))
	p.messages = message.NewService(db, store, committer, nil, p.events)
	channels := realtime.NewChannels()
	hub := realtime.HubConfig{
		Memberships: conversations, Feed: journal.NewFeed(db.SQL, conversations), Channels: channels, Memory: c.memory, Metrics: metrics, Log: log,
	}
	subscription := realtime.SubscriberConfig{Redis: rdb, Channels: channels, Publisher: p.publisher, Metrics: metrics, Log: log}
	var more []lifecycle.Part
	if c.whole {
		beats := presence.NewHeartbeat(rdb, nil, presenceTimes, presence.NewHeartbeatMetrics(p.registry), log, p.publisher.Replace)
		p.users = user.NewService(db, p.publisher, nil)
		hub.Presence, hub.Heartbeats, hub.Profiles = presence.NewService(db.SQL, rdb), beats, p.users
		hub.History, hub.Sessions = epochs, auth.NewLookup(db)
		subscription.Probe = realtime.NewProbe(p.publisher, channels, p.registry)
		more = []lifecycle.Part{
			{Name: "heartbeat", Run: beats.Run}, {Name: "probe", Run: subscription.Probe.Run}, epochs.Part(db.SQL),
		}
	}
	p.hub = realtime.NewHub(hub)
	subscription.Hub, subscription.Ended = p.hub, p.hub.EndSessions
	subscriber := realtime.NewSubscriber(subscription)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		done <- lifecycle.Run(ctx, lifecycle.Config{Log: log, StopTimeout: 20 * time.Second}, append([]lifecycle.Part{
			{Name: "publisher", Run: p.publisher.Run},
			{Name: "subscriber", Run: subscriber.Run},
			{Name: "hub", Run: p.hub.Run},
			{Name: "committer", Run: committer.Run},
		}, more...)...)
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
	ready   event.Ready
	frames  chan frame
}

// connect opens a socket of the user's and waits for its ready frame.
func (p *pod) connect(t testing.TB, userID string) *client {
	t.Helper()
	return p.connectAs(t, realtime.Identity{UserID: userID, DeviceID: "d", SessionID: id.New()})
}

// dial opens a socket whose client does not read yet.
func (p *pod) dial(t testing.TB, userID string) *client {
	t.Helper()
	return p.dialAs(t, realtime.Identity{UserID: userID, DeviceID: "d", SessionID: id.New()})
}

// connectAs is connect with a login or an external token.
func (p *pod) connectAs(t testing.TB, who realtime.Identity) *client {
	t.Helper()
	c := p.dialAs(t, who)
	go c.read()
	if f := c.next(5 * time.Second); f.Type != event.TypeReady || json.Unmarshal(f.Data, &c.ready) != nil {
		t.Fatalf("the first frame is %+v", f)
	}
	return c
}

// dialAs is dial with a login or an external token.
func (p *pod) dialAs(t testing.TB, who realtime.Identity) *client {
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
	s, err := p.hub.Connect(t.Context(), who, ours)
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
		if len(body) == 0 {
			return frame{code: 1005}, nil
		}
		return frame{code: int(binary.BigEndian.Uint16(body))}, nil
	case 0x89:
		return frame{Type: "protocol ping"}, nil
	case 0x8a:
		return frame{Type: "protocol pong"}, nil
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
	return setupPods(t, pods, users, podConfig{})
}

func setupPods(t testing.TB, pods, users int, c podConfig) *env {
	t.Helper()
	e := &env{pg: testenv.Postgres(t), redis: testenv.Redis(t)}
	for range pods {
		e.pods = append(e.pods, startPod(t, e.pg, e.redis.URL(), c))
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
