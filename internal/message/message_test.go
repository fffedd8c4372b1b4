package message_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/parley-chat/parley/internal/chat"
	"github.com/parley-chat/parley/internal/conversation"
	"github.com/parley-chat/parley/internal/cursor"
	"github.com/parley-chat/parley/internal/event"
	"github.com/parley-chat/parley/internal/id"
	"github.com/parley-chat/parley/internal/invalid"
	"github.com/parley-chat/parley/internal/journal"
	"github.com/parley-chat/parley/internal/jsonbody"
	"github.com/parley-chat/parley/internal/lifecycle"
	"github.com/parley-chat/parley/internal/message"
	"github.com/parley-chat/parley/internal/postgres"
	"github.com/parley-chat/parley/internal/testenv"
)

// published collects what would be published.
type published struct {
	mu     sync.Mutex
	events []*event.Event
}

func (t *published) Publish(events ...*event.Event) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.events = append(t.events, events...)
}

func (t *published) count(typ string) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := 0
	for _, e := range t.events {
		if e.Type == typ {
			n++
		}
	}
	return n
}

func (t *published) last() *event.Event {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.events[len(t.events)-1]
}

// noMarkers is for tests in which nobody reads.
type noMarkers struct{}

func (noMarkers) Notify(*event.Notice)                                          {}
func (noMarkers) Markers(context.Context, string) map[string]chat.PendingMarker { return nil }

// pod is what one api process has of messages and conversations.
type pod struct {
	db            *postgres.DB
	messages      *message.Service
	conversations *conversation.Service
	feed          *journal.Feed
	sync          *message.Syncer
	reactor       *message.Reactor
	published     *published
	epoch         string // of the history
}

func newPod(t testing.TB, url string) *pod {
	t.Helper()
	db := testenv.Open(t, postgres.Config{URL: url, MaxConns: 12})
	p := &pod{db: db, published: &published{}}
	store := message.NewStore(db)
	conversations := conversation.NewStore(db, store)
	p.conversations = conversation.NewService(db, conversations, noMarkers{}, p.published, noMarkers{})
	metrics := message.NewMetrics(prometheus.NewRegistry())
	committer := message.NewCommitter(store, p.published, nil, slog.New(slog.DiscardHandler), metrics)
	reactor := message.NewReactor(store, p.published, metrics)
	p.messages, p.reactor = message.NewService(db, store, committer, reactor, p.published), reactor
	p.feed = journal.NewFeed(db.SQL, conversations)
	p.sync = message.NewSyncer(p.feed, store, p.conversations, func() string { return p.epoch })
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		g := lifecycle.NewGroup(ctx)
		g.Go("committer", committer.Run)
		g.Go("reactor", reactor.Run)
		_ = g.Wait()
	}()
	t.Cleanup(func() { cancel(); <-done })
	return p
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

func (p *pod) direct(t testing.TB, a, b string) string {
	t.Helper()
	c, _, err := p.conversations.Create(t.Context(), a, &conversation.Creation{Type: "direct", MemberIDs: []string{b}})
	if err != nil {
		t.Fatal(err)
	}
	return c.ID
}

func (p *pod) send(t testing.TB, conversationID, sender, content string) chat.Message {
	t.Helper()
	m, _, err := p.messages.Send(t.Context(), conversationID, sender, &message.Draft{Content: content})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func ptr[T any](v T) *T { return &v }

func TestSendersAtOnceLeaveNoGap(t *testing.T) {
	t.Parallel()
	url := testenv.Postgres(t)
	pods := []*pod{newPod(t, url), newPod(t, url)}
	users := testenv.Users(t, pods[0].db.SQL, 3)
	c := pods[0].group(t, users...)
	var wg sync.WaitGroup
	for i, u := range users {
		wg.Go(func() {
			for n := range 45 {
				if _, _, err := pods[i%2].messages.Send(context.Background(), c, u, &message.Draft{Content: fmt.Sprint(n)}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	var before *cursor.Position
	seq := int64(135)
	var newer chat.Message
	for {
		page, err := pods[1].messages.History(t.Context(), c, users[0], before, 20)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range page.Messages {
			if m.Seq != seq {
				t.Fatalf("seq %d where %d was due", m.Seq, seq)
			}
			if newer.ID != "" && !m.CreatedAt.Before(newer.CreatedAt.Time) {
				t.Fatalf("seq %d at %v is not before seq %d at %v", m.Seq, m.CreatedAt, newer.Seq, newer.CreatedAt)
			}
			newer = m
			seq--
		}
		if !page.HasMore {
			break
		}
		last := page.Messages[len(page.Messages)-1]
		before = &cursor.Position{Time: last.CreatedAt.Time, ID: last.ID}
	}
	if seq != 0 {
		t.Errorf("the pages end with seq %d left", seq)
	}
	conv, err := pods[0].conversations.Get(t.Context(), c, users[0])
	if err != nil || conv.LastSeq != 135 || conv.Revision != 136 || conv.LastMessage.Seq != 135 || conv.LastReadSeq+conv.UnreadCount != 135 {
		t.Errorf("the conversation is %+v, %v", conv, err)
	}
}

func TestOneClientMessageIDIsOneMessage(t *testing.T) {
	t.Parallel()
	url := testenv.Postgres(t)
	pods := []*pod{newPod(t, url), newPod(t, url)}
	users := testenv.Users(t, pods[0].db.SQL, 3)
	c := pods[0].group(t, users...)
	for round := range 10 {
		var wg sync.WaitGroup
		ids := make([]string, 16)
		for i := range ids {
			wg.Go(func() {
				m, _, err := pods[i%2].messages.Send(context.Background(), c, users[0],
					&message.Draft{Content: "same", ClientMessageID: ptr(fmt.Sprint("k", round))})
				if err != nil {
					t.Error(err)
				}
				ids[i] = m.ID
			})
		}
		wg.Wait()
		for _, x := range ids {
			if x != ids[0] {
				t.Fatalf("round %d: two messages for one clientMessageId", round)
			}
		}
		var rows, last int
		err := pods[0].db.SQL.QueryRow(`SELECT count(*), (SELECT last_seq FROM conversations WHERE id = $1) FROM messages WHERE conversation_id = $1`, c).Scan(&rows, &last)
		if err != nil || rows != round+1 || last != rows {
			t.Fatalf("round %d: %d rows, last_seq %d, %v", round, rows, last, err)
		}
	}
	if n := pods[0].published.count(event.TypeMessageNew) + pods[1].published.count(event.TypeMessageNew); n != 10 {
		t.Errorf("%d messages were published, want 10", n)
	}
}

func TestARepeatedSendIsTheMessageAsItIsNow(t *testing.T) {
	t.Parallel()
	p := newPod(t, testenv.Postgres(t))
	users := testenv.Users(t, p.db.SQL, 2)
	c := p.direct(t, users[0], users[1])
	draft := func(content string) *message.Draft {
		return &message.Draft{Content: content, ClientMessageID: ptr("k")}
	}
	m, repeated, err := p.messages.Send(t.Context(), c, users[0], draft("one"))
	if err != nil || repeated {
		t.Fatal(repeated, err)
	}
	if _, err := p.messages.Edit(t.Context(), m.ID, users[0], &message.Edit{Content: jsonbody.Optional[string]{Set: true, Value: "two"}}); err != nil {
		t.Fatal(err)
	}
	again, repeated, err := p.messages.Send(t.Context(), c, users[0], draft("one"))
	if err != nil || !repeated || again.ID != m.ID || again.Content != "two" || again.Revision != 3 {
		t.Errorf("repeated: %+v, %v, %v", again, repeated, err)
	}
	if _, _, err := p.messages.Send(t.Context(), c, users[0], draft("two")); !errors.Is(err, message.ErrClientMessageIDReused) {
		t.Errorf("another content: %v", err)
	}
	reply := draft("one")
	reply.ReplyToID = &m.ID
	if _, _, err := p.messages.Send(t.Context(), c, users[0], reply); !errors.Is(err, message.ErrClientMessageIDReused) {
		t.Errorf("another reply: %v", err)
	}
	if _, repeated, err := p.messages.Send(t.Context(), c, users[1], draft("one")); err != nil || repeated {
		t.Errorf("another sender's: %v, %v", repeated, err)
	}
}

func TestWhoMaySend(t *testing.T) {
	t.Parallel()
	p := newPod(t, testenv.Postgres(t))
	u := testenv.Users(t, p.db.SQL, 4)
	group, direct := p.group(t, u[0], u[1], u[2]), p.direct(t, u[0], u[1])
	elsewhere := p.send(t, direct, u[0], "elsewhere")
	var f *invalid.Faults
	if _, _, err := p.messages.Send(t.Context(), group, u[0], &message.Draft{Content: "x", ReplyToID: &elsewhere.ID}); !errors.As(err, &f) || !f.Has("replyToId") {
		t.Errorf("a reply to another conversation's message: %v", err)
	}
	for name, c := range map[string]string{"a stranger": group, "nobody's conversation": id.New()} {
		if _, _, err := p.messages.Send(t.Context(), c, u[3], &message.Draft{Content: "x"}); !errors.Is(err, message.ErrConversationNotFound) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := p.db.SQL.Exec(`INSERT INTO blocks (user_id, blocked_id) VALUES ($1, $2)`, u[0], u[1]); err != nil {
		t.Fatal(err)
	}
	for _, sender := range u[:2] {
		if _, _, err := p.messages.Send(t.Context(), direct, sender, &message.Draft{Content: "x"}); !errors.Is(err, message.ErrCannotMessage) {
			t.Errorf("a direct message across a block: %v", err)
		}
		p.send(t, group, sender, "in a group a block does not matter")
	}
	conv, err := p.conversations.Get(t.Context(), group, u[0])
	if err != nil || conv.LastSeq != 2 || conv.Revision != 3 {
		t.Errorf("refused sends moved the conversation: %+v, %v", conv, err)
	}
}

// A transaction holds the conversation while a send waits for it, and removes the sender.
func TestAMemberRemovedWhileASendWaitsCannotSend(t *testing.T) {
	t.Parallel()
	p := newPod(t, testenv.Postgres(t))
	u := testenv.Users(t, p.db.SQL, 3)
	c := p.group(t, u...)
	tx, err := p.db.SQL.Begin()
	if err != nil {
		t.Fatal(err)
	}
	exec := func(q string, args ...any) {
		t.Helper()
		if _, err := tx.Exec(q, args...); err != nil {
			t.Fatal(err)
		}
	}
	exec(`UPDATE conversations SET revision = revision + 1, member_count = member_count - 1 WHERE id = $1`, c)
	exec(`DELETE FROM conversation_members WHERE conversation_id = $1 AND user_id = $2`, c, u[1])
	sent := make(chan error, 1)
	go func() {
		_, _, err := p.messages.Send(context.Background(), c, u[1], &message.Draft{Content: "too late"})
		sent <- err
	}()
	waitsForALock(t, p.db.SQL)
	if err := tx.Commit(); err != nil {
		t.Fatal(err)
	}
	if err := <-sent; !errors.Is(err, message.ErrConversationNotFound) {
		t.Errorf("the removed member's send: %v", err)
	}
	if m := p.send(t, c, u[0], "next"); m.Seq != 1 {
		t.Errorf("the next message has seq %d: the refused one left a gap", m.Seq)
	}
}

func waitsForALock(t *testing.T, db *sql.DB) {
	t.Helper()
	testenv.Eventually(t, 5*time.Second, func() bool {
		var n int
		err := db.QueryRow(`SELECT count(*) FROM pg_locks l JOIN pg_stat_activity a USING (pid) WHERE NOT l.granted AND a.datname = current_database()`).Scan(&n)
		return err == nil && n > 0
	}, "a statement waits for a lock")
}

func TestAFailingConversationUpdateRollsTheMessageBack(t *testing.T) {
	t.Parallel()
	p := newPod(t, testenv.Postgres(t))
	u := testenv.Users(t, p.db.SQL, 3)
	c := p.group(t, u...)
	if _, err := p.db.SQL.Exec(`ALTER TABLE conversations ADD CONSTRAINT no_second CHECK (last_seq < 2)`); err != nil {
		t.Fatal(err)
	}
	p.send(t, c, u[0], "first")
	if _, _, err := p.messages.Send(t.Context(), c, u[0], &message.Draft{Content: "second"}); err == nil {
		t.Fatal("a send whose conversation can't move succeeded")
	}
	page, err := p.messages.History(t.Context(), c, u[0], nil, 10)
	if err != nil || len(page.Messages) != 1 {
		t.Errorf("%d messages, %v", len(page.Messages), err)
	}
}

// Two pods commit batches over the same conversations, in opposite orders.
func TestBatchesOfTwoPodsDoNotDeadlock(t *testing.T) {
	t.Parallel()
	url := testenv.Postgres(t)
	pods := []*pod{newPod(t, url), newPod(t, url)}
	u := testenv.Users(t, pods[0].db.SQL, 3)
	convs := make([]string, 12)
	for i := range convs {
		convs[i] = pods[0].group(t, u...)
	}
	var wg sync.WaitGroup
	const each = 20
	for i, p := range pods {
		for w := range 6 {
			wg.Go(func() {
				for n := range each * len(convs) {
					k := (n + w) % len(convs)
					if i == 1 {
						k = len(convs) - 1 - k
					}
					if _, _, err := p.messages.Send(context.Background(), convs[k], u[w%3], &message.Draft{Content: "x"}); err != nil {
						t.Errorf("pod %d: %v", i, err)
						return
					}
				}
			})
		}
	}
	wg.Wait()
	for _, c := range convs {
		conv, err := pods[0].conversations.Get(t.Context(), c, u[0])
		if err != nil || conv.LastSeq != 2*6*each {
			t.Errorf("a conversation ends at seq %d, want %d (%v)", conv.LastSeq, 2*6*each, err)
		}
	}
}

func TestHistorySeeksAtAnyDepth(t *testing.T) {
	t.Parallel()
	p := newPod(t, testenv.Postgres(t))
	u := testenv.Users(t, p.db.SQL, 3)
	c := p.group(t, u...)
	_, err := p.db.SQL.Exec(`INSERT INTO messages (id, conversation_id, seq, revision, sender_id, content, created_at)
		SELECT gen_random_uuid(), $1, n, n + 1, $2, 'x', timestamptz '2026-01-01' + n * interval '1 second' FROM generate_series(1, 20000) n`, c, u[0])
	if err == nil {
		_, err = p.db.SQL.Exec(`ANALYZE messages`)
	}
	if err != nil {
		t.Fatal(err)
	}
	for name, query := range message.PagingQueries {
		rows, err := p.db.SQL.Query(`EXPLAIN `+query.SQL, query.Args(c, time.Date(2026, 1, 1, 1, 0, 0, 0, time.UTC), u[0])...)
		if err != nil {
			t.Fatal(name, err)
		}
		var plan strings.Builder
		for rows.Next() {
			var line string
			if err := rows.Scan(&line); err != nil {
				t.Fatal(err)
			}
			plan.WriteString(line + "\n")
		}
		rows.Close()
		text := plan.String()
		if !strings.Contains(text, "Index Cond") || !strings.Contains(text, query.Cond) || strings.Contains(text, "Sort") || strings.Contains(text, "Filter") {
			t.Errorf("%s: the plan does not seek:\n%s", name, text)
		}
	}
}

func TestWhoMayEditAndDelete(t *testing.T) {
	t.Parallel()
	p := newPod(t, testenv.Postgres(t))
	u := testenv.Users(t, p.db.SQL, 4)
	group, direct := p.group(t, u[0], u[1], u[2]), p.direct(t, u[0], u[1])
	inGroup, inDirect := p.send(t, group, u[1], "g"), p.send(t, direct, u[1], "d")
	edit := func(m chat.Message, who string) error {
		_, err := p.messages.Edit(t.Context(), m.ID, who, &message.Edit{Content: jsonbody.Optional[string]{Set: true, Value: "edited"}})
		return err
	}
	remove := func(m chat.Message, who string) error { return p.messages.Delete(t.Context(), m.ID, who) }
	for _, c := range []struct {
		name string
		do   func(chat.Message, string) error
		m    chat.Message
		who  string
		want error
	}{
		{"a stranger edits", edit, inGroup, u[3], message.ErrNotFound},
		{"an owner edits another's", edit, inGroup, u[0], message.ErrForbidden},
		{"the sender edits", edit, inGroup, u[1], nil},
		{"a stranger deletes", remove, inGroup, u[3], message.ErrNotFound},
		{"a member deletes another's", remove, inGroup, u[2], message.ErrForbidden},
		{"the other of a direct one deletes", remove, inDirect, u[0], message.ErrForbidden},
		{"an owner deletes another's", remove, inGroup, u[0], nil},
		{"again", remove, inGroup, u[0], nil},
		{"the sender edits what is deleted", edit, inGroup, u[1], message.ErrDeleted},
		{"the sender deletes", remove, inDirect, u[1], nil},
	} {
		if err := c.do(c.m, c.who); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
	page, err := p.messages.History(t.Context(), group, u[2], nil, 1)
	if m := page.Messages[0]; err != nil || m.Content != "" || m.DeletedAt == nil || m.EditedAt == nil || m.Revision != 4 || m.Seq != 1 {
		t.Errorf("the deleted message is %+v, %v", m, err)
	}
	if n := p.published.count(event.TypeMessageDeleted); n != 2 {
		t.Errorf("%d deletions were published, want 2", n)
	}
}

// A conversation that somebody has locked holds up its own sends alone.
func TestALockedConversationHoldsUpNoOther(t *testing.T) {
	t.Parallel()
	p := newPod(t, testenv.Postgres(t))
	users := testenv.Users(t, p.db.SQL, 3)
	locked, free := p.group(t, users...), p.group(t, users...)
	tx, err := p.db.SQL.Begin()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback() }()
	if _, err := tx.Exec(`SELECT FROM conversations WHERE id = $1 FOR UPDATE`, locked); err != nil {
		t.Fatal(err)
	}
	ends := make(chan error, 2)
	for range cap(ends) { // the second one waits for the first, and is not in the way either
		go func() {
			_, _, err := p.messages.Send(context.Background(), locked, users[0], &message.Draft{Content: "x"})
			ends <- err
		}()
	}
	testenv.Eventually(t, 5*time.Second, func() bool {
		var waits bool
		err := p.db.SQL.QueryRow(`SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock')`).Scan(&waits)
		return err == nil && waits
	}, "the first commit waits")
	for range 3 {
		p.send(t, free, users[1], "y")
	}
	if len(ends) > 0 {
		t.Fatal("the locked conversation was written to")
	}
	if err := tx.Rollback(); err != nil {
		t.Fatal(err)
	}
	for range cap(ends) {
		if err := <-ends; err != nil {
			t.Error(err)
		}
	}
}
