package realtime_test

import (
	"testing"
	"time"

	"github.com/parley-chat/parley/internal/conversation"
	"github.com/parley-chat/parley/internal/event"
	"github.com/parley-chat/parley/internal/testenv"
)

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
