package directory

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/parley-chat/parley/internal/id"
	"github.com/parley-chat/parley/internal/postgres"
)

// maxKnown bounds the users that a pod remembers for keys that act for them.
const maxKnown = 65_536

// Resolver finds the users whom server keys name, by id or by "ext:" and the external id. What it found it remembers for as long as a
// standing may stay unasked, so that a key that acts for a user costs no query a request. Its methods may be called by any goroutine.
type Resolver struct {
	db    *postgres.DB
	watch *Watch

	mu    sync.RWMutex // guards known
	known map[string]resolved
}

type resolved struct {
	userID string
	at     time.Time
}

// NewResolver makes a resolver that has the watch note how the users stand.
func NewResolver(db *postgres.DB, w *Watch) *Resolver {
	return &Resolver{db: db, watch: w, known: map[string]resolved{}}
}

// externalPrefix marks a name that is an external id.
const externalPrefix = "ext:"

// Resolve returns the id of a user who is named by id or "ext:" and the external id, or ErrNotFound.
func (r *Resolver) Resolve(ctx context.Context, name string) (string, error) {
	r.mu.RLock()
	k, ok := r.known[name]
	r.mu.RUnlock()
	if ok && time.Since(k.at) < recheck {
		return k.userID, nil
	}
	column, value := "id", name
	if ext, is := strings.CutPrefix(name, externalPrefix); is {
		column, value = "external_id", ext
	} else if !id.Valid(name) {
		return "", ErrNotFound
	}
	var userID string
	var s scanned
	err := r.db.SQL.QueryRowContext(ctx, `SELECT id, `+standingColumns+` FROM users WHERE `+column+` = $1 AND deleted_at IS NULL`, value).
		Scan(append([]any{&userID}, s.dest()...)...)
	if errors.Is(err, sql.ErrNoRows) {
		return "", ErrNotFound
	}
	if err != nil {
		return "", fmt.Errorf("find a user: %w", err)
	}
	r.watch.Note(userID, s.standing())
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.known) >= maxKnown {
		clear(r.known)
	}
	r.known[strings.Clone(name)] = resolved{userID, time.Now()}
	return userID, nil
}
