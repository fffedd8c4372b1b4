package conversation_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/parley-chat/parley/internal/chat"
	"github.com/parley-chat/parley/internal/conversation"
	"github.com/parley-chat/parley/internal/event"
	"github.com/parley-chat/parley/internal/id"
	"github.com/parley-chat/parley/internal/invalid"
	"github.com/parley-chat/parley/internal/jsonbody"
	"github.com/parley-chat/parley/internal/testenv"
)

// write inserts messages of a sender, as sends do, and returns the id of the last one.
func (p *pod) write(conversationID, sender string, n int, mentioned ...string) (last string) {
	p.t.Helper()
	for range n {
		last = id.New()
		_, err := p.db.SQL.Exec(`WITH c AS (
				UPDATE conversations SET last_seq = last_seq + 1, revision = revision + 1,
					last_message_at = greatest(clock_timestamp(), last_message_at + interval '1 microsecond')
				WHERE id = $1 RETURNING last_seq, revision, last_message_at),
			m AS (INSERT INTO messages (id, conversation_id, seq, revision, sender_id, content, created_at)
				SELECT $4, $1, c.last_seq, c.revision, $2, 'x', c.last_message_at FROM c)
			INSERT INTO message_mentions (conversation_id, seq, user_id, sender_id)
				SELECT $1, c.last_seq, nullif(u.id, '')::uuid, $2 FROM c, unnest($3::text[]) AS u (id)`, conversationID, sender, mentioned, last)
		if err != nil {
			p.t.Fatal(err)
		}
	}
	return last
}

func (p *pod) change(id, user, body string) (*chat.Conversation, error) {
	return p.UpdateState(p.t.Context(), id, user, decode[conversation.StateChange](p.t, body))
}

func (p *pod) listed(user, filter string) (names []string) {
	p.t.Helper()
	list, _, err := p.List(p.t.Context(), user, conversation.Selection{Filter: filter}, nil, 100)
	if err != nil {
		p.t.Fatal(err)
	}
	for _, c := range list {
		names = append(names, *c.Name)
	}
	return names
}

func TestOwnState(t *testing.T) {
	t.Parallel()
	p := newPod(t, testenv.Postgres(t))
	users := testenv.Users(t, p.db.SQL, 2)
	c, _ := p.create(users[0], fmt.Sprintf(`{"type":"group","name":"a","memberIds":[%q]}`, users[1]))
	last := p.write(c.ID, users[1], 3, users[0])
	p.write(c.ID, users[1], 1, "")

	got, err := p.Get(t.Context(), c.ID, users[0])
	if err != nil || got.UnreadCount != 4 || got.MentionCount != 4 || got.Notifications != nil || got.MutedUntil != nil || got.Hidden || got.MarkedUnread {
		t.Fatalf("at first: %+v, %v", got.OwnState, err)
	}
	until := time.Now().Add(time.Hour).UTC().Format("2006-01-02T15:04:05.000000Z")
	got, err = p.change(c.ID, users[0], fmt.Sprintf(`{"notifications":"none","mutedUntil":%q,"archived":true,"pinned":true}`, until))
	if err != nil || *got.Notifications != "none" || *got.MutedUntil != until || got.ArchivedAt == nil || got.PinnedAt == nil {
		t.Errorf("set: %+v, %v", got.OwnState, err)
	}
	n := p.notified.list[len(p.notified.list)-1]
	if d, ok := n.Data.(event.StateUpdated); !ok || n.UserID != users[0] || d.ConversationID != c.ID || *d.MutedUntil != until || d.StateRevision == 0 {
		t.Errorf("notified of %+v", n)
	}
	if got, err = p.change(c.ID, users[0], `{"mutedUntil":"forever"}`); err != nil || *got.MutedUntil != "forever" {
		t.Errorf("for good: %+v, %v", got.OwnState, err)
	}
	if got, err = p.change(c.ID, users[0], `{"mutedUntil":"2001-01-01T00:00:00Z","notifications":null,"archived":false,"pinned":false}`); err != nil ||
		got.MutedUntil != nil || got.Notifications != nil || got.ArchivedAt != nil || got.PinnedAt != nil {
		t.Errorf("cleared: %+v, %v", got.OwnState, err)
	}
	if _, err := p.change(c.ID, testenv.User(t, p.db.SQL), `{"archived":true}`); !errors.Is(err, conversation.ErrNotFound) {
		t.Errorf("a stranger: %v", err)
	}
	if other, err := p.Get(t.Context(), c.ID, users[1]); err != nil || other.ArchivedAt != nil {
		t.Errorf("the other: %+v, %v", other.OwnState, err)
	}
	var faults *invalid.Faults
	if _, err := p.change(c.ID, users[0], fmt.Sprintf(`{"unreadFrom":%q}`, users[0])); !errors.As(err, &faults) {
		t.Errorf("unread from no message: %v", err)
	}
	p.pending[users[0]] = map[string]chat.PendingMarker{c.ID: {Seq: 4}}
	if got, err = p.Get(t.Context(), c.ID, users[0]); err != nil || got.UnreadCount != 0 || got.MentionCount != 0 {
		t.Errorf("with a pending read: %+v, %v", got.OwnState, err)
	}
	got, err = p.change(c.ID, users[0], fmt.Sprintf(`{"unreadFrom":%q}`, last))
	if err != nil || got.LastReadSeq != 2 || got.UnreadCount != 2 || got.MentionCount != 2 || !got.MarkedUnread {
		t.Errorf("marked unread in spite of a pending read: %+v, %v", got.OwnState, err)
	}
	p.pending[users[0]][c.ID] = chat.PendingMarker{Seq: 3, Version: 1}
	if got, err = p.Get(t.Context(), c.ID, users[0]); err != nil || got.UnreadCount != 1 || got.MarkedUnread {
		t.Errorf("read again: %+v, %v", got.OwnState, err)
	}
}

func TestFiltersAndTotals(t *testing.T) {
	t.Parallel()
	p := newPod(t, testenv.Postgres(t))
	users := testenv.Users(t, p.db.SQL, 2)
	ids := map[string]string{}
	for _, name := range []string{"plain", "unread", "mention", "archived", "muted", "hidden", "pinned", "marked"} {
		c, _ := p.create(users[0], fmt.Sprintf(`{"type":"group","name":%q,"memberIds":[%q]}`, name, users[1]))
		ids[name] = c.ID
	}
	set := func(name, body string) {
		t.Helper()
		if _, err := p.change(ids[name], users[0], body); err != nil {
			t.Fatal(err)
		}
	}
	p.write(ids["unread"], users[1], 2)
	p.write(ids["mention"], users[1], 1, users[0])
	p.write(ids["archived"], users[1], 1, users[0])
	p.write(ids["muted"], users[1], 3, users[0])
	p.write(ids["hidden"], users[1], 1, users[0])
	last := p.write(ids["marked"], users[0], 1)
	set("archived", `{"archived":true}`)
	set("muted", `{"mutedUntil":"forever"}`)
	set("hidden", `{"hidden":true}`)
	set("pinned", `{"pinned":true}`)
	set("marked", fmt.Sprintf(`{"unreadFrom":%q}`, last))
	for filter, want := range map[string]string{
		"default":  "marked muted mention unread pinned plain",
		"unread":   "marked muted mention unread",
		"mentions": "muted mention",
		"archived": "archived",
		"pinned":   "pinned",
		"muted":    "muted",
		"all":      "marked hidden muted archived mention unread pinned plain",
	} {
		if got := strings.Join(p.listed(users[0], filter), " "); got != want {
			t.Errorf("%s: %s, want %s", filter, got, want)
		}
	}
	total := func(muted bool) conversation.Unread {
		u, err := p.Unread(t.Context(), users[0], muted)
		if err != nil {
			t.Fatal(err)
		}
		return u.Unread
	}
	if got, want := total(false), (conversation.Unread{Messages: 4, Mentions: 1, Conversations: 3}); got != want {
		t.Errorf("unread: %+v, want %+v", got, want)
	}
	if got, want := total(true), (conversation.Unread{Messages: 7, Mentions: 4, Conversations: 4}); got != want {
		t.Errorf("with muted ones: %+v, want %+v", got, want)
	}
	p.write(ids["hidden"], users[1], 1)
	if got := p.listed(users[0], "default"); got[0] != "hidden" {
		t.Errorf("a hidden conversation does not come back: %v", got)
	}
	find := func(sel conversation.Selection) string {
		sel.Filter = conversation.FilterAll
		list, _, err := p.List(t.Context(), users[0], sel, nil, 100)
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, c := range list {
			if c.Name == nil {
				names = append(names, "direct")
			} else {
				names = append(names, *c.Name)
			}
		}
		return strings.Join(names, " ")
	}
	if _, err := p.db.SQL.Exec(`UPDATE users SET display_name = 'Muriel' WHERE id = $1`, users[1]); err != nil {
		t.Fatal(err)
	}
	p.create(users[0], fmt.Sprintf(`{"type":"direct","memberIds":[%q]}`, users[1]))
	if got := find(conversation.Selection{Query: "MU"}); got != "direct muted" {
		t.Errorf("found %s", got)
	}
	if got := find(conversation.Selection{Query: "mu", Type: "direct"}); got != "direct" {
		t.Errorf("found %s", got)
	}
}

func TestPinnedConversationsAreBounded(t *testing.T) {
	t.Parallel()
	p := newPod(t, testenv.Postgres(t))
	user := testenv.User(t, p.db.SQL)
	for i := range 21 {
		c, _ := p.create(user, `{"type":"group","name":"a"}`)
		_, err := p.change(c.ID, user, `{"pinned":true}`)
		if i < 20 && err != nil || i == 20 && !errors.Is(err, conversation.ErrTooManyPinned) {
			t.Errorf("pin %d: %v", i+1, err)
		}
	}
}

func TestThePeersMarkerNeverGoesBack(t *testing.T) {
	t.Parallel()
	p := newPod(t, testenv.Postgres(t))
	users := testenv.Users(t, p.db.SQL, 2)
	c, _ := p.create(users[0], fmt.Sprintf(`{"type":"direct","memberIds":[%q]}`, users[1]))
	first := p.write(c.ID, users[0], 1)
	p.write(c.ID, users[0], 2)
	peer := func() *int64 {
		t.Helper()
		got, err := p.Get(t.Context(), c.ID, users[0])
		if err != nil {
			t.Fatal(err)
		}
		return got.PeerLastReadSeq.Seq
	}
	if got := peer(); got == nil || *got != 0 {
		t.Errorf("at first %v", got)
	}
	exec := func(query string, args ...any) {
		t.Helper()
		if _, err := p.db.SQL.Exec(query, args...); err != nil {
			t.Fatal(err)
		}
	}
	exec(`UPDATE conversation_members SET last_read_seq = 3 WHERE user_id = $1`, users[1])
	if _, err := p.change(c.ID, users[1], fmt.Sprintf(`{"unreadFrom":%q}`, first)); err != nil {
		t.Fatal(err)
	}
	if got := peer(); got == nil || *got != 3 {
		t.Errorf("after unreadFrom %v", got)
	}
	exec(`INSERT INTO blocks (user_id, blocked_id) VALUES ($1, $2)`, users[1], users[0])
	if got := peer(); got != nil {
		t.Errorf("across a block %d", *got)
	}
	exec(`DELETE FROM blocks`)
	exec(`UPDATE users SET read_receipts_enabled = false WHERE id = $1`, users[0])
	if got := peer(); got != nil {
		t.Errorf("for one who hides receipts %d", *got)
	}
}

func TestStatesSince(t *testing.T) {
	t.Parallel()
	p := newPod(t, testenv.Postgres(t))
	users := testenv.Users(t, p.db.SQL, 2)
	since := func(held int64) conversation.States {
		t.Helper()
		s, err := p.StatesSince(t.Context(), users[0], held)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	c, _ := p.create(users[0], fmt.Sprintf(`{"type":"group","name":"a","memberIds":[%q]}`, users[1]))
	d, _ := p.create(users[0], fmt.Sprintf(`{"type":"direct","memberIds":[%q]}`, users[1]))
	first := since(0)
	if !first.Complete || first.Revision == 0 {
		t.Fatalf("at first %+v", first)
	}
	if _, err := p.change(c.ID, users[0], `{"archived":true}`); err != nil {
		t.Fatal(err)
	}
	second := since(first.Revision)
	if s, ok := second.Conversations[c.ID]; !ok || s.ArchivedAt == nil {
		t.Errorf("after a change %+v", second)
	}
	p.pending[users[0]] = map[string]chat.PendingMarker{d.ID: {Seq: 0}}
	if _, ok := since(second.Revision).Conversations[d.ID]; !ok {
		t.Error("a state with a pending marker is missing")
	}
	delete(p.pending, users[0])

	// A change whose transaction is still running is not passed over.
	tx, err := p.db.SQL.Begin()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(`UPDATE conversation_members SET pinned_at = now(), state_xid = pg_current_xact_id() WHERE user_id = $1 AND conversation_id = $2`, users[0], d.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := p.change(c.ID, users[0], `{"archived":false}`); err != nil {
		t.Fatal(err)
	}
	during := since(second.Revision)
	if err := tx.Commit(); err != nil {
		t.Fatal(err)
	}
	if s := since(during.Revision).Conversations[d.ID]; s.PinnedAt == nil {
		t.Error("a change that was committed late is missing")
	}
	if s := since(1 << 50); len(s.Conversations) != 2 || s.Revision >= 1<<50 {
		t.Errorf("a revision of the future: %+v", s)
	}
}

func TestStatesComeInParts(t *testing.T) {
	t.Parallel()
	p := newPod(t, testenv.Postgres(t))
	user := testenv.User(t, p.db.SQL)
	if _, err := p.db.SQL.Exec(`WITH c AS (
			INSERT INTO conversations (id, type, name, member_count, created_at, last_message_at)
			SELECT gen_random_uuid(), 'group', 'a', 1, now(), now() FROM generate_series(1, 1200) RETURNING id)
		INSERT INTO conversation_members (conversation_id, user_id, role) SELECT id, $1, 'owner' FROM c`, user); err != nil {
		t.Fatal(err)
	}
	for range 3 { // transactions of 400 each
		if _, err := p.db.SQL.Exec(`UPDATE conversation_members SET archived_at = now(), state_xid = pg_current_xact_id()
			WHERE conversation_id IN (SELECT conversation_id FROM conversation_members WHERE state_xid IS NULL LIMIT 400)`); err != nil {
			t.Fatal(err)
		}
	}
	seen, held := map[string]bool{}, int64(1)
	for parts := 1; ; parts++ {
		s, err := p.StatesSince(t.Context(), user, held)
		if err != nil || len(s.Conversations) > 500 || parts > 4 {
			t.Fatalf("part %d has %d, %v", parts, len(s.Conversations), err)
		}
		for id := range s.Conversations {
			seen[id] = true
		}
		if held = s.Revision; s.Complete {
			break
		}
	}
	if len(seen) != 1200 {
		t.Errorf("%d of 1200 states came", len(seen))
	}
}

func TestStateInputs(t *testing.T) {
	t.Parallel()
	for body, field := range map[string]string{
		`{}`: "body", `{"notifications":"some"}`: "notifications", `{"mutedUntil":"soon"}`: "mutedUntil", `{"mutedUntil":3}`: "mutedUntil",
		`{"archived":null}`: "archived", `{"pinned":"yes"}`: "pinned", `{"hidden":null}`: "hidden", `{"unreadFrom":null}`: "unreadFrom", `{"unreadFrom":"x"}`: "unreadFrom",
	} {
		if err := jsonbody.Decode([]byte(body), &conversation.StateChange{}); err == nil || !strings.Contains(err.Error(), field) {
			t.Errorf("%s: %v", body, err)
		}
	}
}
