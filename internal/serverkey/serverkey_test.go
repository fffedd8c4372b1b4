package serverkey_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/parley-chat/parley/internal/audit"
	"github.com/parley-chat/parley/internal/id"
	"github.com/parley-chat/parley/internal/invalid"
	"github.com/parley-chat/parley/internal/postgres"
	"github.com/parley-chat/parley/internal/principal"
	"github.com/parley-chat/parley/internal/serverkey"
	"github.com/parley-chat/parley/internal/testenv"
	"github.com/parley-chat/parley/internal/timestamp"
)

// patience is how long a test waits for Run, which asks Postgres every two seconds.
const patience = 20 * time.Second

// safe holds the keys of a database of its own.
type safe struct {
	*serverkey.Service
	t   *testing.T
	db  *postgres.DB
	log *testenv.Output
}

func newSafe(t *testing.T) *safe {
	t.Helper()
	return safeOver(t, testenv.Open(t, postgres.Config{URL: testenv.Postgres(t)}), "")
}

// safeOver is the keys of a database as a pod sees them that knows none.
func safeOver(t *testing.T, db *postgres.DB, bootstrap string) *safe {
	t.Helper()
	log := &testenv.Output{}
	return &safe{Service: serverkey.NewService(db, bootstrap, slog.New(slog.NewTextHandler(log, nil))), t: t, db: db, log: log}
}

// run runs the service until the test ends.
func (s *safe) run() *safe {
	s.t.Helper()
	ctx, cancel := context.WithCancel(s.t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	s.t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			s.t.Errorf("Run returned %v", err)
		}
	})
	return s
}

func (s *safe) create(name string, scopes ...string) serverkey.Created {
	s.t.Helper()
	k, err := s.Create(s.t.Context(), nil, &serverkey.Draft{Name: name, Scopes: scopes})
	if err != nil {
		s.t.Fatal(err)
	}
	return k
}

func (s *safe) exec(query string, args ...any) {
	s.t.Helper()
	if _, err := s.db.SQL.ExecContext(s.t.Context(), query, args...); err != nil {
		s.t.Fatal(err)
	}
}

// names are those of the listed keys.
func (s *safe) names() string {
	s.t.Helper()
	keys, err := s.List(s.t.Context())
	if err != nil {
		s.t.Fatal(err)
	}
	var out []string
	for _, k := range keys {
		out = append(out, k.Name)
	}
	return strings.Join(out, " ")
}

// logged is what the audit log has for a key, the oldest first.
func (s *safe) logged(keyID string) string {
	s.t.Helper()
	entries, err := postgres.Column[string](s.t.Context(), s.db.SQL,
		`SELECT concat_ws(' ', action, actor_key_id, detail->>'name') FROM audit_log WHERE target_id = $1 AND target_type = 'key' ORDER BY at, id`, keyID)
	if err != nil {
		s.t.Fatal(err)
	}
	return strings.Join(entries, ", ")
}

func (s *safe) accepts(token string) bool {
	s.t.Helper()
	_, err := s.Authenticate(s.t.Context(), token)
	if err != nil && !errors.Is(err, serverkey.ErrUnauthorized) {
		s.t.Fatal(err)
	}
	return err == nil
}

func TestAKeyIsCreatedUsedAndEnded(t *testing.T) {
	t.Parallel()
	s := newSafe(t)
	k := s.create("shop", "messages", "users:read")
	if keyID, ok := serverkey.Parse(k.Secret); !ok || keyID != k.ID || !serverkey.Is(k.Secret) {
		t.Errorf("the key %s is that of %s, want %s", k.Secret, keyID, k.ID)
	}
	p, err := s.Authenticate(t.Context(), k.Secret)
	if err != nil || p.Kind != principal.Key || p.KeyID != k.ID || p.UserID != "" || fmt.Sprint(p.Scopes) != "[messages users:read]" {
		t.Errorf("the principal is %+v, %v", p, err)
	}
	if err := s.End(t.Context(), k.ID); err != nil || s.accepts(k.Secret) || s.names() != "" {
		t.Errorf("after the end: %v, accepted %v, listed %q", err, s.accepts(k.Secret), s.names())
	}
	for _, keyID := range []string{k.ID, id.New(), "no id", ""} {
		if err := s.End(t.Context(), keyID); !errors.Is(err, serverkey.ErrNotFound) {
			t.Errorf("the end of %q: %v", keyID, err)
		}
	}
	if got := s.logged(k.ID); got != "key.create shop, key.end shop" {
		t.Errorf("logged %q", got)
	}
}

// The secret is stored nowhere, neither with the key nor in the audit log.
func TestTheSecretIsNotStored(t *testing.T) {
	t.Parallel()
	s := newSafe(t)
	k := s.create("shop", "keys")
	secret := k.Secret[strings.LastIndex(k.Secret, k.ID[24:])+13:]
	stored, err := postgres.Column[string](t.Context(), s.db.SQL,
		`SELECT k::text || encode(k.hash, 'escape') FROM server_keys k UNION ALL SELECT a::text FROM audit_log a`)
	if err != nil || len(stored) != 2 || len(secret) != 43 {
		t.Fatalf("stored %q, %v, the secret has %d characters", stored, err, len(secret))
	}
	if strings.Contains(strings.Join(stored, " "), secret) {
		t.Errorf("the secret is in %q", stored)
	}
}

func TestForgedKeysAreRefused(t *testing.T) {
	t.Parallel()
	s := newSafe(t)
	k, other := s.create("shop", "keys"), s.create("other", "users")
	at := len(k.Secret) - 43
	forged := []string{
		"", "parley_sk_", k.Secret[:at], k.Secret + "a", k.Secret[1:], strings.ToUpper(k.Secret), " " + k.Secret,
		k.Secret[:at] + other.Secret[len(other.Secret)-43:], // the secret of another key
		k.Secret[:at] + strings.Repeat("A", 43),
		"parley_sk_" + strings.ReplaceAll(id.New(), "-", "") + "_" + k.Secret[at:], // of no key
	}
	for _, known := range []bool{false, true} {
		for _, token := range forged {
			if s.accepts(token) {
				t.Errorf("%q was accepted, the key met before: %v", token, known)
			}
		}
		if !s.accepts(k.Secret) {
			t.Error("the key itself was refused")
		}
	}
}

func TestAKeyGivesNoMoreThanItHas(t *testing.T) {
	t.Parallel()
	s := newSafe(t)
	maker := principal.Principal{Kind: principal.Key, KeyID: s.create("maker", "keys", "users").ID, Scopes: principal.Scopes{"keys", "users"}}
	_, err := s.Create(t.Context(), &maker, &serverkey.Draft{Name: "greedy", Scopes: []string{"audit:read", "messages", "users"}})
	beyond, is := errors.AsType[*serverkey.BeyondError](err)
	if !errors.Is(err, serverkey.ErrBeyond) || !is || fmt.Sprint(beyond.Scopes) != "[audit:read messages]" || !strings.Contains(err.Error(), "audit:read, messages") {
		t.Errorf("more scopes: %v", err)
	}
	ctx := audit.With(t.Context(), audit.Actor{KeyID: maker.KeyID})
	k, err := s.Create(ctx, &maker, &serverkey.Draft{Name: "modest", Scopes: []string{"users:read"}})
	if err != nil || s.names() != "modest maker" {
		t.Errorf("fewer scopes: %v, listed %q", err, s.names())
	}
	if got := s.logged(k.ID); got != "key.create "+maker.KeyID+" modest" {
		t.Errorf("logged %q", got)
	}
}

func TestANameIsTakenUntilItsKeyEnds(t *testing.T) {
	t.Parallel()
	s := newSafe(t)
	first, draft := s.create("shop", "users"), &serverkey.Draft{Name: "shop", Scopes: []string{"users"}}
	if _, err := s.Create(t.Context(), nil, draft); !errors.Is(err, serverkey.ErrNameTaken) {
		t.Errorf("a taken name: %v", err)
	}
	s.exec(`UPDATE server_keys SET expires_at = now() WHERE id = $1`, first.ID)
	second, err := s.Create(t.Context(), nil, draft)
	if err != nil {
		t.Fatalf("the name of an expired key: %v", err)
	}
	if err := s.End(t.Context(), second.ID); err != nil {
		t.Fatal(err)
	}
	third, err := s.Create(t.Context(), nil, draft)
	if err != nil || !s.accepts(third.Secret) || s.accepts(first.Secret) || s.accepts(second.Secret) {
		t.Errorf("the name of an ended key: %v", err)
	}
}

func TestAKeyExpires(t *testing.T) {
	t.Parallel()
	s := newSafe(t)
	at := time.Now().Add(time.Hour)
	k, err := s.Create(t.Context(), nil, &serverkey.Draft{Name: "short", Scopes: []string{"users"}, ExpiresAt: &timestamp.Time{Time: at}})
	if err != nil || k.ExpiresAt.Sub(at).Abs() > time.Microsecond || !s.accepts(k.Secret) {
		t.Fatalf("%+v, %v", k, err)
	}
	s.exec(`UPDATE server_keys SET expires_at = now() WHERE id = $1`, k.ID)
	if pod := safeOver(t, s.db, ""); pod.accepts(k.Secret) || pod.names() != "" {
		t.Errorf("after its time it is accepted or listed: %q", pod.names())
	}
}

// Keys that have expired do not count: nobody sees them in the list or could end them.
func TestTheNumberOfLivingKeysIsBounded(t *testing.T) {
	t.Parallel()
	s := newSafe(t)
	s.exec(`INSERT INTO server_keys (id, name, hash, scopes) SELECT gen_random_uuid(), 'key ' || n, '', '{users}' FROM generate_series(1, 1000) n`)
	draft := &serverkey.Draft{Name: "one more", Scopes: []string{"users"}}
	if _, err := s.Create(t.Context(), nil, draft); !errors.Is(err, serverkey.ErrTooMany) {
		t.Errorf("with 1,000 keys: %v", err)
	}
	s.exec(`UPDATE server_keys SET expires_at = now() WHERE name = 'key 7'`)
	if _, err := s.Create(t.Context(), nil, draft); err != nil {
		t.Errorf("with 999 keys and one that has expired: %v", err)
	}
}

func TestADraftNamesAllItsFaults(t *testing.T) {
	t.Parallel()
	check := func(d *serverkey.Draft) *invalid.Faults {
		var f invalid.Faults
		d.Check(&f)
		return &f
	}
	f := check(&serverkey.Draft{Name: " ", ExpiresAt: &timestamp.Time{Time: time.Now().Add(-time.Second)}})
	if !f.Has("name") || !f.Has("scopes") || !f.Has("expiresAt") {
		t.Errorf("an empty draft: %v", f.Err())
	}
	for _, scope := range []string{"", "root", "users:write", "users:read:read", "Users"} {
		if f := check(&serverkey.Draft{Name: "shop", Scopes: []string{"users", scope}}); !f.Has("scopes") || len(f.List()) != 1 {
			t.Errorf("the scope %q: %v", scope, f.Err())
		}
	}
	d := &serverkey.Draft{Name: " shop ", Scopes: []string{"users", "audit:read", "users"}, ExpiresAt: &timestamp.Time{Time: time.Now().Add(time.Hour)}}
	if f := check(d); f.Err() != nil || d.Name != "shop" || fmt.Sprint(d.Scopes) != "[audit:read users]" {
		t.Errorf("normalised to %+v, %v", d, f.Err())
	}
}
