package identity_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/parley-chat/parley/internal/identity"
	"github.com/parley-chat/parley/internal/postgres"
	"github.com/parley-chat/parley/internal/principal"
	"github.com/parley-chat/parley/internal/testenv"
)

// house is a service on a database, and what it reported.
type house struct {
	*identity.Service
	t  *testing.T
	db *postgres.DB

	mu        sync.Mutex // guards what follows
	standings map[string]principal.Standing
	profiles  []string // ids of users whose profile followed a token
}

func (h *house) Note(userID string, s principal.Standing) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.standings[userID] = s
}

func newHouse(t *testing.T, url string, c identity.Config) *house {
	t.Helper()
	db := testenv.Open(t, postgres.Config{URL: url})
	h := &house{t: t, db: db, standings: map[string]principal.Standing{}}
	var err error
	h.Service, err = identity.NewService(c, db, h, func(_ context.Context, userID string) {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.profiles = append(h.profiles, userID)
	})
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func (h *house) exec(query string, args ...any) {
	h.t.Helper()
	if _, err := h.db.SQL.Exec(query, args...); err != nil {
		h.t.Fatal(err)
	}
}

func tokenOf(externalID string, profile identity.Claims, issued time.Time) identity.Token {
	return identity.Token{Principal: principal.Principal{ExternalID: externalID}, IssuedAt: issued, Profile: profile}
}

// user is the user of an external id with that profile.
func (h *house) user(externalID string, profile identity.Claims) string {
	h.t.Helper()
	userID, err := h.User(h.t.Context(), tokenOf(externalID, profile, time.Now()))
	if err != nil {
		h.t.Fatal(err)
	}
	return userID
}

// profile is a user's username, name and picture, "-" for none.
func (h *house) profile(userID string) string {
	h.t.Helper()
	var username, name, picture string
	if err := h.db.SQL.QueryRow(`SELECT username, display_name, coalesce(avatar_url, '-') FROM users WHERE id = $1`, userID).Scan(&username, &name, &picture); err != nil {
		h.t.Fatal(err)
	}
	if strings.HasPrefix(username, "user_") && len(username) == 17 {
		name = strings.ReplaceAll(name, username, "RANDOM")
		username = "RANDOM"
	}
	return username + ", " + name + ", " + picture
}

func text(s string) *string { return &s }

// Whatever the claims are, a user has a username and a name that Parley accepts.
func TestTheProfileOfANewUser(t *testing.T) {
	t.Parallel()
	h := newHouse(t, testenv.Postgres(t), identity.Config{Profile: identity.ProfileSync})
	h.exec(`INSERT INTO users (id, username, display_name, password_hash) VALUES (gen_random_uuid(), 'taken', 'Taken', '!')`)
	for name, c := range map[string]struct {
		claims identity.Claims
		want   string
	}{
		"none":                       {identity.Claims{}, "RANDOM, RANDOM, -"},
		"all":                        {identity.Claims{Username: text("Anna_1"), Name: text("Anna"), Avatar: text("https://x.example/a.png")}, "anna_1, Anna, https://x.example/a.png"},
		"a username alone":           {identity.Claims{Username: text("bert")}, "bert, bert, -"},
		"a username that is taken":   {identity.Claims{Username: text("TAKEN"), Name: text("Carol")}, "RANDOM, Carol, -"},
		"a username that is none":    {identity.Claims{Username: text("with space"), Name: text("Dora")}, "RANDOM, Dora, -"},
		"a name that is too short":   {identity.Claims{Name: text(" x ")}, "RANDOM, RANDOM, -"},
		"a name with control":        {identity.Claims{Name: text(" a\nb\x00 ")}, "RANDOM, a b, -"},
		"a name that is too long":    {identity.Claims{Name: text(strings.Repeat("é", 60))}, "RANDOM, " + strings.Repeat("é", 50) + ", -"},
		"a name that is decomposed":  {identity.Claims{Name: text("Zoe\u0308")}, "RANDOM, Zo\u00eb, -"},
		"a picture that is a script": {identity.Claims{Name: text("Emil"), Avatar: text("javascript:alert(1)")}, "RANDOM, Emil, -"},
		"a picture with a password":  {identity.Claims{Name: text("Fritz"), Avatar: text("https://u:p@x.example/a")}, "RANDOM, Fritz, -"},
	} {
		if got := h.profile(h.user(name, c.claims)); got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
}

func TestAProfileFollowsItsToken(t *testing.T) {
	t.Parallel()
	url := testenv.Postgres(t)
	h := newHouse(t, url, identity.Config{Profile: identity.ProfileSync})
	anna := h.user("anna", identity.Claims{Name: text("Anna"), Avatar: text("https://x.example/1")})
	if managed, err := h.Managed(t.Context(), anna); err != nil || !managed {
		t.Errorf("managed: %v, %v", managed, err)
	}
	for _, c := range []struct {
		claims   identity.Claims
		want     string
		reported bool
	}{
		{identity.Claims{Name: text("Anna"), Avatar: text("https://x.example/1")}, "RANDOM, Anna, https://x.example/1", false},
		{identity.Claims{Name: text("Anna Maria"), Avatar: text("https://x.example/1")}, "RANDOM, Anna Maria, https://x.example/1", true},
		{identity.Claims{Avatar: text("https://x.example/2")}, "RANDOM, Anna Maria, https://x.example/2", true},
		{identity.Claims{}, "RANDOM, Anna Maria, https://x.example/2", false}, // which says nothing of the profile
		{identity.Claims{Name: text("x"), Avatar: text("")}, "RANDOM, Anna Maria, -", true},
	} {
		h.Forget("anna")
		before := len(h.profiles)
		if id := h.user("anna", c.claims); id != anna {
			t.Fatalf("it is another user, %s", id)
		}
		if got := h.profile(anna); got != c.want || (len(h.profiles) > before) != c.reported {
			t.Errorf("the profile is %s, want %s; %d changes are reported after %d", got, c.want, len(h.profiles), before)
		}
	}
	h.exec(`UPDATE users SET deactivated_at = now() WHERE id = $1`, anna)
	h.Forget("anna")
	h.user("anna", identity.Claims{Name: text("Not Anna")})
	if got := h.profile(anna); !strings.Contains(got, "Anna Maria") || !h.standings[anna].Deactivated {
		t.Errorf("a deactivated user is %s, with the standing %+v", got, h.standings[anna])
	}

	first := newHouse(t, url, identity.Config{Profile: identity.ProfileFirst})
	bert := first.user("bert", identity.Claims{Name: text("Bert")})
	first.Forget("bert")
	first.user("bert", identity.Claims{Name: text("Berta")})
	if got := first.profile(bert); got != "RANDOM, Bert, -" || len(first.profiles) != 0 {
		t.Errorf("with ProfileFirst it follows the token: %s, %v", got, first.profiles)
	}
}

// A user is looked up once in a while. Until then requests need no database.
func TestAUserIsRemembered(t *testing.T) {
	t.Parallel()
	h := newHouse(t, testenv.Postgres(t), identity.Config{Profile: identity.ProfileSync})
	if h.Known("anna") != "" || h.Checked("anna") {
		t.Error("somebody is known before the first token")
	}
	anna := h.user("anna", identity.Claims{Name: text("Anna")})
	if h.Known("anna") != anna || !h.Checked("anna") {
		t.Error("the user is not remembered")
	}
	if _, noted := h.standings[anna]; !noted {
		t.Error("the user's standing is not noted")
	}
	_ = h.db.Close()
	if id := h.user("anna", identity.Claims{Name: text("Anna")}); id != anna {
		t.Errorf("the remembered user is %s", id)
	}
	h.Forget("anna")
	for _, externalID := range []string{"anna", "bert"} {
		_, err := h.User(t.Context(), tokenOf(externalID, identity.Claims{}, time.Now()))
		if err == nil || errors.Is(err, identity.ErrUnauthorized) || errors.Is(err, identity.ErrNotProvisioned) {
			t.Errorf("%s, without a database: %v", externalID, err)
		}
		if h.Known(externalID) != "" {
			t.Errorf("%s is known after a failure", externalID)
		}
	}
	if _, err := h.Managed(t.Context(), anna); err == nil {
		t.Error("without a database it is known who decides on a profile")
	}
}

func TestUsersThatATokenDoesNotMake(t *testing.T) {
	t.Parallel()
	url := testenv.Postgres(t)
	h := newHouse(t, url, identity.Config{Existing: true, Profile: identity.ProfileSync})
	token := tokenOf("anna", identity.Claims{}, time.Now().Add(-time.Minute))
	if _, err := h.User(t.Context(), token); !errors.Is(err, identity.ErrNotProvisioned) {
		t.Errorf("one who was not created before: %v", err)
	}
	made := newHouse(t, url, identity.Config{Profile: identity.ProfileSync})
	anna := made.user("anna", identity.Claims{})
	if got, err := h.User(t.Context(), token); got != anna || err != nil {
		t.Errorf("one who was created since: %s, %v", got, err)
	}
	// The account is deleted. A token from before does not bring it back, a newer one makes another.
	made.exec(`UPDATE users SET username = 'deleted-x', deleted_at = clock_timestamp() WHERE id = $1`, anna)
	made.Forget("anna")
	if _, err := made.User(t.Context(), token); !errors.Is(err, identity.ErrUnauthorized) {
		t.Errorf("a token from before the deletion: %v", err)
	}
	token.IssuedAt = time.Now().Add(time.Second)
	if again, err := made.User(t.Context(), token); again == anna || err != nil {
		t.Errorf("a token from after it: %s, %v", again, err)
	}
}

// First requests at once, over two pods, with one wanted username, make one user for each external id.
func TestFirstTokensAtOnceMakeOneUser(t *testing.T) {
	t.Parallel()
	url := testenv.Postgres(t)
	pods := []*house{newHouse(t, url, identity.Config{}), newHouse(t, url, identity.Config{})}
	ids := make([]string, 40)
	var wg sync.WaitGroup
	for i := range ids {
		wg.Go(func() {
			token := tokenOf([]string{"anna", "other anna"}[i%2], identity.Claims{Username: text("anna")}, time.Now())
			var err error
			if ids[i], err = pods[i/2%2].User(t.Context(), token); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for i, id := range ids {
		if id != ids[i%2] {
			t.Fatalf("user %d is %s, and %s", i, id, ids[i%2])
		}
	}
	var users, annas int
	if err := pods[0].db.SQL.QueryRow(`SELECT count(*), count(*) FILTER (WHERE username = 'anna') FROM users`).Scan(&users, &annas); err != nil || users != 2 || annas != 1 {
		t.Errorf("%d users, %d of them with the username, %v", users, annas, err)
	}
}
