package auth

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/parley-chat/parley/internal/postgres"
)

const (
	// watchEvery is how often ended sessions are read from Postgres.
	watchEvery = 2 * time.Second
	// watchMargin is how far a read reaches back before the previous one: longer than a statement takes to commit.
	watchMargin = postgres.StatementTimeout + 10*time.Second
)

// Watch is a pod's set of ended sessions. The pod refuses their access tokens until the last of these has expired. Watch reads
// the sessions from Postgres, and Note adds those that Redis announces. Its methods may be called concurrently.
type Watch struct {
	store *store
	log   *slog.Logger
	// keep is how long an access token may outlive its session.
	keep time.Duration
	// onEnd is called once for each session.
	onEnd func(sessionIDs ...string)

	mu    sync.RWMutex // guards ended and ready
	ended map[string]time.Time
	ready bool

	lastRead time.Time // of Run's goroutine alone
	failing  bool
}

// NewWatch makes a watch for access tokens with the TTL. onEnd is called once for each session that ended.
func NewWatch(db *postgres.DB, accessTTL time.Duration, log *slog.Logger, onEnd func(sessionIDs ...string)) *Watch {
	keep := accessTTL + 2*leeway + watchMargin // a token lives that long by the clock of this pod, if that of its issuer was ahead
	return &Watch{store: &store{db}, log: log, keep: keep, onEnd: onEnd, ended: map[string]time.Time{}, lastRead: time.Now().Add(-keep)}
}

// Ended reports whether the session has ended.
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

// Note adds sessions that ended.
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

// Run reads Postgres at once and then every two seconds, until ctx ends.
func (w *Watch) Run(ctx context.Context) error {
	t := time.NewTicker(watchEvery)
	defer t.Stop()
	for {
		w.readEnded(ctx)
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
	}
}

func (w *Watch) readEnded(ctx context.Context) {
	start := time.Now()
	ctx, cancel := context.WithTimeout(ctx, postgres.StatementTimeout)
	defer cancel()
	ended, err := w.store.endedSince(ctx, watchMargin+start.Sub(w.lastRead))
	if err != nil {
		if !w.failing {
			w.log.Warn("ended sessions cannot be read from postgres", "error", err)
		}
		w.failing = true
		return
	}
	w.failing, w.lastRead = false, start
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

// Lookup reads sessions from Postgres, whatever a Watch remembers of them.
type Lookup struct{ store *store }

// NewLookup makes a lookup.
func NewLookup(db *postgres.DB) *Lookup { return &Lookup{&store{db}} }

// Living reads which of the sessions exist and have not ended.
func (l *Lookup) Living(ctx context.Context, sessionIDs []string) (map[string]bool, error) {
	return l.store.living(ctx, sessionIDs)
}
