package auth

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/parley-chat/parley/internal/id"
)

const (
	issuer   = "parley"
	audience = "parley"
	// leeway is how far the clocks of two pods may be apart.
	leeway = 2 * time.Second
)

// Identity is who an access token speaks for.
type Identity struct {
	UserID, SessionID string
}

type claims struct {
	SessionID string `json:"sid"`
	jwt.RegisteredClaims
}

// Tokens issues and verifies access tokens: JWT, HS256 only.
type Tokens struct {
	secrets [][]byte
	ttl     time.Duration
	parser  *jwt.Parser
}

// NewTokens makes the tokens of these secrets: the first signs, all verify.
func NewTokens(secrets [][]byte, ttl time.Duration) *Tokens {
	return &Tokens{secrets: secrets, ttl: ttl, parser: jwt.NewParser(
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
	for _, secret := range t.secrets {
		var c claims
		_, err := t.parser.ParseWithClaims(token, &c, func(*jwt.Token) (any, error) { return secret, nil })
		if err == nil && id.Valid(c.Subject) && id.Valid(c.SessionID) {
			return Identity{UserID: c.Subject, SessionID: c.SessionID}, nil
		}
	}
	return Identity{}, ErrUnauthorized
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
