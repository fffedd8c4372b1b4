package auth

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/parley-chat/parley/internal/postgres"
)

const (
	// watchEvery is how often Postgres is asked which sessions ended.
	watchEvery = 2 * time.Second
	// watchMargin is how far a look reaches back beyond the one before: further than a statement takes to commit.
	watchMargin = postgres.StatementTimeout + 10*time.Second
)

// Watch is what a pod knows of sessions that ended: it refuses their access tokens for as long as any can be alive. It
// asks Postgres, and takes in what Redis announces.
type Watch struct {
	store *store
	log   *slog.Logger
	// keep is how long an access token may outlive its session.
	keep time.Duration
	// onEnd is told of each session once.
	onEnd func(sessionIDs ...string)

	mu    sync.RWMutex // guards what follows
	ended map[string]time.Time
	ready bool

	lastLook time.Time // of Run's goroutine alone
	failing  bool
}

// NewWatch makes a watch for access tokens of the TTL. onEnd is told of each session that ended, once.
func NewWatch(db *postgres.DB, accessTTL time.Duration, log *slog.Logger, onEnd func(sessionIDs ...string)) *Watch {
	keep := accessTTL + 2*leeway + watchMargin // a token lives that long by the clock of this pod, if that of its issuer was ahead
	return &Watch{store: &store{db}, log: log, keep: keep, onEnd: onEnd, ended: map[string]time.Time{}, lastLook: time.Now().Add(-keep)}
}

// Ended tells whether the session has ended.
func (w *Watch) Ended(sessionID string) bool {
	w.mu.RLock()
	defer w.mu.RUnlock()
	_, ok := w.ended[sessionID]
	return ok
}

// Ready is nil once the sessions that ended before the process began are known.
func (w *Watch) Ready() error {
	w.mu.RLock()
	defer w.mu.RUnlock()
	if !w.ready {
		return errNotLooked
	}
	return nil
}

// Note takes in sessions that ended.
func (w *Watch) Note(sessionIDs ...string) {
	now := time.Now()
	var fresh []string
	w.mu.Lock()
	for _, s := range sessionIDs {
		if _, known := w.ended[s]; !known {
			w.ended[s] = now
			fresh = append(fresh, s)
		}
	}
	w.mu.Unlock()
	if len(fresh) > 0 {
		w.onEnd(fresh...)
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
	ended, err := w.store.endedSince(ctx, watchMargin+start.Sub(w.lastLook))
	if err != nil {
		if !w.failing {
			w.log.Warn("postgres cannot be asked for ended sessions", "error", err)
		}
		w.failing = true
		return
	}
	w.failing, w.lastLook = false, start
	w.Note(ended...)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ready = true
	for s, at := range w.ended {
		if start.Sub(at) > w.keep {
			delete(w.ended, s)
		}
	}
}

// Living reads which of the sessions exist and have not ended, also of those that were remembered to have ended.
func (w *Watch) Living(ctx context.Context, sessionIDs []string) (map[string]bool, error) {
	return w.store.living(ctx, sessionIDs)
}
