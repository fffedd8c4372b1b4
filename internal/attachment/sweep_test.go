package attachment_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/parley-chat/parley/internal/attachment"
	"github.com/parley-chat/parley/internal/testenv"
)

var discard = slog.New(slog.DiscardHandler)

func newRegistry() *prometheus.Registry { return prometheus.NewRegistry() }

func indexOf(list []string, s string) int { return slices.Index(list, s) }

func TestWhatIsNotSentInTimeGoes(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ana := testenv.User(t, w.db)
	c := w.conversation(t, ana)
	unsent := w.upload(t, ana, "a.txt", "text/plain", text(10))
	sent := w.upload(t, ana, "b.txt", "text/plain", text(10))
	w.send(t, c, ana, sent.ID)
	w.announce(t, ana, "never stored", "text/plain", 10)
	stored := w.announce(t, ana, "stored, never completed", "text/plain", 10)
	if got := w.put(t, &stored, text(10), nil); got != http.StatusOK {
		t.Fatal(got)
	}
	now := time.Now()
	if err := w.sweeper.SweepAt(t.Context(), now.Add(24*time.Hour-time.Minute)); err != nil || w.rows(t) != 4 || !w.sees(t, ana, unsent.ID) {
		t.Errorf("before its time: %v, %d rows", err, w.rows(t))
	}
	if err := w.sweeper.SweepAt(t.Context(), now.Add(24*time.Hour+time.Minute)); err != nil {
		t.Fatal(err)
	}
	if left := w.storage.Objects(); w.rows(t) != 1 || len(left) != 1 || left[0] != "attachments/"+sent.ID {
		t.Errorf("%v and %d rows are left", left, w.rows(t))
	}
	if w.sees(t, ana, unsent.ID) || !w.sees(t, ana, sent.ID) {
		t.Error("the wrong file went")
	}
}

func TestAThousandDeletedFilesAreGoneWithinAnHour(t *testing.T) {
	t.Parallel()
	const files = 1000
	w := newWorld(t)
	ana := testenv.User(t, w.db)
	c := w.conversation(t, ana)
	var wg sync.WaitGroup
	work := make(chan int, files)
	for i := range files {
		work <- i
	}
	close(work)
	var mu sync.Mutex
	var ids []string
	for range 8 {
		wg.Go(func() {
			for i := range work {
				f := w.upload(t, ana, fmt.Sprintf("%d.txt", i), "text/plain", text(10))
				mu.Lock()
				ids = append(ids, f.ID)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	for part := range slices.Chunk(ids, 10) {
		w.send(t, c, ana, part...)
	}
	if n := len(w.storage.Objects()); n != files || w.rows(t) != files {
		t.Fatalf("%d objects and %d rows of %d", n, w.rows(t), files)
	}
	w.exec(t, `UPDATE messages SET deleted_at = now(), content = ''`)
	// Two workers, whose ticks are a quarter of an hour apart, the first at the worst moment.
	deleted := time.Now()
	for tick := 14*time.Minute + 59*time.Second; tick < time.Hour; tick += 15 * time.Minute {
		at := deleted.Add(tick)
		for range 2 {
			wg.Go(func() {
				if err := w.sweeper.SweepAt(t.Context(), at); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if n := len(w.storage.Objects()); n != 0 {
			t.Errorf("after %s %d objects are left", tick, n)
		}
	}
	if n := w.rows(t); n != 0 {
		t.Errorf("%d rows are left after an hour", n)
	}
}

func TestMessagesThatAreDroppedTakeTheirFiles(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ana := testenv.User(t, w.db)
	c := w.conversation(t, ana)
	m := w.send(t, c, ana, w.upload(t, ana, "a.txt", "text/plain", text(10)).ID, w.upload(t, ana, "b.txt", "text/plain", text(10)).ID)
	kept := w.upload(t, ana, "c.txt", "text/plain", text(10))
	w.send(t, c, ana, kept.ID)
	w.exec(t, `DELETE FROM messages WHERE id = $1`, m)
	if err := w.sweeper.SweepAt(t.Context(), time.Now().Add(45*time.Minute)); err != nil {
		t.Fatal(err)
	}
	if left := w.storage.Objects(); w.rows(t) != 1 || len(left) != 1 || left[0] != "attachments/"+kept.ID {
		t.Errorf("%v and %d rows are left", left, w.rows(t))
	}
}

func TestADeletedConversationTakesItsFiles(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ana := testenv.User(t, w.db)
	gone, kept := w.conversation(t, ana), w.conversation(t, ana)
	files := []string{}
	for range 3 {
		files = append(files, w.upload(t, ana, "a.txt", "text/plain", text(10)).ID)
	}
	w.send(t, gone, ana, files[:2]...)
	w.send(t, kept, ana, files[2])
	w.exec(t, `UPDATE conversations SET deleted_at = now() WHERE id = $1`, gone)
	if w.sees(t, ana, files[0]) || !w.sees(t, ana, files[2]) {
		t.Error("the sender sees files of a deleted conversation, or none of another")
	}
	if err := w.sweeper.SweepAt(t.Context(), time.Now().Add(45*time.Minute)); err != nil {
		t.Fatal(err)
	}
	if left := w.storage.Objects(); w.rows(t) != 1 || len(left) != 1 || left[0] != "attachments/"+files[2] {
		t.Errorf("%v and %d rows are left", left, w.rows(t))
	}
}

// While the storage is unavailable each step says so; once it is back each can be repeated, and housekeeping leaves nothing.
func TestTheStorageIsAwayAtEachStep(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ana := testenv.User(t, w.db)
	c := w.conversation(t, ana)
	ready := w.upload(t, ana, "a.txt", "text/plain", text(10))
	stored := w.announce(t, ana, "b.txt", "text/plain", 10)
	w.put(t, &stored, text(10), nil)
	deleted := w.upload(t, ana, "c.txt", "text/plain", text(10))
	m := w.send(t, c, ana, deleted.ID)
	if err := w.service.Check(t.Context()); err != nil {
		t.Error(err)
	}

	w.storage.Stop()
	if err := w.service.Check(t.Context()); err == nil {
		t.Error("the check sees a storage that is not there")
	}
	if _, err := w.service.Complete(t.Context(), stored.ID, ana); !errors.Is(err, attachment.ErrUnavailable) {
		t.Errorf("completed: %v", err)
	}
	if _, err := w.service.Complete(t.Context(), ready.ID, ana); err != nil {
		t.Errorf("a repeated completion needs no storage: %v", err)
	}
	announced := w.announce(t, ana, "d.txt", "text/plain", 10) // signing needs no storage
	if !w.sees(t, ana, ready.ID) {
		t.Error("a link needs no storage")
	}
	w.exec(t, `UPDATE messages SET deleted_at = now(), content = '' WHERE id = $1`, m)
	later := time.Now().Add(45 * time.Minute)
	if err := w.sweeper.SweepAt(t.Context(), later); err == nil || w.rows(t) != 4 {
		t.Errorf("swept: %v, %d rows", err, w.rows(t))
	}

	w.storage.Start()
	if _, err := w.service.Complete(t.Context(), stored.ID, ana); err != nil {
		t.Errorf("completed once it is back: %v", err)
	}
	w.put(t, &announced, text(10), nil)
	if _, err := w.service.Complete(t.Context(), announced.ID, ana); err != nil {
		t.Errorf("announced while it was unavailable: %v", err)
	}
	if err := w.sweeper.SweepAt(t.Context(), later); err != nil || w.rows(t) != 3 || len(w.storage.Objects()) != 3 {
		t.Errorf("swept: %v, %d rows, %v", err, w.rows(t), w.storage.Objects())
	}
	if err := w.sweeper.SweepAt(t.Context(), time.Now().Add(25*time.Hour)); err != nil || w.rows(t) != 0 || len(w.storage.Objects()) != 0 {
		t.Errorf("swept a day later: %v, %d rows, %v", err, w.rows(t), w.storage.Objects())
	}
}

// A storage that hangs holds nobody longer than its deadline.
func TestTheStorageHangs(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ana := testenv.User(t, w.db)
	stored := w.announce(t, ana, "b.txt", "text/plain", 10)
	w.put(t, &stored, text(10), nil)
	w.storage.Pause()
	defer w.storage.Resume()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	if _, err := w.service.Complete(ctx, stored.ID, ana); !errors.Is(err, attachment.ErrUnavailable) {
		t.Errorf("completed: %v", err)
	}
	w.storage.Resume()
	if _, err := w.service.Complete(t.Context(), stored.ID, ana); err != nil {
		t.Error(err)
	}
}

// A worker that is killed after it removed objects and before it dropped the rows is followed by one that does the rest.
func TestASweepThatWasCutOffIsRepeated(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ana := testenv.User(t, w.db)
	c := w.conversation(t, ana)
	var ids []string
	for range 5 {
		ids = append(ids, w.upload(t, ana, "a.txt", "text/plain", text(10)).ID)
	}
	w.send(t, c, ana, ids...)
	w.exec(t, `UPDATE messages SET deleted_at = now(), content = ''`)
	for _, f := range ids[:3] { // what the killed one had removed
		if err := w.objects.Remove(t.Context(), "attachments/"+f); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.sweeper.SweepAt(t.Context(), time.Now().Add(45*time.Minute)); err != nil || w.rows(t) != 0 || len(w.storage.Objects()) != 0 {
		t.Errorf("swept: %v, %d rows, %v", err, w.rows(t), w.storage.Objects())
	}
}

func TestWithoutStorageTheServiceSaysSo(t *testing.T) {
	t.Parallel()
	s := attachment.NewService(rules, nil, nil, attachment.NewMetrics(newRegistry()), discard)
	_, create := s.Create(t.Context(), "", &attachment.Upload{})
	_, complete := s.Complete(t.Context(), "", "")
	_, links := s.Links(t.Context(), "", &attachment.Wanted{})
	for _, err := range []error{create, complete, links} {
		if !errors.Is(err, attachment.ErrNotConfigured) {
			t.Error(err)
		}
	}
	if s.Check(t.Context()) != nil || s.Configured() {
		t.Error("there is no storage to check")
	}
}
