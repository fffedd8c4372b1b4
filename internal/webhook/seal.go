package webhook

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
)

// Sealer encrypts endpoints' secrets with AES-256-GCM. The first key encrypts, and all keys decrypt, so that keys can be rotated.
type Sealer struct {
	aeads []cipher.AEAD
}

// ErrSealed is returned for a secret that none of the keys decrypts.
var ErrSealed = errors.New("no key of PARLEY_SECRETS_KEY opens the secret")

// NewSealer makes a sealer from one or more keys of 32 bytes.
func NewSealer(keys [][]byte) (*Sealer, error) {
	if len(keys) == 0 {
		return nil, errors.New("webhook: no key to encrypt secrets with")
	}
	s := &Sealer{}
	for _, k := range keys {
		block, err := aes.NewCipher(k)
		if err != nil {
			return nil, fmt.Errorf("webhook: %w", err)
		}
		aead, err := cipher.NewGCM(block)
		if err != nil {
			return nil, fmt.Errorf("webhook: %w", err)
		}
		s.aeads = append(s.aeads, aead)
	}
	return s, nil
}

// Seal encrypts a secret. It can only be opened with the id of the same endpoint.
func (s *Sealer) Seal(endpointID string, secret []byte) []byte {
	nonce := make([]byte, s.aeads[0].NonceSize())
	_, _ = rand.Read(nonce) // never fails
	return s.aeads[0].Seal(nonce, nonce, secret, []byte(endpointID))
}

// Open decrypts what Seal returned.
func (s *Sealer) Open(endpointID string, sealed []byte) ([]byte, error) {
	for _, a := range s.aeads {
		if len(sealed) < a.NonceSize() {
			break
		}
		if secret, err := a.Open(nil, sealed[:a.NonceSize()], sealed[a.NonceSize():], []byte(endpointID)); err == nil {
			return secret, nil
		}
	}
	return nil, ErrSealed
}

const (
	secretLen    = 32
	secretPrefix = "whsec_"
)

func newSecret() []byte {
	secret := make([]byte, secretLen)
	_, _ = rand.Read(secret) // never fails
	return secret
}

// shown encodes a secret as the API returns it, once.
func shown(secret []byte) string { return secretPrefix + base64.StdEncoding.EncodeToString(secret) }

// Sign signs a delivery as Standard Webhooks 1.0 requires: one signature for each secret, over "id.timestamp.body", separated by spaces.
// timestamp is in seconds since 1970.
func Sign(secrets [][]byte, id string, timestamp int64, body []byte) string {
	var out []byte
	for _, secret := range secrets {
		h := hmac.New(sha256.New, secret)
		h.Write([]byte(id + "." + strconv.FormatInt(timestamp, 10) + "."))
		h.Write(body)
		if out != nil {
			out = append(out, ' ')
		}
		out = base64.StdEncoding.AppendEncode(append(out, "v1,"...), h.Sum(nil))
	}
	return string(out)
}
