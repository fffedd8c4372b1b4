package push

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// pushService is a push service by RFC 8030 that is also every browser: it checks the VAPID token of each push and decrypts it.
type pushService struct {
	*httptest.Server
	t      *testing.T
	public string // the key that pushes must be signed with

	mu       sync.Mutex
	browsers map[string]browser // by path
	got      []received
	answer   func(path string, n int) (status int, header http.Header) // nil for 201; n counts the path's requests from 1
	asked    map[string]int
}

// received is a push as a browser got it.
type received struct {
	path, topic, ttl, urgency string
	raw                       string
	push                      Push
}

func newPushService(t *testing.T, public string) *pushService {
	s := &pushService{t: t, public: public, browsers: map[string]browser{}, asked: map[string]int{}}
	s.Server = httptest.NewServer(http.HandlerFunc(s.serve))
	t.Cleanup(s.Close)
	return s
}

// subscribe makes a browser's subscription.
func (s *pushService) subscribe(path string) *Registration {
	b := newBrowser(s.t)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.browsers[path] = b
	return b.subscribe(s.URL + path)
}

func (s *pushService) set(answer func(path string, n int) (int, http.Header)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answer = answer
}

func (s *pushService) list() []received {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]received(nil), s.got...)
}

func (s *pushService) tries(path string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked[path]
}

func (s *pushService) serve(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		s.t.Error(err)
	}
	s.mu.Lock()
	s.asked[r.URL.Path]++
	b, known := s.browsers[r.URL.Path]
	status, header := http.StatusCreated, http.Header{}
	if s.answer != nil {
		status, header = s.answer(r.URL.Path, s.asked[r.URL.Path])
	}
	s.mu.Unlock()
	if !known {
		s.t.Errorf("a push to %s", r.URL.Path)
	}
	if err := s.checkVAPID(r.Header.Get("Authorization")); err != nil {
		s.t.Errorf("the push is not ours: %v", err)
	}
	plain, err := b.decrypt(body)
	if err != nil || r.Header.Get("Content-Encoding") != "aes128gcm" || r.Method != http.MethodPost {
		s.t.Errorf("%s is not readable: %v", r.URL.Path, err)
	}
	g := received{path: r.URL.Path, topic: r.Header.Get("Topic"), ttl: r.Header.Get("TTL"), urgency: r.Header.Get("Urgency"), raw: string(plain)}
	if err := json.Unmarshal(plain, &g.push); err != nil {
		s.t.Errorf("%s: %v", plain, err)
	}
	for k, v := range header {
		w.Header()[k] = v
	}
	if status < 300 {
		s.mu.Lock()
		s.got = append(s.got, g)
		s.mu.Unlock()
	}
	w.WriteHeader(status)
}

// checkVAPID checks an Authorization header by RFC 8292.
func (s *pushService) checkVAPID(header string) error {
	token, key, ok := strings.Cut(strings.TrimPrefix(header, "vapid t="), ", k=")
	if !ok || key != s.public {
		return fmt.Errorf("signed with %q", header)
	}
	raw, err := base64.RawURLEncoding.DecodeString(key)
	if err != nil {
		return fmt.Errorf("the key %q: %w", key, err)
	}
	public, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), raw)
	if err != nil {
		return fmt.Errorf("the key %q: %w", key, err)
	}
	claims := jwt.MapClaims{}
	_, err = jwt.ParseWithClaims(token, claims, func(*jwt.Token) (any, error) { return public, nil },
		jwt.WithValidMethods([]string{"ES256"}), jwt.WithAudience(s.URL), jwt.WithExpirationRequired())
	if err != nil {
		return err
	}
	if exp, _ := claims.GetExpirationTime(); time.Until(exp.Time) > 24*time.Hour || claims["sub"] != "mailto:ops@example.com" {
		return fmt.Errorf("the claims %v", claims)
	}
	return nil
}

// decrypt reads a message by RFC 8291.
func (b browser) decrypt(body []byte) ([]byte, error) {
	if len(body) < 86 || body[20] != 65 {
		return nil, fmt.Errorf("no header in %d bytes", len(body))
	}
	salt, sender := body[:16], body[21:86]
	public, err := ecdh.P256().NewPublicKey(sender)
	if err != nil {
		return nil, err
	}
	shared, err := b.key.ECDH(public)
	if err != nil {
		return nil, err
	}
	info := "WebPush: info\x00" + string(b.key.PublicKey().Bytes()) + string(sender)
	ikm, err := hkdf.Key(sha256.New, shared, b.auth, info, 32)
	if err != nil {
		return nil, err
	}
	key, err := hkdf.Key(sha256.New, ikm, salt, "Content-Encoding: aes128gcm\x00", 16)
	if err != nil {
		return nil, err
	}
	nonce, err := hkdf.Key(sha256.New, ikm, salt, "Content-Encoding: nonce\x00", 12)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return nil, err
	}
	plain, err := aead.Open(nil, nonce, body[86:], nil)
	if err != nil {
		return nil, err
	}
	plain = bytes.TrimRight(plain, "\x00")
	if len(plain) == 0 || plain[len(plain)-1] != 2 {
		return nil, fmt.Errorf("the padding has no delimiter")
	}
	return plain[:len(plain)-1], nil
}
