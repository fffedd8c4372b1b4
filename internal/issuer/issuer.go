// Package issuer is a small issuer of tokens with keys that rotate. For tests it stands in for a product's identity provider. Only
// the tests, make run and make demo use it.
package issuer

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"sync"
	"time"

	"github.com/MicahParks/jwkset"
	"github.com/golang-jwt/jwt/v5"
)

// Issuer signs tokens, and is the http.Handler of its key set. Its methods may be called by any goroutine.
type Issuer struct {
	// Name is the claim iss, Audience the claim aud.
	Name, Audience string

	mu      sync.Mutex // guards the following fields
	keys    []*Key
	fetched int
}

// Key is a key of an issuer.
type Key struct {
	ID, Algorithm string
	Private       crypto.Signer
	jwk           json.RawMessage
}

// New makes an issuer that publishes no key yet.
func New(name, audience string) *Issuer { return &Issuer{Name: name, Audience: audience} }

// NewKey makes a key for an algorithm: RS256, PS256, ES256, ES384 or EdDSA.
func NewKey(id, algorithm string) (*Key, error) {
	var private crypto.Signer
	var err error
	switch algorithm {
	case "ES256":
		private, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case "ES384":
		private, err = ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case "EdDSA":
		_, private, err = ed25519.GenerateKey(rand.Reader)
	default:
		private, err = rsa.GenerateKey(rand.Reader, 2048)
	}
	if err != nil {
		return nil, fmt.Errorf("make a key: %w", err)
	}
	k := &Key{ID: id, Algorithm: algorithm, Private: private}
	jwk, err := jwkset.NewJWKFromKey(private.Public(), jwkset.JWKOptions{
		Metadata: jwkset.JWKMetadataOptions{ALG: jwkset.ALG(algorithm), KID: id, USE: jwkset.UseSig},
	})
	if err != nil {
		return nil, fmt.Errorf("publish a key: %w", err)
	}
	if k.jwk, err = json.Marshal(jwk.Marshal()); err != nil {
		return nil, fmt.Errorf("publish a key: %w", err)
	}
	return k, nil
}

// Published returns the key as one that is published with its present ID and with further members.
func (k *Key) Published(more map[string]any) *Key {
	members := map[string]any{}
	if err := json.Unmarshal(k.jwk, &members); err != nil {
		panic(fmt.Sprintf("issuer: a key that is no object: %v", err)) // it was made by NewKey
	}
	members["kid"] = k.ID
	maps.Copy(members, more)
	jwk, err := json.Marshal(members)
	if err != nil {
		panic(fmt.Sprintf("issuer: a key that does not encode: %v", err))
	}
	return &Key{ID: k.ID, Algorithm: k.Algorithm, Private: k.Private, jwk: jwk}
}

// JWK is the key as it is published.
func (k *Key) JWK() json.RawMessage { return k.jwk }

// Sign signs claims, with a header of alg, kid and the given members.
func (k *Key) Sign(header, claims map[string]any) (string, error) {
	t := jwt.NewWithClaims(jwt.GetSigningMethod(k.Algorithm), jwt.MapClaims(claims))
	if k.ID != "" {
		t.Header["kid"] = k.ID
	}
	maps.Copy(t.Header, header)
	s, err := t.SignedString(k.Private)
	if err != nil {
		return "", fmt.Errorf("sign a token: %w", err)
	}
	return s, nil
}

// Publish has the key set be these keys. The first signs.
func (i *Issuer) Publish(keys ...*Key) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.keys = keys
}

// Fetched returns how often the key set was fetched.
func (i *Issuer) Fetched() int {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.fetched
}

// Claims are those of a token for a user that is good for an hour.
func (i *Issuer) Claims(subject string) map[string]any {
	now := time.Now().Unix()
	return map[string]any{"iss": i.Name, "aud": i.Audience, "sub": subject, "iat": now, "exp": now + 3600}
}

// Token signs a good token for a user, with further claims.
func (i *Issuer) Token(subject string, more map[string]any) (string, error) {
	i.mu.Lock()
	k := i.keys[0]
	i.mu.Unlock()
	claims := i.Claims(subject)
	maps.Copy(claims, more)
	return k.Sign(nil, claims)
}

// Document is the key set.
func (i *Issuer) Document() []byte {
	i.mu.Lock()
	defer i.mu.Unlock()
	list := []json.RawMessage{}
	for _, k := range i.keys {
		list = append(list, k.jwk)
	}
	b, err := json.Marshal(map[string]any{"keys": list})
	if err != nil {
		panic(fmt.Sprintf("issuer: a key set that does not encode: %v", err)) // of keys that did
	}
	return b
}

// ServeHTTP serves the key set.
func (i *Issuer) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	doc := i.Document()
	i.mu.Lock()
	i.fetched++
	i.mu.Unlock()
	w.Header().Set("Content-Type", "application/jwk-set+json")
	_, _ = w.Write(doc)
}
