package attachment_test

import (
	"bytes"
	"database/sql"
	"encoding/binary"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/parley-chat/parley/internal/attachment"
	"github.com/parley-chat/parley/internal/id"
	"github.com/parley-chat/parley/internal/objectstore"
	"github.com/parley-chat/parley/internal/postgres"
	"github.com/parley-chat/parley/internal/testenv"
)

func TestMain(m *testing.M) { testenv.VerifyNoLeaks(m) }

// world is a database and a storage, with what a pod and a worker have of files.
type world struct {
	db      *sql.DB
	storage *testenv.ObjectStorage
	objects *objectstore.Store
	service *attachment.Service
	sweeper *attachment.Sweeper
	http    *http.Client
}

func newWorld(t testing.TB) *world {
	t.Helper()
	db, err := postgres.OpenPool(postgres.Config{URL: testenv.Postgres(t), MaxConns: 12, Application: "test"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	w := &world{db: db, storage: testenv.Storage(t), http: &http.Client{Transport: &http.Transport{}}}
	t.Cleanup(w.http.CloseIdleConnections)
	w.objects = w.open(t)
	metrics := attachment.NewMetrics(prometheus.NewRegistry())
	log := slog.New(slog.DiscardHandler)
	w.service = attachment.NewService(rules, db, w.objects, metrics, log)
	w.sweeper = attachment.NewSweeper(db, w.objects, 24*time.Hour, metrics, log)
	return w
}

var rules = attachment.Config{MaxSize: 25 << 20, Types: []string{"*"}, Denied: attachment.DefaultDenied}

// open is another client of the storage, as another pod has it.
func (w *world) open(t testing.TB) *objectstore.Store {
	t.Helper()
	s, err := objectstore.New(objectstore.Config{
		Endpoint: w.storage.URL(), Region: testenv.StorageRegion, Bucket: testenv.StorageBucket,
		AccessKey: testenv.StorageAccessKey, SecretKey: testenv.StorageSecretKey, PathStyle: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// announce notes an upload.
func (w *world) announce(t testing.TB, owner, filename, contentType string, size int) attachment.Ticket {
	t.Helper()
	ticket, err := w.service.Create(t.Context(), owner, &attachment.Upload{Filename: filename, ContentType: contentType, Size: int64(size)})
	if err != nil {
		t.Fatal(err)
	}
	return ticket
}

// put sends a body as the ticket says, with headers changed, and returns the storage's status.
func (w *world) put(t testing.TB, ticket *attachment.Ticket, body []byte, changed map[string]string) int {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), ticket.Method, ticket.URL, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for k, v := range ticket.Headers {
		r.Header.Set(k, v)
	}
	for k, v := range changed {
		r.Header.Del(k)
		if v != "" {
			r.Header.Set(k, v)
		}
	}
	res, err := w.http.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	_, _ = io.Copy(io.Discard, res.Body)
	return res.StatusCode
}

// upload announces and stores a file, and completes it.
func (w *world) upload(t testing.TB, owner, filename, contentType string, body []byte) attachment.Completed {
	t.Helper()
	ticket := w.announce(t, owner, filename, contentType, len(body))
	if got := w.put(t, &ticket, body, nil); got != http.StatusOK {
		t.Fatalf("the upload is answered %d", got)
	}
	c, err := w.service.Complete(t.Context(), ticket.ID, owner)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// conversation makes a conversation of the users.
func (w *world) conversation(t testing.TB, users ...string) string {
	t.Helper()
	c := id.New()
	w.exec(t, `INSERT INTO conversations (id, type, last_message_at, member_count, created_at) VALUES ($1, 'group', now(), $2, now())`, c, len(users))
	for _, u := range users {
		w.exec(t, `INSERT INTO conversation_members (conversation_id, user_id, role) VALUES ($1, $2, 'member')`, c, u)
	}
	return c
}

// send makes a message with the files, as a send does.
func (w *world) send(t testing.TB, conversationID, sender string, files ...string) string {
	t.Helper()
	m := id.New()
	w.exec(t, `INSERT INTO messages (id, conversation_id, seq, revision, sender_id, content, created_at)
		SELECT $1, $2, 1 + count(*), 2 + count(*), $3, '', now() FROM messages WHERE conversation_id = $2`, m, conversationID, sender)
	w.exec(t, `UPDATE attachments SET message_id = $1, conversation_id = $3 WHERE id = ANY ($2::text[]::uuid[])`, m, files, conversationID)
	return m
}

func (w *world) exec(t testing.TB, query string, args ...any) {
	t.Helper()
	if _, err := w.db.ExecContext(t.Context(), query, args...); err != nil {
		t.Fatal(err)
	}
}

func (w *world) rows(t testing.TB) (n int) {
	t.Helper()
	if err := w.db.QueryRowContext(t.Context(), `SELECT count(*) FROM attachments`).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

// sees reports whether the user gets a link, and that one request and a batch agree.
func (w *world) sees(t testing.TB, user, file string) bool {
	t.Helper()
	links, err := w.service.Links(t.Context(), user, &attachment.Wanted{IDs: []string{id.New(), file, file}})
	if err != nil {
		t.Fatal(err)
	}
	one, err := w.service.Link(t.Context(), user, file)
	if (err == nil) != (len(links) == 1) || err == nil && links[0].ID != one.ID {
		t.Fatalf("the batch has %v, the single link %v, %v", links, one, err)
	}
	return err == nil
}

// fetch downloads a link.
func (w *world) fetch(t testing.TB, url string) (*http.Response, []byte) {
	t.Helper()
	res, err := w.http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	return res, []byte(testenv.Body(t, res))
}

// png is a PNG of that size in pixels and bytes.
func png(w, h uint32, size int) []byte {
	b := []byte("\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR")
	b = binary.BigEndian.AppendUint32(b, w)
	b = binary.BigEndian.AppendUint32(b, h)
	return append(b, make([]byte, size-len(b))...)
}

func text(n int) []byte { return []byte(strings.Repeat("x", n)) }
