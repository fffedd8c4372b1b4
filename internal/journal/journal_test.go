package journal_test

import (
	"context"
	"encoding/json"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"gorm.io/gorm"

	"github.com/parley-chat/parley/internal/chat"
	"github.com/parley-chat/parley/internal/conversation"
	"github.com/parley-chat/parley/internal/event"
	"github.com/parley-chat/parley/internal/journal"
	"github.com/parley-chat/parley/internal/message"
	"github.com/parley-chat/parley/internal/postgres"
	"github.com/parley-chat/parley/internal/testenv"
)

type nobody struct{}

func (nobody) Notify(*event.Notice)                                          {}
func (nobody) Publish(...*event.Event)                                       {}
func (nobody) Markers(context.Context, string) map[string]chat.PendingMarker { return nil }

// house is a group of three and what writes its journal.
type house struct {
	t        *testing.T
	url      string
	db       *postgres.DB
	messages *message.Service
	groups   *conversation.Service
	feed     *journal.Feed
	group    string
	users    []string
}

func newHouse(t *testing.T) *house {
	t.Helper()
	url := testenv.Postgres(t)
	db := testenv.Open(t, postgres.Config{URL: url, MaxConns: 8})
	store := message.NewStore(db)
	conversations := conversation.NewStore(db, store)
	committer := message.NewCommitter(store, nobody{}, nil, slog.New(slog.DiscardHandler), message.NewMetrics(prometheus.NewRegistry()))
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = committer.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	h := &house{
		t: t, url: url, db: db, messages: message.NewService(db, store, committer, nil, nobody{}), users: testenv.Users(t, db.SQL, 3),
		groups: conversation.NewService(db, conversations, nobody{}, nobody{}, nobody{}), feed: journal.NewFeed(db.SQL, conversations),
	}
	name := "group"
	c, _, err := h.groups.Create(t.Context(), h.users[0], &conversation.Creation{Type: "group", MemberIDs: h.users[1:], Name: &name})
	if err != nil {
		t.Fatal(err)
	}
	h.group = c.ID
	return h
}

func (h *house) send(content string) chat.Message {
	h.t.Helper()
	m, _, err := h.messages.Send(h.t.Context(), h.group, h.users[0], &message.Draft{Content: content})
	if err != nil {
		h.t.Fatal(err)
	}
	return m
}

// note notes a change, as a domain does.
func (h *house) note(c journal.Change) {
	h.t.Helper()
	c.ConversationID, c.Actor = h.group, event.Actor{UserID: h.users[1]}
	err := h.db.Tx(h.t.Context(), func(tx *gorm.DB) error {
		if err := journal.Lock(tx, h.group); err != nil {
			return err
		}
		var err error
		if c.MessageID != "" {
			_, _, err = journal.ChangeMessage(tx, c, "reactions = $9", `[{"reaction":"+1","count":1}]`)
		} else {
			_, err = journal.Note(tx, c)
		}
		return err
	})
	if err != nil {
		h.t.Fatal(err)
	}
}

func (h *house) exec(query string, args ...any) {
	h.t.Helper()
	if _, err := h.db.SQL.Exec(query, args...); err != nil {
		h.t.Fatalf("%s: %v", query, err)
	}
}

func (h *house) after(revision int64, limit int) event.Missed {
	h.t.Helper()
	missed, err := h.feed.After(h.t.Context(), h.group, revision, limit)
	if err != nil {
		h.t.Fatal(err)
	}
	return missed
}

// types are those of the events after a revision, which must follow each other without a gap.
func (h *house) types(revision int64) (out []string) {
	h.t.Helper()
	for i, e := range h.after(revision, 100).Events {
		if e.Revision != revision+int64(i)+1 {
			h.t.Errorf("event %d after %d has revision %d", i, revision, e.Revision)
		}
		out = append(out, e.Type)
	}
	return out
}

// typeOf is what each kind is replayed as. A kind without an event of its own yet is a change to ask for.
var typeOf = map[journal.Kind]string{
	journal.Created:          event.TypeConversationCreated,
	journal.Updated:          event.TypeConversationUpdated,
	journal.Deleted:          event.TypeConversationDeleted,
	journal.MemberAdded:      event.TypeMemberAdded,
	journal.MemberRemoved:    event.TypeMemberRemoved,
	journal.MemberUpdated:    event.TypeMemberUpdated,
	journal.MessageUpdated:   event.TypeMessageUpdated,
	journal.MessageAnnotated: event.TypeMessageUpdated,
	journal.MessageDeleted:   event.TypeMessageDeleted,
	journal.MessageReacted:   event.TypeMessageReacted,
}

func TestEveryKindIsReplayedAsItsOwnEvent(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	m := h.send("hello")
	for _, k := range journal.Kinds {
		c := journal.Change{Kind: k}
		switch {
		case strings.HasPrefix(string(k), "message_"):
			c.MessageID = m.ID
		case strings.HasPrefix(string(k), "member_"), k == journal.Created:
			c.UserIDs = h.users[2:]
		}
		h.note(c)
	}
	events := h.after(2, 100).Events
	if len(events) != len(journal.Kinds) {
		t.Fatalf("%d events for %d kinds", len(events), len(journal.Kinds))
	}
	for i, k := range journal.Kinds {
		switch e := events[i]; {
		case e.Type != typeOf[k]:
			t.Errorf("%s is replayed as %q, not %q", k, e.Type, typeOf[k])
		case e.Revision != int64(i)+3, e.CommittedAt == 0, e.Actor.UserID != h.users[1]:
			t.Errorf("%s is replayed as %+v", k, e)
		}
	}
}

func TestAKindOfANewerVersionIsAChangeToAskFor(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.note(journal.Change{Kind: "from_the_future"})
	h.note(journal.Change{Kind: journal.Updated})
	h.exec(`UPDATE conversation_changes SET detail = 'from_the_future' WHERE conversation_id = $1 AND revision = 3`, h.group)
	h.send("hello")
	want := []string{event.TypeConversationChanged, event.TypeConversationChanged, event.TypeMessageNew}
	if got := h.types(1); strings.Join(got, " ") != strings.Join(want, " ") {
		t.Errorf("the events are %v", got)
	}
}

// A pod of the first version replays what it doesn't know as added members, so it must be given a kind that it knows.
func TestAnOlderPodIsGivenAKindThatItKnows(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	m := h.send("hello")
	for _, k := range journal.Kinds {
		c := journal.Change{Kind: k}
		if strings.HasPrefix(string(k), "message_") {
			c.MessageID = m.ID
		}
		h.note(c)
	}
	var n int
	err := h.db.SQL.QueryRow(`SELECT count(*) FROM conversation_changes WHERE conversation_id = $1 AND kind NOT IN
		('created', 'updated', 'member_added', 'member_removed', 'message_updated', 'message_deleted')`, h.group).Scan(&n)
	if err != nil || n != 0 {
		t.Errorf("%d rows have a kind that an older pod doesn't know, %v", n, err)
	}
}

func TestReplayBearsWhatIsGone(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	first, second := h.send("first"), h.send("second")
	h.note(journal.Change{Kind: journal.MessageUpdated, MessageID: first.ID})
	third := h.send("third")
	last := h.send("last")
	h.exec(`UPDATE conversations SET last_message_id = NULL WHERE id = $1`, h.group)
	h.exec(`DELETE FROM messages WHERE id IN ($1, $2)`, first.ID, last.ID)

	const gone = event.TypeConversationChanged
	want := []string{gone, event.TypeMessageNew, gone, event.TypeMessageNew, gone}
	if got := h.types(1); strings.Join(got, " ") != strings.Join(want, " ") {
		t.Fatalf("the events are %v", got)
	}
	events := h.after(1, 100).Events
	for i, m := range map[int]chat.Message{1: second, 3: third} {
		if got, _ := events[i].Data.(*chat.Message); got == nil || got.ID != m.ID || got.Seq != m.Seq || got.Revision != m.Revision {
			t.Errorf("event %d has %+v, not message %d", i, got, m.Seq)
		}
	}
	// In parts it is the same.
	for r := int64(1); r < 6; r++ {
		if e := h.after(r, 1).Events; len(e) != 1 || e[0].Revision != r+1 || e[0].Type != want[r-1] {
			t.Errorf("after %d: %+v", r, e)
		}
	}
	h.exec(`DELETE FROM conversation_changes WHERE conversation_id = $1`, h.group)
	h.exec(`DELETE FROM messages WHERE conversation_id = $1`, h.group)
	h.exec(`DELETE FROM conversation_members WHERE conversation_id = $1`, h.group)
	h.exec(`DELETE FROM conversations WHERE id = $1`, h.group)
	if missed := h.after(1, 10); len(missed.Events)+len(missed.Gone) != 0 {
		t.Errorf("a conversation that is gone has %+v", missed)
	}
}

// A pod of the first version edits and deletes without setting changed. Each message is in the answer once, in its place by its
// last change.
func TestChangedKnowsWhatOlderPodsChanged(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	plain, edited, reacted := h.send("plain"), h.send("edited"), h.send("reacted")
	h.note(journal.Change{Kind: journal.MessageReacted, MessageID: reacted.ID})
	h.note(journal.Change{Kind: journal.MessageUpdated, MessageID: edited.ID})
	h.exec(`UPDATE messages SET changed = NULL, edited_at = now() WHERE id = $1`, edited.ID)
	for held, want := range map[int64][]string{1: {plain.ID, reacted.ID, edited.ID}, 4: {reacted.ID, edited.ID}, 5: {edited.ID}, 6: nil} {
		found, current, err := h.feed.Changed(t.Context(), h.group, h.users[2], held, 100)
		if err != nil || current != 6 {
			t.Fatalf("revision %d, %v", current, err)
		}
		var got []string
		for _, m := range found {
			got = append(got, m.ID)
		}
		if strings.Join(got, " ") != strings.Join(want, " ") {
			t.Errorf("after %d: %v, want %v", held, got, want)
		}
	}
	if _, _, err := h.feed.Changed(t.Context(), h.group, testenv.User(t, h.db.SQL), 1, 100); err == nil {
		t.Error("a stranger reads the messages")
	}
}

// The extras of a message are read from its row, and a plain message has none of them.
func TestExtrasAreReadWithTheMessage(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	plain, rich := h.send("plain"), h.send("rich")
	h.exec(`UPDATE messages SET kind = 'system', metadata = '{"a": {"b": [null, 1.5]}}', mention_ids = ARRAY[$2]::uuid[],
		attachments = '[{"id": "x", "filename": "f", "contentType": "t", "size": 3}]', reactions = '[{"reaction": "+1", "count": 2}]',
		pinned_at = '2026-11-23T10:00:00.5Z', pinned_by_id = $2 WHERE id = $1`, rich.ID, h.users[1])
	page, err := h.messages.History(t.Context(), h.group, h.users[0], nil, 10)
	if err != nil {
		t.Fatal(err)
	}
	want := `"deletedAt":null,"kind":"system","metadata":{"a":{"b":[null,1.5]}},"mentions":{"userIds":["` + h.users[1] + `"],"all":false},` +
		`"attachments":[{"id":"x","filename":"f","contentType":"t","size":3}],"reactions":[{"reaction":"+1","count":2}],` +
		`"pinnedAt":"2026-11-23T10:00:00.500000Z","pinnedById":"` + h.users[1] + `"}`
	if got := encoded(t, page.Messages[0]); !strings.HasSuffix(got, want) {
		t.Errorf("the message is %s\nwant %s", got, want)
	}
	if got := encoded(t, page.Messages[1]); got != encoded(t, plain) || !strings.HasSuffix(got, `"deletedAt":null}`) {
		t.Errorf("the plain message is %s", got)
	}
}

// One who waits for the lock sees what was committed before it.
func TestTheLockOrdersChanges(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	m := h.send("hello")
	if err := h.db.Tx(t.Context(), func(tx *gorm.DB) error { return journal.LockAsMember(tx, h.group, testenv.User(t, h.db.SQL)) }); err == nil {
		t.Error("a stranger takes the lock")
	}
	errs := make(chan error, 8)
	for range cap(errs) {
		go func() {
			errs <- h.db.Tx(context.Background(), func(tx *gorm.DB) error {
				id, err := journal.LockOfMessageAsMember(tx, m.ID, h.users[0])
				if err != nil {
					return err
				}
				_, err = journal.Note(tx, journal.Change{ConversationID: id, Kind: journal.Updated})
				return err
			})
		}()
	}
	for range cap(errs) {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	var last int64
	if err := h.db.SQL.QueryRow(`SELECT max(revision) FROM conversation_changes WHERE conversation_id = $1`, h.group).Scan(&last); err != nil || last != 10 {
		t.Errorf("the last revision is %d, %v", last, err)
	}
}

// writers are the files that may write what the journal owns.
var writers = map[string]bool{
	"internal/journal/journal.go":   true,
	"internal/message/send.sql":     true, // a batch of messages is one statement
	"internal/message/react.sql":    true, // and one of reactions
	"internal/journal/note_all.sql": true,
}

var writes = regexp.MustCompile(`(?is)(insert\s+into|update|delete\s+from)\s+conversation_changes\b|update\s+(conversations|messages)\b[^;` + "`" + `]*\b(revision|changed|changed_at)\s*=`)

func TestTheJournalAloneWritesRevisions(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	root := filepath.Join("..", "..")
	for _, top := range []string{"cmd", "internal"} {
		err := filepath.WalkDir(filepath.Join(root, top), func(path string, d fs.DirEntry, err error) error {
			name, _ := filepath.Rel(root, path)
			switch {
			case err != nil || d.IsDir() || strings.HasSuffix(path, "_test.go"):
				return err
			case !strings.HasSuffix(path, ".go") && !strings.HasSuffix(path, ".sql") && !strings.HasSuffix(path, ".lua"):
				return nil
			}
			b, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			if found := writes.Find(b); found != nil {
				seen[filepath.ToSlash(name)] = true
				if !writers[filepath.ToSlash(name)] {
					t.Errorf("%s writes what the journal owns: %s", name, found)
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	for w := range writers {
		if !seen[w] {
			t.Errorf("%s was not found to write: the test looks for something else", w)
		}
	}
}

func encoded(t *testing.T, m chat.Message) string {
	t.Helper()
	b, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
