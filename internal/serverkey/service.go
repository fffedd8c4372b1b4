package serverkey

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"gorm.io/gorm"

	"github.com/parley-chat/parley/internal/audit"
	"github.com/parley-chat/parley/internal/id"
	"github.com/parley-chat/parley/internal/postgres"
	"github.com/parley-chat/parley/internal/principal"
)

const (
	// watchEvery is how often Postgres is asked which keys ended.
	watchEvery = 2 * time.Second
	// watchMargin is how far a look reaches back beyond the one before: further than a statement takes to commit.
	watchMargin = postgres.StatementTimeout + 10*time.Second
)

// Service makes, ends and checks keys. Its methods may be called by any goroutine; Run has to run for ended keys to be refused.
type Service struct {
	store     *store
	log       *slog.Logger
	bootstrap string // a whole key, "" for none

	mu    sync.RWMutex // guards what follows
	held  map[string]held
	hours map[string]int64 // key -> the hour of its last use that was noted
	used  map[string]bool  // keys whose use is to be noted

	lastLook time.Time // of Run's goroutine alone
	failing  bool
	booted   bool
}

// NewService makes the service. bootstrap is a complete key that Run creates, with all scopes, if it does not exist; "" for none.
func NewService(db *postgres.DB, bootstrap string, log *slog.Logger) *Service {
	return &Service{
		store: &store{db}, log: log, bootstrap: bootstrap, held: map[string]held{}, hours: map[string]int64{}, used: map[string]bool{},
		lastLook: time.Now(), booted: bootstrap == "",
	}
}

// Authenticate returns the principal of a key, or ErrUnauthorized. It asks Postgres for a key that this pod has not met.
func (s *Service) Authenticate(ctx context.Context, token string) (principal.Principal, error) {
	keyID, ok := Parse(token)
	if !ok {
		return principal.Principal{}, ErrUnauthorized
	}
	s.mu.RLock()
	h, known := s.held[keyID]
	noted := s.hours[keyID]
	s.mu.RUnlock()
	if !known {
		var err error
		if h, known, err = s.store.find(ctx, keyID); err != nil {
			return principal.Principal{}, err
		}
	}
	now := time.Now()
	if !known || subtle.ConstantTimeCompare(h.hash, hashOf(token)) != 1 || (!h.expires.IsZero() && !now.Before(h.expires)) {
		return principal.Principal{}, ErrUnauthorized
	}
	if hour := now.Unix() / int64(time.Hour/time.Second); hour != noted {
		s.mu.Lock()
		s.held[keyID], s.hours[keyID], s.used[keyID] = h, hour, true
		s.mu.Unlock()
	}
	return principal.Principal{Kind: principal.Key, KeyID: keyID, Scopes: h.scopes}, nil
}

// Create makes a key in the name of by, which gives no more scopes than it has; by is nil for the operator.
func (s *Service) Create(ctx context.Context, by *principal.Principal, d *Draft) (Created, error) {
	createdBy := ""
	if by != nil {
		createdBy = by.KeyID
		if beyond := by.Scopes.Beyond(d.Scopes); len(beyond) > 0 {
			return Created{}, &BeyondError{beyond}
		}
	}
	keyID, token := generate()
	k, err := s.insert(ctx, keyID, hashOf(token), d, createdBy)
	return Created{k, token}, err
}

func (s *Service) insert(ctx context.Context, keyID string, hash []byte, d *Draft, createdBy string) (k Key, err error) {
	err = s.store.db.Tx(ctx, func(tx *gorm.DB) error {
		if k, err = insert(tx, keyID, hash, d, createdBy); err != nil {
			return err
		}
		return audit.Record(ctx, tx, audit.Entry{
			Action: "key.create", TargetType: audit.TargetKey, TargetID: keyID, Detail: map[string]any{"name": d.Name, "scopes": d.Scopes},
		})
	})
	return k, err
}

// List reads the keys that have neither ended nor expired, the newest first.
func (s *Service) List(ctx context.Context) ([]Key, error) { return s.store.live(ctx) }

// End ends a key. One that has ended already is ErrNotFound.
func (s *Service) End(ctx context.Context, keyID string) error {
	if !id.Valid(keyID) {
		return ErrNotFound
	}
	err := s.store.db.Tx(ctx, func(tx *gorm.DB) error {
		name, ended, err := end(tx, keyID)
		switch {
		case err != nil:
			return err
		case !ended:
			return ErrNotFound
		}
		return audit.Record(ctx, tx, audit.Entry{Action: "key.end", TargetType: audit.TargetKey, TargetID: keyID, Detail: map[string]any{"name": name}})
	})
	if err == nil {
		s.drop(keyID)
	}
	return err
}

func (s *Service) drop(keyIDs ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, k := range keyIDs {
		delete(s.held, k)
		delete(s.hours, k)
	}
}

// Run drops ended keys, notes the use of keys and makes the bootstrap key, until ctx ends.
func (s *Service) Run(ctx context.Context) error {
	t := time.NewTicker(watchEvery)
	defer t.Stop()
	for {
		err := s.look(ctx)
		if err != nil && !s.failing && ctx.Err() == nil {
			s.log.Warn("postgres cannot be asked for server keys", "error", err)
		}
		s.failing = err != nil
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
	}
}

func (s *Service) look(ctx context.Context) error {
	start := time.Now()
	ctx, cancel := context.WithTimeout(ctx, postgres.StatementTimeout)
	defer cancel()
	if !s.booted {
		if err := s.boot(ctx); err != nil {
			return err
		}
		s.booted = true
	}
	ended, err := s.store.endedSince(ctx, watchMargin+start.Sub(s.lastLook))
	if err != nil {
		return err
	}
	s.lastLook = start
	s.drop(ended...)
	s.mu.Lock()
	used := slices.Collect(maps.Keys(s.used))
	clear(s.used)
	s.mu.Unlock()
	if len(used) == 0 {
		return nil
	}
	if err := s.store.used(ctx, used); err != nil {
		s.mu.Lock()
		for _, k := range used {
			s.used[k] = true
		}
		s.mu.Unlock()
		return err
	}
	return nil
}

// boot makes the bootstrap key, which another pod may have made. One that was ended stays ended.
func (s *Service) boot(ctx context.Context) error {
	keyID, ok := Parse(s.bootstrap)
	if !ok {
		return errors.New("the bootstrap key is no server key")
	}
	hash := hashOf(s.bootstrap)
	for _, name := range []string{"bootstrap", "bootstrap " + strings.ReplaceAll(keyID, "-", "")} {
		held, err := s.store.known(ctx, keyID)
		if err != nil {
			return err
		}
		if held != nil {
			if subtle.ConstantTimeCompare(held, hash) != 1 {
				s.log.Error("PARLEY_BOOTSTRAP_KEY has the id of another key: it is refused", "key", keyID)
			}
			return nil
		}
		_, err = s.insert(ctx, keyID, hash, &Draft{Name: name, Scopes: principal.AllScopes()}, "")
		if err == nil {
			s.log.Info("the bootstrap key was made", "key", keyID, "name", name)
			return nil
		}
		if !errors.Is(err, ErrNameTaken) {
			return fmt.Errorf("make the bootstrap key: %w", err)
		}
	}
	return nil
}
