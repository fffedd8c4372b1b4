package auth

import (
	"context"
	"errors"
	"strings"
	"time"

	"gorm.io/gorm"

	"github.com/parley-chat/parley/internal/chat"
	"github.com/parley-chat/parley/internal/id"
	"github.com/parley-chat/parley/internal/invalid"
	"github.com/parley-chat/parley/internal/postgres"
)

// Announcer reports ended sessions to all pods. It may lose a report: pods ask Postgres as well.
type Announcer interface {
	SessionsEnded(ctx context.Context, sessionIDs []string)
}

// Groups is the part of the conversation domain that the deletion of an account needs.
type Groups interface {
	// LeaveAll removes a user from all groups, in tx, which has locked the user's row. It returns the function that publishes this,
	// to be called after the commit.
	LeaveAll(tx *gorm.DB, userID string) (publish func(ctx context.Context), err error)
}

// Standings is the part of the directory domain that logins need: bans and deactivations.
type Standings interface {
	// StandingIn returns an error for a user who may not use Parley.
	StandingIn(ctx context.Context, q postgres.Querier, userID string) error
}

// Config is how long tokens and sessions are good for.
type Config struct {
	// RefreshTTL is how long a session lives without a refresh.
	RefreshTTL time.Duration
	// SessionMaxAge is how long it lives at all, however often it is refreshed; 0 for no bound.
	SessionMaxAge time.Duration
	// Grace is how long the refresh token that was just spent may be repeated.
	Grace time.Duration
}

// maxSessions bounds the open sessions of a user. One more ends the one that was used least lately.
const maxSessions = 100

// Service manages accounts and sessions. Its methods may be called concurrently.
type Service struct {
	Config
	store     *store
	tokens    *Tokens
	hasher    *hasher
	announcer Announcer
	watch     *Watch
	groups    Groups
	standings Standings
}

// NewService makes the service.
func NewService(c Config, db *postgres.DB, t *Tokens, a Announcer, w *Watch, g Groups, st Standings) (*Service, error) {
	h, err := newHasher()
	if err != nil {
		return nil, err
	}
	return &Service{Config: c, store: &store{db}, tokens: t, hasher: h, announcer: a, watch: w, groups: g, standings: st}, nil
}

// The subjects of turns (turns.go). Login attempts of strangers for a username don't delay the account's owner, who changes the password.
func loginSubject(username string) string { return "login " + username }
func ownSubject(userID string) string     { return "own " + userID }

// maxUserAgent bounds the stored part of a client's User-Agent, in bytes.
const maxUserAgent = 200

func cleanUserAgent(s string) string {
	return strings.ToValidUTF8(strings.ReplaceAll(s[:min(len(s), maxUserAgent)], "\x00", ""), "")
}

// Register makes an account and its first session.
func (s *Service) Register(ctx context.Context, r *Registration, c Client) (Pair, error) {
	hash, err := s.hasher.hash(ctx, loginSubject(r.Username), r.Password)
	if err != nil {
		return Pair{}, err
	}
	userID := id.New()
	return s.open(ctx, userID, c, func(tx *gorm.DB) error { return insertUser(tx, userID, hash, r) })
}

// Login opens a session. An unknown user gets the same error as a wrong password, after the same work. So does a login whose
// password is replaced, or whose account is deleted, while it is under way.
func (s *Service) Login(ctx context.Context, in *Credentials, c Client) (Pair, error) {
	var a account
	if username := strings.ToLower(in.Username); usernameRule.MatchString(in.Username) {
		var err error
		if a, err = s.store.account(ctx, "username", username); err != nil {
			return Pair{}, err
		}
	}
	ok, err := s.hasher.matches(ctx, loginSubject(in.Username), in.Password, a.PasswordHash)
	if err != nil {
		return Pair{}, err
	}
	if !ok {
		return Pair{}, ErrInvalidCredentials
	}
	return s.open(ctx, a.ID, c, func(tx *gorm.DB) error {
		same, err := lockProved(tx, "SHARE", a)
		if err == nil && !same {
			return ErrInvalidCredentials
		}
		return err
	})
}

// open makes a session, after first in the same transaction. It ends the user's oldest sessions if there are too many.
func (s *Service) open(ctx context.Context, userID string, c Client, first func(tx *gorm.DB) error) (Pair, error) {
	sessionID := id.New()
	token, hash := newRefreshToken()
	var ended []string
	var own chat.Own
	err := s.store.db.Tx(ctx, func(tx *gorm.DB) error {
		if err := first(tx); err != nil {
			return err
		}
		if err := s.standings.StandingIn(ctx, postgres.In(tx), userID); err != nil {
			return err
		}
		if err := s.insertSession(tx, sessionID, userID, cleanUserAgent(c.UserAgent)); err != nil {
			return err
		}
		if err := insertToken(tx, hash, sessionID, nil); err != nil {
			return err
		}
		if err := noteAddress(tx, userID, c.Address); err != nil {
			return err
		}
		var err error
		if ended, err = endSurplus(tx, userID); err != nil {
			return err
		}
		own, err = readOwn(tx, userID)
		return err
	})
	if err != nil {
		return Pair{}, err
	}
	s.announce(ctx, ended)
	return s.pair(own, sessionID, token)
}

func (s *Service) pair(own chat.Own, sessionID, refresh string) (Pair, error) {
	access, err := s.tokens.Issue(own.ID, sessionID)
	if err != nil {
		return Pair{}, err
	}
	return Pair{User: own, SessionID: sessionID, AccessToken: access, RefreshToken: refresh, ExpiresIn: s.tokens.ttl}, nil
}

// Refresh gives a new pair for a refresh token, which is spent by it. The one just spent may be repeated within the grace; one
// that is older, or repeated later, was stolen or will be: its session ends. Tokens from before a change of the password are
// good once in all and have no grace.
func (s *Service) Refresh(ctx context.Context, r *RefreshToken, c Client) (Pair, error) {
	token, hash := newRefreshToken()
	spent := refreshHash(r.Token)
	var held heldToken
	var ended []string
	var own chat.Own
	err := s.store.db.Tx(ctx, func(tx *gorm.DB) error {
		var err error
		held, err = lockToken(tx, spent, s.Grace)
		switch {
		case err != nil:
			return err
		case !held.Live:
			held = heldToken{}
			return nil
		case held.Outdated || held.Spent && held.Late:
			ended, err = end(tx, held.UserID, held.SessionID, false)
			return err
		}
		if err := s.spend(tx, spent, held.SessionID); err != nil {
			return err
		}
		if err := noteAddress(tx, held.UserID, c.Address); err != nil {
			return err
		}
		if err := insertToken(tx, hash, held.SessionID, &spent); err != nil {
			return err
		}
		own, err = readOwn(tx, held.UserID)
		return err
	})
	if err != nil {
		return Pair{}, err
	}
	s.announce(ctx, ended)
	if held.SessionID == "" || len(ended) > 0 {
		return Pair{}, ErrInvalidRefresh
	}
	return s.pair(own, held.SessionID, token)
}

// SessionOf is the session of a refresh token, "" for one that is not ours.
func (s *Service) SessionOf(ctx context.Context, r *RefreshToken) (string, error) {
	return s.store.sessionOf(ctx, refreshHash(r.Token))
}

// announce ends sessions on this pod at once, and on the others once they get the event or read Postgres.
func (s *Service) announce(ctx context.Context, ended []string) {
	if len(ended) > 0 {
		s.watch.Note(ended...)
		s.announcer.SessionsEnded(ctx, ended)
	}
}

// Logout ends the session of a refresh token. An unknown token is no error.
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
		s.announce(ctx, ended)
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
	var ended []string
	err := s.store.db.Tx(ctx, func(tx *gorm.DB) (err error) {
		if ended, err = end(tx, userID, sessionID, false); err == nil && len(ended) == 0 {
			return ErrSessionNotFound
		}
		return err
	})
	if err == nil {
		s.announce(ctx, ended)
	}
	return err
}

// ChangePassword replaces the password and ends all other sessions, among them those of logins under way. The session that
// changes it continues, and its refresh token allows one more refresh. Without a session all sessions end.
func (s *Service) ChangePassword(ctx context.Context, who Identity, p *PasswordChange, c Client) error {
	a, err := s.prove(ctx, who.UserID, p.Current)
	if err != nil {
		return err
	}
	if isUsername(p.New, a.Username) {
		return invalid.One("new", "must not be the username")
	}
	hash, err := s.hasher.hash(ctx, ownSubject(who.UserID), p.New)
	if err != nil {
		return err
	}
	var ended []string
	err = s.store.db.Tx(ctx, func(tx *gorm.DB) error {
		same, err := lockProved(tx, "NO KEY UPDATE", a)
		switch {
		case err != nil:
			return err
		case !same: // another change was first
			return ErrWrongPassword
		}
		if err := setPassword(tx, who.UserID, hash); err != nil {
			return err
		}
		if err := forgetAddresses(tx, who.UserID, c.Address); err != nil {
			return err
		}
		if who.SessionID == "" { // a server key's request for the user
			ended, err = end(tx, who.UserID, id.New(), true)
			return err
		}
		if err := rotate(tx, who.SessionID); err != nil {
			return err
		}
		ended, err = end(tx, who.UserID, who.SessionID, true)
		return err
	})
	if err == nil {
		s.announce(ctx, ended)
	}
	return err
}

// prove returns the account if the password is its own, else ErrWrongPassword.
func (s *Service) prove(ctx context.Context, userID, password string) (account, error) {
	a, err := s.store.account(ctx, "id", userID)
	if err != nil {
		return account{}, err
	}
	ok, err := s.hasher.matches(ctx, ownSubject(userID), password, a.PasswordHash)
	if err == nil && !ok {
		err = ErrWrongPassword
	}
	return a, err
}

// DeleteAccount erases a user's profile and ends all sessions. The user leaves all groups; messages stay where they are. It is one
// transaction: a deletion that fails has changed nothing.
func (s *Service) DeleteAccount(ctx context.Context, userID string, d *Deletion) error {
	a, err := s.prove(ctx, userID, d.Password)
	if err != nil {
		return err
	}
	return s.delete(ctx, a)
}

func (s *Service) delete(ctx context.Context, a account) error {
	return postgres.Retry(ctx, nil, func() error { return s.deleteOnce(ctx, a) })
}

func (s *Service) deleteOnce(ctx context.Context, a account) error {
	var ended []string
	var publish func(context.Context)
	err := s.store.db.Tx(ctx, func(tx *gorm.DB) error {
		// Whoever adds the user to a conversation locks the row too (conversation.lockUsers), and finds the account deleted.
		same, err := lockProved(tx, "NO KEY UPDATE", a)
		switch {
		case err != nil:
			return err
		case !same:
			return ErrWrongPassword
		}
		if publish, err = s.groups.LeaveAll(tx, a.ID); err != nil {
			return err
		}
		if ended, err = end(tx, a.ID, id.New(), true); err != nil {
			return err
		}
		return erase(tx, a.ID)
	})
	if err != nil {
		return err
	}
	s.announce(ctx, ended)
	publish(ctx)
	return nil
}

// Verify reads an access token. Whether its session has ended is the Watch's to say.
func (s *Service) Verify(token string) (Identity, error) { return s.tokens.Verify(token) }

var errNotLooked = errors.New("the ended sessions have not been read yet")
