package main

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/golang-jwt/jwt/v5"

	"github.com/parley-chat/parley/internal/issuer"
)

func TestATokenIsForWhomTheQueryNamesAndForNoPage(t *testing.T) {
	t.Parallel()
	key, err := issuer.NewKey("1", "ES256")
	if err != nil {
		t.Fatal(err)
	}
	i := issuer.New(name, audience)
	i.Publish(key)
	ask := func(query, origin string) *httptest.ResponseRecorder {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/token?"+query, nil)
		if origin != "" {
			r.Header.Set("Origin", origin)
		}
		w := httptest.NewRecorder()
		giveToken(w, r, i)
		return w
	}
	claims := jwt.MapClaims{}
	_, err = jwt.ParseWithClaims(strings.TrimSpace(ask("sub=ana&name=Ana", "").Body.String()), claims, func(*jwt.Token) (any, error) { return key.Private.Public(), nil })
	if err != nil || claims["sub"] != "ana" || claims["name"] != "Ana" || claims["aud"] != audience {
		t.Errorf("got %v, %v", claims, err)
	}
	for query, origin := range map[string]string{"": "", "sub=ana": "http://evil.example"} {
		if w := ask(query, origin); w.Code != http.StatusBadRequest {
			t.Errorf("%q of %q: %d", query, origin, w.Code)
		}
	}
}
