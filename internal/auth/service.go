package auth

import (
	"context"
	"errors"
	"strings"
	"time"

	"gorm.io/gorm"

	"github.com/parley-chat/parley/internal/id"
	"github.com/parley-chat/parley/internal/postgres"
)

// Announcer tells all pods of sessions that ended. It may lose it: they look themselves too.
type Announcer interface {
	SessionsEnded(ctx context.Context, sessionIDs []string)
}

// Groups is what the deletion of an account needs of the domain of conversations.
type Groups interface {
	// LeaveAll takes a user out of all groups.
	LeaveAll(ctx context.Context, userID string) error
}

// Config is how long tokens are good for.
type Config struct {
	RefreshTTL time.Duration
	// Grace is how long the refresh token that was just spent may be repeated.
	Grace time.Duration
}

// Service is what can be done with accounts and sessions.
type Service struct {
	Config
	store     *store
	tokens    *Tokens
	hasher    *hasher
	announcer Announcer
	watch     *Watch
	groups    Groups
}

// NewService makes the service.
func NewService(c Config, db *postgres.DB, t *Tokens, a Announcer, w *Watch, g Groups) (*Service, error) {
	h, err := newHasher()
	if err != nil {
		return nil, err
	}
	return &Service{Config: c, store: &store{db}, tokens: t, hasher: h, announcer: a, watch: w, groups: g}, nil
}

// maxUserAgent bounds what is kept of a client's own description of itself, in bytes.
const maxUserAgent = 200

func cleanUserAgent(s string) string {
	return strings.ToValidUTF8(strings.ReplaceAll(s[:min(len(s), maxUserAgent)], "\x00", ""), "")
}

// Register makes an account and its first session.
func (s *Service) Register(ctx context.Context, r *Registration, userAgent string) (Pair, error) {
	hash, err := s.hasher.hash(ctx, r.Password)
	if err != nil {
		return Pair{}, err
	}
	userID := id.New()
	return s.open(ctx, userID, userAgent, func(tx *gorm.DB) error { return insertUser(tx, userID, hash, r) })
}

// Login opens a session. An unknown user is answered as a wrong password is, after the same work.
func (s *Service) Login(ctx context.Context, c *Credentials, userAgent string) (Pair, error) {
	userID, hash, err := s.store.credentials(ctx, "username", c.Username)
	if err != nil {
		return Pair{}, err
	}
	ok, err := s.hasher.matches(ctx, c.Password, hash)
	if err != nil {
		return Pair{}, err
	}
	if !ok {
		return Pair{}, ErrInvalidCredentials
	}
	return s.open(ctx, userID, userAgent, nil)
}

// open makes a session, after what comes first in the same transaction.
func (s *Service) open(ctx context.Context, userID, userAgent string, first func(tx *gorm.DB) error) (Pair, error) {
	sessionID := id.New()
	token, hash := newRefreshToken()
	err := s.store.db.Tx(ctx, func(tx *gorm.DB) error {
		if first != nil {
			if err := first(tx); err != nil {
				return err
			}
		}
		if err := insertSession(tx, sessionID, userID, cleanUserAgent(userAgent), s.RefreshTTL); err != nil {
			return err
		}
		return insertToken(tx, hash, sessionID, nil)
	})
	if err != nil {
		return Pair{}, err
	}
	return s.pair(userID, sessionID, token)
}

func (s *Service) pair(userID, sessionID, refresh string) (Pair, error) {
	access, err := s.tokens.Issue(userID, sessionID)
	if err != nil {
		return Pair{}, err
	}
	return Pair{UserID: userID, SessionID: sessionID, AccessToken: access, RefreshToken: refresh, ExpiresIn: s.tokens.ttl}, nil
}

// Refresh gives a new pair for a refresh token, which is spent by it. The one just spent may be repeated within the grace;
// one that is older, or repeated later, was stolen or will be: its session ends.
func (s *Service) Refresh(ctx context.Context, r *RefreshToken) (Pair, error) {
	token, hash := newRefreshToken()
	spent := refreshHash(r.Token)
	var held heldToken
	var ended []string
	err := s.store.db.Tx(ctx, func(tx *gorm.DB) error {
		var err error
		held, err = lockToken(tx, spent, s.Grace)
		switch {
		case err != nil:
			return err
		case !held.Live:
			held = heldToken{}
			return nil
		case held.Spent && (held.Late || held.Outdated):
			ended, err = end(tx, held.UserID, held.SessionID, false)
			return err
		}
		if err := spend(tx, spent, held.SessionID, s.RefreshTTL); err != nil {
			return err
		}
		return insertToken(tx, hash, held.SessionID, &spent)
	})
	if err != nil {
		return Pair{}, err
	}
	s.tell(ctx, ended)
	if held.SessionID == "" || len(ended) > 0 {
		return Pair{}, ErrInvalidRefresh
	}
	return s.pair(held.UserID, held.SessionID, token)
}

// SessionOf is the session of a refresh token, "" for one that is not ours.
func (s *Service) SessionOf(ctx context.Context, r *RefreshToken) (string, error) {
	return s.store.sessionOf(ctx, refreshHash(r.Token))
}

// tell ends sessions here at once, and on the other pods as soon as they hear or look.
func (s *Service) tell(ctx context.Context, ended []string) {
	if len(ended) > 0 {
		s.watch.Note(ended...)
		s.announcer.SessionsEnded(ctx, ended)
	}
}

// Logout ends the session of a refresh token. One that is not ours is as good as ended.
func (s *Service) Logout(ctx context.Context, r *RefreshToken) error {
	var ended []string
	err := s.store.db.Tx(ctx, func(tx *gorm.DB) error {
		held, err := lockToken(tx, refreshHash(r.Token), s.Grace)
		if err != nil || held.SessionID == "" {
			return err
		}
		ended, err = end(tx, held.UserID, held.SessionID, false)
		return err
	})
	if err == nil {
		s.tell(ctx, ended)
	}
	return err
}

// Sessions lists a user's own, the one that asks marked.
func (s *Service) Sessions(ctx context.Context, who Identity) ([]Session, error) {
	list, err := s.store.sessions(ctx, who.UserID)
	for i := range list {
		list[i].Current = list[i].ID == who.SessionID
	}
	return list, err
}

// EndSession ends one of a user's own sessions.
func (s *Service) EndSession(ctx context.Context, userID, sessionID string) error {
	ended, err := end(s.store.db.Gorm.WithContext(ctx), userID, sessionID, false)
	if err != nil {
		return err
	}
	if len(ended) == 0 {
		return ErrSessionNotFound
	}
	s.tell(ctx, ended)
	return nil
}

// ChangePassword replaces the password and ends all other sessions.
func (s *Service) ChangePassword(ctx context.Context, who Identity, p *PasswordChange) error {
	if err := s.prove(ctx, who.UserID, p.Current); err != nil {
		return err
	}
	hash, err := s.hasher.hash(ctx, p.New)
	if err != nil {
		return err
	}
	var ended []string
	err = s.store.db.Tx(ctx, func(tx *gorm.DB) error {
		if err := setPassword(tx, who.UserID, hash); err != nil {
			return err
		}
		ended, err = end(tx, who.UserID, who.SessionID, true)
		return err
	})
	if err == nil {
		s.tell(ctx, ended)
	}
	return err
}

func (s *Service) prove(ctx context.Context, userID, password string) error {
	_, hash, err := s.store.credentials(ctx, "id", userID)
	if err != nil {
		return err
	}
	ok, err := s.hasher.matches(ctx, password, hash)
	if err == nil && !ok {
		return ErrWrongPassword
	}
	return err
}

// DeleteAccount erases a user's profile and ends all sessions. The user leaves all groups; messages stay where they are.
func (s *Service) DeleteAccount(ctx context.Context, userID string, d *Deletion) error {
	if err := s.prove(ctx, userID, d.Password); err != nil {
		return err
	}
	if err := s.groups.LeaveAll(ctx, userID); err != nil {
		return err
	}
	var ended []string
	err := s.store.db.Tx(ctx, func(tx *gorm.DB) error {
		if err := erase(tx, userID); err != nil {
			return err
		}
		var err error
		ended, err = end(tx, userID, id.New(), true)
		return err
	})
	if err == nil {
		s.tell(ctx, ended)
	}
	return err
}

// Verify reads an access token. Whether its session has ended is the Watch's to say.
func (s *Service) Verify(token string) (Identity, error) { return s.tokens.Verify(token) }

var errNotLooked = errors.New("the ended sessions have not been read yet")
