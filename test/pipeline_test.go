package test

import (
	"database/sql"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/parley-chat/parley/internal/testenv"
)

// framesOf is the number of frames of a type that a pod has read.
func (p *pod) framesOf(t testing.TB, typ string) float64 {
	return metric(t, p.ops, `parley_socket_frames_received_total{type="`+typ+`"}`)
}

// lockRow locks a conversation, so that no send to it commits. The returned function unlocks it.
func (s *system) lockRow(t testing.TB, conversationID string) (unlock func()) {
	t.Helper()
	db, err := sql.Open("pgx", s.pg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	tx, err := db.Begin()
	if err == nil {
		_, err = tx.Exec(`SELECT FROM conversations WHERE id = $1 FOR UPDATE`, conversationID)
	}
	if err != nil {
		t.Fatal(err)
	}
	return func() { _ = tx.Rollback() }
}

// write sends a message without waiting for its answer. Its key is its frame's id and its content, too.
func (s *socket) writeMessage(conversationID, key string) {
	s.t.Helper()
	s.write(map[string]any{"type": "message:send", "id": key, "data": map[string]any{
		"conversationId": conversationID, "content": key, "clientMessageId": key,
	}})
}

// One socket sends without waiting. What waits shares commits; answers come in the order of the sends, those of refused ones too; a
// sync, typing and a pong come after the sends before them, and a receipt needn't.
func TestOneSocketSendsInAPipeline(t *testing.T) {
	t.Parallel()
	const n = 60
	s := start(t, 1, "PARLEY_RATE_LIMIT_FRAMES=off")
	p := s.pods[0]
	users := s.withTokens(t, 3)
	group, other := p.group(t, users[0], users[1:]...), p.group(t, users[0], users[1:]...)
	first := p.send(t, users[1], other.ID, "read me")
	sock := p.open(t, users[0])
	unlock := s.lockRow(t, group.ID)
	batches := metric(t, p.ops, "parley_message_batch_size_count")
	want := sock.writeMixed(n, group.ID, other.ID)
	sock.write(map[string]any{"type": "message:read", "id": "read", "data": map[string]any{"messageId": first.ID}})
	sock.write(map[string]any{"type": "sync", "id": "sync", "data": map[string]any{"conversations": map[string]int64{group.ID: 0}, "only": true}})
	sock.write(map[string]any{"type": "ping", "id": "ping"})
	want = append(want, "sync", "ping")
	// All are read while none can be committed.
	testenv.Eventually(t, 20*time.Second, func() bool { return p.framesOf(t, "sync") == 1 }, "the pod reads all sends")
	if f := sock.until("ack", 10*time.Second); f.ID != "read" {
		t.Errorf("%s is answered before the sends, want the receipt alone", f.ID)
	}
	unlock()
	var synced struct {
		Conversations map[string]struct{ Messages []message }
	}
	for _, id := range want {
		f := sock.answerTo(id)
		if id == "sync" {
			f.into(t, &synced)
		}
	}
	if got := len(synced.Conversations[group.ID].Messages); got != n*4/5 {
		t.Errorf("the sync brings %d messages", got)
	}
	for _, conversation := range []string{group.ID, other.ID} {
		numbersInOrder(t, p.stored(t, users[1], conversation))
	}
	if batches = metric(t, p.ops, "parley_message_batch_size_count") - batches; batches > 8 {
		t.Errorf("%d sends took %v commits", n, batches)
	}
}

// writeMixed writes n sends, every fifth to the other group, and among them one that is invalid, a repeated one, and one to a conversation that
// does not exist. It returns the ids of the frames in their order.
func (s *socket) writeMixed(n int, group, other string) (ids []string) {
	s.t.Helper()
	for i := range n {
		switch i {
		case 20: // refused at once, and answered in its turn
			s.write(map[string]any{"type": "message:send", "id": "bad", "data": map[string]any{"conversationId": group}})
			ids = append(ids, "bad")
		case 30: // an earlier one again
			s.write(map[string]any{"type": "message:send", "id": "again", "data": map[string]any{
				"conversationId": group, "content": "7", "clientMessageId": "7",
			}})
			ids = append(ids, "again")
		case 40:
			s.writeMessage("01900000-0000-7000-8000-000000000000", "nowhere")
			ids = append(ids, "nowhere")
		}
		conversation := group
		if i%5 == 4 {
			conversation = other
		}
		s.writeMessage(conversation, fmt.Sprint(i))
		ids = append(ids, fmt.Sprint(i))
	}
	return ids
}

// answerTo is the next answer, which must be to that frame: an error to "bad" and "nowhere" and to no other.
func (s *socket) answerTo(id string) frame {
	s.t.Helper()
	f := s.nextAnswer(20 * time.Second)
	if f.ID != id {
		s.t.Fatalf("%s is answered in the place of %s", f.ID, id)
	}
	if refused := id == "bad" || id == "nowhere"; refused != (f.Type == "error") {
		s.t.Errorf("%s is answered by %s %s", id, f.Type, f.Data)
	}
	return f
}

// numbersInOrder checks that messages whose contents are numbers are stored in the order of their numbers.
func numbersInOrder(t testing.TB, history []message) {
	t.Helper()
	last := -1
	for _, m := range history {
		i, err := strconv.Atoi(m.Content)
		if err != nil {
			continue
		}
		if i <= last {
			t.Errorf("%d is stored after %d", i, last)
		}
		last = i
	}
}

// nextAnswer is the next frame that answers one of the socket's.
func (s *socket) nextAnswer(timeout time.Duration) frame {
	s.t.Helper()
	for limit := testenv.NewLimit(timeout); ; {
		f := s.nextWithin(limit)
		if f.Type == "ack" || f.Type == "error" || f.Type == "pong" {
			return f
		}
		if f.Type == "" {
			s.t.Fatalf("the socket ended with %d where an answer was due", f.code)
		}
	}
}

// At most 64 sends of a socket wait; the rest are read later. The limit of sends lets the first through, whatever waits.
func TestAPipelineIsBoundedAndLimited(t *testing.T) {
	t.Parallel()
	s := start(t, 1, "PARLEY_RATE_LIMIT_FRAMES=off", "PARLEY_RATE_LIMIT_SEND=100/1h")
	p := s.pods[0]
	users := s.withTokens(t, 3)
	group := p.group(t, users[0], users[1:]...)
	sock := p.open(t, users[0])
	unlock := s.lockRow(t, group.ID)
	for i := range 120 {
		sock.writeMessage(group.ID, fmt.Sprint(i))
	}
	testenv.Eventually(t, 20*time.Second, func() bool { return p.framesOf(t, "message:send") >= 64 }, "64 sends are read")
	unlock()
	for i := range 120 {
		f := sock.nextAnswer(20 * time.Second)
		if f.ID != fmt.Sprint(i) {
			t.Fatalf("%s is answered in the place of %d", f.ID, i)
		}
		if i < 100 {
			var m message
			if f.into(t, &m); m.Seq != int64(i)+1 {
				t.Fatalf("%d is answered %s %s", i, f.Type, f.Data)
			}
			continue
		}
		var refused problem
		if f.into(t, &refused); f.Type != "error" || refused.Code != "rate_limited" {
			t.Fatalf("%d is answered %s %s", i, f.Type, f.Data)
		}
	}
	if read := p.framesOf(t, "message:send"); read != 120 {
		t.Errorf("%v sends were read", read)
	}
}

// doomedPipeline is a socket that keeps 64 sends waiting, to two groups in turn, until its pod is killed.
type doomedPipeline struct {
	round       int
	sock        *socket
	groups      []conversation
	sent, acked int
}

// key is the content and the clientMessageId of the i-th send.
func (d *doomedPipeline) key(i int) string { return fmt.Sprintf("%d-%d", d.round, i) }

// fill sends until 64 wait for their ack.
func (d *doomedPipeline) fill() {
	for ; d.sent < d.acked+64; d.sent++ {
		_ = d.sock.conn.WriteJSON(map[string]any{"type": "message:send", "id": strconv.Itoa(d.sent), "data": map[string]any{
			"conversationId": d.groups[d.sent%2].ID, "content": d.key(d.sent), "clientMessageId": d.key(d.sent),
		}})
	}
}

// run sends until the socket ends, and has the pod killed at the 200th ack. Acks must come in the order of the sends.
func (d *doomedPipeline) run(t *testing.T, kill func()) {
	t.Helper()
	for {
		d.fill()
		switch f := d.sock.next(20 * time.Second); f.Type {
		case "ack":
			if f.ID != strconv.Itoa(d.acked) {
				t.Fatalf("%s is acknowledged in the place of %d", f.ID, d.acked)
			}
			if d.acked++; d.acked == 200 {
				kill()
			}
		case "error":
			t.Fatalf("an error: %s", f.Data)
		case "":
			return
		}
	}
}

// firstOnes checks that what is stored has all that was acknowledged and is what came first, and returns how many that are.
func (d *doomedPipeline) firstOnes(t *testing.T, s *system) (stored int) {
	t.Helper()
	mine := fmt.Sprintf("%d-%%", d.round)
	stored = s.count(t, `SELECT count(*) FROM messages WHERE client_message_id LIKE $1`, mine)
	if stored < d.acked {
		t.Errorf("%d are stored, %d were acknowledged", stored, d.acked)
	}
	if n := s.count(t, `SELECT count(*) FROM messages WHERE client_message_id LIKE $1 AND split_part(client_message_id, '-', 2)::int < $2`, mine, stored); n != stored {
		t.Errorf("%d messages are stored, and only %d of them are of the first that were sent", stored, n)
	}
	return stored
}

// A pod is killed with sends of one socket, to two groups, in its pipeline. What it acknowledged is stored, and what is stored is what
// came first. Sent again, nothing is stored twice.
func TestAPodKilledWithAPipeline(t *testing.T) {
	t.Parallel()
	s := start(t, 1)
	refuge := s.pods[0]
	users := s.withTokens(t, 3)
	groups := []conversation{refuge.group(t, users[0], users[1:]...), refuge.group(t, users[0], users[1:]...)}
	for round := range 3 {
		trigger := filepath.Join(t.TempDir(), "now")
		name := fmt.Sprint("doomed", round)
		doomed := s.addPod(s.named(t, name), "PARLEY_RATE_LIMIT_FRAMES=off", "PARLEY_FAULT=message.committed=kill:"+trigger)
		kill := doomed.Kill
		if round > 0 {
			kill = func() { touch(t, trigger) }
		}
		d := &doomedPipeline{round: round, sock: doomed.open(t, users[0]), groups: groups}
		d.run(t, kill)
		s.unconnected(t, name) // Postgres finishes the statement that it was given
		stored := d.firstOnes(t, s)
		for i := range d.sent {
			_, again, err := refuge.sendAgain(users[0], groups[i%2].ID, map[string]any{"content": d.key(i), "clientMessageId": d.key(i)})
			if err != nil || again != (i < stored) {
				t.Fatalf("%d of %d, repeated: was stored %v, %v", i, stored, again, err)
			}
		}
		t.Logf("%d sent, %d acknowledged, %d stored", d.sent, d.acked, stored)
	}
	for _, g := range groups {
		inOrder(t, refuge.stored(t, users[1], g.ID))
	}
}

// touch makes an empty file, which a fault point waits for.
func touch(t testing.TB, path string) {
	t.Helper()
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
}

// inOrder checks that messages named ROUND-NUMBER are stored in that order.
func inOrder(t *testing.T, stored []message) {
	t.Helper()
	last := [2]int{-1, -1}
	for _, m := range stored {
		var at [2]int
		if _, err := fmt.Sscanf(m.Content, "%d-%d", &at[0], &at[1]); err != nil || slices.Compare(at[:], last[:]) <= 0 {
			t.Errorf("%s is stored after %v (%v)", m.Content, last, err)
		}
		last = at
	}
}
