package receipt_test

import (
	"testing"

	"github.com/parley-chat/parley/internal/audit"
	"github.com/parley-chat/parley/internal/id"
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
