package identity_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/parley-chat/parley/internal/identity"
	"github.com/parley-chat/parley/internal/testenv"
)

func TestARotationCostsNoTokenAndAnUnknownKeyOneFetch(t *testing.T) {
	t.Parallel()
	first, second, third := newKey(t, "1", "ES256"), newKey(t, "2", "ES256"), newKey(t, "3", "ES256")
	w := start(t, nil, first)
	old := w.token(t, "anna", nil)
	w.Publish(second, first) // signs at once with a key that nobody has seen
	var wg sync.WaitGroup
	var failed atomic.Int32
	for range 50 {
		wg.Go(func() {
			for _, token := range []string{old, w.token(t, "anna", nil)} {
				if _, err := w.verifier.Verify(t.Context(), token); err != nil {
					failed.Add(1)
				}
			}
		})
	}
	wg.Wait()
	if failed.Load() != 0 || w.Fetched() != 2 {
		t.Errorf("%d failed, %d fetches", failed.Load(), w.Fetched())
	}
	for range 20 { // made up, or of a rotation that comes too soon
		if _, err := w.verifier.Verify(t.Context(), sign(t, third, nil, w.Claims("anna"))); !errors.Is(err, identity.ErrUnauthorized) {
			t.Errorf("an unknown key: %v", err)
		}
	}
	if w.Fetched() != 2 {
		t.Errorf("%d fetches within 30 s", w.Fetched())
	}
}

func TestAWithdrawnKeyIsReportedOnceAndRefused(t *testing.T) {
	t.Parallel()
	first, second := newKey(t, "1", "RS256"), newKey(t, "2", "EdDSA")
	w := start(t, func(c *identity.Config) { c.Refresh = 20 * time.Millisecond }, first, second)
	token := w.token(t, "anna", nil)
	got, err := w.verifier.Verify(t.Context(), token)
	if err != nil {
		t.Fatal(err)
	}
	w.Publish(second)
	prints := testenv.Receive(t, w.gone, 10*time.Second, "the withdrawn key is reported")
	if len(prints) != 1 || prints[0] != got.Signer {
		t.Errorf("withdrawn are %v", prints)
	}
	if _, err := w.verifier.Verify(t.Context(), token); !errors.Is(err, identity.ErrUnauthorized) {
		t.Errorf("a remembered token of the key: %v", err)
	}
	w.Publish() // every key is withdrawn
	testenv.Eventually(t, 10*time.Second, func() bool { return w.source.Up() == nil && len(w.gone) == 1 }, "the empty set counts")
}

func TestAnIssuerThatMisbehavesGivesNoSet(t *testing.T) {
	t.Parallel()
	good := newKey(t, "1", "ES256")
	set := `{"keys":[` + string(good.JWK()) + `]}`
	for name, handler := range map[string]http.HandlerFunc{
		"an error": func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusInternalServerError)
			_, _ = w.Write([]byte(set))
		},
		"no set":  func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(`{"error":"x"}`)) },
		"no JSON": func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(`<html>`)) },
		"too large": func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write([]byte(strings.TrimSuffix(set, "}") + `,"x":"` + strings.Repeat("x", 1<<20) + `"}`))
		},
		"a redirect": func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/elsewhere", http.StatusFound) },
		"hangs":      func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() },
		"cuts it off": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "5000")
			_, _ = w.Write([]byte(set))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var served atomic.Int32
			mux := http.NewServeMux()
			mux.HandleFunc("/elsewhere", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(set)) })
			mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
				served.Add(1)
				handler(w, r)
			})
			server := httptest.NewServer(mux)
			t.Cleanup(server.Close)
			t.Cleanup(server.CloseClientConnections)
			w := &world{config: identity.Config{JWKSURL: server.URL, Refresh: 50 * time.Millisecond, MaxStale: time.Hour, Issuer: issuerName}, gone: make(chan []string, 1)}
			w.run(t)
			testenv.Eventually(t, 30*time.Second, func() bool { return served.Load() >= 2 }, "it is asked again")
			if err := w.source.Ready(); !errors.Is(err, identity.ErrUnavailable) {
				t.Errorf("there is a set: %v", err)
			}
		})
	}
}

func TestAKeyOfAnUnknownKindTakesNoneAway(t *testing.T) {
	t.Parallel()
	good := newKey(t, "1", "ES256")
	file := filepath.Join(t.TempDir(), "jwks.json")
	doc := `{"keys":[{"kty":"XYZ","kid":"x"},{"kty":"oct","k":"AAAA","kid":"1"},{"kty":"RSA","n":"AQAB","e":"AQAB","kid":"weak"},7,` + string(good.JWK()) + `]}`
	if err := os.WriteFile(file, []byte(doc), 0o600); err != nil {
		t.Fatal(err)
	}
	w := start(t, func(c *identity.Config) { c.JWKSURL, c.JWKSFile = "", file }, good)
	if _, err := w.verifier.Verify(t.Context(), w.token(t, "anna", nil)); err != nil {
		t.Error(err)
	}
}

func BenchmarkVerifyRemembered(b *testing.B) {
	w := start(b, nil, newKey(b, "1", "RS256"))
	token := w.token(b, "anna", nil)
	for b.Loop() {
		if _, err := w.verifier.Verify(b.Context(), token); err != nil {
			b.Fatal(err)
		}
	}
}
