package message_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/parley-chat/parley/internal/audit"
	"github.com/parley-chat/parley/internal/chat"
	"github.com/parley-chat/parley/internal/cursor"
	"github.com/parley-chat/parley/internal/event"
	"github.com/parley-chat/parley/internal/id"
	"github.com/parley-chat/parley/internal/invalid"
	"github.com/parley-chat/parley/internal/jsonbody"
	"github.com/parley-chat/parley/internal/message"
	"github.com/parley-chat/parley/internal/testenv"
)

// asKey is the context of a request with a server key.
func asKey(t *testing.T) context.Context {
	t.Helper()
	return audit.With(t.Context(), audit.Actor{KeyID: id.New()})
}

// byKey sends in the name of a key.
func (p *pod) byKey(ctx context.Context, conversationID string, how message.Sending, content, clientID string) (chat.Message, bool, error) {
	return p.messages.SendByKey(ctx, conversationID, how, &message.Draft{Content: content, ClientMessageID: &clientID})
}

// A key sends for a member, and for a bot that is none. Neither a block nor a group in which only admins write hinders it.
func TestAKeySends(t *testing.T) {
	t.Parallel()
	p, ctx := newPod(t, testenv.Postgres(t)), asKey(t)
	u := testenv.Users(t, p.db.SQL, 3)
	group, direct := p.group(t, u[0], u[1]), p.direct(t, u[0], u[1])
	p.exec(t, `UPDATE conversations SET posting = 'admins' WHERE id = $1`, group)
	p.exec(t, `INSERT INTO blocks (user_id, blocked_id) VALUES ($1, $2)`, u[0], u[1])

	m, repeated, err := p.byKey(ctx, group, message.Sending{SenderID: u[1], Kind: message.KindSystem}, "joined", "1")
	if err != nil || repeated || m.Kind != message.KindSystem || m.Seq != 1 {
		t.Fatalf("for a member: %+v, %v, %v", m, repeated, err)
	}
	if again, repeated, err := p.byKey(ctx, group, message.Sending{SenderID: u[1], Kind: message.KindSystem}, "joined", "1"); err != nil || !repeated || again.ID != m.ID {
		t.Errorf("repeated: %+v, %v, %v", again, repeated, err)
	}
	if _, _, err := p.byKey(ctx, direct, message.Sending{SenderID: u[1]}, "hello", "2"); err != nil {
		t.Errorf("past a block: %v", err)
	}
	if m, _, err := p.byKey(ctx, group, message.Sending{SenderID: u[2], Bot: true}, "beep", "3"); err != nil || m.SenderID != u[2] || m.Seq != 2 {
		t.Errorf("for a bot: %+v, %v", m, err)
	}
	var faults *invalid.Faults
	if _, _, err := p.byKey(ctx, group, message.Sending{SenderID: u[2]}, "hello", "4"); !errors.As(err, &faults) || !strings.Contains(err.Error(), "sender") {
		t.Errorf("without a membership: %v", err)
	}
	for name, how := range map[string]message.Sending{"a user": {SenderID: u[0]}, "a bot": {SenderID: u[2], Bot: true}} {
		if _, _, err := p.byKey(ctx, id.New(), how, "hello", "5"); !errors.Is(err, message.ErrConversationNotFound) {
			t.Errorf("for %s in no conversation: %v", name, err)
		}
	}
	var logged int
	if err := p.db.SQL.QueryRow(`SELECT count(*) FROM audit_log WHERE action = 'message.send'`).Scan(&logged); err != nil || logged != 3 {
		t.Errorf("%d of 3 sends are logged, %v", logged, err)
	}
}

func (p *pod) exec(t *testing.T, query string, args ...any) {
	t.Helper()
	if _, err := p.db.SQL.Exec(query, args...); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
}

// A key reads, edits and deletes what others wrote, in any conversation that was not deleted.
func TestAKeyReadsAndChanges(t *testing.T) {
	t.Parallel()
	p, ctx := newPod(t, testenv.Postgres(t)), asKey(t)
	u := testenv.Users(t, p.db.SQL, 2)
	group := p.group(t, u...)
	var sent []string
	for i := range 5 {
		m, _, err := p.messages.Send(t.Context(), group, u[i%2], &message.Draft{Content: fmt.Sprint(i)})
		if err != nil {
			t.Fatal(err)
		}
		sent = append(sent, m.ID)
	}
	ids := func(page message.Page, err error) (out []string) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		for i := range page.Messages {
			out = append(out, page.Messages[i].ID)
		}
		return out
	}
	newest, err := p.messages.HistoryByKey(ctx, group, nil, 3)
	if got := ids(newest, err); !newest.HasMore || !slices.Equal(got, []string{sent[4], sent[3], sent[2]}) {
		t.Errorf("the newest are %v, more %v", got, newest.HasMore)
	}
	last := newest.Messages[2]
	older, err := p.messages.HistoryByKey(ctx, group, &cursor.Position{Time: last.CreatedAt.Time, ID: last.ID}, 3)
	if got := ids(older, err); older.HasMore || !slices.Equal(got, []string{sent[1], sent[0]}) {
		t.Errorf("older are %v, more %v", got, older.HasMore)
	}
	for name, read := range map[string]func() (message.Page, error){
		"a key":    func() (message.Page, error) { return p.messages.AfterSeqByKey(ctx, group, 3, 1) },
		"a member": func() (message.Page, error) { return p.messages.AfterSeq(ctx, group, u[0], 3, 1) },
	} {
		after, err := read()
		if got := ids(after, err); !after.HasMore || !slices.Equal(got, sent[3:4]) {
			t.Errorf("after seq 3 %s reads %v, more %v", name, got, after.HasMore)
		}
	}

	edited, err := p.messages.EditByKey(ctx, sent[0], &message.Edit{Content: jsonbody.Optional[string]{Set: true, Value: "edited"}})
	if err != nil || edited.Content != "edited" || p.published.last().Type != event.TypeMessageUpdated {
		t.Errorf("edited: %+v, %v", edited, err)
	}
	if m, err := p.messages.GetByKey(ctx, sent[0]); err != nil || m.Content != "edited" {
		t.Errorf("read: %+v, %v", m, err)
	}
	for range 2 { // the second changes nothing
		if err := p.messages.DeleteByKey(ctx, sent[1]); err != nil {
			t.Errorf("deleted: %v", err)
		}
	}
	if n := p.published.count(event.TypeMessageDeleted); n != 1 {
		t.Errorf("%d deletions are published", n)
	}
	p.exec(t, `UPDATE conversations SET deleted_at = now() WHERE id = $1`, group)
	for _, messageID := range []string{sent[0], id.New()} {
		if _, err := p.messages.GetByKey(ctx, messageID); !errors.Is(err, message.ErrNotFound) {
			t.Errorf("read of a deleted group or none: %v", err)
		}
		if err := p.messages.DeleteByKey(ctx, messageID); !errors.Is(err, message.ErrNotFound) {
			t.Errorf("deleted of a deleted group or none: %v", err)
		}
	}
	if _, err := p.messages.HistoryByKey(ctx, group, nil, 3); !errors.Is(err, message.ErrConversationNotFound) {
		t.Errorf("the history of a deleted group: %v", err)
	}
}

// Typing is allowed to those who may send: members without a block, and only admins if posting is restricted to them.
func TestWhoMayType(t *testing.T) {
	t.Parallel()
	p := newPod(t, testenv.Postgres(t))
	u := testenv.Users(t, p.db.SQL, 3)
	group, direct := p.group(t, u[0], u[1]), p.direct(t, u[0], u[1])
	is := func(conversationID, userID string, want error) {
		t.Helper()
		if err := p.messages.CanType(t.Context(), conversationID, userID); !errors.Is(err, want) {
			t.Errorf("got %v, want %v", err, want)
		}
	}
	is(group, u[1], nil)
	is(direct, u[1], nil)
	is(group, u[2], message.ErrConversationNotFound)
	is(id.New(), u[1], message.ErrConversationNotFound)
	p.exec(t, `UPDATE conversations SET posting = 'admins' WHERE id = $1`, group)
	is(group, u[1], message.ErrNoPosting)
	is(group, u[0], nil)
	p.exec(t, `INSERT INTO blocks (user_id, blocked_id) VALUES ($1, $2)`, u[1], u[0])
	is(direct, u[0], message.ErrCannotMessage)
	is(direct, u[1], message.ErrCannotMessage)
}

// Inputs of edits, mentions and syncs that break a rule name the field.
func TestFaultsOfInputs(t *testing.T) {
	t.Parallel()
	faults := func(v jsonbody.Checker, body, field string) {
		t.Helper()
		if err := jsonbody.Decode([]byte(body), v); err == nil || !strings.Contains(err.Error(), field) {
			t.Errorf("%.80s: %v, want a fault of %s", body, err, field)
		}
	}
	many := func(n int, item string) string { return strings.TrimSuffix(strings.Repeat(item+",", n), ",") }
	for body, field := range map[string]string{
		`{}`: "body", `{"content":null}`: "content", `{"content":"` + strings.Repeat("x", 20_000) + `"}`: "content", `{"metadata":[]}`: "metadata",
		`{"mentions":{"userIds":["x"]}}`: "userIds", `{"mentions":{"userIds":[` + many(101, `"`+id.New()+`"`) + `]}}`: "userIds", `{"mentions":{"more":1}}`: "more",
	} {
		faults(&message.Edit{}, body, field)
	}
	var conversations []string
	for range 2000 {
		conversations = append(conversations, fmt.Sprintf("%q:0", id.New()))
	}
	for body, field := range map[string]string{
		`{"conversations":{"x":0}}`: "conversations", `{"conversations":{"` + id.New() + `":-1}}`: "conversations", `{"window":0}`: "window", `{"window":100000}`: "window",
		`{"state":-1}`: "state", `{"epoch":"` + strings.Repeat("x", 1000) + `"}`: "epoch", `{"conversations":{` + strings.Join(conversations, ",") + `}}`: "conversations",
	} {
		faults(&message.SyncRequest{}, body, field)
	}
}

// Sends of one lane are stored in the order in which they were begun, whatever is waited for first.
func TestALaneKeepsItsOrder(t *testing.T) {
	t.Parallel()
	p := newPod(t, testenv.Postgres(t))
	u := testenv.Users(t, p.db.SQL, 2)
	group := p.group(t, u...)
	var lane message.Lane
	var begun []message.Queued
	for i := range 20 {
		q, err := p.messages.Begin(t.Context(), &lane, group, u[0], &message.Draft{Content: fmt.Sprint(i)})
		if err != nil {
			t.Fatal(err)
		}
		begun = append(begun, q)
	}
	for i, q := range slices.Backward(begun) {
		m, _, err := q.Wait(t.Context())
		if err != nil || m.Seq != int64(i)+1 || m.Content != fmt.Sprint(i) {
			t.Errorf("%d is stored as %d with %q, %v", i, m.Seq, m.Content, err)
		}
	}
}
