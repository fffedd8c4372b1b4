package auth

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/parley-chat/parley/internal/id"
)

const (
	issuer   = "parley"
	audience = "parley"
	// leeway is how far the clocks of two pods may be apart. Each pod exports how far its own is from Postgres's.
	leeway = 30 * time.Second
)

// Identity is the user and session of an access token.
type Identity struct {
	UserID, SessionID string
}

type claims struct {
	SessionID string `json:"sid"`
	jwt.RegisteredClaims
}

// maxVerified bounds the number of remembered valid tokens, about 10 MiB. Reading one again would be a sixth of what an
// authenticated request costs (bench/edge).
const maxVerified = 16_384

// Tokens issues and verifies access tokens: JWT, HS256 only.
type Tokens struct {
	secrets [][]byte
	ttl     time.Duration
	parser  *jwt.Parser

	mu       sync.RWMutex // guards verified
	verified map[string]verified
}

// verified is a token that was found good, until it expires.
type verified struct {
	who   Identity
	until time.Time
}

// NewTokens makes the tokens of these secrets: the first signs, all verify.
func NewTokens(secrets [][]byte, ttl time.Duration) *Tokens {
	return &Tokens{secrets: secrets, ttl: ttl, verified: map[string]verified{}, parser: jwt.NewParser(
		jwt.WithValidMethods([]string{jwt.SigningMethodHS256.Alg()}),
		jwt.WithIssuer(issuer), jwt.WithAudience(audience), jwt.WithExpirationRequired(), jwt.WithIssuedAt(), jwt.WithLeeway(leeway),
	)}
}

// Issue makes an access token, good for the TTL from now.
func (t *Tokens) Issue(userID, sessionID string) (string, error) {
	now := time.Now()
	s, err := jwt.NewWithClaims(jwt.SigningMethodHS256, claims{sessionID, jwt.RegisteredClaims{
		Issuer: issuer, Subject: userID, Audience: jwt.ClaimStrings{audience},
		IssuedAt: jwt.NewNumericDate(now), ExpiresAt: jwt.NewNumericDate(now.Add(t.ttl)),
	}}).SignedString(t.secrets[0])
	if err != nil {
		return "", fmt.Errorf("sign an access token: %w", err)
	}
	return s, nil
}

// Verify reads an access token, or returns ErrUnauthorized.
func (t *Tokens) Verify(token string) (Identity, error) {
	t.mu.RLock()
	v, known := t.verified[token]
	t.mu.RUnlock()
	if known && time.Now().Before(v.until) {
		return v.who, nil
	}
	for _, secret := range t.secrets {
		var c claims
		_, err := t.parser.ParseWithClaims(token, &c, func(*jwt.Token) (any, error) { return secret, nil })
		if err == nil && id.Valid(c.Subject) && id.Valid(c.SessionID) {
			who := Identity{UserID: c.Subject, SessionID: c.SessionID}
			t.remember(strings.Clone(token), verified{who, c.ExpiresAt.Add(leeway)}) // the edge uses the token's bytes again
			return who, nil
		}
	}
	return Identity{}, ErrUnauthorized
}

func (t *Tokens) remember(token string, v verified) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.verified) >= maxVerified {
		clear(t.verified)
	}
	t.verified[token] = v
}

// newRefreshToken makes a random token and the hash under which it is kept.
func newRefreshToken() (token, hash string) {
	var b [32]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand)
	token = base64.RawURLEncoding.EncodeToString(b[:])
	return token, refreshHash(token)
}

func refreshHash(token string) string {
	h := sha256.Sum256([]byte(token))
	return hex.EncodeToString(h[:])
}
