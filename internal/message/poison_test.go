package message_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/parley-chat/parley/internal/event"
	"github.com/parley-chat/parley/internal/invalid"
	"github.com/parley-chat/parley/internal/message"
	"github.com/parley-chat/parley/internal/testenv"
)

// poison is a send that can't be stored, among others in one batch. before is done while the batch waits.
type poison struct {
	conversation, sender string
	draft                message.Draft
	before               []string
	refused              func(error) bool
}

func is(want error) func(error) bool { return func(err error) bool { return errors.Is(err, want) } }

// What is wrong with one send of a batch is nobody else's concern: it fails alone, in its place, and leaves no gap.
func TestAPoisonedSendFailsAlone(t *testing.T) {
	t.Parallel()
	p := newPod(t, testenv.Postgres(t))
	u := testenv.Users(t, p.db.SQL, 5)
	taken := message.Draft{Content: "the first", ClientMessageID: ptr("taken")}
	var used event.Message
	for name, poisonOf := range map[string]func(c, other string) poison{
		"a stranger's": func(c, _ string) poison {
			return poison{conversation: c, sender: u[4], refused: is(message.ErrConversationNotFound)}
		},
		"of a member who was removed meanwhile": func(c, _ string) poison {
			return poison{conversation: c, sender: u[2], refused: is(message.ErrConversationNotFound), before: []string{
				fmt.Sprintf(`DELETE FROM conversation_members WHERE conversation_id = '%s' AND user_id = '%s'`, c, u[2])}}
		},
		"to a conversation that went meanwhile": func(_, other string) poison {
			return poison{conversation: other, sender: u[0], refused: is(message.ErrConversationNotFound), before: []string{
				fmt.Sprintf(`DELETE FROM conversation_members WHERE conversation_id = '%s'`, other),
				fmt.Sprintf(`DELETE FROM messages WHERE conversation_id = '%s'`, other),
				fmt.Sprintf(`DELETE FROM conversation_changes WHERE conversation_id = '%s'`, other),
				fmt.Sprintf(`DELETE FROM conversations WHERE id = '%s'`, other)}}
		},
		"across a block that came meanwhile": func(c, _ string) poison {
			blocker := testenv.User(t, p.db.SQL)
			direct := p.direct(t, u[0], blocker)
			for !p.committer.SameLane(c, direct) {
				blocker = testenv.User(t, p.db.SQL)
				direct = p.direct(t, u[0], blocker)
			}
			return poison{conversation: direct, sender: u[0], refused: is(message.ErrCannotMessage), before: []string{
				fmt.Sprintf(`INSERT INTO blocks (user_id, blocked_id) VALUES ('%s', '%s')`, blocker, u[0])}}
		},
		"a reply to nothing": func(c, _ string) poison {
			return poison{conversation: c, sender: u[0], draft: message.Draft{ReplyToID: ptr(c)}, refused: func(err error) bool {
				f, ok := errors.AsType[*invalid.Faults](err)
				return ok && f.Has("replyToId")
			}}
		},
		"of a clientMessageId that another message has": func(c, _ string) poison {
			return poison{conversation: c, sender: u[0], draft: message.Draft{ClientMessageID: ptr("taken")}, refused: is(message.ErrClientMessageIDReused)}
		},
		"repeated": func(c, _ string) poison {
			return poison{conversation: c, sender: u[0], draft: taken, refused: is(nil)}
		},
		"that Postgres can't hold": func(c, _ string) poison {
			return poison{conversation: c, sender: u[0], draft: message.Draft{Content: "a\x00b"}, refused: unknown}
		},
		"to a conversation whose numbers are wrong": func(_, other string) poison {
			return poison{conversation: other, sender: u[0], refused: unknown, before: []string{
				fmt.Sprintf(`UPDATE conversations SET last_seq = 0 WHERE id = '%s'`, other)}}
		},
	} {
		t.Run(name, func(t *testing.T) {
			c, other := p.group(t, u[:4]...), p.group(t, u[:4]...)
			for !p.committer.SameLane(c, other) {
				other = p.group(t, u[:4]...)
			}
			p.send(t, other, u[0], "the first there")
			var err error
			if used, _, err = p.messages.Send(t.Context(), c, u[0], &taken); err != nil {
				t.Fatal(err)
			}
			p.poisoned(t, c, u[1], poisonOf(c, other))
			if m := p.send(t, c, u[1], "next"); m.Seq != used.Seq+32 {
				t.Errorf("the next message has seq %d", m.Seq)
			}
		})
	}
}

// unknown are errors that are nobody's fault but ours.
func unknown(err error) bool {
	return err != nil && !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, message.ErrConversationNotFound)
}

// poisoned has one commit wait, so that thirty good sends and the poisoned one in their middle are in the next.
func (p *pod) poisoned(t *testing.T, c, sender string, x poison) {
	t.Helper()
	if x.draft.Content == "" {
		x.draft.Content = "poison"
	}
	tx, err := p.db.SQL.Begin()
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	defer func() { _ = tx.Rollback() }()
	if _, err := tx.Exec(`SELECT FROM conversations WHERE id = $1 FOR UPDATE`, c); err != nil {
		t.Fatal(err)
	}
	seqs := make([]int64, 31)
	send := func(i int) {
		wg.Go(func() {
			m, _, err := p.messages.Send(context.Background(), c, sender, &message.Draft{Content: fmt.Sprint(i)})
			if seqs[i] = m.Seq; err != nil {
				t.Errorf("good send %d: %v", i, err)
			}
		})
	}
	send(0)
	waitsForALock(t, p.db.SQL)
	waiting := 0
	for i := 1; i <= 30; i++ {
		if i == 16 {
			wg.Go(func() {
				if _, _, err := p.messages.Send(context.Background(), x.conversation, x.sender, &x.draft); !x.refused(err) {
					t.Errorf("the poisoned send: %v", err)
				}
			})
			waiting++
			p.queued(t, waiting)
		}
		send(i)
		waiting++
		p.queued(t, waiting)
	}
	for _, query := range x.before {
		if _, err := tx.Exec(query); err != nil {
			t.Fatal(err)
		}
	}
	if err := tx.Commit(); err != nil {
		t.Fatal(err)
	}
	wg.Wait()
	for i, seq := range seqs {
		if seq != int64(i)+2 {
			t.Errorf("good send %d has seq %d", i, seq)
		}
	}
}

func (p *pod) queued(t *testing.T, n int) {
	t.Helper()
	testenv.Eventually(t, 5*time.Second, func() bool { return p.committer.Waiting() == n }, "%d sends wait", n)
}
