// Package serverkey is the domain of the keys with which a product's own back end calls Parley. A key is shown once and kept as a hash.
// Every pod caches the keys that it has seen and reads from Postgres every two seconds which of them have ended. So a request with a cached key costs
// no query, and an ended key is refused within five seconds, even if Redis is unavailable.
package serverkey

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/parley-chat/parley/internal/id"
	"github.com/parley-chat/parley/internal/invalid"
	"github.com/parley-chat/parley/internal/principal"
	"github.com/parley-chat/parley/internal/timestamp"
)

// Errors of keys.
var (
	// ErrUnauthorized is returned for a key that is unknown, ended, expired or wrong.
	ErrUnauthorized = principal.ErrUnauthorized
	ErrNameTaken    = errors.New("a key of that name exists")
	ErrNotFound     = errors.New("key not found")
	// ErrTooMany is returned if there are maxKeys keys already.
	ErrTooMany = errors.New("there are too many keys")
)

// prefix is what every key begins with, so that scanners of repositories find those that leaked.
const prefix = "parley_sk_"

var keyRule = regexp.MustCompile(`^parley_sk_([0-9a-f]{32})_[A-Za-z0-9_-]{43}$`)

// Is reports whether a bearer token claims to be a server key.
func Is(token string) bool { return strings.HasPrefix(token, prefix) }

// Parse returns the id of a well-formed key.
func Parse(token string) (keyID string, ok bool) {
	m := keyRule.FindStringSubmatch(token)
	if m == nil {
		return "", false
	}
	h := m[1]
	keyID = strings.Join([]string{h[:8], h[8:12], h[12:16], h[16:20], h[20:]}, "-")
	return strings.Clone(keyID), id.Valid(keyID)
}

// generate makes a key and its id.
func generate() (keyID, token string) {
	keyID = id.New()
	var secret [32]byte
	_, _ = rand.Read(secret[:]) // never fails (crypto/rand)
	return keyID, prefix + strings.ReplaceAll(keyID, "-", "") + "_" + base64.RawURLEncoding.EncodeToString(secret[:])
}

func hashOf(token string) []byte {
	h := sha256.Sum256([]byte(token))
	return h[:]
}

// Key is a key as it is listed, without its secret.
type Key struct {
	ID         string           `json:"id"`
	Name       string           `json:"name"`
	Scopes     principal.Scopes `json:"scopes"`
	CreatedAt  timestamp.Time   `json:"createdAt"`
	ExpiresAt  *timestamp.Time  `json:"expiresAt"`
	LastUsedAt *timestamp.Time  `json:"lastUsedAt"`
}

// Created is a new key with its secret, which is shown this once.
type Created struct {
	Key
	Secret string `json:"key"`
}

// Draft is a key to be made.
type Draft struct {
	Name      string          `json:"name"`
	Scopes    []string        `json:"scopes"`
	ExpiresAt *timestamp.Time `json:"expiresAt,omitempty"`
}

var nameRule = invalid.Text{Min: 1, Max: 100, Trim: true}

// Check normalises the draft and adds its faults.
func (d *Draft) Check(f *invalid.Faults) {
	nameRule.Check(f, "name", &d.Name)
	if len(d.Scopes) == 0 {
		f.Add("scopes", "must name at least one scope")
	}
	for _, s := range d.Scopes {
		if !principal.ValidScope(s) {
			f.Add("scopes", "must be among %s, each with or without :read", strings.Join(principal.AllScopes(), ", "))
		}
	}
	slices.Sort(d.Scopes)
	d.Scopes = slices.Compact(d.Scopes)
	if d.ExpiresAt != nil && !d.ExpiresAt.After(time.Now()) {
		f.Add("expiresAt", "must be in the future")
	}
}

// ErrBeyond is returned for a key that would be given scopes that its maker does not have.
var ErrBeyond = errors.New("a key can only give scopes that it has itself")

// BeyondError is ErrBeyond with the scopes that the maker lacks.
type BeyondError struct{ Scopes principal.Scopes }

// Is makes every BeyondError an ErrBeyond.
func (*BeyondError) Is(target error) bool { return target == ErrBeyond }

func (e *BeyondError) Error() string {
	return "a key can only give scopes that it has itself, which " + strings.Join(e.Scopes, ", ") + " are not"
}
