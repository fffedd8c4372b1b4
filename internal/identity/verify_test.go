package identity_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/hmac"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/parley-chat/parley/internal/identity"
	"github.com/parley-chat/parley/internal/issuer"
	"github.com/parley-chat/parley/internal/testenv"
)

const (
	issuerName = "https://id.example.com"
	audience   = "parley"
)

func TestMain(m *testing.M) { testenv.VerifyNoLeaks(m) }

// world is an issuer, and a verifier of its tokens.
type world struct {
	*issuer.Issuer
	config   identity.Config
	source   *identity.Source
	verifier *identity.Verifier
	gone     chan []string
}

func newKey(t testing.TB, id, algorithm string) *issuer.Key {
	t.Helper()
	k, err := issuer.NewKey(id, algorithm)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// start serves the keys' set, and has a verifier follow it.
func start(t testing.TB, change func(*identity.Config), keys ...*issuer.Key) *world {
	t.Helper()
	w := &world{Issuer: issuer.New(issuerName, audience), gone: make(chan []string, 10)}
	w.Publish(keys...)
	server := httptest.NewServer(w.Issuer)
	t.Cleanup(server.Close)
	w.config = identity.Config{
		Issuer: issuerName, Audience: []string{"other", audience}, Algorithms: []string{"RS256", "PS256", "ES256", "EdDSA"}, ClaimUser: "sub",
		ClaimName: "name", ClaimAvatar: "picture", ClaimUsername: "preferred_username", JWKSURL: server.URL,
		Refresh: time.Hour, MaxStale: time.Hour, MaxTTL: 2 * time.Hour,
	}
	if change != nil {
		change(&w.config)
	}
	w.run(t)
	testenv.Eventually(t, 5*time.Second, func() bool { return w.source.Ready() == nil }, "there is a key set")
	return w
}

// run makes a source and a verifier, which work until the test ends.
func (w *world) run(t testing.TB) {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	w.source = identity.NewSource(w.config, log, func(prints []string) { w.gone <- prints })
	w.verifier = identity.NewVerifier(w.config, w.source, identity.NewMetrics(prometheus.NewRegistry(), w.source), log)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = w.source.Run(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		<-done
	})
}

func (w *world) token(t testing.TB, subject string, more map[string]any) string {
	t.Helper()
	s, err := w.Token(subject, more)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func sign(t testing.TB, k *issuer.Key, header, claims map[string]any) string {
	t.Helper()
	s, err := k.Sign(header, claims)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func b64(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }

func unb64(t testing.TB, s string) string {
	t.Helper()
	b, err := base64.RawURLEncoding.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// hmacSigned is a token of HS256 with a secret, as an attacker makes it who knows the public key.
func hmacSigned(t testing.TB, claims map[string]any, secret []byte, kid string) string {
	t.Helper()
	c, err := json.Marshal(claims)
	if err != nil {
		t.Fatal(err)
	}
	signed := b64(fmt.Sprintf(`{"alg":"HS256","typ":"JWT","kid":%q}`, kid)) + "." + b64(string(c))
	mac := hmac.New(sha256.New, secret)
	_, _ = mac.Write([]byte(signed))
	return signed + "." + base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

// spoil are the ways to spoil a token that is good otherwise.
func spoil(t *testing.T, w *world, rs, es, es384, stranger *issuer.Key) map[string]string {
	t.Helper()
	now := time.Now().Unix()
	with := func(more map[string]any) map[string]any {
		c := w.Claims("anna")
		maps.Copy(c, more)
		return c
	}
	without := func(name string) map[string]any {
		c := w.Claims("anna")
		delete(c, name)
		return c
	}
	of := func(claims map[string]any) string { return sign(t, rs, nil, claims) }
	header := func(h map[string]any) string { return sign(t, rs, h, w.Claims("anna")) }
	good := of(w.Claims("anna"))
	part := strings.Split(good, ".")
	der, err := x509.MarshalPKIXPublicKey(rs.Private.Public())
	if err != nil {
		t.Fatal(err)
	}
	publicPEM := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	raw := func(claims string) string { // signed as it stands
		signed := part[0] + "." + b64(claims)
		return signed + "." + signRaw(t, rs, signed)
	}
	reheaded := func(h string) string {
		signed := b64(h) + "." + part[1]
		return signed + "." + signRaw(t, rs, signed)
	}
	claimsText := unb64(t, part[1])
	derSignature := ecdsaDER(t, es, w.Claims("anna"))
	return map[string]string{
		"empty":                       "",
		"no JWT":                      "abc",
		"two parts":                   part[0] + "." + part[1],
		"four parts":                  good + ".x",
		"trailing garbage":            good + "x",
		"trailing dot":                good + ".",
		"trailing newline":            good + "\n",
		"a newline inside":            part[0] + "." + part[1][:10] + "\n" + part[1][10:] + "." + part[2],
		"leading space":               " " + good,
		"padding":                     part[0] + "." + part[1] + "==." + part[2],
		"no signature":                part[0] + "." + part[1] + ".",
		"a flipped bit":               part[0] + "." + part[1] + "." + flip(part[2]),
		"other claims":                part[0] + "." + b64(strings.Replace(claimsText, "anna", "admi", 1)) + "." + part[2],
		"signature of another token":  part[0] + "." + part[1] + "." + strings.Split(of(w.Claims("ben")), ".")[2],
		"alg none":                    b64(`{"alg":"none","typ":"JWT"}`) + "." + part[1] + ".",
		"alg None":                    b64(`{"alg":"NonE","typ":"JWT"}`) + "." + part[1] + ".",
		"alg none, signed":            b64(`{"alg":"none","kid":"rs"}`) + "." + part[1] + "." + part[2],
		"HS256 with the public key":   hmacSigned(t, w.Claims("anna"), publicPEM, "rs"),
		"HS256 with the DER":          hmacSigned(t, w.Claims("anna"), der, "rs"),
		"HS256 with nothing":          hmacSigned(t, w.Claims("anna"), nil, "rs"),
		"RS384, not allowed":          reheaded(`{"alg":"RS384","kid":"rs"}`),
		"ES256 by an RSA kid":         sign(t, es, map[string]any{"kid": "rs"}, w.Claims("anna")),
		"RS256 by an EC kid":          header(map[string]any{"kid": "es"}),
		"PS256 by a key of RS256":     sign(t, &issuer.Key{ID: "rs", Algorithm: "PS256", Private: rs.Private}, nil, w.Claims("anna")),
		"wrong crv":                   sign(t, es384, nil, w.Claims("anna")),
		"ES256 by a P-384 kid":        sign(t, es, map[string]any{"kid": "es384"}, w.Claims("anna")),
		"ES256, signature in DER":     derSignature,
		"alg as a list":               reheaded(`{"alg":["RS256"],"kid":"rs"}`),
		"no alg":                      reheaded(`{"kid":"rs"}`),
		"alg twice":                   reheaded(`{"alg":"RS256","alg":"RS256","kid":"rs"}`),
		"a stranger's key":            sign(t, stranger, nil, w.Claims("anna")),
		"a stranger's key, our kid":   sign(t, stranger, map[string]any{"kid": "rs"}, w.Claims("anna")),
		"unknown kid":                 header(map[string]any{"kid": "nobody"}),
		"empty kid":                   header(map[string]any{"kid": ""}),
		"kid is a number":             header(map[string]any{"kid": 1}),
		"no kid, several keys fit":    sign(t, &issuer.Key{Algorithm: "RS256", Private: rs.Private}, nil, w.Claims("anna")),
		"duplicate kid":               sign(t, &issuer.Key{ID: "twice", Algorithm: "RS256", Private: rs.Private}, nil, w.Claims("anna")),
		"jku":                         header(map[string]any{"jku": "https://evil.example.com/jwks"}),
		"x5u":                         header(map[string]any{"x5u": "https://evil.example.com/cert"}),
		"jwk":                         sign(t, stranger, map[string]any{"jwk": stranger.JWK()}, w.Claims("anna")),
		"x5c":                         header(map[string]any{"x5c": []string{"AAAA"}}),
		"crit":                        header(map[string]any{"crit": []string{"exp"}}),
		"b64":                         header(map[string]any{"b64": false}),
		"use of a key for encryption": sign(t, &issuer.Key{ID: "enc", Algorithm: "RS256", Private: rs.Private}, nil, w.Claims("anna")),
		"expired":                     of(with(map[string]any{"iat": now - 100, "exp": now - 1})),
		"expired long ago":            of(with(map[string]any{"iat": now - 7200, "exp": now - 3600})),
		"exp is now":                  of(with(map[string]any{"exp": now})),
		"no exp":                      of(without("exp")),
		"exp is a string":             of(with(map[string]any{"exp": "9999999999"})),
		"exp is null":                 of(with(map[string]any{"exp": nil})),
		"exp is huge":                 of(with(map[string]any{"exp": 1e300})),
		"exp twice":                   raw(strings.Replace(claimsText, "{", `{"exp":1,`, 1)),
		"no iat":                      of(without("iat")),
		"iat in the future":           of(with(map[string]any{"iat": now + 60})),
		"iat far in the past":         of(with(map[string]any{"iat": now - 7200})),
		"nbf in the future":           of(with(map[string]any{"nbf": now + 60})),
		"nbf is a string":             of(with(map[string]any{"nbf": "0"})),
		"lives too long":              of(with(map[string]any{"exp": now + 7300})),
		"no iss":                      of(without("iss")),
		"another iss":                 of(with(map[string]any{"iss": issuerName + "/"})),
		"iss in capitals":             of(with(map[string]any{"iss": strings.ToUpper(issuerName)})),
		"iss as a list":               of(with(map[string]any{"iss": []string{issuerName}})),
		"no aud":                      of(without("aud")),
		"another aud":                 of(with(map[string]any{"aud": "parley2"})),
		"array aud without ours":      of(with(map[string]any{"aud": []string{"a", "b"}})),
		"array aud with a number":     of(with(map[string]any{"aud": []any{audience, 1}})),
		"aud is an object":            of(with(map[string]any{"aud": map[string]any{"parley": true}})),
		"empty aud":                   of(with(map[string]any{"aud": []string{}})),
		"no sub":                      of(without("sub")),
		"numeric sub":                 of(with(map[string]any{"sub": 42})),
		"empty sub":                   of(with(map[string]any{"sub": ""})),
		"null sub":                    of(with(map[string]any{"sub": nil})),
		"129 characters":              of(with(map[string]any{"sub": strings.Repeat("é", 129)})),
		"sub with NUL":                of(with(map[string]any{"sub": "a\x00b"})),
		"sub with half a character":   raw(strings.Replace(claimsText, `"anna"`, `"\ud800"`, 1)),
		"sub twice":                   raw(strings.Replace(claimsText, "{", `{"sub":"admin",`, 1)),
		"10 KiB":                      of(with(map[string]any{"more": strings.Repeat("x", 10<<10)})),
		"claims are a list":           raw(`[1]`),
		"claims are no JSON":          raw(`{"iss":`),
	}
}

func TestAGoodTokenAndTheWaysToSpoilIt(t *testing.T) {
	t.Parallel()
	rs, es, ed, es384 := newKey(t, "rs", "RS256"), newKey(t, "es", "ES256"), newKey(t, "ed", "EdDSA"), newKey(t, "es384", "ES384")
	second, stranger := newKey(t, "rs2", "RS256"), newKey(t, "stranger", "RS256")
	w := start(t, nil, rs, es, ed, es384, second, as(t, rs, "twice", nil), as(t, stranger, "twice", nil), as(t, rs, "enc", map[string]any{"use": "enc"}))
	for name, token := range map[string]string{
		"RS256":            sign(t, rs, nil, w.Claims("anna")),
		"ES256":            sign(t, es, nil, w.Claims("anna")),
		"EdDSA":            sign(t, ed, nil, w.Claims("anna")),
		"no kid, one fits": sign(t, &issuer.Key{Algorithm: "EdDSA", Private: ed.Private}, nil, w.Claims("anna")),
		"array aud":        w.token(t, "anna", map[string]any{"aud": []string{"a", audience}}),
		"iat a bit ahead":  w.token(t, "anna", map[string]any{"iat": time.Now().Unix() + 20, "nbf": time.Now().Unix() + 20}),
		"fractions":        w.token(t, "anna", map[string]any{"iat": float64(time.Now().Unix()) + .5}),
		"128 characters":   w.token(t, strings.Repeat("é", 128), nil),
	} {
		for range 2 { // the second is remembered
			got, err := w.verifier.Verify(t.Context(), token)
			if err != nil || got.ExternalID == "" || got.ExpiresAt.IsZero() || !w.source.Holds(got.Signer) {
				t.Errorf("%s: %+v, %v", name, got, err)
			}
		}
	}
	spoiled := spoil(t, w, rs, es, es384, stranger)
	if len(spoiled) < 40 {
		t.Fatalf("there are %d ways", len(spoiled))
	}
	for name, token := range spoiled {
		for range 2 {
			got, err := w.verifier.Verify(t.Context(), token)
			if !errors.Is(err, identity.ErrUnauthorized) || err.Error() != identity.ErrUnauthorized.Error() {
				t.Errorf("%s: %+v, %v", name, got, err)
			}
		}
	}
}

func flip(s string) string {
	if s[0] == 'A' {
		return "B" + s[1:]
	}
	return "A" + s[1:]
}

// as publishes a key under another name.
func as(t testing.TB, k *issuer.Key, id string, more map[string]any) *issuer.Key {
	t.Helper()
	c := *k
	c.ID = id
	return c.Published(more)
}

func signRaw(t testing.TB, k *issuer.Key, signed string) string {
	t.Helper()
	private, ok := k.Private.(*rsa.PrivateKey)
	if !ok {
		t.Fatal("no RSA key")
	}
	sum := sha256.Sum256([]byte(signed))
	s, err := rsa.SignPKCS1v15(nil, private, 5, sum[:]) // SHA-256
	if err != nil {
		t.Fatal(err)
	}
	return base64.RawURLEncoding.EncodeToString(s)
}

// ecdsaDER is a token whose signature is in another form than JWS wants.
func ecdsaDER(t testing.TB, k *issuer.Key, claims map[string]any) string {
	t.Helper()
	part := strings.Split(sign(t, k, nil, claims), ".")
	private, ok := k.Private.(*ecdsa.PrivateKey)
	if !ok {
		t.Fatal("no EC key")
	}
	sum := sha256.Sum256([]byte(part[0] + "." + part[1]))
	s, err := ecdsa.SignASN1(nil, private, sum[:])
	if err != nil {
		t.Fatal(err)
	}
	return part[0] + "." + part[1] + "." + base64.RawURLEncoding.EncodeToString(s)
}
