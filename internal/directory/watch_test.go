package directory_test

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/parley-chat/parley/internal/directory"
	"github.com/parley-chat/parley/internal/id"
	"github.com/parley-chat/parley/internal/postgres"
	"github.com/parley-chat/parley/internal/principal"
	"github.com/parley-chat/parley/internal/testenv"
)

// patience is how long a test waits for a watch, which asks every two seconds.
const patience = 20 * time.Second

type bar struct {
	userID string
	why    error
}

// runWatch runs the watch of another pod until the test ends.
func runWatch(t *testing.T, db *postgres.DB, log *slog.Logger) (*directory.Watch, chan bar) {
	t.Helper()
	bars := make(chan bar, 10)
	w := directory.NewWatch(db, time.Minute, log, func(userID string, why error) { bars <- bar{userID, why} })
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	if w.Ready() == nil {
		t.Error("ready before it asked Postgres")
	}
	go func() { ended <- w.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("the watch ended with %v", err)
		}
	})
	return w, bars
}

func TestAWatchSeesTheChangesOfOtherPods(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	early, late, good := o.hire("Early"), o.hire("Late"), o.hire("Good")
	o.ban(early, "spam", in(time.Hour))
	w, bars := runWatch(t, o.db, slog.New(slog.DiscardHandler))
	if b := testenv.Receive(t, bars, patience, "the ban before the start"); b.userID != early || !errors.Is(b.why, principal.ErrBanned) {
		t.Errorf("barred %+v", b)
	}
	testenv.Eventually(t, patience, func() bool { return w.Ready() == nil }, "the watch is ready")
	if _, err := o.Deactivate(t.Context(), late); err != nil {
		t.Fatal(err)
	}
	if b := testenv.Receive(t, bars, patience, "the user who was deactivated"); b.userID != late || !errors.Is(b.why, principal.ErrDeactivated) {
		t.Errorf("barred %+v, which is not new", b)
	}
	if w.Check(good) != nil || !errors.Is(w.Check(late), principal.ErrDeactivated) {
		t.Errorf("in good standing: %v, deactivated: %v", w.Check(good), w.Check(late))
	}
	if _, err := o.Unban(t.Context(), early); err != nil {
		t.Fatal(err)
	}
	testenv.Eventually(t, patience, func() bool { return w.Check(early) == nil }, "the ban is lifted")
}

// While Postgres is unavailable a watch is not ready and says so in the log once.
func TestAWatchOutlivesAnOutageOfPostgres(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	ada := o.hire("Ada")
	o.ban(ada, "spam", nil)
	o.exec(`ALTER TABLE users RENAME TO users_away`)
	log := &testenv.Output{}
	w, bars := runWatch(t, o.db, slog.New(slog.NewTextHandler(log, nil)))
	const warning = "cannot be asked for the standings"
	testenv.Eventually(t, patience, func() bool { return log.Count(warning) == 1 }, "a warning")
	if w.Ready() == nil || w.Check(ada) != nil {
		t.Error("the watch knows what it could not read")
	}
	o.exec(`ALTER TABLE users_away RENAME TO users`)
	if b := testenv.Receive(t, bars, patience, "the ban"); b.userID != ada {
		t.Errorf("barred %+v", b)
	}
	testenv.Eventually(t, patience, func() bool { return w.Ready() == nil }, "the watch is ready")
	if got := log.Count(warning); got != 1 {
		t.Errorf("%d warnings, want one for the outage", got)
	}
}

func TestNoteKeepsTheNewestStanding(t *testing.T) {
	t.Parallel()
	bars := 0
	w := directory.NewWatch(nil, time.Minute, slog.New(slog.DiscardHandler), func(string, error) { bars++ })
	now, u := time.Now(), id.New()
	w.Note(u, principal.Standing{Deleted: true}) // never changed
	if err := w.Check(u); err != nil || bars != 0 {
		t.Errorf("a standing that never changed: %v, %d reports", err, bars)
	}
	for range 2 {
		w.Note(u, principal.Standing{Banned: true, ChangedAt: now})
	}
	w.Note(u, principal.Standing{ChangedAt: now.Add(-time.Second)})
	if err := w.Check(u); !errors.Is(err, principal.ErrBanned) || bars != 1 {
		t.Errorf("after an older standing: %v, %d reports", err, bars)
	}
	w.Note(u, principal.Standing{ChangedAt: now.Add(time.Second)})
	if err := w.Check(u); err != nil || bars != 1 {
		t.Errorf("after a newer standing: %v, %d reports", err, bars)
	}
}

func TestStandingNotesWhatItReads(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	ada := o.hire("Ada")
	if err := o.watch.Standing(t.Context(), id.New()); err != nil {
		t.Errorf("an unknown user: %v", err)
	}
	o.exec(`UPDATE users SET deleted_at = now() WHERE id = $1`, ada)
	if err := o.watch.Check(ada); err != nil {
		t.Errorf("before it is read: %v", err)
	}
	if err := o.watch.Standing(t.Context(), ada); !errors.Is(err, principal.ErrUnauthorized) || !errors.Is(o.watch.Check(ada), principal.ErrUnauthorized) {
		t.Errorf("a deleted user: %v, then %v", err, o.watch.Check(ada))
	}
}
