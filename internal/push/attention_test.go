package push

import (
	"log/slog"
	"testing"
	"time"

	"github.com/parley-chat/parley/internal/testenv"
)

// Two pods note activity; the dispatcher sees it, whichever pod heard of it.
func TestAttentionIsSeenAcrossPods(t *testing.T) {
	t.Parallel()
	db, server := openDB(t), testenv.NewRedis(t)
	rdb := server.Client(t)
	u := testenv.Users(t, db.SQL, 3)
	if err := newTestService(db).Put(t.Context(), u[2], "", "d", tokenOf("t")); err != nil { // somebody gets pushes
		t.Fatal(err)
	}
	a, b := NewAttention(db.SQL, rdb, slog.New(slog.DiscardHandler)), NewAttention(db.SQL, rdb, slog.New(slog.DiscardHandler))
	for _, x := range []*Attention{a, b} {
		runPart(t, x.Run)
		testenv.Eventually(t, 30*time.Second, x.used.Load, "the pod learns that there are pushes")
	}
	w := NewWatch(rdb)
	active := func(userID string) bool {
		t.Helper()
		m, err := w.Active(t.Context(), u)
		if err != nil {
			t.Fatal(err)
		}
		return m[userID]
	}
	if active(u[0]) {
		t.Fatal("active before anything")
	}
	a.Focus(t.Context(), u[0], "session", "laptop", true)
	if !active(u[0]) || active(u[1]) {
		t.Error("a focus is not seen, or is somebody else's")
	}
	a.Note(u[0], "session")
	testenv.Eventually(t, 30*time.Second, func() bool { return rdb.ZCard(t.Context(), "push_active:"+u[0]).Val() == 2 }, "what the session does is noted")
	b.Focus(t.Context(), u[0], "session", "laptop", false)
	if active(u[0]) {
		t.Error("active after the focus ended")
	}
	a.Focus(t.Context(), u[0], "s1", "laptop", true)
	a.Focus(t.Context(), u[0], "s2", "phone", true)
	b.Focus(t.Context(), u[0], "s2", "phone", false)
	if !active(u[0]) {
		t.Error("the end of one device's focus ended another's")
	}
	if ttl := rdb.PTTL(t.Context(), "push_active:"+u[0]).Val(); ttl <= 0 || ttl > activeFor {
		t.Errorf("the key lives for %s", ttl)
	}
	b.Note(u[1], "")
	testenv.Eventually(t, 30*time.Second, func() bool { return active(u[1]) }, "what another kind of token does is noted")
	mustExec(t, db, `DELETE FROM push_devices`)
	testenv.Eventually(t, 30*time.Second, func() bool { return !a.used.Load() }, "the pod learns that there are none any more")
	a.Note(u[2], "s")
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.pending) != 0 {
		t.Error("something is noted though nobody gets pushes")
	}
}
