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
	"github.com/parley-chat/parley/internal/invalid"
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
	if ext, is := strings.CutPrefix(name, externalPrefix); is && invalid.Storable(ext) {
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

// Named is a user as server keys name one.
type Named struct {
	ID  string
	Bot bool
}

// ResolveAll finds users by their names, in that order, or returns ErrNotFound if one of them is unknown.
func (r *Resolver) ResolveAll(ctx context.Context, names []string) ([]Named, error) {
	ids, externals := []string{}, []string{}
	for _, n := range names {
		if ext, is := strings.CutPrefix(n, externalPrefix); is && invalid.Storable(ext) {
			externals = append(externals, ext)
		} else if id.Valid(n) {
			ids = append(ids, n)
		} else {
			return nil, ErrNotFound
		}
	}
	type row struct {
		Named
		external *string
	}
	rows, err := postgres.Collect(ctx, r.db.SQL, func(s postgres.Row, v *row) error { return s.Scan(&v.ID, &v.external, &v.Bot) },
		`SELECT id, external_id, kind = 'bot' FROM users
		WHERE (id = ANY ($1::text[]::uuid[]) OR external_id = ANY ($2::text[])) AND deleted_at IS NULL`, ids, externals)
	if err != nil {
		return nil, fmt.Errorf("find users: %w", err)
	}
	by := make(map[string]Named, 2*len(rows))
	for _, v := range rows {
		by[v.ID] = v.Named
		if v.external != nil {
			by[externalPrefix+*v.external] = v.Named
		}
	}
	out := make([]Named, len(names))
	for i, n := range names {
		found, ok := by[n]
		if !ok {
			return nil, ErrNotFound
		}
		out[i] = found
	}
	return out, nil
}
