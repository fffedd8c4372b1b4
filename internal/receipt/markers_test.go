package receipt_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/parley-chat/parley/internal/event"
	"github.com/parley-chat/parley/internal/id"
	"github.com/parley-chat/parley/internal/receipt"
	"github.com/parley-chat/parley/internal/testenv"
)

// markersOf are a viewer's, as "index:seq" of the users, with a "?" if the time is unknown.
func (e *env) markersOf(viewer, conversation string, users []string) string {
	e.t.Helper()
	found, err := e.service.MarkersOf(e.t.Context(), viewer, conversation)
	if err != nil {
		e.t.Fatal(err)
	}
	return describe(found, users)
}

func describe(markers []event.Marker, users []string) string {
	var out []string
	for _, m := range markers {
		s := fmt.Sprintf("%d:%d", slices.Index(users, m.UserID), m.LastReadSeq)
		if m.ReadAt == nil {
			s += "?"
		}
		out = append(out, s)
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}

// published are the frames of a conversation that its markers were in, each with its exceptions: "1:2 2:2 but 0 4".
func (e *env) published(conversation string, users []string) (out []string) {
	e.notices.mu.Lock()
	defer e.notices.mu.Unlock()
	for _, x := range e.notices.markers {
		if x.ConversationID != conversation {
			continue
		}
		except := x.ExceptMany
		if x.Except != "" {
			except = []string{x.Except}
		}
		var but []string
		for _, u := range except {
			but = append(but, fmt.Sprint(slices.Index(users, u)))
		}
		slices.Sort(but)
		out = append(out, describe(x.Data.(event.Markers).Markers, users)+" but "+strings.Join(but, " "))
	}
	return out
}

// untilPublished waits for a frame.
func (e *env) untilPublished(conversation string, users []string, frame string) {
	e.t.Helper()
	var got []string
	testenv.Eventually(e.t, 30*time.Second, func() bool {
		got = e.published(conversation, users)
		return slices.Contains(got, frame)
	}, "a frame of the markers")
	e.t.Log(got)
}

func TestMarkersOfOthers(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	c, users, messages := fixture(t, e.db.SQL, "group", 5, 5)
	f := e.flusher()
	e.read(users[2], messages[3])
	e.flush(f)
	e.read(users[1], messages[1])
	e.read(users[2], messages[4]) // beyond what is written
	is := func(viewer int, want string) {
		t.Helper()
		if got := e.markersOf(users[viewer], c, users); got != want {
			t.Errorf("%d sees %q, want %q", viewer, got, want)
		}
	}
	is(0, "0:0? 1:2 2:5 3:0? 4:0?")
	e.flush(f)
	e.empty()
	is(0, "0:0? 1:2 2:5 3:0? 4:0?")

	e.exec(`UPDATE users SET read_receipts_enabled = false WHERE id = $1`, users[1])
	is(0, "0:0? 2:5 3:0? 4:0?")
	is(1, "")
	e.exec(`INSERT INTO blocks (user_id, blocked_id) VALUES ($1, $2)`, users[2], users[0])
	is(0, "0:0? 3:0? 4:0?")
	is(2, "2:5 3:0? 4:0?")
	is(3, "0:0? 2:5 3:0? 4:0?")
	if _, err := e.service.MarkersOf(t.Context(), id.New(), c); !errors.Is(err, receipt.ErrNoConversation) {
		t.Errorf("a stranger gets %v", err)
	}
	e.read(users[3], messages[2])
	e.server.Stop()
	is(3, "0:0? 2:5 3:0? 4:0?")
}

// Marking as unread moves the user's own marker back, but not the marker that others see. A read that was pending under the older version
// counts as far as it went, and reads below it move nothing that others see.
func TestMarkersOfOthersDoNotGoBack(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	c, users, messages := fixture(t, e.db.SQL, "group", 3, 5)
	f := e.flusher()
	e.read(users[1], messages[3])
	e.untilPublished(c, users, "1:4 but 1")
	e.exec(`UPDATE conversation_members SET marker_version = marker_version + 1, read_high_seq = 4, last_read_seq = 1 WHERE conversation_id = $1 AND user_id = $2`, c, users[1])
	for _, when := range []string{"pending", "flushed"} {
		if got := e.markersOf(users[0], c, users); !strings.Contains(got, "1:4") {
			t.Errorf("%s: %q", when, got)
		}
		e.flush(f)
	}
	if n := e.count(`SELECT last_read_seq FROM conversation_members WHERE user_id = $1`, users[1]); n != 1 {
		t.Errorf("a read before it was marked unread counts: %d", n)
	}
	e.read(users[1], messages[2])
	if got := e.markersOf(users[0], c, users); !strings.Contains(got, "1:4") {
		t.Errorf("after a read below it: %q", got)
	}
	e.read(users[1], messages[4])
	e.untilPublished(c, users, "1:5 but 1")
	if got := e.published(c, users); len(got) != 2 {
		t.Errorf("the frames are %q", got)
	}
}

// Markers that the same members may not see share a frame, whether they are in Redis or, as in direct conversations, in Postgres.
func TestMovedMarkersArePublishedToWhoMaySeeThem(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	c, users, messages := fixture(t, e.db.SQL, "group", 5, 2)
	e.exec(`UPDATE users SET read_receipts_enabled = false WHERE id = $1`, users[4])
	e.exec(`INSERT INTO blocks (user_id, blocked_id) VALUES ($1, $2)`, users[3], users[1])
	e.read(users[4], messages[0]) // nobody sees it
	e.read(users[1], messages[0])
	e.untilPublished(c, users, "1:1 but 1 3 4")
	e.read(users[2], messages[0])
	e.untilPublished(c, users, "2:1 but 2 4")
	e.read(users[3], messages[0])
	e.untilPublished(c, users, "3:1 but 1 3 4")

	direct, pair, sent := fixture(t, e.db.SQL, "direct", 2, 1)
	e.read(pair[1], sent[0])
	e.untilPublished(direct, pair, "1:1 but 1")
	for _, f := range e.published(c, users) {
		if strings.Contains(f, "4:") {
			t.Errorf("a reader who hides receipts is in %q", f)
		}
	}
}

// In a burst the moves of a conversation are gathered.
func TestABurstOfMovesSharesFrames(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	c, users, messages := fixture(t, e.db.SQL, "group", 5, 100)
	for _, m := range messages {
		for _, u := range users[1:] {
			e.read(u, m)
		}
	}
	testenv.Eventually(t, 30*time.Second, func() bool {
		return strings.Contains(strings.Join(e.published(c, users), " "), "4:100")
	}, "the last move is published")
	if n := len(e.published(c, users)); n >= 400 {
		t.Errorf("%d frames of 400 moves", n)
	}
}

// Reads that move nothing and conversations above the bound publish nothing.
func TestWhatPublishesNoMarkers(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	large, many, there := fixture(t, e.db.SQL, "group", maxMembers+1, 1)
	c, users, messages := fixture(t, e.db.SQL, "group", 3, 2)
	e.read(many[1], there[0])
	e.read(users[1], messages[1])
	e.untilPublished(c, users, "1:2 but 1")
	e.read(users[1], messages[1])
	e.read(users[1], messages[0])
	e.read(users[2], messages[0])
	e.untilPublished(c, users, "2:1 but 2")
	if got := e.published(c, users); len(got) != 2 {
		t.Errorf("the frames are %q", got)
	}
	if got := e.published(large, many); len(got) != 0 {
		t.Errorf("of a group above the bound there are %q", got)
	}
	if got := e.markersOf(many[0], large, many); !strings.Contains(got, "1:1") {
		t.Errorf("by REST they are %q", got)
	}
}

// Moves of the time without Redis are published when it is back.
func TestMovedMarkersWaitForRedis(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	c, users, messages := fixture(t, e.db.SQL, "group", 3, 1)
	e.server.Stop()
	e.read(users[1], messages[0])
	e.server.Start()
	e.untilPublished(c, users, "1:1 but 1")
}
