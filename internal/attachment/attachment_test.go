package attachment_test

import (
	"bytes"
	"errors"
	"math"
	"mime"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/parley-chat/parley/internal/attachment"
	"github.com/parley-chat/parley/internal/id"
	"github.com/parley-chat/parley/internal/testenv"
)

func TestAFileIsUploadedCheckedAndFetched(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ana := testenv.User(t, w.db)
	body := png(320, 200, 5000)
	c := w.upload(t, ana, `we "said" so; 文件 🎉.png`, "image/png", body)
	want := attachment.Completed{ID: c.ID, State: "ready", ContentType: "image/png", Size: 5000, Width: 320, Height: 200}
	if c != want {
		t.Errorf("completed as %+v, want %+v", c, want)
	}
	again, err := w.service.Complete(t.Context(), c.ID, ana)
	if err != nil || again != want {
		t.Errorf("repeated: %+v, %v", again, err)
	}
	link, err := w.service.Link(t.Context(), ana, c.ID)
	if err != nil {
		t.Fatal(err)
	}
	if left := time.Until(link.ExpiresAt.Time); left < 9*time.Minute || left > 10*time.Minute {
		t.Errorf("the link is valid for %s", left)
	}
	res, got := w.fetch(t, link.URL)
	kind, params, err := mime.ParseMediaType(res.Header.Get("Content-Disposition"))
	if res.StatusCode != http.StatusOK || !bytes.Equal(got, body) || res.Header.Get("Content-Type") != "image/png" ||
		err != nil || kind != "inline" || params["filename"] != `we "said" so; 文件 🎉.png` {
		t.Errorf("fetched: %d, %d bytes, %v", res.StatusCode, len(got), res.Header)
	}
	if res, _ := w.fetch(t, strings.Split(link.URL, "?")[0]); res.StatusCode != http.StatusForbidden {
		t.Errorf("without a signature: %d", res.StatusCode)
	}
}

func TestOnlyWhatWasAnnouncedIsStored(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ana := testenv.User(t, w.db)
	ticket := w.announce(t, ana, "a.txt", "text/plain", 10)
	if _, err := w.service.Complete(t.Context(), ticket.ID, ana); !errors.Is(err, attachment.ErrNotUploaded) {
		t.Errorf("completed before it was stored: %v", err)
	}
	for name, got := range map[string]int{
		"another size":      w.put(t, &ticket, text(11), nil),
		"another type":      w.put(t, &ticket, text(10), map[string]string{"Content-Type": "text/html"}),
		"without condition": w.put(t, &ticket, text(10), map[string]string{"If-None-Match": ""}),
	} {
		if got != http.StatusForbidden {
			t.Errorf("%s is answered %d", name, got)
		}
	}
	if got := w.put(t, &ticket, text(10), nil); got != http.StatusOK {
		t.Fatalf("what was announced is answered %d", got)
	}
	if got := w.put(t, &ticket, []byte("0123456789"), nil); got != http.StatusPreconditionFailed {
		t.Errorf("a second upload is answered %d", got)
	}
	if _, err := w.service.Complete(t.Context(), ticket.ID, ana); err != nil {
		t.Error(err)
	}
	if _, err := w.service.Complete(t.Context(), ticket.ID, testenv.User(t, w.db)); !errors.Is(err, attachment.ErrNotFound) {
		t.Errorf("another user completes it: %v", err)
	}
}

func TestWhatDoesNotFitIsRemoved(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ana := testenv.User(t, w.db)
	html := []byte("<!DOCTYPE html><script>alert(document.domain)</script>")
	ticket := w.announce(t, ana, "cat.png", "image/png", len(html))
	w.put(t, &ticket, html, nil)
	larger := w.announce(t, ana, "a.txt", "text/plain", 10)
	w.put(t, &larger, text(10), nil)
	w.exec(t, `UPDATE attachments SET size = 9 WHERE id = $1`, larger.ID) // a storage that signs no length
	for range 2 {
		for _, file := range []string{ticket.ID, larger.ID} {
			if c, err := w.service.Complete(t.Context(), file, ana); !errors.Is(err, attachment.ErrMismatch) {
				t.Errorf("completed: %+v, %v", c, err)
			}
			if w.sees(t, ana, file) {
				t.Error("a file that does not fit has a link")
			}
		}
	}
	if left := w.storage.Objects(); len(left) > 0 {
		t.Errorf("%v are left", left)
	}
	// Its URL is still valid, and makes the object again: housekeeping goes on until it is not.
	w.put(t, &ticket, html, nil)
	now := time.Now()
	if err := w.sweeper.SweepAt(t.Context(), now); err != nil || len(w.storage.Objects()) != 0 || w.rows(t) != 2 {
		t.Errorf("swept at once: %v, %v, %d rows", err, w.storage.Objects(), w.rows(t))
	}
	w.put(t, &ticket, html, nil)
	if err := w.sweeper.SweepAt(t.Context(), now.Add(31*time.Minute)); err != nil || len(w.storage.Objects()) != 0 || w.rows(t) != 0 {
		t.Errorf("swept later: %v, %v, %d rows", err, w.storage.Objects(), w.rows(t))
	}
}

func TestUploadsAreBounded(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ana, ben := testenv.User(t, w.db), testenv.User(t, w.db)
	for _, c := range []struct {
		u    attachment.Upload
		want error
	}{
		{attachment.Upload{Filename: "a", ContentType: "text/plain", Size: 25<<20 + 1}, attachment.ErrTooLarge},
		{attachment.Upload{Filename: "a", ContentType: "text/html", Size: 1}, attachment.ErrTypeNotAllowed},
		{attachment.Upload{Filename: "a", ContentType: "image/svg+xml", Size: 1}, attachment.ErrTypeNotAllowed},
		{attachment.Upload{Filename: "a", ContentType: "image/x-unheard-of", Size: 1}, attachment.ErrTypeNotAllowed},
		{attachment.Upload{Filename: "a", ContentType: "application/x-msdownload", Size: 1}, attachment.ErrTypeNotAllowed},
	} {
		if _, err := w.service.Create(t.Context(), ana, &c.u); !errors.Is(err, c.want) {
			t.Errorf("%+v: %v", c.u, err)
		}
	}
	// Two pods at once: 20 of 40 are taken.
	pods := []*attachment.Service{w.service, attachment.NewService(rules, w.db, w.open(t), attachment.NewMetrics(newRegistry()), discard)}
	var mu sync.Mutex
	taken, refused := 0, 0
	var wg sync.WaitGroup
	for i := range 40 {
		wg.Go(func() {
			_, err := pods[i%2].Create(t.Context(), ana, &attachment.Upload{Filename: "a", ContentType: "text/plain", Size: 1})
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil:
				taken++
			case errors.Is(err, attachment.ErrTooManyUploads):
				refused++
			default:
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if taken != 20 || refused != 20 {
		t.Errorf("%d taken, %d refused", taken, refused)
	}
	w.announce(t, ben, "a", "text/plain", 1)
	// Uploads whose URL expired are not in the way.
	w.exec(t, `UPDATE attachments SET upload_expires_at = now() - interval '1 second' WHERE owner_id = $1`, ana)
	w.announce(t, ana, "a", "text/plain", 1)
}

func TestTwoPodsCompleteAtOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ana := testenv.User(t, w.db)
	pods := []*attachment.Service{w.service, attachment.NewService(rules, w.db, w.open(t), attachment.NewMetrics(newRegistry()), discard)}
	for round := range 20 {
		body, want := png(3, 4, 100), error(nil)
		if round%2 == 1 {
			body, want = text(100), attachment.ErrMismatch
		}
		ticket := w.announce(t, ana, "a.png", "image/png", len(body))
		w.put(t, &ticket, body, nil)
		var wg sync.WaitGroup
		for i := range 8 {
			wg.Go(func() {
				c, err := pods[i%2].Complete(t.Context(), ticket.ID, ana)
				if !errors.Is(err, want) || err == nil && (c.State != "ready" || c.Width != 3) {
					t.Errorf("round %d: %+v, %v", round, c, err)
				}
			})
		}
		wg.Wait()
	}
	if n := len(w.storage.Objects()); n != 10 {
		t.Errorf("%d objects are left of 10", n)
	}
}

func TestWhoMayFetchAFileIsAskedEachTime(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	users := testenv.Users(t, w.db, 4)
	ana, ben, cem, stranger := users[0], users[1], users[2], users[3]
	c := w.conversation(t, ana, ben, cem)
	f := w.upload(t, ana, "a.txt", "text/plain", text(10)).ID
	pending := w.announce(t, ana, "b.txt", "text/plain", 10)
	see := func(when string, want map[string]bool) {
		t.Helper()
		for user, yes := range want {
			if w.sees(t, user, f) != yes {
				t.Errorf("%s: user %d sees it: %t", when, indexOf(users, user), !yes)
			}
		}
	}
	if w.sees(t, ana, pending.ID) {
		t.Error("an upload that is not complete has a link")
	}
	see("unsent", map[string]bool{ana: true, ben: false, stranger: false})
	m := w.send(t, c, ana, f)
	see("sent", map[string]bool{ana: true, ben: true, cem: true, stranger: false})
	w.exec(t, `DELETE FROM conversation_members WHERE user_id = ANY ($1::text[]::uuid[])`, []string{cem, ana})
	see("after a removal and the sender's leaving", map[string]bool{ana: true, ben: true, cem: false, stranger: false})
	w.exec(t, `UPDATE messages SET deleted_at = now(), content = '' WHERE id = $1`, m)
	see("deleted", map[string]bool{ana: false, ben: false, cem: false, stranger: false})
	if _, err := w.service.Complete(t.Context(), f, ana); !errors.Is(err, attachment.ErrNotFound) {
		t.Errorf("completed once more: %v", err)
	}
}

func TestDownloadsAreOfTheCheckedType(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ana := testenv.User(t, w.db)
	for _, c := range []struct{ announced, served, kind string }{
		{"text/plain", "text/plain", "attachment"},
		{"application/json", "application/json", "attachment"},
		{"application/octet-stream", "application/octet-stream", "attachment"},
	} {
		f := w.upload(t, ana, "page.html", c.announced, []byte("<script>alert(1)</script>"))
		link, err := w.service.Link(t.Context(), ana, f.ID)
		if err != nil {
			t.Fatal(err)
		}
		res, _ := w.fetch(t, link.URL)
		if kind, _, _ := strings.Cut(res.Header.Get("Content-Disposition"), ";"); kind != c.kind || res.Header.Get("Content-Type") != c.served {
			t.Errorf("%s is served as %v", c.announced, res.Header)
		}
	}
}

// A pod whose clock is off signs URLs that the storage takes, and which end within what housekeeping waits for.
func TestClocksFiveMinutesApart(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, off := range []time.Duration{-5 * time.Minute, 5 * time.Minute} {
		clock := time.Now().Add(off)
		var url string
		var headers map[string]string
		file := id.New()
		synctest.Test(t, func(t *testing.T) {
			time.Sleep(time.Until(clock)) // the bubble's clock begins in the year 2000
			var err error
			if url, headers, err = w.objects.PresignPut(t.Context(), "attachments/"+file, "text/plain", 5, 15*time.Minute); err != nil {
				t.Error(err)
			}
		})
		ticket := attachment.Ticket{URL: url, Method: http.MethodPut, Headers: headers}
		if got := w.put(t, &ticket, []byte("hello"), nil); got != http.StatusOK {
			t.Errorf("a clock that is off by %s: %d", off, got)
		}
	}
}

// A check reads the first bytes alone: a file of 20 MB costs no more memory than one of 20 KB.
func TestALargeFileCostsNoMemory(t *testing.T) { //nolint:paralleltest // it measures the process
	w := newWorld(t)
	ana := testenv.User(t, w.db)
	// The least of some tries, since a collection empties pools of buffers, which costs 40 KB more: until it is good enough. The file is made
	// once, so that the test's own garbage does not bring a collection each time.
	cost := func(size, tries int, enough uint64) uint64 {
		least, file := uint64(math.MaxUint64), png(10, 10, size)
		for range tries {
			if least <= enough {
				break
			}
			ticket := w.announce(t, ana, "a.png", "image/png", size)
			if got := w.put(t, &ticket, file, nil); got != http.StatusOK {
				t.Fatal(got)
			}
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			if _, err := w.service.Complete(t.Context(), ticket.ID, ana); err != nil {
				t.Fatal(err)
			}
			runtime.ReadMemStats(&after)
			least = min(least, after.TotalAlloc-before.TotalAlloc)
		}
		return least
	}
	small := cost(20<<10, 20, 0)
	large := cost(20<<20, 20, small+2*attachment.SniffLen)
	t.Logf("allocated by a completion: %d bytes of a file of 20 KB, %d of one of 20 MB", small, large)
	if large > small+2*attachment.SniffLen {
		t.Errorf("20 KB cost %d bytes, 20 MB %d", small, large)
	}
}
