package realtime_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/parley-chat/parley/internal/chat"
	"github.com/parley-chat/parley/internal/event"
	"github.com/parley-chat/parley/internal/id"
	"github.com/parley-chat/parley/internal/realtime"
	"github.com/parley-chat/parley/internal/realtime/wire"
	"github.com/parley-chat/parley/internal/rediskey"
	"github.com/parley-chat/parley/internal/testenv"
)

// After a new history the sockets are in its conversations and their clients are asked to sync; those of logins that it does not have
// are closed. Events of pods that are still in the old history are dropped.
func TestANewHistoryBegins(t *testing.T) {
	t.Parallel()
	e := setupPods(t, 2, 3, podConfig{whole: true})
	p := e.pods[0]
	login := id.New()
	e.exec(t, `INSERT INTO sessions (id, user_id, expires_at) VALUES ($1, $2, clock_timestamp() + interval '1 hour')`, login, e.users[0])
	kept := p.connectAs(t, realtime.Identity{UserID: e.users[0], DeviceID: "d", SessionID: login})
	token := e.pods[1].connectAs(t, realtime.Identity{UserID: e.users[1], DeviceID: "d", ExpiresAt: time.Now().Add(time.Hour), Signer: "key"})
	lost := p.connect(t, e.users[2]) // of a login that Postgres does not have
	old := p.hub.Epoch()
	m := p.send(t, e.group, e.users[0], "before")
	for _, c := range []*client{kept, token, lost} {
		c.messages(m.Seq, m.Seq, time.Minute)
	}

	e.exec(t, `UPDATE history SET fingerprint = 'another server'`)
	var resync event.Resync
	for i, c := range []*client{kept, token} {
		if f := c.until(event.TypeResync, time.Minute); json.Unmarshal(f.Data, &resync) != nil || resync.WithinSeconds != 5 {
			t.Fatalf("got %s", f.Data)
		}
		if epoch := e.pods[i].hub.Epoch(); resync.Epoch != epoch || epoch == old || epoch == "" {
			t.Errorf("pod %d has the epoch %q after %q, its client was sent %q", i, epoch, old, resync.Epoch)
		}
	}
	if f := lost.next(time.Minute); f.code != realtime.CloseSessionOver {
		t.Errorf("the socket of a login that was lost got %+v", f)
	}
	if a, b := p.hub.Epoch(), e.pods[1].hub.Epoch(); a != b {
		t.Errorf("the pods have the epochs %q and %q", a, b)
	}

	stray := chat.Message{ID: id.New(), ConversationID: e.group, SenderID: e.users[1], Content: "of the old history"}
	stray.Revision, stray.Seq = m.Revision+1, m.Seq+1
	if err := e.redis.Client(t).Publish(t.Context(), rediskey.ConversationChannel(e.group), wire.Encode(event.MessageNew(&stray), old)).Err(); err != nil {
		t.Fatal(err)
	}
	for _, c := range []*client{kept, token} {
		c.nothingSince(p, "an event of the old history")
	}
	next := e.pods[1].send(t, e.group, e.users[1], "after")
	for _, c := range []*client{kept, token} {
		if got := c.until(event.TypeMessageNew, time.Minute).message(t); got.ID != next.ID {
			t.Errorf("got %q, want %q", got.Content, next.Content)
		}
	}
	if n := testenv.Metric(t, p.registry, "parley_history_changes_total"); n != 1 {
		t.Errorf("%v changes of the history were counted", n)
	}
}

// A socket that opens while another history begins is in one of the two: its ready frame has the new epoch, or it is asked to sync. From then
// on it gets every message.
func TestASocketThatOpensWhileAHistoryBeginsIsServed(t *testing.T) {
	t.Parallel()
	e := setupPods(t, 1, 2, podConfig{whole: true})
	p := e.pods[0]
	for range 3 {
		before := p.hub.Epoch()
		e.exec(t, `UPDATE history SET fingerprint = 'another server'`)
		var clients []*client
		testenv.Eventually(t, time.Minute, func() bool {
			clients = append(clients, p.connectAs(t, realtime.Identity{UserID: e.users[0], DeviceID: "d", ExpiresAt: time.Now().Add(time.Hour)}))
			return p.hub.Epoch() != before
		}, "another history begins")
		now := p.hub.Epoch()
		clients = clients[max(0, len(clients)-5):]
		for _, c := range clients {
			var resync event.Resync
			if c.ready.Epoch == now {
				continue
			}
			if f := c.until(event.TypeResync, time.Minute); json.Unmarshal(f.Data, &resync) != nil || resync.Epoch != now {
				t.Errorf("a socket of %q got %s, the epoch is %q", c.ready.Epoch, f.Data, now)
			}
		}
		m := p.send(t, e.group, e.users[1], "hello")
		for _, c := range clients {
			c.messages(m.Seq, m.Seq, time.Minute)
			_ = c.conn.Close()
		}
	}
}
