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
	// checkEvery is how often a user's row is read again, with the profile that the token brings.
	checkEvery = 5 * time.Minute
	// maxKnown bounds the users that are remembered, some 16 MiB.
	maxKnown = 65_536
)

// Standings takes in how a user stood when the row was read, so that no request has to read it again.
type Standings interface {
	Note(userID string, s principal.Standing)
}

// Service finds and makes the users of external tokens. Its methods may be called by any goroutine.
type Service struct {
	c         Config
	store     *store
	standings Standings
	// onProfile is called after a profile followed its token.
	onProfile func(ctx context.Context, userID string)
	known     *lru.Cache[string, known]
	flights   singleflight.Group
}

// known is the user of an external id.
type known struct {
	userID  string
	checked time.Time
}

// NewService makes the service. onProfile is called, after the commit, with each user whose profile followed a token; it must not block.
func NewService(c Config, db *postgres.DB, s Standings, onProfile func(ctx context.Context, userID string)) (*Service, error) {
	k, err := lru.New[string, known](maxKnown)
	if err != nil {
		return nil, fmt.Errorf("make the memory of users: %w", err)
	}
	return &Service{c: c, store: &store{db}, standings: s, onProfile: onProfile, known: k}, nil
}

// Known is the user of an external id if this pod knows it, else "".
func (s *Service) Known(externalID string) string {
	k, _ := s.known.Peek(externalID)
	return k.userID
}

// Checked reports whether User will return the user of an external id without looking them up, so that the token changes nothing of the
// profile.
func (s *Service) Checked(externalID string) bool {
	k, ok := s.known.Peek(externalID)
	return ok && time.Since(k.checked) < checkEvery-time.Minute
}

// Forget has the user of an external id looked up again at the next request.
func (s *Service) Forget(externalID string) { s.known.Remove(externalID) }

// User returns the id of a token's user, whom the first request creates. It returns ErrNotProvisioned where users have to be created
// before. How the user stands is noted and not judged here.
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

// Managed reports whether a user's name and picture were taken from a token, which they follow with ProfileSync.
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

// hash is the hash of the claims that make a profile: the profile is updated when it changes.
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

// Bounds of a profile's fields; the same as in the user domain.
const (
	minName = 2
	maxName = 50
	maxURL  = 2048
)

// cleanName converts a claim to a display name, "" if that is impossible.
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

// avatarOf converts a claim to an avatar's URL: nil if the claim is absent, not valid if it clears the avatar.
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

// randomUsername is "user_" and 12 characters.
func randomUsername() string { return "user_" + strings.ToLower(rand.Text()[:12]) }
