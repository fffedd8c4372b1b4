package test

import (
	"database/sql"
	"fmt"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/parley-chat/parley/internal/auth"
	"github.com/parley-chat/parley/internal/id"
	"github.com/parley-chat/parley/internal/testenv"
)

// worker is a receipt-worker.
type worker struct {
	*testenv.Process
	ops string
}

// addWorker starts a receipt-worker that flushes every second.
func (s *system) addWorker(env ...string) *worker {
	s.t.Helper()
	p, ops := s.addBeside("receipt-worker", append([]string{"PARLEY_RECEIPT_FLUSH_INTERVAL=1s"}, env...)...)
	return &worker{p, ops}
}

// withTokens makes users straight in the database, with tokens of sessions that nobody began.
func (s *system) withTokens(t testing.TB, n int) []user {
	t.Helper()
	tokens := auth.NewTokens([][]byte{[]byte(secret)}, time.Hour)
	out := make([]user, n)
	for i, u := range s.bareUsers(t, n) {
		token, err := tokens.Issue(u, id.New())
		if err != nil {
			t.Fatal(err)
		}
		out[i] = user{ID: u, token: token}
	}
	return out
}

func (s *system) count(t testing.TB, query string, args ...any) (n int) {
	t.Helper()
	db, err := sql.Open("pgx", s.pg)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if err := db.QueryRow(query, args...).Scan(&n); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return n
}

// rows is how many receipts of a message are written.
func (s *system) rows(t testing.TB, messageID string) int {
	t.Helper()
	return s.count(t, `SELECT count(*) FROM read_receipts WHERE message_id = $1`, messageID)
}

// flushed waits until nothing is pending in Redis.
func (s *system) flushed(t testing.TB, within time.Duration) {
	t.Helper()
	c := s.redis.Client(t)
	testenv.Eventually(t, within, func() bool {
		for _, pattern := range []string{"read_batch:*", "read_count:*", "read_markers:*"} {
			if len(keys(t, c, pattern)) > 0 {
				return false
			}
		}
		return true
	}, "all that was pending is flushed")
}

type receipts struct {
	Data []struct {
		UserID string
		ReadAt time.Time
	}
	Count      int
	Pagination struct {
		NextCursor *string
		HasMore    bool
	}
}

func (p *pod) receipts(t testing.TB, u user, messageID string) receipts {
	t.Helper()
	var r receipts
	p.prepare(t, u.token, "GET", "/api/messages/"+messageID+"/receipts?limit=100", nil, 200).into(t, &r)
	return r
}

func (p *pod) read(t testing.TB, u user, messageID string) {
	t.Helper()
	p.prepare(t, u.token, "POST", "/api/messages/"+messageID+"/read", nil, 204)
}

func (p *pod) unread(t testing.TB, u user, conversationID string) (read, unread int64) {
	t.Helper()
	var c conversation
	p.prepare(t, u.token, "GET", "/api/conversations/"+conversationID, nil, 200).into(t, &c)
	return c.LastReadSeq, c.UnreadCount
}

type receiptRead struct {
	ConversationID, MessageID, UserID string
	ReadAt                            time.Time
	Count                             int
}

func TestReadsOfADirectConversationAreWrittenAtOnce(t *testing.T) {
	t.Parallel()
	s := plainSystem(t)
	p, q := s.pods[0], s.pods[1]
	u := p.users(t, 3)
	c := p.direct(t, u[0], u[1])
	sender, phone, laptop := q.open(t, u[0]), p.openAs(t, u[1], "phone"), q.openAs(t, u[1], "laptop")
	var sent []message
	for n := range 5 {
		sent = append(sent, p.send(t, u[0], c.ID, fmt.Sprint(n)))
	}
	phone.acks("message:read", map[string]any{"messageId": sent[2].ID})
	var got receiptRead
	sender.until("receipt:read", 10*time.Second).into(t, &got)
	if got.MessageID != sent[2].ID || got.ConversationID != c.ID || got.UserID != u[1].ID || got.Count != 1 || got.ReadAt.IsZero() {
		t.Errorf("the sender got %+v", got)
	}
	if f := laptop.until("conversation:read", 10*time.Second); string(f.Data) != fmt.Sprintf(`{"conversationId":%q,"lastReadSeq":3,"unreadCount":2}`, c.ID) {
		t.Errorf("the other device got %s", f.Data)
	}
	if n := s.rows(t, sent[2].ID); n != 1 {
		t.Errorf("%d rows", n)
	}
	p.read(t, u[1], sent[0].ID) // the marker stays, the receipt is made
	p.read(t, u[1], sent[0].ID)
	q.expectRead(t, u[1], c.ID, 3, 2)
	if r := p.receipts(t, u[0], sent[2].ID); r.Count != 1 || len(r.Data) != 1 || r.Data[0].UserID != u[1].ID || !r.Data[0].ReadAt.Equal(got.ReadAt) {
		t.Errorf("the receipts are %+v", r)
	}
	p.want(t, 204, u[1].token, "POST", "/api/conversations/"+c.ID+"/read", map[string]any{"upToMessageId": sent[4].ID})
	p.expectRead(t, u[1], c.ID, 5, 0)
	if n := s.count(t, `SELECT count(*) FROM read_receipts WHERE user_id = $1`, u[1].ID); n != 3 {
		t.Errorf("%d receipts where the one call makes one", n)
	}
	phone.until("conversation:read", 10*time.Second)
	phone.silent(200*time.Millisecond, "conversation:read", "receipt:") // it gets nothing about its own reads, and the sender's marker did not move

	p.read(t, u[0], sent[4].ID) // the user's own
	if n := s.rows(t, sent[4].ID); n != 1 {
		t.Errorf("%d rows of a message that one has read", n)
	}
	t.Run("refused requests", func(t *testing.T) { refusedReads(t, p, c.ID, sent[0].ID, u[1], u[2]) })
	for _, data := range []any{map[string]any{"messageId": id.New()}, map[string]any{"messageId": "x"}, map[string]any{}, map[string]any{"messageId": 1}, "x"} {
		phone.refuses("message:read", data)
	}
}

// refusedReads checks the answers to reads and lists of receipts that are not possible, for a member of the conversation and for a stranger.
func refusedReads(t *testing.T, p *pod, conversationID, messageID string, member, stranger user) {
	t.Helper()
	for _, x := range []struct {
		who                string
		method, path, code string
		body               any
		status             int
	}{
		{stranger.token, "POST", "/api/messages/" + messageID + "/read", "message_not_found", nil, 404},
		{member.token, "POST", "/api/messages/" + id.New() + "/read", "message_not_found", nil, 404},
		{member.token, "POST", "/api/messages/nonsense/read", "message_not_found", nil, 404},
		{stranger.token, "GET", "/api/messages/" + messageID + "/receipts", "message_not_found", nil, 404},
		{member.token, "GET", "/api/messages/" + messageID + "/receipts?cursor=x", "invalid_cursor", nil, 400},
		{member.token, "POST", "/api/conversations/" + id.New() + "/read", "message_not_found", map[string]any{"upToMessageId": messageID}, 404},
		{member.token, "POST", "/api/conversations/" + conversationID + "/read", "invalid_request", map[string]any{"upToMessageId": "x"}, 400},
		{member.token, "POST", "/api/conversations/" + conversationID + "/read", "invalid_request", map[string]any{}, 400},
	} {
		p.call(t, x.who, x.method, x.path, x.body).check(t, x.method+" "+x.path, x.status, x.code)
	}
}

type markers struct {
	ConversationID string
	Data, Markers  []marker
}

type marker struct {
	UserID      string
	LastReadSeq int64
	ReadAt      *time.Time
}

// expectMarkers checks how far which users have read, in the list's order.
func expectMarkers(t *testing.T, where string, got []marker, want ...marker) {
	t.Helper()
	same := func(a, b marker) bool { return a.UserID == b.UserID && a.LastReadSeq == b.LastReadSeq }
	if !slices.EqualFunc(got, want, same) {
		t.Errorf("%s has the markers %+v, want %+v", where, got, want)
	}
}

// expectRead checks up to which message a user has read a conversation, and how many are unread.
func (p *pod) expectRead(t *testing.T, u user, conversationID string, upTo, unread int64) {
	t.Helper()
	if gotRead, gotUnread := p.unread(t, u, conversationID); gotRead != upTo || gotUnread != unread {
		t.Errorf("read up to %d with %d unread, want up to %d with %d unread", gotRead, gotUnread, upTo, unread)
	}
}

// expectReceipts checks that a message's receipts, as read by the user, are exactly those of the readers, in any order.
func (p *pod) expectReceipts(t *testing.T, when string, viewer user, messageID string, readers ...user) {
	t.Helper()
	r := p.receipts(t, viewer, messageID)
	var got, want []string
	for _, x := range r.Data {
		got = append(got, x.UserID)
	}
	for _, x := range readers {
		want = append(want, x.ID)
	}
	slices.Sort(got)
	slices.Sort(want)
	if r.Count != len(want) || !slices.Equal(got, want) || r.Pagination.HasMore {
		t.Errorf("%s the receipts are %+v, want those of %v", when, r, want)
	}
}

func TestMembersSeeHowFarOthersHaveRead(t *testing.T) {
	t.Parallel()
	s := plainSystem(t)
	p, q := s.pods[0], s.pods[1]
	u := p.users(t, 4)
	c := p.group(t, u[0], u[1], u[2])
	sender, hiding := q.open(t, u[0]), q.open(t, u[2])
	p.want(t, 200, u[2].token, "PATCH", "/api/users/me/privacy", map[string]any{"readReceiptsEnabled": false})
	first, second := p.send(t, u[0], c.ID, "one"), p.send(t, u[0], c.ID, "two")
	p.read(t, u[1], first.ID) // pending in Redis: no worker runs
	var got markers
	sender.until("conversation:markers", 10*time.Second).into(t, &got)
	if got.ConversationID != c.ID || len(got.Markers) == 0 || got.Markers[0].ReadAt == nil {
		t.Errorf("the frame is %+v, want one of %s with readAt", got, c.ID)
	}
	expectMarkers(t, "the frame", got.Markers, marker{UserID: u[1].ID, LastReadSeq: 1})
	var listed markers
	q.want(t, 200, u[0].token, "GET", "/api/conversations/"+c.ID+"/markers", nil).into(t, &listed)
	expectMarkers(t, "the list", listed.Data, marker{UserID: u[0].ID, LastReadSeq: 2}, marker{UserID: u[1].ID, LastReadSeq: 1})
	if a := q.want(t, 200, u[2].token, "GET", "/api/conversations/"+c.ID+"/markers", nil); string(a.body) != `{"data":[]}` {
		t.Errorf("a viewer who hides receipts gets %s", a.body)
	}
	for _, path := range []string{c.ID, id.New(), "nonsense"} {
		q.call(t, u[3].token, "GET", "/api/conversations/"+path+"/markers", nil).check(t, path, 404, "conversation_not_found")
	}
	p.read(t, u[2], second.ID) // nobody sees it
	p.read(t, u[1], second.ID)
	sender.until("conversation:markers", 10*time.Second).into(t, &got)
	expectMarkers(t, "the second frame", got.Markers, marker{UserID: u[1].ID, LastReadSeq: 2})
	// By the events' order, what the hiding viewer was excepted from would come before this message.
	third := p.send(t, u[0], c.ID, "three")
	hiding.silentBefore(third, "conversation:markers")
}

// silentBefore reads frames up to a message, and checks that none of the type comes before it.
func (s *socket) silentBefore(last message, typ string) {
	s.t.Helper()
	for {
		switch f := s.next(10 * time.Second); f.Type {
		case typ, "":
			s.t.Fatalf("got %s %s %d where none was due", f.Type, f.Data, f.code)
		case "message:new":
			var m message
			if f.into(s.t, &m); m.ID == last.ID {
				return
			}
		}
	}
}

// groupReads is a group of four in which the second and third user have read the first message, and the fourth the second message.
type groupReads struct {
	s             *system
	u             []user
	group         conversation
	first, second message
}

// read has everybody read, and checks what the sender and the reader's other device hear of the first read.
func (g *groupReads) read(t *testing.T) {
	t.Helper()
	p, q := g.s.pods[0], g.s.pods[1]
	sender, phone, laptop := q.open(t, g.u[0]), p.openAs(t, g.u[1], "phone"), q.openAs(t, g.u[1], "laptop")
	g.first, g.second = p.send(t, g.u[0], g.group.ID, "one"), q.send(t, g.u[0], g.group.ID, "two")
	phone.ask("message:read", map[string]any{"messageId": g.first.ID})
	var got receiptRead
	sender.until("receipt:read", 10*time.Second).into(t, &got)
	if got.MessageID != g.first.ID || got.UserID != g.u[1].ID || got.Count != 1 {
		t.Errorf("the sender got %+v", got)
	}
	if f := laptop.until("conversation:read", 10*time.Second); string(f.Data) != fmt.Sprintf(`{"conversationId":%q,"lastReadSeq":1,"unreadCount":1}`, g.group.ID) {
		t.Errorf("the other device got %s", f.Data)
	}
	q.read(t, g.u[2], g.first.ID)
	q.read(t, g.u[2], g.first.ID)
	q.read(t, g.u[3], g.second.ID)
}

// inRedisOnly checks that nothing of the reads is in Postgres, and that Redis has the count and the batch of the first message.
func (g *groupReads) inRedisOnly(t *testing.T) {
	t.Helper()
	if n := g.s.count(t, `SELECT count(*) FROM read_receipts`); n != 0 {
		t.Errorf("%d rows before any flush", n)
	}
	if n := g.s.count(t, `SELECT count(*) FROM conversation_members WHERE user_id <> $1 AND last_read_seq > 0`, g.u[0].ID); n != 0 {
		t.Errorf("%d markers moved in Postgres before any flush", n)
	}
	rdb := g.s.redis.Client(t)
	if n, err := rdb.Get(t.Context(), key("read_count:", g.first.ID)).Int(); n != 2 || err != nil {
		t.Errorf("read_count is %d, %v", n, err)
	}
	batch, err := rdb.ZRangeWithScores(t.Context(), key("read_batch:", g.first.ID), 0, -1).Result()
	if err != nil || len(batch) != 2 || batch[0].Member != g.u[1].ID || time.Since(time.UnixMilli(int64(batch[0].Score))).Abs() > time.Hour {
		t.Errorf("read_batch is %v, %v", batch, err)
	}
}

// shown checks the receipts, the markers and the list that a pod shows.
func (g *groupReads) shown(t *testing.T, pod *pod, when string) {
	t.Helper()
	r := pod.receipts(t, g.u[0], g.first.ID)
	if r.Count != 2 || len(r.Data) != 2 || r.Data[0].UserID != g.u[1].ID || r.Data[1].UserID != g.u[2].ID {
		t.Errorf("%s the receipts are %+v", when, r)
	}
	for i, want := range [][2]int64{{2, 0}, {1, 1}, {1, 1}, {2, 0}} {
		if read, unread := pod.unread(t, g.u[i], g.group.ID); read != want[0] || unread != want[1] {
			t.Errorf("%s user %d has read up to %d, %d unread", when, i, read, unread)
		}
	}
	var list struct{ Data []conversation }
	pod.want(t, 200, g.u[2].token, "GET", "/api/conversations", nil).into(t, &list)
	if len(list.Data) != 1 || list.Data[0].UnreadCount != 1 {
		t.Errorf("%s the list shows %+v", when, list.Data)
	}
}

// Reads of a group wait in Redis. Both pods show them before the flush as after it, with the same times.
func TestReadsOfAGroupWaitInRedis(t *testing.T) {
	t.Parallel()
	s := start(t, 2)
	p := s.pods[0]
	u := p.users(t, 4)
	g := &groupReads{s: s, u: u, group: p.group(t, u[0], u[1:]...)}
	g.read(t)
	g.inRedisOnly(t)
	for _, pod := range s.pods {
		g.shown(t, pod, "before the flush")
	}
	before := p.receipts(t, u[0], g.first.ID)

	w := s.addWorker()
	s.flushed(t, 20*time.Second)
	for _, pod := range s.pods {
		g.shown(t, pod, "after the flush")
	}
	if after := p.receipts(t, u[0], g.first.ID); !after.Data[0].ReadAt.Equal(before.Data[0].ReadAt) {
		t.Errorf("a receipt of %s is of %s after the flush", before.Data[0].ReadAt, after.Data[0].ReadAt)
	}
	if n := s.count(t, `SELECT count(*) FROM read_receipts`); n != 3 {
		t.Errorf("%d rows", n)
	}
	p.read(t, u[1], g.first.ID) // again: nothing is to be done
	if n, err := s.redis.Client(t).Exists(t.Context(), key("read_batch:", g.first.ID)).Result(); n != 0 || err != nil {
		t.Errorf("a repeated read waits in Redis: %d, %v", n, err)
	}
	w.Signal(syscall.SIGTERM)
	expectExit(t, w.Process, 0, 20*time.Second)
}

func TestReceiptsAreSharedBothWaysOrNotAtAll(t *testing.T) {
	t.Parallel()
	s := plainSystem(t)
	p := s.pods[0]
	u := p.users(t, 4)
	c, d := p.group(t, u[0], u[1:]...), p.direct(t, u[0], u[1])
	switchTo := func(who user, on bool) {
		t.Helper()
		p.want(t, 200, who.token, "PATCH", "/api/users/me/privacy", map[string]any{"readReceiptsEnabled": on})
	}
	m, direct := p.send(t, u[0], c.ID, "x"), p.send(t, u[0], d.ID, "y")
	sender := p.open(t, u[0])
	for _, read := range []string{m.ID, direct.ID} {
		p.read(t, u[1], read)
		sender.until("receipt:read", 10*time.Second)
	}
	switchTo(u[1], false)
	p.read(t, u[2], m.ID)
	var got receiptRead
	if sender.until("receipt:read", 10*time.Second).into(t, &got); got.UserID != u[2].ID || got.Count != 1 {
		t.Errorf("the sender got %+v", got)
	}
	p.expectReceipts(t, "while a reader hides theirs,", u[0], m.ID, u[2])
	p.expectReceipts(t, "while the reader hides theirs,", u[0], direct.ID)
	p.expectReceipts(t, "for a user who hides theirs,", u[1], m.ID)
	next := p.send(t, u[0], c.ID, "z")
	p.read(t, u[1], next.ID) // the marker moves, and no receipt is made, ever
	nextDirect := p.send(t, u[0], d.ID, "z")
	p.read(t, u[1], nextDirect.ID)
	p.expectRead(t, u[1], c.ID, 2, 0)
	p.expectRead(t, u[1], d.ID, 2, 0)
	switchTo(u[0], false)
	p.read(t, u[2], next.ID)
	p.read(t, u[3], next.ID)
	for _, f := range sender.rest(2 * time.Second) {
		if f.Type == "receipt:read" {
			t.Errorf("delivered while they were off: %s", f.Data)
		}
	}
	switchTo(u[0], true)
	switchTo(u[1], true)
	p.expectReceipts(t, "of a message that one read while they were off,", u[0], next.ID, u[2], u[3])
	p.expectReceipts(t, "of a message of before they were off,", u[0], m.ID, u[1], u[2])
}

func TestDeletedMessagesAndTheirReads(t *testing.T) {
	t.Parallel()
	s := start(t, 1)
	p := s.pods[0]
	u := p.users(t, 3)
	c := p.group(t, u[0], u[1:]...)
	kept, soft, hard := p.send(t, u[0], c.ID, "kept"), p.send(t, u[0], c.ID, "soft"), p.send(t, u[0], c.ID, "hard")
	for _, m := range []message{kept, soft, hard} {
		p.read(t, u[1], m.ID)
	}
	p.want(t, 204, u[0].token, "DELETE", "/api/messages/"+soft.ID, nil)
	testenv.Exec(t, s.pg, `DELETE FROM messages WHERE id = '`+hard.ID+`'`) // as an operator may
	s.addWorker()
	s.flushed(t, 20*time.Second)
	if n, m := s.rows(t, kept.ID), s.count(t, `SELECT count(*) FROM read_receipts`); n != 1 || m != 1 {
		t.Errorf("%d rows of the message that is left, %d in all", n, m)
	}
	if n := s.count(t, `SELECT last_read_seq FROM conversation_members WHERE user_id = $1 AND conversation_id = $2`, u[1].ID, c.ID); n != 3 {
		t.Errorf("the marker is at %d", n)
	}
	p.read(t, u[2], soft.ID) // the marker moves, and no receipt is made
	if read, _ := p.unread(t, u[2], c.ID); read != 2 {
		t.Errorf("read up to %d", read)
	}
	if r := p.receipts(t, u[0], soft.ID); r.Count != 0 || len(r.Data) != 0 {
		t.Errorf("the receipts of a deleted message: %+v", r)
	}
}

// Whoever writes has read what came before, and their other sockets are notified, if there was anything unread.
func TestASendMarksAsReadOnOtherSockets(t *testing.T) {
	t.Parallel()
	s := plainSystem(t)
	u := s.pods[0].users(t, 3)
	g := s.pods[0].group(t, u[0], u[1], u[2])
	phone, laptop := s.pods[0].open(t, u[1]), s.pods[1].open(t, u[1])
	s.pods[0].send(t, u[0], g.ID, "one")
	s.pods[0].send(t, u[0], g.ID, "two")
	phone.ask("message:send", map[string]any{"conversationId": g.ID, "content": "three", "clientMessageId": "3"})
	if f := laptop.until("conversation:read", time.Minute); string(f.Data) != fmt.Sprintf(`{"conversationId":%q,"lastReadSeq":3,"unreadCount":0}`, g.ID) {
		t.Errorf("the laptop hears %s", f.Data)
	}
	s.pods[1].send(t, u[1], g.ID, "four") // with nothing unread
	s.pods[0].send(t, u[0], g.ID, "five")
	s.pods[1].send(t, u[1], g.ID, "six")
	for name, sock := range map[string]*socket{"phone": phone, "laptop": laptop} {
		if f := sock.until("conversation:read", time.Minute); string(f.Data) != fmt.Sprintf(`{"conversationId":%q,"lastReadSeq":6,"unreadCount":0}`, g.ID) {
			t.Errorf("the %s hears %s", name, f.Data)
		}
	}
}
