package receipt_test

import (
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/parley-chat/parley/internal/rediskey"
)

// Redis's clock may step back, as when a replica takes over: what was touched by the old one is flushed all the same.
func TestWhatWasTouchedAheadOfTheClockIsFlushed(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	c, users, messages := fixture(t, e.db.SQL, "group", 3, 3)
	ahead := float64(time.Now().Add(time.Hour).UnixMilli())
	e.pending(messages, users[1:])
	e.rdb.ZAdd(t.Context(), rediskey.DirtyMessages, redis.Z{Score: ahead, Member: messages[0]})
	e.rdb.HSet(t.Context(), "read_markers:"+users[2], c, "2")
	e.rdb.ZAdd(t.Context(), rediskey.DirtyReaders, redis.Z{Score: ahead, Member: users[2]})
	e.flush(e.flusher())
	if got := e.count(`SELECT count(*) FROM read_receipts`); got != 6 {
		t.Errorf("%d rows of 6", got)
	}
	e.empty()
}

// A row that somebody has locked holds up its own message alone.
func TestALockedMessageHoldsUpNoOther(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	_, users, messages := fixture(t, e.db.SQL, "group", 4, 20)
	e.pending(messages, users[1:])
	tx, err := e.db.SQL.Begin()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback() }()
	for _, query := range []string{`SET LOCAL idle_in_transaction_session_timeout = 0`, `SELECT FROM messages WHERE id = '` + messages[7] + `' FOR UPDATE`} {
		if _, err := tx.Exec(query); err != nil {
			t.Fatal(err)
		}
	}
	e.flush(e.flusher())
	if got := e.count(`SELECT count(*) FROM read_receipts`); got != 19*3 {
		t.Errorf("%d rows of %d", got, 19*3)
	}
	if n := e.rdb.ZCard(t.Context(), "read_batch:"+messages[7]).Val(); n != 3 {
		t.Errorf("%d readers are left of the one that is locked", n)
	}
}
