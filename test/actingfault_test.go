package test

import (
	"database/sql"
	"testing"
	"time"

	"github.com/parley-chat/parley/internal/testenv"
)

// actingWrites are changes of a group by a key, of each way in which changes are committed: a transaction, a batch of messages and a batch of
// reactions. changed is the number of rows that the change made, or that are as it made them.
var actingWrites = []struct {
	name, method, path string
	body               any
	changed            string
}{
	{"a transaction", "PATCH", "/api/conversations/{c}", anyJSON{"name": "renamed"}, `SELECT count(*) FROM conversations WHERE name = 'renamed'`},
	{"a message", "POST", "/api/conversations/{c}/messages", anyJSON{"content": "sent"}, `SELECT count(*) FROM messages WHERE content = 'sent'`},
	{"a reaction", "PUT", "/api/messages/{m}/reactions/x", nil, `SELECT count(*) FROM message_reactions`},
}

// The entry of an acting key's request is committed if and only if its change is: if the connections to Postgres are cut right after the
// commit both exist, and if the transaction is ended before its commit neither does.
func TestAFaultLeavesTheChangeAndItsEntryOrNeither(t *testing.T) {
	t.Parallel()
	s, proxy := behindCommitProxy(t)
	p := s.addPod()
	key := s.createKey(t, "back end", "act")
	u := p.register(t)
	p.want(t, 200, key, "GET", "/api/users/me", nil, "Parley-User", u.ID)
	testenv.Eventually(t, 10*time.Second, func() bool {
		return s.count(t, `SELECT count(*) FROM server_keys WHERE last_used_at IS NOT NULL`) == 1
	}, "the use of the key is noted")
	var worlds []things
	for range actingWrites {
		g := p.group(t, u)
		worlds = append(worlds, things{"c": g.ID, "m": p.send(t, u, g.ID, "hello").ID})
	}
	request := func(n int) (status, entries, changed int) {
		w := actingWrites[n]
		a := p.call(t, key, w.method, worlds[n].fill(w.path), w.body, "Parley-User", u.ID)
		return a.status, s.count(t, `SELECT count(*) FROM audit_log WHERE request_id = $1`, a.header.Get("X-Request-Id")), s.count(t, w.changed)
	}
	for n, w := range actingWrites {
		release := s.locked(t, worlds[n]["c"])
		done := make(chan struct{})
		var status, entries, changed int
		go func() {
			defer close(done)
			status, entries, changed = request(n)
		}()
		s.endWaiting(t)
		<-done
		release()
		if status < 500 || entries != 0 || changed != 0 {
			t.Errorf("%s, ended before the commit: %d, %d entries and %d changes", w.name, status, entries, changed)
		}
	}
	for n, w := range actingWrites {
		var status, entries, changed int
		cut := false
		for tries := 0; tries < 20 && !cut; tries++ { // a connection may have failed that was cut before
			proxy.Arm()
			status, entries, changed = request(n)
			cut = proxy.Mend() && changed > 0
		}
		if !cut || entries != 1 || changed != 1 {
			t.Errorf("%s, cut after the commit: %d, cut %t, %d entries and %d changes", w.name, status, cut, entries, changed)
		}
	}
}

// endWaiting ends the pod's transaction that waits for a lock, once there is one.
func (s *system) endWaiting(t *testing.T) {
	t.Helper()
	db, err := sql.Open("pgx", s.pg)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	testenv.Eventually(t, 20*time.Second, func() bool {
		var n int
		err := db.QueryRow(`SELECT count(*) FROM (SELECT pg_terminate_backend(pid) FROM pg_stat_activity
			WHERE datname = current_database() AND wait_event_type = 'Lock') ended`).Scan(&n)
		if err != nil {
			t.Fatal(err)
		}
		return n > 0
	}, "a transaction waits")
}
