package test

import (
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/parley-chat/parley/internal/testenv"
)

// writeKeys writes the product's key set to a file, as a tool that syncs a Secret does.
func (p *product) writeKeys(file string) {
	p.t.Helper()
	r := httptest.NewRecorder()
	p.ServeHTTP(r, httptest.NewRequest("GET", "/", nil))
	if err := os.WriteFile(file, r.Body.Bytes(), 0o600); err != nil {
		p.t.Fatal(err)
	}
}

// A key set in a file is read again, and a token may name one of several audiences. A new name that a back end set for a user stays until the
// claims of the user's token change.
func TestAKeySetInAFileIsReadAgain(t *testing.T) {
	t.Parallel()
	product := newProduct(t)
	file := filepath.Join(t.TempDir(), "jwks.json")
	product.writeKeys(file)
	s := start(t, 1, "PARLEY_AUTH_MODE=external", "PARLEY_AUTH_JWKS_FILE="+file, "PARLEY_AUTH_JWKS_REFRESH=1s",
		"PARLEY_AUTH_ISSUER="+product.Name, "PARLEY_AUTH_AUDIENCE=other,"+product.Audience)
	p := s.pods[0]
	key := s.createKey(t, "back end", "users,tokens")
	old := product.token("anna", map[string]any{"name": "Anna"})
	anna := p.me(t, old)
	next := issuerKey(t, "k2")
	product.Publish(next)
	product.writeKeys(file)
	token := product.token("anna", map[string]any{"name": "Anna"})
	testenv.Eventually(t, 20*time.Second, func() bool {
		return p.call(t, token, "GET", "/api/users/me", nil).status == 200 && p.call(t, old, "GET", "/api/users/me", nil).status == 401
	}, "the new key is accepted and the old one refused")

	p.want(t, 200, key, "PATCH", "/api/server/users/ext:anna", anyJSON{"displayName": "By the back end"})
	second := s.addPod() // which has not checked the profile yet
	if me := second.me(t, token); me.DisplayName != "By the back end" || me.ID != anna.ID {
		t.Errorf("the user is %+v", me)
	}
	if me := s.addPod().me(t, product.token("anna", map[string]any{"name": "Anna Maria"})); me.DisplayName != "Anna Maria" {
		t.Errorf("with new claims the user is %+v", me)
	}
	var minted pair
	p.want(t, 201, key, "POST", "/api/server/users/ext:anna/tokens", anyJSON{"ttl": "1h"}).into(t, &minted)
	p.want(t, 200, "", "POST", "/api/auth/refresh", anyJSON{"refreshToken": minted.RefreshToken})
}
