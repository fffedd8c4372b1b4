package identity

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"golang.org/x/time/rate"

	"github.com/parley-chat/parley/internal/jsonbody"
	"github.com/parley-chat/parley/internal/principal"
)

const (
	// leeway is how far the issuer's clock may be ahead of a pod's. It applies to nbf and iat, but not to exp.
	leeway = 30 * time.Second
	// maxToken is the largest length of a token in bytes.
	maxToken = 8 << 10
	// maxVerified bounds the hashes of verified tokens that are remembered, which take some 10 MiB.
	maxVerified = 16_384
)

// Verifier verifies external tokens with the issuer's key set. Safe for concurrent use.
type Verifier struct {
	c       Config
	source  *Source
	metrics *Metrics
	log     *slog.Logger
	logged  *rate.Limiter

	mu       sync.RWMutex                // guards verified
	verified map[[sha256.Size]byte]Token // by the hash of the token; cleared when it is full
}

// Token is the content of a verified external token.
type Token struct {
	principal.Principal
	IssuedAt time.Time
	// Profile has the token's claims about its user.
	Profile Claims
}

// Claims are a token's claims about its user's profile. Absent ones, and those that are not strings, are nil; null is "".
type Claims struct {
	Username, Name, Avatar *string
}

// NewVerifier makes a verifier that uses the key set of a source.
func NewVerifier(c Config, s *Source, m *Metrics, log *slog.Logger) *Verifier {
	return &Verifier{c: c, source: s, metrics: m, log: log, logged: rate.NewLimiter(5, 20), verified: map[[sha256.Size]byte]Token{}}
}

// Claims reports whether the token names the issuer, without verifying it. It distinguishes external tokens from Parley's own.
func (v *Verifier) Claims(token string) bool {
	parts := strings.SplitN(token, ".", 3)
	if len(parts) != 3 || len(token) > 2*maxToken {
		return false
	}
	b, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(parts[1], "="))
	if err != nil {
		return false
	}
	var claims struct {
		Issuer any `json:"iss"`
	}
	return json.Unmarshal(b, &claims) == nil && claims.Issuer == v.c.Issuer
}

// rejection is the error for a token that is not accepted, with the reason for metrics and the log.
type rejection struct{ reason string }

func (r *rejection) Error() string { return "rejected: " + r.reason }

func reject(reason string) error { return &rejection{reason} }

// Verify returns the content of a token, ErrUnauthorized if it is not accepted, or ErrUnavailable if there is no key set to verify it with.
// It makes no query. A verified token is remembered, so its signature is not verified again; but each time its expiry is checked, and
// that its key is still in the set.
func (v *Verifier) Verify(ctx context.Context, token string) (Token, error) {
	hash := sha256.Sum256([]byte(token))
	v.mu.RLock()
	t, known := v.verified[hash]
	v.mu.RUnlock()
	if known && time.Now().Before(t.ExpiresAt) {
		if _, err := v.source.current(); err != nil {
			return Token{}, err
		}
		if v.source.Holds(t.Signer) {
			return t, nil
		}
		return Token{}, v.rejected(reject(reasonWithdrawn))
	}
	t, err := v.verify(ctx, token)
	if err != nil {
		return Token{}, v.rejected(err)
	}
	v.remember(hash, t)
	return t, nil
}

// rejected counts and logs a rejection, and returns the error for the client.
func (v *Verifier) rejected(err error) error {
	r, ok := errors.AsType[*rejection](err)
	if !ok {
		return err
	}
	v.metrics.rejected.WithLabelValues(r.reason).Inc()
	if v.logged.Allow() {
		v.log.Info("an external token was rejected", "reason", r.reason)
	}
	return ErrUnauthorized
}

func (v *Verifier) remember(hash [sha256.Size]byte, t Token) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if len(v.verified) >= maxVerified {
		clear(v.verified)
	}
	v.verified[hash] = t
}

func (v *Verifier) verify(ctx context.Context, token string) (Token, error) {
	if len(token) > maxToken {
		return Token{}, reject(reasonSize)
	}
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return Token{}, reject(reasonForm)
	}
	header, ok := decodePart(parts[0])
	if !ok {
		return Token{}, reject(reasonForm)
	}
	claims, ok := decodePart(parts[1])
	if !ok {
		return Token{}, reject(reasonForm)
	}
	signature, err := base64.RawURLEncoding.Strict().DecodeString(parts[2])
	if err != nil || strings.ContainsAny(parts[2], "\r\n") {
		return Token{}, reject(reasonForm)
	}
	alg, kid, err := v.header(header)
	if err != nil {
		return Token{}, err
	}
	t, err := v.claims(claims)
	if err != nil {
		return Token{}, err
	}
	k, err := v.key(ctx, kid, alg)
	if err != nil {
		return Token{}, err
	}
	method := jwt.GetSigningMethod(alg)
	if method == nil || method.Verify(parts[0]+"."+parts[1], signature, k.public) != nil {
		return Token{}, reject(reasonSignature)
	}
	t.Signer = k.print
	return t, nil
}

// keysInHeader are members of the header that are refused: some would make the token choose its own key, the others change what is signed
// or how it is encoded.
var keysInHeader = []string{"jku", "jwk", "x5u", "x5c", "crit", "b64", "zip", "enc"}

// header returns the algorithm, which is allowed, and the kid, nil for none.
func (v *Verifier) header(h claimSet) (alg string, kid *string, err error) {
	for _, name := range keysInHeader {
		if _, given := h.get(name); given {
			return "", nil, reject(reasonHeader)
		}
	}
	alg, ok := h.text("alg")
	if !ok || !slices.Contains(v.c.Algorithms, alg) {
		return "", nil, reject(reasonAlgorithm)
	}
	if _, given := h.get("kid"); given {
		id, ok := h.text("kid")
		if !ok || id == "" {
			return "", nil, reject(reasonHeader)
		}
		kid = &id
	}
	return alg, kid, nil
}

// key finds the key for a token. For an unknown kid it waits for a newer set once (awaitRenewal).
func (v *Verifier) key(ctx context.Context, kid *string, alg string) (*key, error) {
	for renewed := false; ; renewed = true {
		set, err := v.source.current()
		if err != nil {
			return nil, err
		}
		k, known := set.find(kid, alg)
		switch {
		case k != nil:
			return k, nil
		case known || kid == nil:
			return nil, reject(reasonKey)
		case renewed:
			return nil, reject(reasonUnknown)
		}
		v.source.awaitRenewal(ctx)
	}
}

// claims reads and checks a token's claims.
func (v *Verifier) claims(c claimSet) (Token, error) {
	if iss, ok := c.text("iss"); !ok || iss != v.c.Issuer {
		return Token{}, reject(reasonIssuer)
	}
	if !slices.ContainsFunc(c.audiences(), func(a string) bool { return slices.Contains(v.c.Audience, a) }) {
		return Token{}, reject(reasonAudience)
	}
	issued, expires, err := v.times(c)
	if err != nil {
		return Token{}, err
	}
	user, ok := c.user(v.c.ClaimUser)
	if !ok {
		return Token{}, reject(reasonUser)
	}
	return Token{
		Principal: principal.Principal{Kind: principal.External, ExternalID: user, ExpiresAt: expires},
		IssuedAt:  issued,
		Profile:   Claims{v.optional(c, v.c.ClaimUsername), v.optional(c, v.c.ClaimName), v.optional(c, v.c.ClaimAvatar)},
	}, nil
}

// times returns iat and exp, and checks them and nbf.
func (v *Verifier) times(c claimSet) (issued, expires time.Time, err error) {
	exp, hasExp, ok1 := c.time("exp")
	iat, hasIat, ok2 := c.time("iat")
	nbf, _, ok3 := c.time("nbf")
	now := time.Now()
	switch {
	case !ok1 || !ok2 || !ok3 || !hasExp || !hasIat:
		return iat, exp, reject(reasonTimes)
	case !now.Before(exp):
		return iat, exp, reject(reasonExpired)
	case iat.After(now.Add(leeway)) || nbf.After(now.Add(leeway)):
		return iat, exp, reject(reasonNotYet)
	case exp.Sub(iat) > v.c.MaxTTL:
		return iat, exp, reject(reasonLifetime)
	}
	return iat, exp, nil
}

func (*Verifier) optional(c claimSet, path string) *string {
	if path == "" {
		return nil
	}
	raw, ok := c.at(path)
	if !ok {
		return nil
	}
	if string(raw) == "null" {
		return new(string)
	}
	s, ok := jsonbody.String(raw)
	if !ok {
		return nil
	}
	return &s
}
