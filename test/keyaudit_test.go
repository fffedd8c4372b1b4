package test

import (
	"encoding/base64"
	"slices"
	"strings"
	"testing"
)

// TestEveryWriteOfAKeyHasItsEntry makes every operation of server keys that changes something. The change and its entries of the audit log
// must be of one transaction, and repeated requests must have no entry.
func TestEveryWriteOfAKeyHasItsEntry(t *testing.T) {
	t.Parallel()
	r := newRecorder(t, "act,users,conversations,messages,tokens,moderation,keys",
		"PARLEY_BOOTSTRAP_KEY="+bootstrapKey, "PARLEY_SECRETS_KEY="+base64.StdEncoding.EncodeToString([]byte(strings.Repeat("k", 32))))
	c := newCast(t, r.p)
	var own write
	for _, w := range serverCommits(r.key) {
		if own = w.make(c); w.name != "DELETE /api/server/keys/{id}" {
			r.expectEntry(w.name, own)
		}
	}
	for _, name := range commitOrder {
		if strings.Contains(name, "/api/server/webhooks") {
			r.expectEntry(name, commits[name](c))
		}
	}
	own.token = bootstrapKey
	r.expectEntry("DELETE /api/server/keys/{id}", own)
}

// repeatable are the operations that change nothing when they are repeated.
var repeatable = []string{
	"PUT /api/server/users", "POST /api/server/users/{user}/deactivate", "POST /api/server/users/{user}/reactivate",
	"DELETE /api/server/users/{user}/ban", "POST /api/server/conversations/{conversation}/members",
	"POST /api/server/conversations/{conversation}/messages", "DELETE /api/server/messages/{id}",
}

// expectEntry makes the request of an operation by a key, and checks that it has entries in the transaction of its change, and that a repeat has
// neither.
func (r *recorder) expectEntry(operation string, w write) {
	r.Helper()
	r.key = w.token
	_, entries, writes := r.request(w.status, user{}, w.method, w.path, w.body)
	if len(entries) == 0 {
		r.Errorf("%s has no entry", operation)
	}
	if !strings.Contains(w.path, "/server/keys") { // the table of keys is not watched: it has the times of their use
		r.expectOneTransaction(operation, entries, writes)
	}
	if !slices.Contains(repeatable, operation) {
		return
	}
	if w.status == 201 {
		w.status = 200
	}
	r.changesNothing(w.status, user{}, w.method, w.path, w.body)
}

// expectOneTransaction checks that entries were written by the only transaction that changed anything.
func (r *recorder) expectOneTransaction(operation string, entries []entry, writes []string) {
	r.Helper()
	for _, e := range entries {
		if !slices.Equal(writes, []string{e.xid}) {
			r.Errorf("%s has the entries %v, and the transactions %v, want one for all", operation, entries, writes)
		}
	}
}
