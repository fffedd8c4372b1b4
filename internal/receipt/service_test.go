package receipt_test

import (
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/parley-chat/parley/internal/event"
	"github.com/parley-chat/parley/internal/rediskey"
	"github.com/parley-chat/parley/internal/testenv"
)

func (e *env) exec(query string, args ...any) {
	e.t.Helper()
	if _, err := e.db.SQL.Exec(query, args...); err != nil {
		e.t.Fatal(err)
	}
}

func (e *env) read(user, message string) {
	e.t.Helper()
	if err := e.service.Read(e.t.Context(), user, message, ""); err != nil {
		e.t.Fatal(err)
	}
}

// Whoever has left a conversation hears nothing of it, of their own messages either.
func TestSendersWhoLeftAreNotNotifiedOfReads(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	c, users, messages := fixture(t, e.db.SQL, "group", 4, 2)
	gone, here := users[0], users[1]
	e.exec(`UPDATE messages SET sender_id = $1 WHERE id = $2`, here, messages[1])
	e.exec(`DELETE FROM conversation_members WHERE conversation_id = $1 AND user_id = $2`, c, gone)
	for range 2 { // the second notice comes after the first, in whatever order the first two are
		for i, m := range messages {
			e.read(users[2], m)
			e.read(users[3], messages[1-i])
		}
		notified := 0
		testenv.Eventually(t, 30*time.Second, func() bool {
			e.notices.mu.Lock()
			defer e.notices.mu.Unlock()
			notified = 0
			for _, n := range e.notices.of {
				if n.Type == event.TypeReceiptRead && n.UserID == gone {
					t.Fatal("a user who has left is notified")
				}
				if n.Type == event.TypeReceiptRead && n.UserID == here {
					notified++
				}
			}
			return notified > 0
		}, "the other sender is notified")
	}
}

// A deleted message has no receipts, whether they were written before or not.
func TestADeletedMessageHasNoReceipts(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	_, users, messages := fixture(t, e.db.SQL, "group", 4, 1)
	e.read(users[1], messages[0])
	e.flush(e.flusher())
	e.read(users[2], messages[0])
	e.exec(`UPDATE messages SET deleted_at = now(), content = '' WHERE id = $1`, messages[0])
	page, err := e.service.Receipts(t.Context(), users[0], messages[0], nil, 50)
	if err != nil || page.Count != 0 || len(page.Receipts) != 0 || page.HasMore {
		t.Errorf("its receipts are %+v, %v", page, err)
	}
}

// If a read is both in Postgres and pending, because Redis or Postgres was unavailable for one of them, the first counts,
// before the flush and after it.
func TestTheFirstReadCountsWhereverItIs(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	_, users, messages := fixture(t, e.db.SQL, "group", 4, 1)
	m, late := messages[0], time.Now().UTC().Truncate(time.Millisecond)
	early := late.Add(-time.Hour)
	e.exec(`INSERT INTO read_receipts (message_id, user_id, read_at) VALUES ($1, $2, $3), ($1, $4, $5)`, m, users[1], late, users[2], early)
	e.rdb.ZAdd(t.Context(), rediskey.DirtyMessages, redis.Z{Score: 1, Member: m})
	e.rdb.ZAdd(t.Context(), "read_batch:"+m, redis.Z{Score: float64(early.UnixMilli()), Member: users[1]},
		redis.Z{Score: float64(late.UnixMilli()), Member: users[2]})
	f := e.flusher()
	for _, when := range []string{"before", "after"} {
		page, err := e.service.Receipts(t.Context(), users[0], m, nil, 50)
		if err != nil || len(page.Receipts) != 2 || !page.Receipts[0].ReadAt.Equal(early) || !page.Receipts[1].ReadAt.Equal(early) {
			t.Errorf("%s the flush: %+v, %v", when, page, err)
		}
		e.flush(f)
		e.empty()
	}
}

// While Redis is unavailable, the first reader waits for it once, and the log reports it once.
func TestReadersDoNotWaitForUnavailableRedis(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	_, users, messages := fixture(t, e.db.SQL, "group", 3, 1)
	e.server.Stop()
	for range 200 {
		e.service.Markers(t.Context(), users[0])
		if _, err := e.service.Receipts(t.Context(), users[0], messages[0], nil, 50); err != nil {
			t.Fatal(err)
		}
	}
	if n := strings.Count(e.log.String(), "level=WARN"); n != 1 {
		t.Errorf("%d warnings: %s", n, e.log)
	}
	e.server.Start()
	testenv.Eventually(t, 30*time.Second, func() bool { return strings.Contains(e.log.String(), "redis accepts reads again") }, "it is noticed")
}

// A read again is no read: the first one's time stays, and a marker moves forward only.
func TestPendingReadsKeepTheirTimeAndMarkersDoNotMoveBack(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	c, users, messages := fixture(t, e.db.SQL, "group", 3, 3)
	for _, m := range []string{messages[2], messages[0]} {
		e.read(users[1], m)
		if held := e.service.Markers(t.Context(), users[1]); held[c].Seq != 3 {
			t.Errorf("the marker is at %d", held[c].Seq)
		}
	}
	first := e.rdb.ZScore(t.Context(), "read_batch:"+messages[2], users[1]).Val()
	testenv.Eventually(t, 30*time.Second, func() bool { return float64(e.rdb.Time(t.Context()).Val().UnixMilli()) > first }, "time passes")
	e.read(users[1], messages[2])
	if again := e.rdb.ZScore(t.Context(), "read_batch:"+messages[2], users[1]).Val(); again != first {
		t.Errorf("a read of %f is of %f after the second", first, again)
	}
	if n := e.rdb.Get(t.Context(), "read_count:"+messages[2]).Val(); n != "1" {
		t.Errorf("read_count is %q", n)
	}
	testenv.Eventually(t, 30*time.Second, func() bool {
		e.notices.mu.Lock()
		defer e.notices.mu.Unlock()
		return e.notices.n[event.TypeReceiptRead] >= 2 && e.notices.n[event.TypeConversationRead] >= 1
	}, "the sender is notified of both, and the reader's sockets of the marker")
	e.notices.mu.Lock()
	defer e.notices.mu.Unlock()
	if n := e.notices.n[event.TypeConversationRead]; n != 1 {
		t.Errorf("the reader's sockets got %d notices of a marker that moved once", n)
	}
}

// A Redis that answers and takes no writes is left alone until it does, with one line in the log.
func TestAFullRedisIsLeftAlone(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	_, users, messages := fixture(t, e.db.SQL, "group", 21, 1)
	if err := e.rdb.ConfigSet(t.Context(), "maxmemory", "1").Err(); err != nil {
		t.Fatal(err)
	}
	for _, u := range users[1:] {
		if err := e.service.Read(t.Context(), u, messages[0], ""); err != nil {
			t.Fatal(err)
		}
		time.Sleep(50 * time.Millisecond) // several probes' time in all
	}
	if n := e.count(`SELECT count(*) FROM read_receipts`); n != 20 {
		t.Errorf("%d rows of 20 reads", n)
	}
	if n := strings.Count(e.log.String(), "redis does not accept reads"); n != 1 {
		t.Errorf("the log says so %d times", n)
	}
	if err := e.rdb.ConfigSet(t.Context(), "maxmemory", "0").Err(); err != nil {
		t.Fatal(err)
	}
	testenv.Eventually(t, 60*time.Second, func() bool { return strings.Contains(e.log.String(), "redis accepts reads again") }, "it is used again")
}
