package receipt_test

import (
	"context"
	"sync/atomic"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/parley-chat/parley/internal/audit"
	"github.com/parley-chat/parley/internal/id"
	"github.com/parley-chat/parley/internal/receipt"
	"github.com/parley-chat/parley/internal/testenv"
)

// A read by a key that Redis has already accepted changes nothing, and so has no further entry: also one of a message before the marker.
func TestARepeatedReadByAKeyHasOneEntry(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	_, u, sent := fixture(t, e.db.SQL, "group", 3, 5)
	reader := u[1]
	byKey := func(messageID string) {
		t.Helper()
		ctx := audit.WithRequest(t.Context(), audit.Actor{UserID: reader, KeyID: id.New()}, audit.Entry{Action: "message.read", TargetType: "message", TargetID: messageID})
		if err := e.service.Read(ctx, reader, messageID, ""); err != nil {
			t.Fatal(err)
		}
	}
	byKey(sent[4])
	e.flush(e.flusher())
	byKey(sent[2])
	byKey(sent[2])
	for _, m := range []string{sent[4], sent[2]} {
		if n := e.count(`SELECT count(*) FROM audit_log WHERE target_id = $1`, m); n != 1 {
			t.Errorf("%d entries of the read of %s", n, m)
		}
	}
}

// A key that marks all conversations of a user again changes nothing. Redis is asked for all of them at once, however many they are.
func TestRepeatedReadsOfAllByAKeyHaveOneEntry(t *testing.T) {
	t.Parallel()
	const conversations = 20
	server := testenv.Redis(t)
	rdb := server.Client(t)
	e := newEnvOn(t, server, rdb)
	reader := testenv.User(t, e.db.SQL)
	for range conversations {
		c, _, sent := fixture(t, e.db.SQL, "group", 2, 1)
		e.exec(`INSERT INTO conversation_members (conversation_id, user_id, role) VALUES ($1, $2, 'member')`, c, reader)
		e.exec(`UPDATE conversations SET last_message_id = $2 WHERE id = $1`, c, sent[0])
	}
	byKey := func() {
		t.Helper()
		ctx := audit.WithRequest(t.Context(), audit.Actor{UserID: reader, KeyID: id.New()}, audit.Entry{Action: "user.read_all", TargetType: "user", TargetID: reader})
		if err := e.service.ReadMany(ctx, reader, &receipt.ReadMany{All: true}); err != nil {
			t.Fatal(err)
		}
	}
	byKey()
	var trips alone
	rdb.AddHook(&trips)
	byKey()
	if n := e.count(`SELECT count(*) FROM audit_log WHERE target_id = $1`, reader); n != 1 {
		t.Errorf("%d entries of two equal requests", n)
	}
	if n := trips.Load(); n > 0 {
		t.Errorf("%d readers were looked up with a round trip of their own", n)
	}
}

// alone counts look-ups of a reader that have a round trip of their own.
type alone struct{ atomic.Int64 }

func (*alone) DialHook(next redis.DialHook) redis.DialHook { return next }
func (a *alone) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if cmd.Name() == "zscore" {
			a.Add(1)
		}
		return next(ctx, cmd)
	}
}
func (*alone) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}
