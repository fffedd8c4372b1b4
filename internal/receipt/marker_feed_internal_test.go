package receipt

import (
	"fmt"
	"log/slog"
	"testing"
	"time"
)

func readOf(userID string, moved bool, f facts) stored {
	return stored{due: &due{request: &request{userID: userID}, facts: f}, moved: moved}
}

// A conversation's markers are due once a second, each reader once, and a conversation of more readers than the bound fills no memory.
func TestMarkersAreDueOnceASecond(t *testing.T) {
	t.Parallel()
	f := newMarkerFeed(nil, nil, nil, 3, slog.New(slog.DiscardHandler))
	note := func(conversation string, users ...string) {
		for _, u := range users {
			f.noteMoved([]stored{readOf(u, true, facts{conversationID: conversation, seq: 2})})
		}
	}
	now := time.Now()
	is := func(after time.Duration, want, left int) {
		t.Helper()
		if due := f.takeDue(now.Add(after)); len(due) != want || f.size != left {
			t.Errorf("after %s %v are due and %d left, want %d and %d", after, due, f.size, want, left)
		}
	}
	note("a", "x", "y", "x")
	is(0, 2, 0)
	note("a", "x")
	note("b", "x")
	is(900*time.Millisecond, 1, 1)
	is(time.Second, 1, 0)
	for n := range 10 {
		note("a", fmt.Sprint(n))
	}
	is(1900*time.Millisecond, 0, 3)
	is(2*time.Second, 3, 0)

	f.noteMoved([]stored{
		readOf("x", false, facts{conversationID: "c", seq: 2, looked: true, shows: true, members: 3}),            // moved nothing
		readOf("x", true, facts{conversationID: "c", seq: 2, looked: true, members: 3}),                          // hides
		readOf("x", true, facts{conversationID: "c", seq: 2, looked: true, shows: true, members: 4}),             // too large
		readOf("x", true, facts{conversationID: "c", seq: 2, looked: true, shows: true, members: 3, highSeq: 2}), // was there
	})
	is(9*time.Second, 0, 0)
}
