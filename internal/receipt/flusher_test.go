package receipt_test

import (
	"context"
	"log/slog"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"

	"github.com/parley-chat/parley/internal/receipt"
	"github.com/parley-chat/parley/internal/rediskey"
	"github.com/parley-chat/parley/internal/testenv"
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
	f := e.flusher()
	testenv.Eventually(t, 30*time.Second, func() bool { // a busy machine may leave some for the next flush
		e.flush(f)
		return e.count(`SELECT count(*) FROM read_receipts`) == 19*3
	}, "all others are written")
	if n := e.rdb.ZCard(t.Context(), "read_batch:"+messages[7]).Val(); n != 3 {
		t.Errorf("%d readers are left of the one that is locked", n)
	}
}

// beforeScripts calls a function before each pipeline of scripts of a client.
type beforeScripts func()

func (beforeScripts) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) { return next(ctx, network, addr) }
}
func (beforeScripts) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }
func (f beforeScripts) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		if slices.ContainsFunc(cmds, func(c redis.Cmder) bool { return strings.HasPrefix(c.Name(), "eval") }) {
			f()
		}
		return next(ctx, cmds)
	}
}

// What comes between the insert and the removal stays for the next flush.
func TestARemovalTakesWhatWasWrittenAndNoMore(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	ctx := t.Context()
	c, users, messages := fixture(t, e.db.SQL, "group", 4, 5)
	m, idle, marks := messages[0], messages[1], "read_markers:"+users[2]
	e.pending(messages[:1], users[1:3])
	at := e.rdb.ZScore(ctx, "read_batch:"+m, users[1]).Val()
	e.rdb.HSet(ctx, marks, c, 2)
	e.rdb.ZAdd(ctx, rediskey.DirtyReaders, redis.Z{Score: 1, Member: users[2]})
	e.rdb.ZAdd(ctx, rediskey.DirtyMessages, redis.Z{Score: at - 2*float64(receipt.Linger.Milliseconds()), Member: idle})
	rdb := e.server.Client(t)
	rdb.AddHook(beforeScripts(func() {
		e.rdb.HIncrBy(ctx, marks, c, 1)
		if e.rdb.ZScore(ctx, "read_batch:"+m, users[2]).Err() != nil {
			return // the receipts were removed
		}
		e.rdb.ZAdd(ctx, "read_batch:"+m, redis.Z{Score: at + 5, Member: users[1]}, redis.Z{Score: at + 6, Member: users[3]})
		e.rdb.Set(ctx, "read_count:"+m, 3, 0)
		e.rdb.ZAdd(ctx, rediskey.DirtyMessages, redis.Z{Score: at, Member: idle})
	}))
	f := e.flusherOn(rdb)
	e.flush(f)
	want := []redis.Z{{Score: at + 5, Member: users[1]}, {Score: at + 6, Member: users[3]}}
	if left := e.rdb.ZRangeWithScores(ctx, "read_batch:"+m, 0, -1).Val(); !slices.Equal(left, want) {
		t.Errorf("%v is left, want %v", left, want)
	}
	if n := e.rdb.Get(ctx, "read_count:"+m).Val(); n != "2" {
		t.Errorf("read_count is %q", n)
	}
	written := e.count(`SELECT last_read_seq FROM conversation_members WHERE user_id = $1`, users[2])
	if seq, err := e.rdb.HGet(ctx, marks, c).Int(); err != nil || written < 2 || seq <= written {
		t.Errorf("of a marker that moved %d is written, and %d left, %v", written, seq, err)
	}
	if e.rdb.ZScore(ctx, rediskey.DirtyMessages, idle).Err() != nil {
		t.Error("an id that was touched has left its index")
	}
}

// A marker that waited while Postgres moved on moves nothing back.
func TestAFlushMovesNoMarkerBack(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	c, users, _ := fixture(t, e.db.SQL, "group", 3, 5)
	e.exec(`UPDATE conversation_members SET last_read_seq = 4 WHERE user_id = $1`, users[1])
	e.rdb.HSet(t.Context(), "read_markers:"+users[1], c, 2)
	e.rdb.ZAdd(t.Context(), rediskey.DirtyReaders, redis.Z{Score: 1, Member: users[1]})
	e.flush(e.flusher())
	if n := e.count(`SELECT last_read_seq FROM conversation_members WHERE user_id = $1`, users[1]); n != 4 {
		t.Errorf("the marker is at %d", n)
	}
	e.empty()
}

// A worker that was paused between its write and its removal goes on after another one has flushed the same rows, and after their readers
// have read again.
func TestOverlappingFlushesWriteEachRowOnce(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	ctx := t.Context()
	c, users, messages := fixture(t, e.db.SQL, "group", 3, 5)
	m, marks := messages[0], "read_markers:"+users[1]
	e.pending(messages[:1], users[1:])
	at := e.rdb.ZScore(ctx, "read_batch:"+m, users[1]).Val()
	e.rdb.HSet(ctx, marks, c, 2)
	e.rdb.ZAdd(ctx, rediskey.DirtyReaders, redis.Z{Score: 1, Member: users[1]})
	other := receipt.NewFlusher(e.db.SQL, e.rdb, time.Second, nil, receipt.NewFlushMetrics(prometheus.NewRegistry()), slog.New(slog.DiscardHandler))
	paused := 0
	rdb := e.server.Client(t)
	rdb.AddHook(beforeScripts(func() {
		paused++
		if paused == 1 { // before the receipts are removed
			e.rdb.Del(ctx, rediskey.FlushLease)
			e.flush(other)
			e.rdb.ZAdd(ctx, "read_batch:"+m, redis.Z{Score: at + 5, Member: users[1]})
		}
		e.rdb.HSet(ctx, marks, c, 2+paused)
	}))
	e.flush(e.flusherOn(rdb))
	if paused != 2 {
		t.Fatalf("the flush was paused %d times, want once for receipts and once for markers", paused)
	}
	if score := e.rdb.ZScore(ctx, "read_batch:"+m, users[1]).Val(); score != at+5 {
		t.Errorf("of the read that came meanwhile %v is left, want %v", score, at+5)
	}
	if left, err := e.rdb.HGet(ctx, marks, c).Int(); left != 4 {
		t.Errorf("of the marker that moved meanwhile %d is left, want 4, %v", left, err)
	}
	e.flush(other)
	e.empty()
	rows := e.count(`SELECT count(*) FROM read_receipts WHERE message_id = $1`, m)
	first := e.count(`SELECT (extract(epoch FROM read_at) * 1000)::bigint FROM read_receipts WHERE message_id = $1 AND user_id = $2`, m, users[1])
	if rows != 2 || first != int(at) {
		t.Errorf("%d rows of 2, the first reader's of %d, want %d", rows, first, int(at))
	}
	if seq := e.count(`SELECT last_read_seq FROM conversation_members WHERE user_id = $1`, users[1]); seq != 4 {
		t.Errorf("the marker is at %d, want 4", seq)
	}
}
