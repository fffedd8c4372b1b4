package message_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/parley-chat/parley/internal/chat"
	"github.com/parley-chat/parley/internal/conversation"
	"github.com/parley-chat/parley/internal/cursor"
	"github.com/parley-chat/parley/internal/event"
	"github.com/parley-chat/parley/internal/invalid"
	"github.com/parley-chat/parley/internal/message"
	"github.com/parley-chat/parley/internal/testenv"
)

func (p *pod) react(t testing.TB, messageID, user, reaction string, added bool) message.ReactionResult {
	t.Helper()
	r, err := p.messages.React(t.Context(), messageID, user, reaction, added)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestReactionsAreCountedInTheOrderOfTheirFirstUse(t *testing.T) {
	t.Parallel()
	p := newPod(t, testenv.Postgres(t))
	users := testenv.Users(t, p.db.SQL, 3)
	group := p.group(t, users...)
	m := p.send(t, group, users[0], "hello")

	p.react(t, m.ID, users[1], "👍", true)
	p.react(t, m.ID, users[1], "🎉", true)
	r := p.react(t, m.ID, users[2], "👍", true)
	if want := []chat.Reaction{{Reaction: "👍", Count: 2}, {Reaction: "🎉", Count: 1}}; !slices.Equal(r.Reactions, want) || !slices.Equal(r.Mine, []string{"👍"}) {
		t.Fatalf("got %+v", r)
	}
	if again := p.react(t, m.ID, users[2], "👍", true); again.Revision != r.Revision || !slices.Equal(again.Reactions, r.Reactions) {
		t.Errorf("a repeated reaction changed something: %+v after %+v", again, r)
	}
	p.react(t, m.ID, users[1], "👍", false)
	p.react(t, m.ID, users[2], "👍", false)
	r = p.react(t, m.ID, users[2], "👍", true)
	if want := []chat.Reaction{{Reaction: "🎉", Count: 1}, {Reaction: "👍", Count: 1}}; !slices.Equal(r.Reactions, want) {
		t.Errorf("got %+v, want %+v", r.Reactions, want)
	}

	seen, err := p.messages.Get(t.Context(), m.ID, users[1])
	if err != nil || !slices.Equal(seen.Mine, []string{"🎉"}) || !slices.Equal(seen.Reactions, r.Reactions) || seen.Revision != r.Revision {
		t.Errorf("the message reads %+v, %v", seen, err)
	}
	if seen.EditedAt != nil {
		t.Error("a reaction counts as an edit")
	}
	if n := p.published.count(event.TypeMessageReacted); n != 6 {
		t.Errorf("%d events for 6 changes", n)
	}
}

func TestReactionsAreRefused(t *testing.T) {
	t.Parallel()
	p := newPod(t, testenv.Postgres(t))
	users := testenv.Users(t, p.db.SQL, 4)
	group := p.group(t, users[:3]...)
	direct := p.direct(t, users[0], users[1])
	m, d := p.send(t, group, users[0], "hello"), p.send(t, direct, users[0], "hello")
	gone := p.send(t, group, users[0], "gone")
	if err := p.messages.Delete(t.Context(), gone.ID, users[0]); err != nil {
		t.Fatal(err)
	}
	if _, err := p.db.SQL.Exec(`INSERT INTO blocks (user_id, blocked_id) VALUES ($1, $2)`, users[0], users[1]); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		message, user string
		want          error
	}{
		"a stranger":       {m.ID, users[3], message.ErrNotFound},
		"an unknown one":   {group, users[0], message.ErrNotFound},
		"a deleted one":    {gone.ID, users[1], message.ErrDeleted},
		"who is blocked":   {d.ID, users[1], message.ErrCannotMessage},
		"who blocks":       {d.ID, users[0], message.ErrCannotMessage},
		"a block in group": {m.ID, users[1], nil},
	} {
		if _, err := p.messages.React(t.Context(), c.message, c.user, "👍", true); !errors.Is(err, c.want) {
			t.Errorf("%s: got %v, want %v", name, err, c.want)
		}
	}
}

func TestReactionsAreBounded(t *testing.T) {
	t.Parallel()
	p := newPod(t, testenv.Postgres(t))
	users := testenv.Users(t, p.db.SQL, 4)
	group := p.group(t, users...)
	m := p.send(t, group, users[0], "hello")
	set := func(user, n int) (ok int) {
		var wait sync.WaitGroup
		var mu sync.Mutex
		for i := range n {
			wait.Go(func() {
				_, err := p.messages.React(t.Context(), m.ID, users[user], fmt.Sprintf("r%d-%d", user, i), true)
				mu.Lock()
				defer mu.Unlock()
				if err == nil {
					ok++
				} else if !errors.Is(err, message.ErrTooManyReactions) {
					t.Error(err)
				}
			})
		}
		wait.Wait()
		return ok
	}
	if n := set(0, 12); n != 10 {
		t.Errorf("a user gave %d reactions", n)
	}
	if n := set(1, 9); n != 9 {
		t.Errorf("another gave %d", n)
	}
	if n := set(2, 3); n != 1 {
		t.Errorf("%d of 3 fit where one of 20 was left", n)
	}
	if r := p.react(t, m.ID, users[3], "r0-0", true); len(r.Reactions) != 20 {
		// Any of the first ten may have been refused instead: then there is room for none.
		t.Logf("r0-0 was one of the two refused: %+v", r)
	}
}

// A crowd reacts over two pods: the counts are exact, and there are few revisions.
func TestACrowdSharesCommits(t *testing.T) {
	t.Parallel()
	url := testenv.Postgres(t)
	pods := []*pod{newPod(t, url), newPod(t, url)}
	users := testenv.Users(t, pods[0].db.SQL, 300)
	group := pods[0].group(t, users...)
	m := pods[0].send(t, group, users[0], "hello")
	before := m.Revision
	var wait sync.WaitGroup
	for i, u := range users {
		wait.Go(func() {
			if _, err := pods[i%2].messages.React(context.Background(), m.ID, u, []string{"👍", "🎉", "❤"}[i%3], true); err != nil {
				t.Error(err)
			}
		})
	}
	wait.Wait()
	seen, err := pods[1].messages.Get(t.Context(), m.ID, users[0])
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range seen.Reactions {
		if r.Count != 100 {
			t.Errorf("%s has %d of 100", r.Reaction, r.Count)
		}
	}
	published := pods[0].published.count(event.TypeMessageReacted) + pods[1].published.count(event.TypeMessageReacted)
	if n := int(seen.Revision - before); n != published || n > 100 {
		t.Errorf("%d revisions and %d events for 300 reactions", n, published)
	}
}

func TestSyncAndReplayShowReactions(t *testing.T) {
	t.Parallel()
	p := newPod(t, testenv.Postgres(t))
	users := testenv.Users(t, p.db.SQL, 3)
	group := p.group(t, users...)
	m := p.send(t, group, users[0], "hello")
	p.react(t, m.ID, users[1], "👍", true)
	last := p.react(t, m.ID, users[2], "👍", true)

	missed, err := p.feed.After(t.Context(), group, m.Revision, 10)
	if err != nil || len(missed.Events) != 2 {
		t.Fatalf("%+v, %v", missed, err)
	}
	data, ok := missed.Events[1].Data.(*event.MessageReactions)
	if !ok || data.Revision != last.Revision || !slices.Equal(data.Reactions, last.Reactions) || len(data.By) != 1 || data.By[0].UserID != users[2] {
		t.Errorf("replayed as %+v", missed.Events[1].Data)
	}
	answer, err := p.sync.Sync(t.Context(), users[1], &message.SyncRequest{Conversations: map[string]int64{group: m.Revision}})
	if err != nil {
		t.Fatal(err)
	}
	part := answer.Conversations[group]
	if len(part.Messages) != 1 || !strings.Contains(string(part.Messages[0]), `"reactions":[{"reaction":"👍","count":2}],"mine":["👍"]`) {
		t.Errorf("sync returned %s", part.Messages)
	}
}

func TestReactionsAreListed(t *testing.T) {
	t.Parallel()
	p := newPod(t, testenv.Postgres(t))
	users := testenv.Users(t, p.db.SQL, 3)
	group := p.group(t, users...)
	m := p.send(t, group, users[0], "hello")
	for _, r := range []string{"a", "b", "c"} {
		for _, u := range users {
			p.react(t, m.ID, u, r, true)
		}
	}
	if _, err := p.db.SQL.Exec(`UPDATE message_reactions SET created_at = '2026-01-01'`); err != nil {
		t.Fatal(err)
	}
	var all []string
	var at *cursor.Labelled
	for {
		page, more, err := p.messages.Reactions(t.Context(), m.ID, users[0], "", at, 2)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range page {
			all = append(all, r.User.ID+r.Reaction)
		}
		if !more {
			break
		}
		last := page[len(page)-1]
		next, err := cursor.DecodeLabelled(cursor.EncodeLabelled(cursor.Labelled{Position: cursor.Position{Time: last.CreatedAt.Time, ID: last.User.ID}, Label: last.Reaction}))
		if err != nil {
			t.Fatal(err)
		}
		at = &next
	}
	if slices.Sort(all); len(all) != 9 || len(slices.Compact(all)) != 9 {
		t.Errorf("pages have %v", all)
	}
	only, _, err := p.messages.Reactions(t.Context(), m.ID, users[0], "b", nil, 10)
	if err != nil || len(only) != 3 {
		t.Errorf("%d of one reaction, %v", len(only), err)
	}
}

func TestCheckReaction(t *testing.T) {
	t.Parallel()
	for in, valid := range map[string]bool{"👍": true, "+1": true, "": false, "a b": false, "\t": false, "\x00": false,
		strings.Repeat("x", 32): true, strings.Repeat("x", 33): false, "\u00a0": false, "e\u0301": true} {
		var f invalid.Faults
		v := in
		message.CheckReaction(&f, "reaction", &v)
		if (f.Err() == nil) != valid {
			t.Errorf("%q: %v", in, f.Err())
		}
		if in == "e\u0301" && v != "é" {
			t.Errorf("%q is not normalised", v)
		}
	}
}

// A viewer finds their own reactions in the last message of a conversation too, and nobody else does.
func TestTheLastMessageHasTheViewersReactions(t *testing.T) {
	t.Parallel()
	p := newPod(t, testenv.Postgres(t))
	users := testenv.Users(t, p.db.SQL, 2)
	group := p.group(t, users...)
	m := p.send(t, group, users[0], "hello")
	p.react(t, m.ID, users[0], "👍", true)
	for i, want := range [][]string{{"👍"}, nil} {
		one, err := p.conversations.Get(t.Context(), group, users[i])
		if err != nil || !slices.Equal(one.LastMessage.Mine, want) {
			t.Errorf("read by %d: %v, %v", i, one.LastMessage.Mine, err)
		}
		list, _, err := p.conversations.List(t.Context(), users[i], conversation.Selection{Filter: conversation.FilterDefault}, nil, 10)
		if err != nil || !slices.Equal(list[0].LastMessage.Mine, want) {
			t.Errorf("listed for %d: %v, %v", i, list[0].LastMessage.Mine, err)
		}
	}
	renamed, err := p.conversations.Update(t.Context(), group, users[0], decoded[conversation.Patch](t, `{"name":"another"}`))
	if err != nil || !slices.Equal(renamed.LastMessage.Mine, []string{"👍"}) {
		t.Errorf("renamed: %v, %v", renamed.LastMessage.Mine, err)
	}
	shown, ok := p.published.last().Data.(*chat.Conversation)
	if !ok || shown.LastMessage.Mine != nil || shown.LastMessage.ID != m.ID {
		t.Errorf("published: %+v", p.published.last())
	}
}
