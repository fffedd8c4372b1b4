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
	repeatable := []string{
		"PUT /api/server/users", "POST /api/server/users/{user}/deactivate", "POST /api/server/users/{user}/reactivate",
		"DELETE /api/server/users/{user}/ban", "POST /api/server/conversations/{conversation}/members",
		"POST /api/server/conversations/{conversation}/messages", "DELETE /api/server/messages/{id}",
	}
	record := func(name string, w write) {
		t.Helper()
		r.key = w.token
		_, entries, writes := r.request(w.status, user{}, w.method, w.path, w.body)
		if len(entries) == 0 {
			t.Errorf("%s has no entry", name)
		}
		for _, e := range entries { // the table of keys is not watched: it has the times of their use
			if !slices.Equal(writes, []string{e.xid}) && !strings.Contains(w.path, "/server/keys") {
				t.Errorf("%s has the entries %v, and the transactions %v", name, entries, writes)
			}
		}
		if slices.Contains(repeatable, name) {
			if w.status == 201 {
				w.status = 200
			}
			r.changesNothing(w.status, user{}, w.method, w.path, w.body)
		}
	}
	var own write
	for _, w := range serverCommits(r.key) {
		if own = w.make(c); w.name != "DELETE /api/server/keys/{id}" {
			record(w.name, own)
		}
	}
	for _, name := range commitOrder {
		if strings.Contains(name, "/api/server/webhooks") {
			record(name, commits[name](c))
		}
	}
	own.token = bootstrapKey
	record("DELETE /api/server/keys/{id}", own)
}
