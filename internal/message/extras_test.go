package message_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/parley-chat/parley/internal/chat"
	"github.com/parley-chat/parley/internal/invalid"
	"github.com/parley-chat/parley/internal/jsonbody"
	"github.com/parley-chat/parley/internal/message"
	"github.com/parley-chat/parley/internal/testenv"
)

func draft(t testing.TB, body string) *message.Draft {
	t.Helper()
	var d message.Draft
	if err := jsonbody.Decode([]byte(body), &d); err != nil {
		t.Fatal(err)
	}
	return &d
}

func edit(t testing.TB, body string) *message.Edit {
	t.Helper()
	var e message.Edit
	if err := jsonbody.Decode([]byte(body), &e); err != nil {
		t.Fatal(err)
	}
	return &e
}

func (p *pod) mentions(t testing.TB, group string) (n int) {
	t.Helper()
	if err := p.db.SQL.QueryRow(`SELECT count(*) FROM message_mentions WHERE conversation_id = $1`, group).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

func TestMessagesCarryMetadataAndMentions(t *testing.T) {
	t.Parallel()
	p := newPod(t, testenv.Postgres(t))
	users := testenv.Users(t, p.db.SQL, 4)
	group := p.group(t, users[:3]...)
	body := fmt.Sprintf(`{"content":"hi","clientMessageId":"1","metadata":{"a":1},"mentions":{"userIds":[%q,%q]}}`, users[2], users[1])
	m, repeated, err := p.messages.Send(t.Context(), group, users[0], draft(t, body))
	if err != nil || repeated {
		t.Fatal(err)
	}
	want := slices.Sorted(slices.Values(users[1:3]))
	if string(m.Metadata) != `{"a":1}` || !slices.Equal(m.Mentions.UserIDs, want) {
		t.Errorf("sent %+v", m.Extras)
	}
	read, err := p.messages.Get(t.Context(), m.ID, users[1])
	if err != nil || strings.ReplaceAll(string(read.Metadata), " ", "") != `{"a":1}` || !slices.Equal(read.Mentions.UserIDs, want) {
		t.Errorf("read %+v, %v", read.Extras, err)
	}
	if n := p.mentions(t, group); n != 2 {
		t.Errorf("%d rows of mentions", n)
	}
	if again, repeated, err := p.messages.Send(t.Context(), group, users[0], draft(t, body)); err != nil || !repeated || again.ID != m.ID {
		t.Errorf("a repeated send: %v, %v", repeated, err)
	}
	if _, _, err := p.messages.Send(t.Context(), group, users[0], draft(t, `{"content":"hi","clientMessageId":"1"}`)); !errors.Is(err, message.ErrClientMessageIDReused) {
		t.Errorf("the same id without the extras: %v", err)
	}
	_, _, err = p.messages.Send(t.Context(), group, users[0], draft(t, fmt.Sprintf(`{"content":"hi","mentions":{"userIds":[%q]}}`, users[3])))
	var faults *invalid.Faults
	if !errors.As(err, &faults) {
		t.Errorf("a mention of a stranger: %v", err)
	}
	if err := p.messages.Delete(t.Context(), m.ID, users[0]); err != nil {
		t.Fatal(err)
	}
	gone, err := p.messages.Get(t.Context(), m.ID, users[1])
	if err != nil || gone.Metadata != nil || gone.Mentions != nil || p.mentions(t, group) != 0 {
		t.Errorf("a deleted message has %+v, %v", gone.Extras, err)
	}
}

func TestAllOfALargeGroupIsMentionedByAdminsAlone(t *testing.T) {
	t.Parallel()
	p := newPod(t, testenv.Postgres(t))
	users := testenv.Users(t, p.db.SQL, 101)
	group := p.group(t, users...)
	all := `{"content":"hi","mentions":{"all":true}}`
	if _, _, err := p.messages.Send(t.Context(), group, users[1], draft(t, all)); !errors.Is(err, message.ErrMentionAll) {
		t.Errorf("a member mentions all of 101: %v", err)
	}
	m, _, err := p.messages.Send(t.Context(), group, users[0], draft(t, all))
	if err != nil || !m.Mentions.All || p.mentions(t, group) != 1 {
		t.Errorf("the owner: %+v, %v", m.Extras, err)
	}
}

func TestEditsChangeWhatTheyName(t *testing.T) {
	t.Parallel()
	p := newPod(t, testenv.Postgres(t))
	users := testenv.Users(t, p.db.SQL, 3)
	group := p.group(t, users...)
	m, _, err := p.messages.Send(t.Context(), group, users[0], draft(t, `{"content":"hi","metadata":{"a":1,"b":{"c":2}}}`))
	if err != nil {
		t.Fatal(err)
	}
	change := func(body string) (chat.Message, error) {
		return p.messages.Edit(t.Context(), m.ID, users[0], edit(t, body))
	}
	got, err := change(`{"metadata":{"a":null,"b":{"d":3}}}`)
	if err != nil || got.EditedAt != nil || strings.ReplaceAll(string(got.Metadata), " ", "") != `{"b":{"c":2,"d":3}}` || got.Content != "hi" {
		t.Errorf("metadata alone: %+v, %v", got, err)
	}
	first := got.Revision
	got, err = change(`{"content":"ho"}`)
	if err != nil || got.EditedAt == nil || got.Content != "ho" || got.Metadata == nil {
		t.Errorf("content alone: %+v, %v", got, err)
	}
	if _, err := change(fmt.Sprintf(`{"content":"x","ifRevision":%d}`, first)); !errors.Is(err, message.ErrRevisionMismatch) {
		t.Errorf("an old ifRevision: %v", err)
	}
	held := got.Revision
	p.react(t, m.ID, users[1], "👍", true)
	p.send(t, group, users[1], "meanwhile")
	got, err = change(fmt.Sprintf(`{"mentions":{"userIds":[%q]},"metadata":null,"ifRevision":%d}`, users[1], held))
	if err != nil || got.Metadata != nil || len(got.Mentions.UserIDs) != 1 || len(got.Reactions) != 1 || p.mentions(t, group) != 1 {
		t.Errorf("after a reaction and a send: %+v, %v", got, err)
	}
	got, err = change(`{"mentions":null}`)
	if err != nil || got.Mentions != nil || p.mentions(t, group) != 0 {
		t.Errorf("mentions cleared: %+v, %v", got, err)
	}
}

func TestPins(t *testing.T) {
	t.Parallel()
	p := newPod(t, testenv.Postgres(t))
	users := testenv.Users(t, p.db.SQL, 3)
	group := p.group(t, users...)
	var all []chat.Message
	for range 51 {
		all = append(all, p.send(t, group, users[1], "x"))
	}
	if _, err := p.messages.Pin(t.Context(), all[0].ID, users[1], true); !errors.Is(err, message.ErrPinForbidden) {
		t.Errorf("a member pins: %v", err)
	}
	for i, m := range all {
		got, err := p.messages.Pin(t.Context(), m.ID, users[0], true)
		if i == 50 {
			if !errors.Is(err, message.ErrTooManyPins) {
				t.Errorf("a 51st pin: %v", err)
			}
			break
		}
		if err != nil || got.PinnedAt == nil || *got.PinnedByID != users[0] {
			t.Fatalf("%+v, %v", got, err)
		}
	}
	if again, err := p.messages.Pin(t.Context(), all[0].ID, users[0], true); err != nil || again.PinnedAt == nil {
		t.Errorf("pinned again: %v", err)
	}
	page, err := p.messages.Pins(t.Context(), group, users[2], nil, 2)
	if err != nil || len(page.Messages) != 2 || !page.HasMore || page.Messages[0].ID != all[49].ID {
		t.Errorf("%+v, %v", page, err)
	}
	if err := p.messages.Delete(t.Context(), all[49].ID, users[1]); err != nil {
		t.Fatal(err)
	}
	if got, err := p.messages.Pin(t.Context(), all[48].ID, users[0], false); err != nil || got.PinnedAt != nil {
		t.Errorf("%+v, %v", got, err)
	}
	page, err = p.messages.Pins(t.Context(), group, users[2], nil, 100)
	if err != nil || len(page.Messages) != 48 {
		t.Errorf("%d pins are left, %v", len(page.Messages), err)
	}
}

func TestAround(t *testing.T) {
	t.Parallel()
	p := newPod(t, testenv.Postgres(t))
	users := testenv.Users(t, p.db.SQL, 3)
	group := p.group(t, users...)
	var all []chat.Message
	for range 10 {
		all = append(all, p.send(t, group, users[0], "x"))
	}
	for _, c := range []struct {
		middle, limit int
		first, last   int64
		more, newer   bool
	}{
		{5, 5, 7, 3, true, true}, {1, 5, 3, 1, false, true}, {10, 5, 10, 8, true, false}, {5, 1, 5, 5, true, true}, {5, 100, 10, 1, false, false}, {5, 2, 5, 4, true, true},
	} {
		page, err := p.messages.Around(t.Context(), group, users[1], all[c.middle-1].ID, c.limit)
		if err != nil {
			t.Fatal(err)
		}
		first, last := page.Messages[0].Seq, page.Messages[len(page.Messages)-1].Seq
		if first != c.first || last != c.last || page.HasMore != c.more || page.HasNewer != c.newer {
			t.Errorf("around %d with %d: %d to %d, more %v, newer %v", c.middle, c.limit, first, last, page.HasMore, page.HasNewer)
		}
	}
}
