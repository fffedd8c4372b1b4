package journal_test

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/parley-chat/parley/internal/chat"
	"github.com/parley-chat/parley/internal/conversation"
	"github.com/parley-chat/parley/internal/event"
	"github.com/parley-chat/parley/internal/id"
	"github.com/parley-chat/parley/internal/journal"
	"github.com/parley-chat/parley/internal/message"
	"github.com/parley-chat/parley/internal/postgres"
	"github.com/parley-chat/parley/internal/testenv"
)

// newGroup creates another group of all users.
func (h *house) newGroup() string {
	h.t.Helper()
	name := "another"
	c, _, err := h.groups.Create(h.t.Context(), h.users[0], &conversation.Creation{Type: "group", MemberIDs: h.users[1:], Name: &name})
	if err != nil {
		h.t.Fatal(err)
	}
	return c.ID
}

func TestRecentReadsTheChangesOfATime(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	old, joined := h.newGroup(), testenv.User(t, h.db.SQL)
	h.note(journal.Change{Kind: journal.MemberAdded, UserIDs: []string{joined}, MemberDelta: 1})
	h.note(journal.Change{Kind: journal.MemberRemoved, UserIDs: h.users[2:], MemberDelta: -1})
	h.send("hello")
	h.exec(`UPDATE conversations SET changed_at = now() - interval '1 hour' WHERE id = $1`, old)
	h.exec(`UPDATE conversation_changes SET created_at = now() - interval '1 hour' WHERE conversation_id = $1`, old)

	changed, joins, err := h.feed.Recent(t.Context(), 10*time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	if len(changed) != 1 || changed[h.group] != 4 {
		t.Errorf("changed within ten minutes: %v, want revision 4 of %s", changed, h.group)
	}
	want := map[string]int64{h.users[0]: 1, h.users[1]: 1, h.users[2]: 1, joined: 2}
	for _, j := range joins {
		if j.ConversationID != h.group || want[j.UserID] != j.Revision {
			t.Errorf("an unexpected join %+v", j)
		}
		delete(want, j.UserID)
	}
	if len(want) != 0 {
		t.Errorf("no joins of %v", want)
	}
	if changed, joins, err = h.feed.Recent(t.Context(), 2*time.Hour); err != nil || changed[old] != 1 || len(joins) != 7 {
		t.Errorf("within two hours: %v, %d joins, %v", changed, len(joins), err)
	}
}

// contents checks the messages that a call returned, and the revision.
func (h *house) contents(found []chat.Message, current int64, err error) string {
	h.t.Helper()
	if err != nil {
		h.t.Fatal(err)
	}
	out := fmt.Sprint(current, ":")
	for _, m := range found {
		out += " " + m.Content
	}
	return out
}

func TestLatestAndNewestReadTheEndOfAConversation(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	var sent []chat.Message
	for i := range 5 {
		sent = append(sent, h.send(fmt.Sprint("m", i)))
	}
	for range 3 { // changes, which are no messages
		h.note(journal.Change{Kind: journal.MessageReacted, MessageID: sent[0].ID})
	}
	latest := func(limit int) string {
		m, current, err := h.feed.Latest(t.Context(), h.group, h.users[2], limit)
		return h.contents(m, current, err)
	}
	newest := func(held int64, limit int) string {
		m, current, err := h.feed.Newest(t.Context(), h.group, h.users[2], held, limit)
		return h.contents(m, current, err)
	}
	for got, want := range map[string]string{
		latest(2):    "9: m3 m4",
		latest(100):  "9: m0 m1 m2 m3 m4",
		newest(9, 2): "9:",    // nothing is missing
		newest(8, 1): "9:",    // as many revisions as the limit
		newest(5, 1): "9:",    // four revisions, one of them a message
		newest(4, 1): "9: m4", // two messages
		newest(1, 4): "9: m1 m2 m3 m4",
		newest(1, 5): "9:",
		newest(0, 3): "9: m2 m3 m4", // before the first row of the journal
	} {
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestStrangersReadNothing(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.send("secret")
	h.send("another secret")
	stranger := testenv.User(t, h.db.SQL)
	for name, read := range map[string]func(conversationID, userID string) ([]chat.Message, int64, error){
		"Changed": func(c, u string) ([]chat.Message, int64, error) { return h.feed.Changed(t.Context(), c, u, 0, 10) },
		"Latest":  func(c, u string) ([]chat.Message, int64, error) { return h.feed.Latest(t.Context(), c, u, 10) },
		"Newest":  func(c, u string) ([]chat.Message, int64, error) { return h.feed.Newest(t.Context(), c, u, 0, 1) },
	} {
		for of, ids := range map[string][2]string{"a stranger": {h.group, stranger}, "a missing conversation": {id.New(), h.users[0]}} {
			if m, revision, err := read(ids[0], ids[1]); !errors.Is(err, journal.ErrNotFound) || m != nil || revision != 0 {
				t.Errorf("%s for %s: %v, revision %d, %v", name, of, m, revision, err)
			}
		}
		if m, revision, err := read(h.group, h.users[0]); err != nil || revision != 3 || len(m) == 0 {
			t.Errorf("%s for a member: %v, revision %d, %v", name, m, revision, err)
		}
	}
}

// Gone has the last removal of each user who is not a member now, and no removal of a user who is back.
func TestAfterReportsUsersWhoAreGone(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	left, back := h.users[2], h.users[1]
	h.note(journal.Change{Kind: journal.MemberRemoved, UserIDs: []string{left}, MemberDelta: -1}) // 2
	h.note(journal.Change{Kind: journal.MemberAdded, UserIDs: []string{left}, MemberDelta: 1})
	h.note(journal.Change{Kind: journal.MemberRemoved, UserIDs: []string{left, back}, MemberDelta: -2}) // 4
	h.note(journal.Change{Kind: journal.MemberAdded, UserIDs: []string{back}, MemberDelta: 1})
	h.exec(`DELETE FROM conversation_members WHERE conversation_id = $1 AND user_id = $2`, h.group, left)

	gone := h.after(1, 1).Gone // also those beyond the limit of events
	if len(gone) != 1 || gone[0].Type != event.TypeMemberRemoved || gone[0].Revision != 4 || gone[0].CommittedAt == 0 {
		t.Fatalf("gone are %+v", gone)
	}
	if want := (event.MemberRemoved{ConversationID: h.group, UserID: left, MemberCount: 2, Revision: 4}); !same(gone[0].Data, want) {
		t.Errorf("the removal is %+v, want %+v", gone[0].Data, want)
	}
	if !slices.Equal(gone[0].Removed, []string{left}) {
		t.Errorf("the event is the last one of %v", gone[0].Removed)
	}
	if gone := h.after(4, 100).Gone; len(gone) != 0 {
		t.Errorf("a removal that was delivered is reported again: %+v", gone)
	}
}

func same(a, b any) bool {
	x, _ := json.Marshal(a)
	y, _ := json.Marshal(b)
	return string(x) == string(y)
}

// Reactions are replayed in their present state, also if none is left. A removal without users can't be rebuilt.
func TestReplayOfEmptyChanges(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	m := h.send("hello")
	h.note(journal.Change{Kind: journal.MessageReacted, MessageID: m.ID, UserIDs: h.users[:1]})
	h.exec(`INSERT INTO message_reactions (message_id, user_id, reaction, created_at) VALUES
		($1, $2, 'b', '2026-11-28T10:00:00Z'), ($1, $2, 'a', '2026-11-28T10:00:01Z')`, m.ID, h.users[0])
	reacted := func() string {
		d, _ := h.after(2, 1).Events[0].Data.(*event.MessageReactions)
		b, _ := json.Marshal(d)
		return string(b)
	}
	head := `{"conversationId":"` + h.group + `","messageId":"` + m.ID + `","revision":3,`
	by := func(list string) string { return `"by":[{"userId":"` + h.users[0] + `","reactions":` + list + `}]}` }
	if got, want := reacted(), head+`"reactions":[{"reaction":"+1","count":1}],`+by(`["b","a"]`); got != want {
		t.Errorf("reactions are %s\nwant %s", got, want)
	}
	h.exec(`DELETE FROM message_reactions`)
	h.exec(`UPDATE messages SET reactions = NULL WHERE id = $1`, m.ID)
	if got, want := reacted(), head+`"reactions":[],`+by(`[]`); got != want {
		t.Errorf("without reactions: %s\nwant %s", got, want)
	}
	h.note(journal.Change{Kind: journal.MemberRemoved})
	if got := h.types(3); len(got) != 1 || got[0] != event.TypeConversationChanged {
		t.Errorf("a removal of nobody is %v", got)
	}
}

// failing is a conversation domain that can't read.
type failing struct {
	objects, members error
}

func (f failing) Objects(context.Context, postgres.Querier, []string) (map[string]*chat.Conversation, error) {
	return nil, f.objects
}

func (f failing) MembersByID(context.Context, postgres.Querier, string, []string) ([]chat.Member, error) {
	return nil, f.members
}

// A failure to read is not a change that can't be rebuilt: the caller would deliver a conversation:changed for good.
func TestAfterFailsIfAConversationCannotBeRead(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.note(journal.Change{Kind: journal.Updated})
	h.note(journal.Change{Kind: journal.MemberRemoved, UserIDs: h.users[2:]})
	h.note(journal.Change{Kind: journal.MemberUpdated, UserIDs: h.users[2:]})
	broken := errors.New("broken")
	for revision, c := range map[int64]failing{0: {objects: broken}, 1: {objects: broken}, 2: {objects: broken}, 3: {members: broken}} {
		missed, err := journal.NewFeed(h.db.SQL, c).After(t.Context(), h.group, revision, 1)
		if !errors.Is(err, broken) || len(missed.Events)+len(missed.Gone) != 0 {
			t.Errorf("after revision %d: %+v, %v", revision, missed, err)
		}
	}
	// A conversation that is deleted meanwhile is no failure.
	want := []string{event.TypeConversationChanged, event.TypeConversationChanged, event.TypeConversationChanged, event.TypeMemberUpdated}
	missed, err := journal.NewFeed(h.db.SQL, failing{}).After(t.Context(), h.group, 0, 4)
	var got []string
	for _, e := range missed.Events {
		got = append(got, e.Type)
	}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("without the conversation: %v, %v", got, err)
	}
}

// whole is a feed of a journal that has all kinds of changes, over a pool whose connections can be cut.
func whole(t *testing.T) (h *house, cut *testenv.StatementCut, db *postgres.DB) {
	t.Helper()
	h = newHouse(t)
	m := h.send("hello")
	for _, k := range journal.Kinds {
		c := journal.Change{Kind: k, UserIDs: h.users[2:]}
		if strings.HasPrefix(string(k), "message_") {
			c.MessageID = m.ID
		}
		h.note(c)
	}
	h.send("hello again")
	cut = testenv.NewStatementCut(t, h.url)
	return h, cut, cut.Open(t)
}

// A connection that breaks in the middle of a read is never taken for the end of the journal, nor for a conversation that does not exist.
func TestABrokenConnectionFailsTheWholeRead(t *testing.T) {
	t.Parallel()
	h, cut, db := whole(t)
	feed := journal.NewFeed(db.SQL, conversation.NewStore(db, message.NewStore(db)))
	ctx, user := t.Context(), h.users[0]
	messages := func(m []chat.Message, revision int64, err error) (int, error) { return len(m) + int(revision), err }
	for name, c := range map[string]struct {
		read       func() (size int, err error)
		statements int
	}{
		"Recent": {func() (int, error) {
			changed, joins, err := feed.Recent(ctx, time.Hour)
			return len(changed) + len(joins), err
		}, 2},
		"After": {func() (int, error) {
			missed, err := feed.After(ctx, h.group, 0, 100)
			return len(missed.Events) + len(missed.Gone), err
		}, 11},
		"Changed": {func() (int, error) { return messages(feed.Changed(ctx, h.group, user, 0, 10)) }, 4},
		"Latest":  {func() (int, error) { return messages(feed.Latest(ctx, h.group, user, 10)) }, 3},
		"Newest":  {func() (int, error) { return messages(feed.Newest(ctx, h.group, user, 0, 1)) }, 4},
	} {
		size := 0
		errs := cut.EachStatement(t, func() (err error) {
			if size, err = c.read(); err != nil && size != 0 {
				t.Errorf("%s fails and returns a part: %v", name, err)
			}
			return err
		})
		if size == 0 {
			t.Errorf("%s read nothing", name)
		}
		if len(errs) < c.statements {
			t.Errorf("%s has %d statements, of at least %d", name, len(errs), c.statements)
		}
		for i, err := range errs {
			if errors.Is(err, journal.ErrNotFound) || errors.Is(err, sql.ErrNoRows) || !postgres.IsUnavailable(err) {
				t.Errorf("%s without statement %d: %v", name, i+1, err)
			}
		}
	}
}
