package push

import (
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/parley-chat/parley/internal/outbound"
)

var errRevoked = errors.New("the key is revoked")

// google is FCM and the service of its tokens.
type google struct {
	*httptest.Server
	tokens   atomic.Int64
	status   atomic.Int64 // of the next answers to pushes
	revoked  atomic.Value // the id of the key that the service of tokens refuses
	messages chan map[string]any
}

// newGoogle starts them with the keys of a service account, by id.
func newGoogle(t *testing.T, keys map[string]*rsa.PublicKey) *google {
	g := &google{messages: make(chan map[string]any, 100)}
	g.status.Store(200)
	mux := http.NewServeMux()
	mux.HandleFunc("POST /token", func(w http.ResponseWriter, r *http.Request) {
		claims := jwt.MapClaims{}
		_, err := jwt.ParseWithClaims(r.FormValue("assertion"), claims, func(tok *jwt.Token) (any, error) {
			id, _ := tok.Header["kid"].(string)
			if id == g.revoked.Load() {
				return nil, errRevoked
			}
			if keys[id] == nil {
				t.Errorf("the key is %v", tok.Header["kid"])
			}
			return keys[id], nil
		}, jwt.WithValidMethods([]string{"RS256"}), jwt.WithAudience(g.URL+"/token"), jwt.WithIssuer("parley@example.iam"))
		if errors.Is(err, errRevoked) {
			w.WriteHeader(http.StatusBadRequest)
			_, _ = w.Write([]byte(`{"error":"invalid_grant"}`))
			return
		}
		if err != nil || claims["scope"] != fcmScope || r.FormValue("grant_type") != "urn:ietf:params:oauth:grant-type:jwt-bearer" {
			t.Errorf("the assertion: %v, %v", err, claims)
		}
		g.tokens.Add(1)
		_ = json.NewEncoder(w).Encode(map[string]any{"access_token": "token", "expires_in": 3600})
	})
	mux.HandleFunc("POST /v1/projects/a-project/messages:send", func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer token" {
			t.Errorf("authorized by %q", r.Header.Get("Authorization"))
		}
		if s := int(g.status.Load()); s != 200 {
			w.Header().Set("Retry-After", "3")
			w.WriteHeader(s)
			return
		}
		var m map[string]any
		if err := json.NewDecoder(r.Body).Decode(&m); err != nil {
			t.Error(err)
		}
		g.messages <- m
	})
	g.Server = httptest.NewServer(mux)
	t.Cleanup(g.Close)
	return g
}

func TestFCM(t *testing.T) {
	t.Parallel()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	g := newGoogle(t, map[string]*rsa.PublicKey{"key-1": &key.PublicKey})
	guard := &outbound.Guard{Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}
	f, _ := NewFCM(FCMConfig{ProjectID: "a-project", ClientEmail: "parley@example.iam", KeyID: "key-1", Key: key, TokenURI: g.URL + "/token", Endpoint: g.URL}, guard).(*fcm)
	t.Cleanup(f.client.CloseIdleConnections)
	p := &parcel{provider: ProviderFCM, address: "device-token", urgent: true, push: Push{
		V: 1, Type: "message", ConversationID: "c", MessageID: "m", Seq: 7, Title: "Ana", Body: "hi", Count: 2, Unread: Unread{Messages: 3, Mentions: 1},
	}}
	for range 2 {
		if a := f.send(t.Context(), p); a.status != 200 || a.err != nil {
			t.Fatalf("%+v", a)
		}
	}
	if n := g.tokens.Load(); n != 1 {
		t.Errorf("%d tokens were asked for", n)
	}
	b, err := json.Marshal(<-g.messages)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`"token":"device-token"`, `"collapse_key":"c"`, `"priority":"HIGH"`, `"ttl":"86400s"`, `"apns-collapse-id":"c"`, `"badge":3`,
		`"notification":{"body":"hi","title":"Ana"}`, `"seq":"7"`, `"unread":"{\"messages\":3,\"mentions\":1}"`, `"messageId":"m"`, `"count":"2"`,
	} {
		if !strings.Contains(string(b), want) {
			t.Errorf("%s lacks %s", b, want)
		}
	}
	for status, after := range map[int]time.Duration{404: 3 * time.Second, 429: 3 * time.Second, 503: 3 * time.Second} {
		g.status.Store(int64(status))
		if a := f.send(t.Context(), p); a.status != status || a.after != after {
			t.Errorf("%d: %+v", status, a)
		}
	}
	g.status.Store(401)
	if a := f.send(t.Context(), p); a.status != 401 || g.tokens.Load() != 2 {
		t.Errorf("a refused token: %+v, %d tokens", a, g.tokens.Load())
	}
	f.TokenURI, f.until = g.URL+"/nowhere", time.Time{}
	if a := f.send(t.Context(), p); a.status != 0 || a.err == nil {
		t.Errorf("no token: %+v", a)
	}
	// Nobody's address is dialled that the guard does not allow.
	blocked, _ := NewFCM(f.FCMConfig, &outbound.Guard{}).(*fcm)
	if a := blocked.send(t.Context(), p); a.status != 0 || a.err == nil || !strings.Contains(a.err.Error(), "not allowed") {
		t.Errorf("an address that is not allowed: %+v", a)
	}
}

// A service account has two keys while its key is rotated: dispatchers with either of them send, and the one that is revoked fails with no
// status, which means that its pushes are tried again, by another dispatcher.
func TestTheKeyOfFCMRotates(t *testing.T) {
	t.Parallel()
	keys, public := map[string]*rsa.PrivateKey{}, map[string]*rsa.PublicKey{}
	for _, id := range []string{"older", "newer"} {
		key, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			t.Fatal(err)
		}
		keys[id], public[id] = key, &key.PublicKey
	}
	g := newGoogle(t, public)
	guard := &outbound.Guard{Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}
	dispatcher := func(id string) *fcm {
		f, _ := NewFCM(FCMConfig{ProjectID: "a-project", ClientEmail: "parley@example.iam", KeyID: id, Key: keys[id], TokenURI: g.URL + "/token", Endpoint: g.URL}, guard).(*fcm)
		t.Cleanup(f.client.CloseIdleConnections)
		return f
	}
	p := &parcel{provider: ProviderFCM, address: "device-token", push: Push{V: 1, Type: "message", ConversationID: "c", MessageID: "m"}}
	was, next := dispatcher("older"), dispatcher("newer")
	for _, f := range []*fcm{was, next, was} {
		if a := f.send(t.Context(), p); a.status != 200 || a.err != nil {
			t.Errorf("with %s: %+v", f.KeyID, a)
		}
	}
	g.revoked.Store("older")
	was.until = time.Time{} // its token has expired
	if a := was.send(t.Context(), p); a.status != 0 || a.err == nil {
		t.Errorf("with the revoked key: %+v", a)
	}
	if a := next.send(t.Context(), p); a.status != 200 || a.err != nil {
		t.Errorf("with the other key: %+v", a)
	}
}
