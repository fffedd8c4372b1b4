package identity

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	lru "github.com/hashicorp/golang-lru/v2"
	"golang.org/x/sync/singleflight"
	"golang.org/x/text/unicode/norm"

	"github.com/parley-chat/parley/internal/id"
	"github.com/parley-chat/parley/internal/postgres"
	"github.com/parley-chat/parley/internal/principal"
)

const (
	// checkEvery is how often a user's row is read again and its profile compared with the token's.
	checkEvery = 5 * time.Minute
	// maxKnown bounds the remembered users, which take some 16 MiB.
	maxKnown = 65_536
)

// Standings receives the standing of a user (banned, deactivated) whenever the row was read, so that requests need not read it again.
type Standings interface {
	Note(userID string, s principal.Standing)
}

// Service finds and makes the users of external tokens. Safe for concurrent use.
type Service struct {
	c         Config
	store     *store
	standings Standings
	// onProfile is called after a profile was updated from a token.
	onProfile func(ctx context.Context, userID string)
	known     *lru.Cache[string, known]
	flights   singleflight.Group
}

// known is the remembered user of an external id, and when the row was last read.
type known struct {
	userID  string
	checked time.Time
}

// NewService makes the service. onProfile is called after the commit with each user whose profile was updated from a token. It must not block.
func NewService(c Config, db *postgres.DB, s Standings, onProfile func(ctx context.Context, userID string)) (*Service, error) {
	k, err := lru.New[string, known](maxKnown)
	if err != nil {
		return nil, fmt.Errorf("make the memory of users: %w", err)
	}
	return &Service{c: c, store: &store{db}, standings: s, onProfile: onProfile, known: k}, nil
}

// Known returns the remembered user of an external id, "" if this pod does not remember one.
func (s *Service) Known(externalID string) string {
	k, _ := s.known.Peek(externalID)
	return k.userID
}

// Checked reports whether a call of User within the next minute will return the remembered user without reading the row. Such a call does not
// change the profile.
func (s *Service) Checked(externalID string) bool {
	k, ok := s.known.Peek(externalID)
	return ok && time.Since(k.checked) < checkEvery-time.Minute
}

// Forget makes the next request read the user of an external id again.
func (s *Service) Forget(externalID string) { s.known.Remove(externalID) }

// User returns the id of a token's user, and creates the user at the first request. It returns ErrNotProvisioned if Config.Existing is set and
// there is no such user. It reports the user's standing to Standings, and does not refuse banned or deactivated users.
func (s *Service) User(ctx context.Context, t Token) (string, error) {
	if k, ok := s.known.Get(t.ExternalID); ok && time.Since(k.checked) < checkEvery {
		return k.userID, nil
	}
	v, err, _ := s.flights.Do(t.ExternalID, func() (any, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), createTimeout)
		defer cancel()
		a, err := s.lookUp(ctx, t)
		if err != nil {
			return "", err
		}
		s.standings.Note(a.id, a.standing)
		s.known.Add(t.ExternalID, known{a.id, time.Now()})
		return a.id, nil
	})
	if err != nil {
		return "", err
	}
	userID, _ := v.(string)
	return userID, nil
}

// Managed reports whether a user's name and picture were taken from a token. With ProfileSync they then follow the tokens.
func (s *Service) Managed(ctx context.Context, userID string) (bool, error) {
	return s.store.managed(ctx, userID)
}

func (s *Service) lookUp(ctx context.Context, t Token) (account, error) {
	hash := t.Profile.hash()
	a, found, err := s.store.find(ctx, t.ExternalID)
	switch {
	case err != nil:
		return account{}, err
	case !found && s.c.Existing:
		return account{}, ErrNotProvisioned
	case !found:
		return s.create(ctx, t, hash)
	}
	if s.c.Profile == ProfileSync && !a.standing.Deactivated && string(a.claims) != string(hash) {
		return a, s.syncProfile(ctx, a.id, t.Profile, hash)
	}
	return a, nil
}

func (s *Service) syncProfile(ctx context.Context, userID string, c Claims, hash []byte) error {
	var name *string
	if n := cleanName(c.Name); n != "" {
		name = &n
	}
	changed, err := s.store.sync(ctx, userID, name, avatarOf(c.Avatar), hash)
	if err == nil && changed && (name != nil || c.Avatar != nil) {
		s.onProfile(ctx, userID)
	}
	return err
}

func (s *Service) create(ctx context.Context, t Token, hash []byte) (account, error) {
	n := newAccount{id: id.New(), externalID: t.ExternalID, username: cleanUsername(t.Profile.Username), claims: hash, issued: t.IssuedAt}
	if a := avatarOf(t.Profile.Avatar); a != nil && a.Valid {
		n.avatarURL = &a.String
	}
	for {
		n.fallback = randomUsername()
		switch n.displayName = cleanName(t.Profile.Name); {
		case n.displayName == "" && n.username != "":
			n.displayName = n.username
		case n.displayName == "":
			n.displayName = n.fallback
		}
		a, err := s.store.create(ctx, n)
		if !errors.Is(err, errUsernameRaced) {
			return a, err
		}
	}
}

// hash returns a hash of the claims name and avatar: the profile is updated when the hash changes.
func (c Claims) hash() []byte {
	h := sha256.New()
	for _, s := range []*string{c.Name, c.Avatar} {
		if s == nil {
			_, _ = h.Write([]byte{0})
			continue
		}
		_, _ = fmt.Fprintf(h, "%d:%s", len(*s)+1, *s)
	}
	return h.Sum(nil)
}

var usernameRule = regexp.MustCompile(`^[A-Za-z0-9_.]{3,32}$`)

// cleanUsername converts a claim to a username, "" if it is not a valid one.
func cleanUsername(s *string) string {
	if s == nil || !usernameRule.MatchString(*s) {
		return ""
	}
	return strings.ToLower(*s)
}

// Bounds of a profile's fields in code points, the same as in the user domain.
const (
	minName = 2
	maxName = 50
	maxURL  = 2048
)

// cleanName converts a claim to a valid display name, "" if that is impossible.
func cleanName(s *string) string {
	if s == nil {
		return ""
	}
	clean := strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, norm.NFC.String(*s))
	runes := []rune(strings.TrimSpace(clean))
	clean = strings.TrimSpace(string(runes[:min(len(runes), maxName)]))
	if utf8.RuneCountInString(clean) < minName {
		return ""
	}
	return clean
}

// avatarOf converts a claim to an avatar's URL: nil if the claim is absent or not a URL, null if it is empty and so clears the avatar.
func avatarOf(s *string) *sql.NullString {
	if s == nil {
		return nil
	}
	if *s == "" {
		return &sql.NullString{}
	}
	u, err := url.Parse(*s)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.User != nil || utf8.RuneCountInString(*s) > maxURL {
		return nil
	}
	return &sql.NullString{String: *s, Valid: true}
}

// randomUsername returns "user_" and 12 random characters.
func randomUsername() string { return "user_" + strings.ToLower(rand.Text()[:12]) }
