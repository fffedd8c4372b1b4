package push

import (
	"context"
	"crypto/ecdh"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"net/netip"
	"testing"

	"github.com/parley-chat/parley/internal/id"
	"github.com/parley-chat/parley/internal/jsonbody"
	"github.com/parley-chat/parley/internal/outbound"
	"github.com/parley-chat/parley/internal/postgres"
	"github.com/parley-chat/parley/internal/testenv"
)

func TestMain(m *testing.M) { testenv.VerifyNoLeaks(m) }

func openDB(t testing.TB) *postgres.DB {
	t.Helper()
	db := testenv.Open(t, postgres.Config{URL: testenv.Postgres(t), MaxConns: 16})
	return db
}

func newTestService(db *postgres.DB) *Service {
	guard := &outbound.Guard{Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}
	return NewService(db, Config{}, Hosts{"127.0.0.1", "*.push.example"}, guard)
}

func tokenOf(token string) *Registration {
	return &Registration{Provider: ProviderFCM, Token: jsonbody.Optional[string]{Set: true, Value: token}}
}

// browser is what holds the private part of a subscription.
type browser struct {
	key  *ecdh.PrivateKey
	auth []byte
}

func newBrowser(t testing.TB) browser {
	t.Helper()
	key, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	b := browser{key: key, auth: make([]byte, authLen)}
	_, _ = rand.Read(b.auth)
	return b
}

func (b browser) subscribe(endpoint string) *Registration {
	return &Registration{Provider: ProviderWebPush, Subscription: jsonbody.Optional[*Subscription]{Set: true, Value: &Subscription{
		Endpoint: endpoint,
		Keys: SubscriptionKeys{
			P256dh: base64.RawURLEncoding.EncodeToString(b.key.PublicKey().Bytes()), Auth: base64.RawURLEncoding.EncodeToString(b.auth),
		},
	}}}
}

// session opens a session of a user.
func session(t testing.TB, db *postgres.DB, userID string) string {
	t.Helper()
	s := id.New()
	if _, err := db.SQL.Exec(`INSERT INTO sessions (id, user_id, expires_at) VALUES ($1, $2, now() + interval '1 day')`, s, userID); err != nil {
		t.Fatal(err)
	}
	return s
}

// devices lists the devices of a user, or of all users for "".
func devices(t testing.TB, db *postgres.DB, userID string) string {
	t.Helper()
	var out string
	err := db.SQL.QueryRow(`SELECT coalesce(string_agg(device_id, ' ' ORDER BY seen_at, device_id), '') FROM push_devices
		WHERE $1 = '' OR user_id = nullif($1, '')::uuid`, userID).Scan(&out)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// runPart runs a part until the test ends.
func runPart(t testing.TB, run func(context.Context) error) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func mustExec(t testing.TB, db *postgres.DB, query string, args ...any) {
	t.Helper()
	if _, err := db.SQL.Exec(query, args...); err != nil {
		t.Fatal(fmt.Errorf("%s: %w", query, err))
	}
}
