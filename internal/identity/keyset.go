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

// minRSA is how many bits an RSA key has at least (RFC 7518, section 3.3).
const minRSA = 2048

// errKeySet is returned for a document that is no key set. An empty set is one: then every key was withdrawn.
var errKeySet = errors.New("the document is no JWK set")

// key is a public key that may verify signatures.
type key struct {
	id     string // kid, "" for none
	alg    string // "" if the key has none
	curve  string // of an elliptic key
	public any    // *rsa.PublicKey, *ecdsa.PublicKey or ed25519.PublicKey
	// print identifies the key with everything that decides on its use: another use of the same key is another key.
	print string
}

// keySet is the issuer's published key set. It is immutable.
type keySet struct {
	keys   []*key
	prints map[string]bool
	// skipped are keys that verify no signature of ours, with the reason.
	skipped []string
}

// parseKeySet reads a JWK set (RFC 7517). A key that can't be used is skipped: it must not take the others away.
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

// parseKey reads one key. Private and symmetric keys are refused: a set that shows them is no secret any more.
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

// algorithms are those that may be allowed, each with the curve that it needs; the others need an RSA key, or Ed25519.
var algorithms = map[string]string{
	"RS256": "", "RS384": "", "RS512": "", "PS256": "", "PS384": "", "PS512": "", "ES256": "P-256", "ES384": "P-384", "ES512": "P-521", "EdDSA": "",
}

// fits reports whether a token of the algorithm may be signed with the key. It is what stands between an attacker and a public key
// that is used as something else.
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

// find returns the key for a token's header. known is false if the set has no such kid; a newer set may have it.
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
	if len(fitting) != 1 { // two keys of one kid: neither is the one that was meant
		return nil, known
	}
	return fitting[0], true
}
