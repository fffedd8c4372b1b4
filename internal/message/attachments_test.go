package message_test

import (
	"encoding/json"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/parley-chat/parley/internal/chat"
	"github.com/parley-chat/parley/internal/id"
	"github.com/parley-chat/parley/internal/invalid"
	"github.com/parley-chat/parley/internal/jsonbody"
	"github.com/parley-chat/parley/internal/message"
	"github.com/parley-chat/parley/internal/testenv"
)

// file makes an uploaded file of the owner's in a state.
func (p *pod) file(t testing.TB, owner, state string) string {
	t.Helper()
	f := id.New()
	_, err := p.db.SQL.Exec(`INSERT INTO attachments (id, owner_id, state, filename, content_type, size, width, height, upload_expires_at)
		VALUES ($1, $2, $3, 'cat "1".png', 'image/png', 40, 3, 4, now())`, f, owner, state)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// holder is the message that has a file, "" for none.
func (p *pod) holder(t testing.TB, file string) (m string) {
	t.Helper()
	if err := p.db.SQL.QueryRow(`SELECT coalesce(message_id::text, '') FROM attachments WHERE id = $1`, file).Scan(&m); err != nil {
		t.Fatal(err)
	}
	return m
}

func TestAMessageTakesFiles(t *testing.T) {
	t.Parallel()
	p := newPod(t, testenv.Postgres(t))
	users := testenv.Users(t, p.db.SQL, 3)
	c := p.group(t, users...)
	a, b := p.file(t, users[0], "ready"), p.file(t, users[0], "ready")
	draft := &message.Draft{ClientMessageID: ptr("c-1"), Attachments: []string{b, a}}
	m, repeated, err := p.messages.Send(t.Context(), c, users[0], draft)
	if err != nil || repeated || len(m.Attachments) != 2 || m.Attachments[0].ID != b || m.Attachments[1].ID != a {
		t.Fatalf("sent: %+v, %t, %v", m, repeated, err)
	}
	want := `"attachments":[{"id":"` + b + `","filename":"cat \"1\".png","contentType":"image/png","size":40,"width":3,"height":4},`
	if encoded, err := json.Marshal(m); err != nil || !strings.Contains(string(encoded), want) {
		t.Errorf("encoded as %s, %v", encoded, err)
	}
	if p.holder(t, a) != m.ID || p.holder(t, b) != m.ID {
		t.Error("the files are not the message's")
	}
	page, err := p.messages.History(t.Context(), c, users[1], nil, 10)
	if err != nil || len(page.Messages[0].Attachments) != 2 || page.Messages[0].Attachments[0] != m.Attachments[0] {
		t.Errorf("history has %+v, %v", page.Messages, err)
	}

	again, repeated, err := p.messages.Send(t.Context(), c, users[0], draft)
	if err != nil || !repeated || again.ID != m.ID || len(again.Attachments) != 2 {
		t.Errorf("repeated: %+v, %t, %v", again, repeated, err)
	}
	for _, other := range [][]string{{a, b}, {b}, nil} {
		d := &message.Draft{Content: "", ClientMessageID: ptr("c-1"), Attachments: other}
		if _, _, err := p.messages.Send(t.Context(), c, users[0], d); !errors.Is(err, message.ErrClientMessageIDReused) {
			t.Errorf("the same clientMessageId with %v: %v", other, err)
		}
	}
	if err := p.messages.Delete(t.Context(), m.ID, users[0]); err != nil {
		t.Fatal(err)
	}
	page, err = p.messages.History(t.Context(), c, users[1], nil, 10)
	if err != nil || page.Messages[0].Attachments != nil {
		t.Errorf("deleted it has %+v, %v", page.Messages[0].Attachments, err)
	}
	var removed int
	if err := p.db.SQL.QueryRow(`SELECT count(*) FROM attachments WHERE state = 'removed' AND message_id = $1`, m.ID).Scan(&removed); err != nil || removed != 2 {
		t.Errorf("%d files are to be removed, %v", removed, err)
	}
}

func TestOnlyOnesOwnUnsentFilesAreTaken(t *testing.T) {
	t.Parallel()
	p := newPod(t, testenv.Postgres(t))
	users := testenv.Users(t, p.db.SQL, 3)
	c := p.group(t, users...)
	good, used := p.file(t, users[0], "ready"), p.file(t, users[0], "ready")
	if _, _, err := p.messages.Send(t.Context(), c, users[0], &message.Draft{Attachments: []string{used}}); err != nil {
		t.Fatal(err)
	}
	for name, bad := range map[string]string{
		"pending": p.file(t, users[0], "pending"), "rejected": p.file(t, users[0], "rejected"), "removed": p.file(t, users[0], "removed"),
		"another's": p.file(t, users[1], "ready"), "unknown": id.New(), "sent": used,
	} {
		for _, key := range []*string{nil, ptr(name)} {
			_, _, err := p.messages.Send(t.Context(), c, users[0], &message.Draft{Content: "x", ClientMessageID: key, Attachments: []string{good, bad}})
			if f, ok := errors.AsType[*invalid.Faults](err); !ok || !f.Has("attachments") {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
	if p.holder(t, good) != "" {
		t.Error("a refused message took a file")
	}
	if m, _, err := p.messages.Send(t.Context(), c, users[0], &message.Draft{Attachments: []string{good}}); err != nil || m.Seq != 2 {
		t.Errorf("afterwards: %+v, %v", m, err)
	}
}

// Two pods send one file at once: one message has it, and a send that repeats the same clientMessageId is that message.
func TestAFileIsSentOnce(t *testing.T) {
	t.Parallel()
	url := testenv.Postgres(t)
	pods := []*pod{newPod(t, url), newPod(t, url)}
	users := testenv.Users(t, pods[0].db.SQL, 3)
	conversations := []string{pods[0].group(t, users...), pods[0].group(t, users...)}
	for round := range 20 {
		f := pods[0].file(t, users[0], "ready")
		var mu sync.Mutex
		sent, refused := map[string]bool{}, 0
		var wg sync.WaitGroup
		for i := range 8 {
			wg.Go(func() {
				d := &message.Draft{Attachments: []string{f}}
				to := conversations[i%2]
				if round%2 == 0 { // all of them are one send
					d.ClientMessageID, to = ptr("c"+f), conversations[0]
				}
				m, _, err := pods[i/2%2].messages.Send(t.Context(), to, users[0], d)
				mu.Lock()
				defer mu.Unlock()
				if _, ok := errors.AsType[*invalid.Faults](err); ok {
					refused++
				} else if err != nil {
					t.Error(err)
				} else {
					sent[m.ID] = true
				}
			})
		}
		wg.Wait()
		if len(sent) != 1 || round%2 == 0 && refused > 0 || round%2 == 1 && refused != 7 || !sent[pods[0].holder(t, f)] {
			t.Errorf("round %d: messages %v, %d refused", round, sent, refused)
		}
	}
}

// A send and its repetition on another pod wait for the conversation together: the second one's statement sees neither the first
// one's message nor the file, and is that message all the same.
func TestARepeatedSendThatWaitedWithTheFirst(t *testing.T) {
	t.Parallel()
	url := testenv.Postgres(t)
	pods := []*pod{newPod(t, url), newPod(t, url)}
	db := pods[0].db.SQL
	users := testenv.Users(t, db, 3)
	c, f := pods[0].group(t, users...), pods[0].file(t, users[0], "ready")
	tx, err := db.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(`SELECT FROM conversations WHERE id = $1 FOR UPDATE`, c); err != nil {
		t.Fatal(err)
	}
	sent := make([]chat.Message, len(pods))
	var wg sync.WaitGroup
	for i, p := range pods {
		wg.Go(func() {
			m, _, err := p.messages.Send(t.Context(), c, users[0], &message.Draft{ClientMessageID: ptr("c-1"), Attachments: []string{f}})
			if err != nil {
				t.Error(err)
			}
			sent[i] = m
		})
	}
	testenv.Eventually(t, 20*time.Second, func() bool {
		var n int
		err := db.QueryRow(`SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`).Scan(&n)
		return err == nil && n == len(pods)
	}, "both statements wait")
	if err := tx.Rollback(); err != nil {
		t.Fatal(err)
	}
	wg.Wait()
	if sent[0].ID != sent[1].ID || len(sent[0].Attachments) != 1 || len(sent[1].Attachments) != 1 {
		t.Errorf("sent: %+v", sent)
	}
}

func TestADraftsFilesAreChecked(t *testing.T) {
	t.Parallel()
	a := id.New()
	many := make([]string, 11)
	for i := range many {
		many[i] = id.New()
	}
	for _, c := range []struct {
		d      message.Draft
		fields string
	}{
		{message.Draft{Attachments: []string{a}}, ""},
		{message.Draft{Content: "x", Attachments: many[:10]}, ""},
		{message.Draft{}, "content"},
		{message.Draft{Content: " ", Attachments: []string{a}}, "content"},
		{message.Draft{Attachments: []string{}}, "content"},
		{message.Draft{Attachments: []string{a, a}}, "attachments"},
		{message.Draft{Attachments: []string{"x"}}, "attachments"},
		{message.Draft{Attachments: many}, "attachments"},
	} {
		var f invalid.Faults
		c.d.Check(&f)
		var fields []string
		for _, x := range f.List() {
			fields = append(fields, x.Field)
		}
		if got := strings.Join(fields, " "); got != c.fields {
			t.Errorf("%+v: faults of %q", c.d, got)
		}
	}
}

// What a feature does not use costs nothing: the statement of plain messages knows no files.
func TestAPlainSendKnowsNoFiles(t *testing.T) {
	t.Parallel()
	if q := message.SendSQL(); strings.Contains(q, "attachments") {
		t.Error(q)
	}
}

// The text of a message with files can be taken away and put back. Without files it must have some.
func TestEditingToNoText(t *testing.T) {
	t.Parallel()
	p := newPod(t, testenv.Postgres(t))
	users := testenv.Users(t, p.db.SQL, 2)
	c := p.group(t, users...)
	withFile, _, err := p.messages.Send(t.Context(), c, users[0], &message.Draft{Content: "look", Attachments: []string{p.file(t, users[0], "ready")}})
	if err != nil {
		t.Fatal(err)
	}
	plain, _, err := p.messages.Send(t.Context(), c, users[0], &message.Draft{Content: "plain"})
	if err != nil {
		t.Fatal(err)
	}
	edit := func(body string) *message.Edit {
		t.Helper()
		var e message.Edit
		if err := jsonbody.Decode([]byte(body), &e); err != nil {
			t.Fatal(err)
		}
		return &e
	}
	for name, change := range map[string]func(id string, e *message.Edit) (chat.Message, error){
		"its sender": func(id string, e *message.Edit) (chat.Message, error) {
			return p.messages.Edit(t.Context(), id, users[0], e)
		},
		"a server key": func(id string, e *message.Edit) (chat.Message, error) {
			return p.messages.EditByKey(t.Context(), id, e)
		},
	} {
		if m, err := change(withFile.ID, edit(`{"content":""}`)); err != nil || m.Content != "" || len(m.Attachments) != 1 || m.EditedAt == nil {
			t.Errorf("%s: %+v, %v", name, m, err)
		}
		if m, err := change(withFile.ID, edit(`{"content":"look"}`)); err != nil || m.Content != "look" || len(m.Attachments) != 1 {
			t.Errorf("%s: back again: %+v, %v", name, m, err)
		}
		_, err := change(plain.ID, edit(`{"content":"","metadata":{"a":1}}`))
		if f, ok := errors.AsType[*invalid.Faults](err); !ok || !f.Has("content") {
			t.Errorf("%s: a plain message: %v", name, err)
		}
		page, err := p.messages.History(t.Context(), c, users[1], nil, 1)
		if err != nil || page.Messages[0].Content != "plain" || page.Messages[0].Metadata != nil {
			t.Errorf("%s: the plain message is %+v, %v", name, page.Messages, err)
		}
	}
	if err := jsonbody.Decode([]byte(`{"content":" "}`), &message.Edit{}); err == nil {
		t.Error("white space alone is a text")
	}
}
