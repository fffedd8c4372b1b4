package test

import (
	"database/sql"
	"syscall"
	"testing"
	"time"

	"github.com/parley-chat/parley/internal/client"
	"github.com/parley-chat/parley/internal/testenv"
)

// link is the URL from which a user downloads a file.
func (p *pod) link(t testing.TB, u user, id string) string {
	t.Helper()
	var r struct{ Data []struct{ URL string } }
	p.want(t, 200, u.token, "POST", "/api/attachments/urls", map[string]any{"ids": []string{id}}).into(t, &r)
	if len(r.Data) != 1 {
		t.Fatalf("%d links for %s", len(r.Data), id)
	}
	return r.Data[0].URL
}

// wantFile downloads a link and checks the storage's status.
func wantFile(t testing.TB, status int, link string) {
	t.Helper()
	r, err := client.Server{Base: link, HTTP: httpClient}.Do(t.Context(), "GET", "", nil)
	if err != nil {
		t.Fatal(err)
	}
	if r.Status != status {
		t.Errorf("the storage returns %d for a link, want %d", r.Status, status)
	}
}

// The storage's key is rotated as docs/operating.md says, with pods and workers of two steps side by side. Links of the old key work until the
// storage refuses it; after that a client gets 403 from the storage and requests another link.
func TestTheStorageKeyRotates(t *testing.T) {
	t.Parallel()
	const older, newer = "older", "newer"
	storage := testenv.Storage(t)
	accept := func(keys ...string) {
		pairs := map[string]string{}
		for _, k := range keys {
			pairs[k] = k + " secret"
		}
		storage.Accept(pairs)
	}
	pair := func(key string) []string {
		return []string{"PARLEY_S3_ACCESS_KEY=" + key, "PARLEY_S3_SECRET_KEY=" + key + " secret"}
	}
	accept(older)
	s := start(t, 0, append(storage.Settings(), "PARLEY_UPLOAD_SWEEP_INTERVAL=1s", "PARLEY_UPLOAD_UNSENT_TTL=1h")...)
	was := s.addPod(pair(older)...)
	ana := was.register(t)
	body := []byte("some text")
	stored := was.upload(t, ana, "stored.txt", "text/plain", body)
	s.addBeside("receipt-worker", pair(older)...)
	pending, late := was.announce(t, ana, "pending.txt", "text/plain", len(body)), was.announce(t, ana, "late.txt", "text/plain", len(body))
	link := was.link(t, ana, stored)

	// Both keys hold: the pods of both steps serve each other's files.
	accept(older, newer)
	next := s.addPod(pair(newer)...)
	s.addBeside("receipt-worker", pair(newer)...)
	wantFile(t, 200, link)
	wantFile(t, 200, next.link(t, ana, stored))
	if status := pending.put(t, body); status != 200 {
		t.Errorf("an upload with a link of the old key gets %d", status)
	}
	next.want(t, 200, ana.token, "POST", "/api/uploads/"+pending.ID+"/complete", nil)
	beside := next.announce(t, ana, "beside.txt", "text/plain", len(body))
	if status := beside.put(t, body); status != 200 {
		t.Errorf("an upload with a link of the new key gets %d", status)
	}
	was.want(t, 200, ana.token, "POST", "/api/uploads/"+beside.ID+"/complete", nil)
	wantFile(t, 200, was.link(t, ana, beside.ID))

	// The old key is removed once no pod has it: only what it signed is refused, and the same request gets a link that works.
	was.Signal(syscall.SIGTERM)
	was.Wait(time.Minute)
	accept(newer)
	wantFile(t, 403, link)
	if status := late.put(t, body); status != 403 {
		t.Errorf("an upload with a link of the removed key gets %d", status)
	}
	next.want(t, 409, ana.token, "POST", "/api/uploads/"+late.ID+"/complete", nil)
	wantFile(t, 200, next.link(t, ana, stored))
	again := next.upload(t, ana, "late.txt", "text/plain", body)

	db, err := sql.Open("pgx", s.pg)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.Exec(`UPDATE attachments SET created_at = now() - interval '2 hours', upload_expires_at = now() - interval '1 hour' WHERE id <> $1`, again); err != nil {
		t.Fatal(err)
	}
	testenv.Eventually(t, time.Minute, func() bool {
		left := storage.Objects()
		return len(left) == 1 && left[0] == "attachments/"+again
	}, "the workers remove what the old key stored, although one still has that key")
}
