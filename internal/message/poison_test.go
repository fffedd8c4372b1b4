package message_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/parley-chat/parley/internal/chat"
	"github.com/parley-chat/parley/internal/invalid"
	"github.com/parley-chat/parley/internal/message"
	"github.com/parley-chat/parley/internal/testenv"
)

// poison is a send that can't be stored, among others in one batch. before makes it so.
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
	var used chat.Message
	for name, poisonOf := range map[string]func(c, other string) poison{
		"a stranger's": func(c, _ string) poison {
			return poison{conversation: c, sender: u[4], refused: is(message.ErrConversationNotFound)}
		},
		"of a member who was removed": func(c, _ string) poison {
			return poison{conversation: c, sender: u[2], refused: is(message.ErrConversationNotFound), before: []string{
				fmt.Sprintf(`DELETE FROM conversation_members WHERE conversation_id = '%s' AND user_id = '%s'`, c, u[2])}}
		},
		"to a conversation that is gone": func(_, other string) poison {
			return poison{conversation: other, sender: u[0], refused: is(message.ErrConversationNotFound), before: []string{
				fmt.Sprintf(`DELETE FROM conversation_members WHERE conversation_id = '%s'`, other),
				fmt.Sprintf(`DELETE FROM messages WHERE conversation_id = '%s'`, other),
				fmt.Sprintf(`DELETE FROM conversation_changes WHERE conversation_id = '%s'`, other),
				fmt.Sprintf(`DELETE FROM conversations WHERE id = '%s'`, other)}}
		},
		"across a block": func(_, _ string) poison {
			blocker := testenv.User(t, p.db.SQL)
			direct := p.direct(t, u[0], blocker)
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
			p.send(t, other, u[0], "the first there")
			var err error
			if used, _, err = p.messages.Send(t.Context(), c, u[0], &taken); err != nil {
				t.Fatal(err)
			}
			p.poisoned(t, c, u[1], poisonOf(c, other))
			if m := p.send(t, c, u[1], "next"); m.Seq != used.Seq+31 {
				t.Errorf("the next message has seq %d", m.Seq)
			}
		})
	}
}

// unknown are errors that are nobody's fault but ours.
func unknown(err error) bool {
	return err != nil && !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, message.ErrConversationNotFound)
}

// poisoned sends thirty good messages in one batch, with the poisoned one in their middle.
func (p *pod) poisoned(t *testing.T, c, sender string, x poison) {
	t.Helper()
	if x.draft.Content == "" {
		x.draft.Content = "poison"
	}
	for _, query := range x.before {
		if _, err := p.db.SQL.Exec(query); err != nil {
			t.Fatal(err)
		}
	}
	var batch []message.Together
	for i := range 30 {
		if i == 15 {
			batch = append(batch, message.Together{Conversation: x.conversation, Sender: x.sender, Draft: &x.draft})
		}
		batch = append(batch, message.Together{Conversation: c, Sender: sender, Draft: &message.Draft{Content: fmt.Sprint(i)}})
	}
	seqs, errs := p.messages.SendTogether(t.Context(), batch)
	want := int64(2)
	for i, err := range errs {
		switch {
		case i == 15:
			if !x.refused(err) {
				t.Errorf("the poisoned send: %v", err)
			}
		case err != nil || seqs[i] != want:
			t.Errorf("good send %d has seq %d, %v, want %d", i, seqs[i], err, want)
		default:
			want++
		}
	}
}
