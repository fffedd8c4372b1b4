package test

import (
	"database/sql"
	"encoding/binary"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/parley-chat/parley/internal/client"
	"github.com/parley-chat/parley/internal/testenv"
)

// ticket is how to upload a file.
type ticket struct {
	ID, URL, Method, ExpiresAt string
	Headers                    map[string]string
}

// pngFile is a PNG's header of that size in pixels, 40 bytes long.
func pngFile(w, h uint32) []byte {
	b := []byte("\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR")
	b = binary.BigEndian.AppendUint32(b, w)
	b = binary.BigEndian.AppendUint32(b, h)
	return append(b, make([]byte, 40-len(b))...)
}

// announce notes an upload.
func (p *pod) announce(t testing.TB, u user, filename, contentType string, size int) ticket {
	t.Helper()
	var k ticket
	p.want(t, 201, u.token, "POST", "/api/uploads", map[string]any{"filename": filename, "contentType": contentType, "size": size}).into(t, &k)
	return k
}

// put stores a file as its ticket says, and returns the storage's status.
func (k ticket) put(t testing.TB, body []byte) int {
	t.Helper()
	var headers []string
	for name, v := range k.Headers {
		headers = append(headers, name, v)
	}
	r, err := client.Server{Base: k.URL, HTTP: httpClient}.Do(t.Context(), k.Method, "", string(body), headers...)
	if err != nil {
		t.Fatal(err)
	}
	return r.Status
}

// upload stores a file and completes it.
func (p *pod) upload(t testing.TB, u user, filename, contentType string, body []byte) string {
	t.Helper()
	k := p.announce(t, u, filename, contentType, len(body))
	if status := k.put(t, body); status != 200 {
		t.Fatalf("the storage answers %d", status)
	}
	p.want(t, 200, u.token, "POST", "/api/uploads/"+k.ID+"/complete", nil)
	return k.ID
}

// links are the ids of the files that a user gets links for.
func (p *pod) links(t testing.TB, u user, ids ...string) string {
	t.Helper()
	var r struct {
		Data []struct{ ID, URL, ExpiresAt string }
	}
	p.want(t, 200, u.token, "POST", "/api/attachments/urls", map[string]any{"ids": ids}).into(t, &r)
	var out []string
	for _, l := range r.Data {
		out = append(out, l.ID)
	}
	return strings.Join(out, " ")
}

// stays follows no redirect.
var stays = &http.Client{Timeout: httpClient.Timeout, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}

// fetch follows the redirect to a file.
func (p *pod) fetch(t testing.TB, u user, id string) (status int, header http.Header, body []byte) {
	t.Helper()
	res, err := client.Server{Base: p.url, Token: u.token, HTTP: stays}.Do(t.Context(), "GET", "/api/attachments/"+id, nil)
	if err != nil {
		t.Fatal(err)
	}
	if res.Status != 302 {
		return res.Status, res.Header, nil
	}
	if c := res.Header.Get("Cache-Control"); c != "no-store" {
		t.Errorf("the redirect may be kept: %q", c)
	}
	file, err := client.Server{Base: res.Header.Get("Location"), HTTP: httpClient}.Do(t.Context(), "GET", "", nil)
	if err != nil {
		t.Fatal(err)
	}
	return file.Status, file.Header, file.Body
}

func TestFilesOverTheAPI(t *testing.T) {
	t.Parallel()
	storage := testenv.Storage(t)
	s := start(t, 2, append(storage.Settings(), "PARLEY_RATE_LIMIT_AUTH=off", "PARLEY_RATE_LIMIT_UPLOAD=off")...)
	p, q := s.pods[0], s.pods[1]
	ana, ben := p.register(t), p.register(t)

	t.Run("rules", func(t *testing.T) { refusedUploads(t, p, ana) })
	t.Run("a picture of 10,000 by 10,000 pixels in 40 bytes", func(t *testing.T) { hugePicture(t, p, q, ana, ben) })
	t.Run("HTML named png", func(t *testing.T) { htmlNamedPNG(t, p, ana) })
	t.Run("storage away", func(t *testing.T) { uploadWhileStorageIsDown(t, p, ana, storage) })
	if n := metric(t, p.ops, `parley_uploads_total{state="ready"}`) + metric(t, q.ops, `parley_uploads_total{state="ready"}`); n != 2 {
		t.Errorf("%v uploads are counted as ready", n)
	}
}

// refusedUploads checks what is not accepted as an upload or as the id of a file.
func refusedUploads(t *testing.T, p *pod, ana user) {
	t.Helper()
	for _, c := range []struct {
		body   map[string]any
		status int
		code   string
	}{
		{map[string]any{"filename": "", "contentType": "png", "size": 0}, 400, "invalid_request"},
		{map[string]any{"filename": "a", "contentType": "image/png", "size": 1, "url": "x"}, 400, "invalid_request"},
		{map[string]any{"filename": "a", "contentType": "image/png", "size": 25<<20 + 1}, 413, "payload_too_large"},
		{map[string]any{"filename": "a", "contentType": "text/html", "size": 1}, 415, "type_not_allowed"},
	} {
		if a := p.want(t, c.status, ana.token, "POST", "/api/uploads", c.body); a.code() != c.code {
			t.Errorf("%v is %s", c.body, a.code())
		}
	}
	p.want(t, 401, "", "POST", "/api/uploads", map[string]any{"filename": "a", "contentType": "image/png", "size": 1})
	p.want(t, 400, ana.token, "POST", "/api/attachments/urls", map[string]any{"ids": []string{}})
	for _, id := range []string{"x", "019ab2c3-0000-7000-8000-0000000000f0"} {
		if a := p.want(t, 404, ana.token, "GET", "/api/attachments/"+id, nil); a.code() != "attachment_not_found" {
			t.Errorf("%s is %s", id, a.code())
		}
		p.want(t, 404, ana.token, "POST", "/api/uploads/"+id+"/complete", nil)
	}
}

// hugePicture checks that a picture is measured without being decoded, whichever pods complete it, and that only its owner has it.
func hugePicture(t *testing.T, p, q *pod, ana, ben user) {
	t.Helper()
	k := p.announce(t, ana, "большой “файл”; a=\"b\".png", "image/png", 40)
	if a := p.want(t, 409, ana.token, "POST", "/api/uploads/"+k.ID+"/complete", nil); a.code() != "not_uploaded" {
		t.Errorf("before the upload: %s", a.code())
	}
	if status := k.put(t, pngFile(10_000, 10_000)); status != 200 {
		t.Fatalf("the storage answers %d", status)
	}
	completeAtOnce(t, ana, k, p, q, p, q)
	status, header, body := q.fetch(t, ana, k.ID)
	if status != 200 || len(body) != 40 || header.Get("Content-Type") != "image/png" || !strings.HasPrefix(header.Get("Content-Disposition"), "inline; ") {
		t.Errorf("fetched: %d, %v", status, header)
	}
	if status, _, _ := q.fetch(t, ben, k.ID); status != 404 {
		t.Errorf("a stranger gets %d", status)
	}
	if got := q.links(t, ben, k.ID); got != "" {
		t.Errorf("a stranger gets a link for %s", got)
	}
	p.want(t, 404, ben.token, "POST", "/api/uploads/"+k.ID+"/complete", nil)
}

// completeAtOnce completes an upload at all pods at the same time. Each must return the same picture.
func completeAtOnce(t *testing.T, u user, k ticket, pods ...*pod) {
	t.Helper()
	want := fmt.Sprintf(`{"id":"%s","state":"ready","contentType":"image/png","size":40,"width":10000,"height":10000}`, k.ID)
	var wg sync.WaitGroup
	for _, pod := range pods {
		wg.Go(func() {
			a := pod.call(t, u.token, "POST", "/api/uploads/"+k.ID+"/complete", nil)
			if a.status != 200 || string(a.body) != want {
				t.Errorf("completed: %d %s", a.status, a.body)
			}
		})
	}
	wg.Wait()
}

// htmlNamedPNG checks that a file that is not of its announced type stays refused.
func htmlNamedPNG(t *testing.T, p *pod, ana user) {
	t.Helper()
	html := []byte("<!DOCTYPE html><script>alert(1)</script>")
	k := p.announce(t, ana, "cat.png", "image/png", len(html))
	k.put(t, html)
	for range 2 {
		if a := p.want(t, 422, ana.token, "POST", "/api/uploads/"+k.ID+"/complete", nil); a.code() != "upload_mismatch" {
			t.Errorf("it is %s", a.code())
		}
	}
	if status, _, _ := p.fetch(t, ana, k.ID); status != 404 {
		t.Errorf("it is fetched: %d", status)
	}
}

// uploadWhileStorageIsDown checks that the pod stays ready, though degraded, and that an upload is completed once the storage is back.
func uploadWhileStorageIsDown(t *testing.T, p *pod, ana user, storage *testenv.ObjectStorage) {
	t.Helper()
	body := []byte("hello")
	k := p.announce(t, ana, "a.txt", "text/plain", len(body))
	k.put(t, body)
	storage.Stop()
	p.awaitStorage(t, "down")
	expectContains(t, "readiness", p.want(t, 200, "", "GET", "/api/health/ready", nil).body, `"status":"degraded"`)
	a := p.want(t, 503, ana.token, "POST", "/api/uploads/"+k.ID+"/complete", nil)
	if a.code() != "unavailable" || a.header.Get("Retry-After") == "" {
		t.Errorf("completed: %v %s", a.header, a.body)
	}
	storage.Start()
	p.want(t, 200, ana.token, "POST", "/api/uploads/"+k.ID+"/complete", nil)
	p.awaitStorage(t, "up")
}

// awaitStorage waits until readiness reports that state of the storage.
func (p *pod) awaitStorage(t testing.TB, state string) {
	t.Helper()
	testenv.Eventually(t, 20*time.Second, func() bool {
		a := p.call(t, "", "GET", "/api/health/ready", nil)
		return a.code() == "" && strings.Contains(string(a.body), `"storage":"`+state+`"`)
	}, "readiness reports that the storage is %s", state)
}

// withFiles is a message as its members see it.
type withFiles struct {
	ID, Content string
	Attachments []struct {
		ID, Filename, ContentType string
		Size                      int64
		Width, Height             int
	}
}

func TestFilesInMessages(t *testing.T) {
	t.Parallel()
	storage := testenv.Storage(t)
	s := start(t, 2, append(storage.Settings(), "PARLEY_RATE_LIMIT_AUTH=off")...)
	p, q := s.pods[0], s.pods[1]
	users := p.users(t, 4)
	ana, ben, cem, stranger := users[0], users[1], users[2], users[3]
	group := p.group(t, ana, ben, cem)
	path := "/api/conversations/" + group.ID + "/messages"
	sock := q.open(t, ben)
	picture := p.upload(t, ana, "cat.png", "image/png", pngFile(3, 4))
	unsent := p.upload(t, ana, "b.txt", "text/plain", []byte("b"))

	var sent, heard withFiles
	body := map[string]any{"content": "", "clientMessageId": "c-1", "attachments": []string{picture}}
	p.want(t, 201, ana.token, "POST", path, body).into(t, &sent)
	sock.until("message:new", 20*time.Second).into(t, &heard)
	t.Run("the sender and the others get the same", func(t *testing.T) {
		if len(sent.Attachments) != 1 || sent.Attachments[0].ID != picture || sent.Attachments[0].Width != 3 || sent.Attachments[0].Filename != "cat.png" {
			t.Errorf("the response has the files %+v, want cat.png, %s, 3 pixels wide", sent.Attachments, picture)
		}
		if !slices.Equal(heard.Attachments, sent.Attachments) {
			t.Errorf("the event has the files %+v, want %+v", heard.Attachments, sent.Attachments)
		}
	})
	t.Run("a repeat is the same message", func(t *testing.T) {
		q.call(t, ana.token, "POST", path, body).check(t, "repeated", 200, "")
		other := map[string]any{"content": "", "clientMessageId": "c-1", "attachments": []string{unsent}}
		p.call(t, ana.token, "POST", path, other).check(t, "another file under the same clientMessageId", 409, "client_message_id_reused")
	})
	for name, c := range map[string]struct {
		sender user
		body   map[string]any
	}{
		"a file is sent once":                {ana, map[string]any{"content": "again", "attachments": []string{picture}}},
		"a file is sent by its owner":        {ben, map[string]any{"content": "not mine", "attachments": []string{unsent}}},
		"a message has a text if not a file": {ana, map[string]any{"content": ""}},
	} {
		t.Run(name, func(t *testing.T) { p.want(t, 400, c.sender.token, "POST", path, c.body) })
	}
	t.Run("members read it", func(t *testing.T) {
		q.expectReadable(t, picture, true, map[string]user{"ana": ana, "ben": ben, "cem": cem})
		q.expectReadable(t, picture, false, map[string]user{"a stranger": stranger})
	})
	t.Run("a removed member does not", func(t *testing.T) {
		p.want(t, 204, ana.token, "DELETE", "/api/conversations/"+group.ID+"/members/"+cem.ID, nil)
		q.expectReadable(t, picture, true, map[string]user{"ana": ana, "ben": ben})
		q.expectReadable(t, picture, false, map[string]user{"the removed cem": cem})
	})
	t.Run("nobody does once the message is deleted", func(t *testing.T) {
		p.want(t, 204, ana.token, "DELETE", "/api/messages/"+sent.ID, nil)
		q.expectReadable(t, picture, false, map[string]user{"ana": ana, "ben": ben, "cem": cem})
		var page struct{ Data []withFiles }
		q.want(t, 200, ben.token, "GET", path, nil).into(t, &page)
		if len(page.Data) != 1 || page.Data[0].Attachments != nil {
			t.Errorf("the list is %+v, want the deleted message without files", page.Data)
		}
	})
}

// expectReadable checks that each of the users gets a link to the file and can fetch it, or neither.
func (p *pod) expectReadable(t *testing.T, file string, readable bool, users map[string]user) {
	t.Helper()
	for name, u := range users {
		if got := p.links(t, u, file); (got == file) != readable {
			t.Errorf("%s gets links for %q, want one for the file: %v", name, got, readable)
		}
		if status, _, _ := p.fetch(t, u, file); (status == 200) != readable {
			t.Errorf("%s fetches the file with status %d, want that it succeeds: %v", name, status, readable)
		}
	}
}

// A bot's back end uploads for it, sends what it uploaded by a server key, and takes the text away again.
func TestFilesByAServerKey(t *testing.T) {
	t.Parallel()
	storage := testenv.Storage(t)
	s := start(t, 1, append(storage.Settings(), "PARLEY_BOOTSTRAP_KEY="+bootstrapKey)...)
	p := s.pods[0]
	testenv.Eventually(t, 10*time.Second, func() bool { return p.call(t, bootstrapKey, "GET", "/api/server/keys", nil).status == 200 }, "the key is made")
	p.want(t, 200, bootstrapKey, "PUT", "/api/server/users", map[string]any{"users": []map[string]any{
		{"externalId": "bot", "displayName": "Bot", "kind": "bot"}, {"externalId": "ana", "displayName": "Ana"}, {"externalId": "ben", "displayName": "Ben"},
	}})
	p.want(t, 201, bootstrapKey, "PUT", "/api/server/conversations/ext:room", map[string]any{"name": "Room", "members": []map[string]any{{"user": "ext:ana"}}})
	upload := func(as string) string {
		t.Helper()
		var k ticket
		p.want(t, 201, bootstrapKey, "POST", "/api/uploads", map[string]any{"filename": "chart.png", "contentType": "image/png", "size": 40}, "Parley-User", as).into(t, &k)
		if status := k.put(t, pngFile(3, 4)); status != 200 {
			t.Fatalf("the storage answers %d", status)
		}
		p.want(t, 200, bootstrapKey, "POST", "/api/uploads/"+k.ID+"/complete", nil, "Parley-User", as)
		return k.ID
	}
	bots, anas := upload("ext:bot"), upload("ext:ana")
	const path = "/api/server/conversations/ext:room/messages"
	draft := func(clientID string, files ...string) map[string]any {
		return map[string]any{"sender": "ext:bot", "content": "", "clientMessageId": clientID, "attachments": append([]string{}, files...)}
	}
	if a := p.want(t, 400, bootstrapKey, "POST", path, draft("c-1", anas)); a.problem(t).fields() != "attachments" {
		t.Errorf("somebody else's file: %s", a.body)
	}
	if a := p.want(t, 400, bootstrapKey, "POST", path, draft("c-1")); a.problem(t).fields() != "content" {
		t.Errorf("nothing at all: %s", a.body)
	}
	var m withFiles
	p.want(t, 201, bootstrapKey, "POST", path, draft("c-1", bots)).into(t, &m)
	if len(m.Attachments) != 1 || m.Attachments[0].ID != bots || m.Attachments[0].Width != 3 {
		t.Errorf("sent: %+v", m)
	}
	p.want(t, 200, bootstrapKey, "POST", path, draft("c-1", bots))
	p.want(t, 400, bootstrapKey, "POST", path, draft("c-2", bots))
	for as, want := range map[string]int{"ext:ana": 302, "ext:bot": 302, "ext:ben": 404} {
		if got := p.status(t, "/api/attachments/"+bots, bootstrapKey, as); got != want {
			t.Errorf("%s gets %d for the file, want %d", as, got, want)
		}
	}
	for _, content := range []string{"text", "", "text"} {
		p.want(t, 200, bootstrapKey, "PATCH", "/api/server/messages/"+m.ID, map[string]any{"content": content}).into(t, &m)
	}
	if len(m.Attachments) != 1 {
		t.Errorf("edited: %+v", m)
	}
	p.want(t, 204, bootstrapKey, "DELETE", "/api/server/messages/"+m.ID, nil)
	if got := p.status(t, "/api/attachments/"+bots, bootstrapKey, "ext:ana"); got != 404 {
		t.Errorf("the file of a deleted message: %d", got)
	}
}

// status is that of a GET for a user, without following a redirect.
func (p *pod) status(t testing.TB, path, key, as string) int {
	t.Helper()
	res, err := client.Server{Base: p.url, Token: key, HTTP: stays}.Do(t.Context(), "GET", path, nil, "Parley-User", as)
	if err != nil {
		t.Fatal(err)
	}
	return res.Status
}

func TestWithoutStorageThereAreNoFiles(t *testing.T) {
	t.Parallel()
	p := start(t, 1).pods[0]
	ana := p.register(t)
	for _, c := range []struct {
		method, path string
		body         any
	}{
		{"POST", "/api/uploads", map[string]any{"filename": "a", "contentType": "image/png", "size": 1}},
		{"POST", "/api/uploads", map[string]any{}},
		{"POST", "/api/uploads/019ab2c3-0000-7000-8000-0000000000f0/complete", nil},
		{"POST", "/api/attachments/urls", map[string]any{"ids": []string{"019ab2c3-0000-7000-8000-0000000000f0"}}},
		{"GET", "/api/attachments/019ab2c3-0000-7000-8000-0000000000f0", nil},
	} {
		if a := p.want(t, 404, ana.token, c.method, c.path, c.body); a.code() != "storage_not_configured" {
			t.Errorf("%s %s is %s", c.method, c.path, a.code())
		}
	}
	if a := p.want(t, 200, "", "GET", "/api/health/ready", nil); strings.Contains(string(a.body), "storage") {
		t.Errorf("readiness is %s", a.body)
	}
}

// Two workers remove what was not sent in time, once the storage is back.
func TestWorkersRemoveWhatWasNotSent(t *testing.T) {
	t.Parallel()
	storage := testenv.Storage(t)
	s := start(t, 1, append(storage.Settings(), "PARLEY_UPLOAD_SWEEP_INTERVAL=1s", "PARLEY_UPLOAD_UNSENT_TTL=1h")...)
	p := s.pods[0]
	ana := p.register(t)
	old, young := p.upload(t, ana, "a.txt", "text/plain", []byte("old")), p.upload(t, ana, "b.txt", "text/plain", []byte("young"))
	db, err := sql.Open("pgx", s.pg)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.Exec(`UPDATE attachments SET created_at = now() - interval '2 hours', upload_expires_at = now() - interval '1 hour' WHERE id = $1`, old); err != nil {
		t.Fatal(err)
	}
	storage.Stop()
	for range 2 {
		s.addBeside("receipt-worker")
	}
	rows := func() (n int) {
		if err := db.QueryRow(`SELECT count(*) FROM attachments`).Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	var state string
	testenv.Eventually(t, time.Minute, func() bool {
		return db.QueryRow(`SELECT state FROM attachments WHERE id = $1`, old).Scan(&state) == nil && state == "removed"
	}, "a worker gives the file up")
	storage.Start()
	testenv.Eventually(t, time.Minute, func() bool { return rows() == 1 }, "a worker removes the file")
	if left := storage.Objects(); len(left) != 1 || left[0] != "attachments/"+young {
		t.Errorf("%v are left", left)
	}
}
