package test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/parley-chat/parley/internal/testenv"
)

// ledger is what senders were answered, by clientMessageId.
type ledger struct {
	mu       sync.Mutex // guards messages
	messages map[string]message
}

// note keeps an answer. A repeated send must be answered as the first one was.
func (l *ledger) note(key string, m message) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.messages == nil {
		l.messages = map[string]message{}
	}
	if had, ok := l.messages[key]; ok && (had.ID != m.ID || had.Seq != m.Seq || had.CreatedAt != m.CreatedAt) {
		return fmt.Errorf("%s was answered as %s with seq %d, and as %s with seq %d", key, had.ID, had.Seq, m.ID, m.Seq)
	}
	l.messages[key] = m
	return nil
}

func (l *ledger) len() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.messages)
}

// check holds what is stored against what was answered: each message once, no gap in seq, and in the same order by
// (created_at, id). It answers the messages by seq.
func (l *ledger) check(t testing.TB, s *system, p *pod, reader user, conversationID string) []message {
	t.Helper()
	stored := p.stored(t, reader, conversationID)
	if len(stored) != len(l.messages) {
		t.Errorf("%d messages are stored, %d were sent", len(stored), len(l.messages))
	}
	for _, m := range stored {
		if answered := l.messages[*m.ClientMessageID]; answered.ID != m.ID || answered.Seq != m.Seq {
			t.Errorf("%s with seq %d is stored for %s, which was answered as %s with seq %d", m.ID, m.Seq, *m.ClientMessageID, answered.ID, answered.Seq)
		}
	}
	disorder := s.count(t, `SELECT count(*) FROM (
		SELECT seq, row_number() OVER (ORDER BY created_at, id) AS place FROM messages WHERE conversation_id = $1) m WHERE seq <> place`, conversationID)
	if disorder != 0 {
		t.Errorf("%d messages have another place by (created_at, id) than by seq", disorder)
	}
	var c conversation
	if p.want(t, 200, reader.token, "GET", "/api/conversations/"+conversationID, nil).into(t, &c); c.LastSeq != int64(len(stored)) {
		t.Errorf("the last seq is %d of %d messages", c.LastSeq, len(stored))
	}
	return stored
}

// stored reads a conversation from its start. Each message has the seq that follows the one before.
func (p *pod) stored(t testing.TB, u user, conversationID string) (out []message) {
	t.Helper()
	for {
		var page struct{ Data []message }
		path := fmt.Sprintf("/api/conversations/%s/messages?afterSeq=%d&limit=100", conversationID, len(out))
		p.want(t, 200, u.token, "GET", path, nil).into(t, &page)
		if len(page.Data) == 0 {
			return out
		}
		for _, m := range page.Data {
			if m.Seq != int64(len(out))+1 {
				t.Fatalf("seq %d follows %d", m.Seq, len(out))
			}
			out = append(out, m)
		}
	}
}

// voice is a socket that sends and listens, for a goroutine of its own.
type voice struct {
	*socket
	asked int
	heard []message
}

// errNoAnswer is for a send of which the sender does not know whether it was stored.
var errNoAnswer = errors.New("no answer")

// send sends by the socket and waits for the answer. What is heard meanwhile is kept.
func (v *voice) send(body map[string]any) (m message, err error) {
	v.asked++
	id := strconv.Itoa(v.asked)
	if err := v.conn.WriteJSON(map[string]any{"type": "message:send", "id": id, "data": body}); err != nil {
		return m, errNoAnswer
	}
	err = v.listen(time.Minute, func(f frame) bool { return f.ID == id }, func(f frame) error {
		if f.Type == "ack" {
			return json.Unmarshal(f.Data, &m)
		}
		var p problem
		if err := json.Unmarshal(f.Data, &p); err != nil || p.Status != 503 {
			return fmt.Errorf("%s is answered %s %s", body["clientMessageId"], f.Type, f.Data)
		}
		return errNoAnswer
	})
	return m, err
}

// sendAgain sends by the socket until there is an answer.
func (v *voice) sendAgain(body map[string]any) (m message, err error) {
	for limit := testenv.NewLimit(time.Minute); !limit.Over(); time.Sleep(20 * time.Millisecond) {
		if m, err = v.send(body); !errors.Is(err, errNoAnswer) {
			return m, err
		}
	}
	return m, err
}

// hear listens until n messages were heard.
func (v *voice) hear(n int, within time.Duration) error {
	if len(v.heard) >= n {
		return nil
	}
	return v.listen(within, func(frame) bool { return len(v.heard) >= n }, func(frame) error { return nil })
}

// listen keeps the messages that come until one frame is the wanted one, which it passes on.
func (v *voice) listen(within time.Duration, wanted func(frame) bool, then func(frame) error) error {
	for limit := testenv.NewLimit(within); ; {
		f, err := v.nextFrame(limit)
		if err == nil {
			err = v.keepMessage(f)
		}
		if err != nil {
			return err
		}
		if wanted(f) {
			return then(f)
		}
	}
}

// nextFrame waits for a frame. The error is errNoAnswer if the socket is closed.
func (v *voice) nextFrame(limit *testenv.Limit) (frame, error) {
	for {
		select {
		case f, open := <-v.frames:
			if !open || f.code != 0 {
				return f, errNoAnswer
			}
			return f, nil
		case <-limit.Check():
			if limit.Over() {
				return frame{}, fmt.Errorf("no frame within %s, %d messages were heard", limit, len(v.heard))
			}
		}
	}
}

// keepMessage adds the message of a frame, if it has one, to those that were heard.
func (v *voice) keepMessage(f frame) error {
	if f.Type != "message:new" {
		return nil
	}
	var m message
	if err := json.Unmarshal(f.Data, &m); err != nil {
		return err
	}
	v.heard = append(v.heard, m)
	return nil
}

// heardAll checks that a listener gets each message once and in order, and nothing after the last.
func (v *voice) heardAll(stored []message) error {
	if err := v.hear(len(stored), time.Minute); err != nil {
		return fmt.Errorf("of %d: %w", len(stored), err)
	}
	for i, m := range v.heard {
		if i >= len(stored) || m.Seq != stored[i].Seq || m.ID != stored[i].ID {
			return fmt.Errorf("message %d that was heard is %s with seq %d, of %d", i+1, m.ID, m.Seq, len(stored))
		}
	}
	for f := range drain(v.socket) {
		if f.Type == "message:new" {
			return fmt.Errorf("after the last message %s was heard", f.Data)
		}
	}
	return nil
}

// sendOnce sends by REST. stored reports that it had been stored before.
func (p *pod) sendOnce(u user, conversationID string, body map[string]any) (m message, stored bool, err error) {
	a, err := p.try(u.token, "POST", "/api/conversations/"+conversationID+"/messages", body)
	switch {
	case err != nil || a.status == 503 && a.header.Get("Retry-After") != "":
		return m, false, errNoAnswer
	case a.status == 200 || a.status == 201:
		return m, a.status == 200, json.Unmarshal(a.body, &m)
	}
	return m, false, fmt.Errorf("%s is answered %d %s", body["clientMessageId"], a.status, a.body)
}

// sendAgain sends by REST until there is an answer.
func (p *pod) sendAgain(u user, conversationID string, body map[string]any) (m message, stored bool, err error) {
	for limit := testenv.NewLimit(time.Minute); !limit.Over(); time.Sleep(20 * time.Millisecond) {
		if m, stored, err = p.sendOnce(u, conversationID, body); !errors.Is(err, errNoAnswer) {
			return m, stored, err
		}
	}
	return m, false, err
}

// Sixty-four people write into one group over two pods, by sockets and REST. Of each three sends one is repeated on the other
// pod at the same time.
func TestManySendersOverTwoPods(t *testing.T) {
	t.Parallel()
	const senders, each = 64, 12
	s := start(t, 2)
	u := s.withTokens(t, senders)
	g := s.pods[0].group(t, u[0], u[1:]...)
	voices := make([]*voice, senders)
	for i := range voices {
		voices[i] = &voice{socket: s.pods[i%2].open(t, u[i])}
	}
	var l ledger
	var wg sync.WaitGroup
	for i, v := range voices {
		wg.Go(func() {
			for n := range each {
				if err := v.turn(&l, s, i, n, u[i], g.ID); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	stored := l.check(t, s, s.pods[1], u[0], g.ID)
	if len(stored) != senders*each {
		t.Errorf("%d messages of %d", len(stored), senders*each)
	}
	for i, v := range voices {
		wg.Go(func() {
			if err := v.heardAll(stored); err != nil {
				t.Errorf("listener %d: %v", i, err)
			}
		})
	}
	wg.Wait()
}

// turn is one message of a sender's: in turns by the socket, by REST, and by the socket and the other pod's REST at once. A send that is
// refused with 503 is repeated, as by a client: on a busy machine Postgres may be slow to accept a connection.
func (v *voice) turn(l *ledger, s *system, i, n int, u user, conversationID string) error {
	key := fmt.Sprintf("%d-%d", i, n)
	body := map[string]any{"content": key, "clientMessageId": key}
	frame := map[string]any{"content": key, "clientMessageId": key, "conversationId": conversationID}
	var again error
	var wg sync.WaitGroup
	rest := func(p *pod) {
		m, _, err := p.sendAgain(u, conversationID, body)
		if again = err; err == nil {
			again = l.note(key, m)
		}
	}
	switch n % 3 {
	case 0:
		wg.Go(func() { rest(s.pods[(i+1)%2]) })
	case 1:
		rest(s.pods[i%2])
		return again
	}
	m, err := v.sendAgain(frame)
	wg.Wait()
	if err == nil {
		err = l.note(key, m)
	}
	return errors.Join(err, again)
}
