package identity

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/MicahParks/jwkset"
)

// minRSA is the smallest size of an RSA key in bits (RFC 7518, section 3.3).
const minRSA = 2048

// errKeySet is returned for a document that is not a key set. An empty set is valid: it means that every key was withdrawn.
var errKeySet = errors.New("the document is no JWK set")

// key is a public key that may verify signatures.
type key struct {
	id     string // kid, "" for none
	alg    string // "" if the key has none
	curve  string // of an elliptic key
	public any    // *rsa.PublicKey, *ecdsa.PublicKey or ed25519.PublicKey
	// print is a hash of id, alg and public key. The same public key with another id or alg counts as another key.
	print string
}

// keySet is the issuer's published key set. It is immutable.
type keySet struct {
	keys   []*key
	prints map[string]bool
	// skipped describes the keys that can't be used, with the reason.
	skipped []string
}

// parseKeySet reads a JWK set (RFC 7517). Keys that can't be used are skipped, so that they don't make the others unusable.
func parseKeySet(doc []byte) (*keySet, error) {
	var raw struct {
		Keys *[]json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(doc, &raw); err != nil || raw.Keys == nil {
		return nil, errKeySet
	}
	s := &keySet{prints: map[string]bool{}}
	for i, r := range *raw.Keys {
		k, err := parseKey(r)
		if err != nil {
			s.skipped = append(s.skipped, fmt.Sprintf("number %d: %v", i+1, err))
			continue
		}
		s.keys = append(s.keys, k)
		s.prints[k.print] = true
	}
	return s, nil
}

// parseKey reads one key. It refuses private and symmetric keys: they are not secret any more once they are in a published set.
func parseKey(raw json.RawMessage) (*key, error) {
	var m jwkset.JWKMarshal
	if err := json.Unmarshal(raw, &m); err != nil {
		return nil, errors.New("it cannot be read")
	}
	switch {
	case m.KTY == jwkset.KtyOct || m.D != "" || m.K != "":
		return nil, errors.New("it is a secret key")
	case m.USE != "" && m.USE != jwkset.UseSig:
		return nil, errors.New("its use is not sig")
	case len(m.KEYOPS) > 0 && !slices.Contains(m.KEYOPS, jwkset.KeyOpsVerify):
		return nil, errors.New("its key_ops lack verify")
	}
	m.X5C, m.X5U, m.X5T, m.X5TS256 = nil, "", "", "" // certificates prove nothing here, and must not be fetched
	jwk, err := jwkset.NewJWKFromMarshal(m, jwkset.JWKMarshalOptions{}, jwkset.JWKValidateOptions{})
	if err != nil {
		return nil, errors.New("it is no valid key")
	}
	k := &key{id: m.KID, alg: string(m.ALG), public: jwk.Key()}
	switch public := k.public.(type) {
	case *rsa.PublicKey:
		if public.N.BitLen() < minRSA {
			return nil, fmt.Errorf("it has fewer than %d bits", minRSA)
		}
	case *ecdsa.PublicKey:
		k.curve = public.Curve.Params().Name
	case ed25519.PublicKey:
	default:
		return nil, errors.New("it verifies no signatures that are known here")
	}
	der, err := x509.MarshalPKIXPublicKey(k.public)
	if err != nil {
		return nil, errors.New("it is no valid key")
	}
	sum := sha256.Sum256([]byte(strings.Join([]string{k.id, k.alg, string(der)}, "\x00")))
	k.print = hex.EncodeToString(sum[:])
	return k, nil
}

// algorithms are the algorithms that can be configured. The value is the curve that an elliptic one needs.
var algorithms = map[string]string{
	"RS256": "", "RS384": "", "RS512": "", "PS256": "", "PS384": "", "PS512": "", "ES256": "P-256", "ES384": "P-384", "ES512": "P-521", "EdDSA": "",
}

// fits reports whether a token with the algorithm may be verified with the key. Without this check an attacker could choose an algorithm for
// which a public key is used in another way, for example as an HMAC secret.
func (k *key) fits(alg string) bool {
	if k.alg != "" && k.alg != alg && (k.alg != "Ed25519" || alg != "EdDSA") { // RFC 9864 names the curve
		return false
	}
	switch k.public.(type) {
	case *rsa.PublicKey:
		return strings.HasPrefix(alg, "RS") || strings.HasPrefix(alg, "PS")
	case *ecdsa.PublicKey:
		return strings.HasPrefix(alg, "ES") && algorithms[alg] == k.curve
	case ed25519.PublicKey:
		return alg == "EdDSA"
	}
	return false
}

// find returns the key for a token's header, nil if there is none or more than one. known is false if no key has the kid: a newer set may
// have it.
func (s *keySet) find(kid *string, alg string) (found *key, known bool) {
	var fitting []*key
	for _, k := range s.keys {
		if kid != nil && k.id != *kid {
			continue
		}
		known = true
		if k.fits(alg) {
			fitting = append(fitting, k)
		}
	}
	if len(fitting) != 1 { // with two fitting keys of one kid it is ambiguous which was meant
		return nil, known
	}
	return fitting[0], true
}
