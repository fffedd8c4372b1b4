package directory

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/parley-chat/parley/internal/postgres"
	"github.com/parley-chat/parley/internal/principal"
)

const (
	// watchEvery is how often Postgres is asked whose standing changed.
	watchEvery = 2 * time.Second
	// watchMargin is how far a look reaches back beyond the one before: further than a statement takes to commit.
	watchMargin = postgres.StatementTimeout + 10*time.Second
	// recheck is how long others may remember a user without asking for the standing again.
	recheck = 5 * time.Minute
)

// Watch is a pod's set of banned and deactivated users. It refuses their requests and closes their sockets, within five
// seconds of the change on any pod, and without a query a request: the user of a new token is looked up when it is issued or
// accepted, and the user of an older token had it before the change, which the watch has seen.
//
// Its methods may be called by any goroutine.
type Watch struct {
	db  *postgres.DB
	log *slog.Logger
	// keep is how long a token may be good without anybody asking how its user stands.
	keep time.Duration
	// onBar is called for each user who may no longer use Parley, once per change, with the reason.
	onBar func(userID string, why error)

	mu    sync.RWMutex // guards what follows
	users map[string]standing
	ready bool

	lastLook time.Time // of Run's goroutine alone
	failing  bool
}

type standing struct {
	principal.Standing
	seen time.Time
}

// NewWatch makes a watch for access tokens of the TTL. onBar must not block.
func NewWatch(db *postgres.DB, accessTTL time.Duration, log *slog.Logger, onBar func(userID string, why error)) *Watch {
	keep := max(accessTTL, recheck) + watchMargin
	return &Watch{db: db, log: log, keep: keep, onBar: onBar, users: map[string]standing{}, lastLook: time.Now().Add(-keep)}
}

// Check is nil for a user in good standing as far as the pod knows, else what principal.Standing's Err says.
func (w *Watch) Check(userID string) error {
	w.mu.RLock()
	s, ok := w.users[userID]
	w.mu.RUnlock()
	if !ok {
		return nil
	}
	return s.Err(time.Now())
}

var errNotLooked = errors.New("the standings of users have not been read yet")

// Ready is nil once the changes before the process began are known.
func (w *Watch) Ready() error {
	w.mu.RLock()
	defer w.mu.RUnlock()
	if !w.ready {
		return errNotLooked
	}
	return nil
}

// Note records a user's standing. A standing older than the known one changes nothing.
func (w *Watch) Note(userID string, s principal.Standing) {
	if s.ChangedAt.IsZero() {
		return // never anything but good
	}
	now := time.Now()
	w.mu.Lock()
	before, known := w.users[userID]
	if known && s.ChangedAt.Before(before.ChangedAt) {
		w.mu.Unlock()
		return
	}
	w.users[userID] = standing{s, now}
	w.mu.Unlock()
	if err := s.Err(now); err != nil && (!known || s.ChangedAt.After(before.ChangedAt)) {
		w.onBar(userID, err)
	}
}

// Run asks Postgres until ctx ends, at once and then every two seconds.
func (w *Watch) Run(ctx context.Context) error {
	t := time.NewTicker(watchEvery)
	defer t.Stop()
	for {
		w.look(ctx)
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
	}
}

func (w *Watch) look(ctx context.Context) {
	start := time.Now()
	ctx, cancel := context.WithTimeout(ctx, postgres.StatementTimeout)
	defer cancel()
	if err := w.read(ctx, watchMargin+start.Sub(w.lastLook)); err != nil {
		if !w.failing && ctx.Err() == nil {
			w.log.Warn("postgres cannot be asked for the standings of users", "error", err)
		}
		w.failing = true
		return
	}
	w.failing, w.lastLook = false, start
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ready = true
	for u, s := range w.users {
		if start.Sub(s.seen) > w.keep {
			delete(w.users, u)
		}
	}
}

// read notes the standings that changed within the last while.
func (w *Watch) read(ctx context.Context, within time.Duration) error {
	err := postgres.Each(ctx, w.db.SQL, func(r postgres.Row) error {
		var userID string
		var s scanned
		if err := r.Scan(append([]any{&userID}, s.dest()...)...); err != nil {
			return err
		}
		w.Note(userID, s.standing())
		return nil
	}, `SELECT id, `+standingColumns+` FROM users
		WHERE standing_changed_at >= clock_timestamp() - make_interval(secs => $1)`, within.Seconds())
	if err != nil {
		return fmt.Errorf("read the standings of users: %w", err)
	}
	return nil
}

const standingColumns = `deleted_at IS NOT NULL, deactivated_at IS NOT NULL, banned_at IS NOT NULL, banned_until, standing_changed_at`

// scanned receives standingColumns.
type scanned struct {
	deleted, deactivated, banned bool
	until, changed               sql.NullTime
}

func (s *scanned) dest() []any {
	return []any{&s.deleted, &s.deactivated, &s.banned, &s.until, &s.changed}
}

func (s *scanned) standing() principal.Standing {
	return principal.Standing{Deleted: s.deleted, Deactivated: s.deactivated, Banned: s.banned, Until: s.until.Time, ChangedAt: s.changed.Time}
}

// Look reads how a user stands, whose standing has just been changed on this pod. What fails the next look of Run makes up for.
func (w *Watch) Look(ctx context.Context, userID string) { _ = w.Standing(ctx, userID) }

// Standing reads how a user stands, notes it and returns Check's verdict. An unknown user is in good standing.
func (w *Watch) Standing(ctx context.Context, userID string) error {
	return w.StandingIn(ctx, w.db.SQL, userID)
}

// StandingIn is Standing in a transaction.
func (w *Watch) StandingIn(ctx context.Context, q postgres.Querier, userID string) error {
	var s scanned
	err := q.QueryRowContext(ctx, `SELECT `+standingColumns+` FROM users WHERE id = $1`, userID).Scan(s.dest()...)
	if errors.Is(err, sql.ErrNoRows) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read the standing of a user: %w", err)
	}
	w.Note(userID, s.standing())
	return s.standing().Err(time.Now())
}
