package realtime_test

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/parley-chat/parley/internal/conversation"
	"github.com/parley-chat/parley/internal/event"
	"github.com/parley-chat/parley/internal/jsonbody"
	"github.com/parley-chat/parley/internal/message"
	"github.com/parley-chat/parley/internal/testenv"
)

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
