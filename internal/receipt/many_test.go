package receipt_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/parley-chat/parley/internal/id"
	"github.com/parley-chat/parley/internal/jsonbody"
	"github.com/parley-chat/parley/internal/receipt"
	"github.com/parley-chat/parley/internal/testenv"
)

// marked is how far a user has read each of the conversations, in Postgres or by what is pending in Redis.
func (e *env) marked(userID string, conversations []string) (out []int64) {
	e.t.Helper()
	pending := receipt.NewPending(e.rdb).Markers(e.t.Context(), userID)
	for _, c := range conversations {
		var seq int64
		if err := e.db.SQL.QueryRow(`SELECT last_read_seq FROM conversation_members WHERE conversation_id = $1 AND user_id = $2`, c, userID).Scan(&seq); err != nil {
			e.t.Fatal(err)
		}
		out = append(out, max(seq, pending[c].Seq))
	}
	return out
}

// One request marks several conversations or all of them, a group's up to its message, and each with its receipt.
func TestManyConversationsAreMarkedAtOnce(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	reader := testenv.User(t, e.db.SQL)
	var conversations []string
	var sent [][]string
	for _, typ := range []string{"direct", "group", "group"} {
		c, _, messages := fixture(t, e.db.SQL, typ, 3, 4)
		e.exec(`INSERT INTO conversation_members (conversation_id, user_id, role) VALUES ($1, $2, 'member')`, c, reader)
		conversations, sent = append(conversations, c), append(sent, messages)
		e.exec(`UPDATE conversations SET last_message_id = $2 WHERE id = $1`, c, messages[3])
	}
	is := func(when string, want ...int64) {
		t.Helper()
		if got := e.marked(reader, conversations); fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%s the markers are %v, want %v", when, got, want)
		}
	}
	named := map[string]string{conversations[0]: sent[0][1], conversations[1]: sent[1][2]}
	if err := e.service.ReadMany(t.Context(), reader, &receipt.ReadMany{Conversations: named}); err != nil {
		t.Fatal(err)
	}
	is("after two were named", 2, 3, 0)

	wrong := map[string]string{conversations[0]: sent[1][0], conversations[2]: sent[2][0]}
	if err := e.service.ReadMany(t.Context(), reader, &receipt.ReadMany{Conversations: wrong}); !errors.Is(err, receipt.ErrNotFound) {
		t.Errorf("a message of another conversation: %v", err)
	}
	is("after one of two was wrong", 2, 3, 1)
	if err := e.service.ReadUpTo(t.Context(), reader, conversations[1], &receipt.UpTo{UpToMessageID: sent[0][0]}); !errors.Is(err, receipt.ErrNotFound) {
		t.Errorf("a message of another conversation alone: %v", err)
	}

	if err := e.service.ReadMany(t.Context(), reader, &receipt.ReadMany{All: true}); err != nil {
		t.Fatal(err)
	}
	is("after all", 4, 4, 4)
	e.flush(e.flusher())
	e.empty()
	is("after the flush", 4, 4, 4)
	if n := e.count(`SELECT count(*) FROM read_receipts`); n != 6 { // one for each marker that moved
		t.Errorf("%d receipts, want 6", n)
	}
	held, err := receipt.NewPending(e.rdb).MarkersAt(t.Context(), conversations[1], []string{reader})
	if err != nil || len(held) != 1 || held[0].Seq != 0 {
		t.Errorf("pending is %+v, %v", held, err)
	}
}

// What is pending of several members of a group is read at once.
func TestPendingMarkersOfAGroup(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	c, users, messages := fixture(t, e.db.SQL, "group", 4, 3)
	e.read(users[1], messages[2])
	e.read(users[2], messages[0])
	p := receipt.NewPending(e.rdb)
	held, err := p.MarkersAt(t.Context(), c, users)
	if err != nil || len(held) != 4 {
		t.Fatalf("%+v, %v", held, err)
	}
	for i, want := range []int64{0, 3, 1, 0} {
		if held[i].Seq != want {
			t.Errorf("user %d has read up to %d by what is pending, want %d", i, held[i].Seq, want)
		}
	}
	e.server.Stop()
	if got := p.Markers(t.Context(), users[1]); got != nil {
		t.Errorf("without Redis: %v", got)
	}
	if _, err := p.MarkersAt(t.Context(), c, users); err == nil {
		t.Error("no error without Redis")
	}
}

func TestFaultsOfMarks(t *testing.T) {
	t.Parallel()
	many := make([]string, 101)
	for i := range many {
		many[i] = fmt.Sprintf("%q:%q", id.New(), id.New())
	}
	for body, field := range map[string]string{
		`{}`: "conversations", `{"all":false}`: "conversations", `{"all":true,"conversations":{"` + id.New() + `":"` + id.New() + `"}}`: "all",
		`{"conversations":{"x":"` + id.New() + `"}}`: "conversations", `{"conversations":{"` + id.New() + `":"x"}}`: "conversations",
		`{"conversations":{` + strings.Join(many, ",") + `}}`: "conversations",
	} {
		if err := jsonbody.Decode([]byte(body), &receipt.ReadMany{}); err == nil || !strings.Contains(err.Error(), field) {
			t.Errorf("%.80s: %v, want a fault of %s", body, err, field)
		}
	}
	if err := jsonbody.Decode([]byte(`{"upToMessageId":"x"}`), &receipt.UpTo{}); err == nil || !strings.Contains(err.Error(), "upToMessageId") {
		t.Errorf("got %v", err)
	}
}
