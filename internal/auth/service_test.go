package auth_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/parley-chat/parley/internal/auth"
	"github.com/parley-chat/parley/internal/chat"
	"github.com/parley-chat/parley/internal/conversation"
	"github.com/parley-chat/parley/internal/event"
	"github.com/parley-chat/parley/internal/invalid"
	"github.com/parley-chat/parley/internal/message"
	"github.com/parley-chat/parley/internal/postgres"
	"github.com/parley-chat/parley/internal/testenv"
)

const password = "correct horse battery"

type announced struct {
	mu    sync.Mutex
	ended []string
}

func (a *announced) SessionsEnded(_ context.Context, ids []string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.ended = append(a.ended, ids...)
}

func (a *announced) count() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.ended)
}

type published struct {
	mu     sync.Mutex
	events []*event.Event
}

func (p *published) Publish(events ...*event.Event) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.events = append(p.events, events...)
}

func (p *published) count(typ string) (n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, e := range p.events {
		if e.Type == typ {
			n++
		}
	}
	return n
}

type noMarkers struct{}

func (noMarkers) Notify(*event.Notice)                                          {}
func (noMarkers) Markers(context.Context, string) map[string]chat.PendingMarker { return nil }

// pod is what one api process has of accounts, with the conversations that a deletion leaves.
type pod struct {
	*auth.Service
	db            *sql.DB
	watch         *auth.Watch
	conversations *conversation.Service
	announced     *announced
	published     *published
}

func newPod(t testing.TB, url string, c auth.Config) *pod {
	t.Helper()
	db := testenv.Open(t, postgres.Config{URL: url, MaxConns: 12})
	if c.RefreshTTL == 0 {
		c.RefreshTTL = time.Hour
	}
	p := &pod{db: db.SQL, announced: &announced{}, published: &published{}}
	p.conversations = conversation.NewService(db, conversation.NewStore(db, message.NewStore(db)), noMarkers{}, p.published, noMarkers{})
	p.watch = auth.NewWatch(db, time.Minute, slog.New(slog.DiscardHandler), func(...string) {})
	var err error
	p.Service, err = auth.NewService(c, db, auth.NewTokens(secrets("a"), time.Minute), p.announced, p.watch, p.conversations, good{})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func (p *pod) register(t testing.TB, username string) auth.Pair {
	t.Helper()
	r := auth.Registration{Username: username, Password: password}
	var f invalid.Faults
	r.Check(&f)
	if err := f.Err(); err != nil {
		t.Fatal(err)
	}
	pair, err := p.Register(t.Context(), &r, auth.Client{UserAgent: "test", Address: "192.0.2.1"})
	if err != nil {
		t.Fatal(err)
	}
	return pair
}

func (p *pod) login(ctx context.Context, username, password string) (auth.Pair, error) {
	return p.Login(ctx, &auth.Credentials{Username: username, Password: password}, auth.Client{UserAgent: "test", Address: "192.0.2.2"})
}

func (p *pod) refresh(t testing.TB, token string) (auth.Pair, error) {
	t.Helper()
	return p.Refresh(t.Context(), &auth.RefreshToken{Token: token}, auth.Client{})
}

func identity(p auth.Pair) auth.Identity {
	return auth.Identity{UserID: p.User.ID, SessionID: p.SessionID}
}

// open counts a user's open sessions.
func (p *pod) open(t testing.TB, userID string) int {
	t.Helper()
	list, err := p.Sessions(context.Background(), auth.Identity{UserID: userID})
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}

func (p *pod) query(t testing.TB, into any, query string, args ...any) {
	t.Helper()
	if err := p.db.QueryRow(query, args...).Scan(into); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
}

// locked runs f while a transaction holds a user's row, and waits before it lets go until one waits for that.
func (p *pod) locked(t *testing.T, userID string, f func(), change string, args ...any) {
	t.Helper()
	tx, err := p.db.Begin()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback() }()
	if _, err := tx.Exec(`SELECT FROM users WHERE id = $1 FOR UPDATE`, userID); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(f)
	testenv.Eventually(t, 10*time.Second, func() bool { return p.waiting(t) > 0 }, "something waits for the user's row")
	if change != "" {
		if _, err := tx.Exec(change, args...); err != nil {
			t.Fatal(err)
		}
	}
	if err := tx.Commit(); err != nil {
		t.Fatal(err)
	}
	wg.Wait()
}

// waiting counts the connections to this database that wait for a lock.
func (p *pod) waiting(t testing.TB) (n int) {
	t.Helper()
	p.query(t, &n, `SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`)
	return n
}

func TestALoginUnderWayEndsWithItsPassword(t *testing.T) {
	t.Parallel()
	p := newPod(t, testenv.Postgres(t), auth.Config{})
	for name, change := range map[string]string{
		"changed": `UPDATE users SET password_hash = 'another' WHERE id = $1`,
		"deleted": `UPDATE users SET deleted_at = clock_timestamp() WHERE id = $1`,
	} {
		u := p.register(t, "anna."+name)
		p.locked(t, u.User.ID, func() {
			if _, err := p.login(context.Background(), "anna."+name, password); !errors.Is(err, auth.ErrInvalidCredentials) {
				t.Errorf("%s: a login that had read the old hash: %v", name, err)
			}
		}, change, u.User.ID)
		if n := p.open(t, u.User.ID); n != 1 {
			t.Errorf("%s: %d sessions, want the first alone", name, n)
		}
	}
}

func TestNoLoginOutlivesAPasswordChange(t *testing.T) {
	t.Parallel()
	url := testenv.Postgres(t)
	pods := []*pod{newPod(t, url, auth.Config{}), newPod(t, url, auth.Config{})}
	u := pods[0].register(t, "anna")
	over := make(chan struct{})
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			for range 20 { // fewer in all than a user may have sessions
				select {
				case <-over:
					return
				default:
					if _, err := pods[i%2].login(context.Background(), "anna", password); err != nil && !errors.Is(err, auth.ErrInvalidCredentials) {
						t.Error(err)
					}
				}
			}
		})
	}
	testenv.Eventually(t, 10*time.Second, func() bool { return pods[0].open(t, u.User.ID) > 2 }, "some logins are through")
	if err := pods[0].ChangePassword(t.Context(), identity(u), &auth.PasswordChange{Current: password, New: "a new password"}, auth.Client{}); err != nil {
		t.Error(err)
	}
	if n := pods[1].open(t, u.User.ID); n != 1 {
		t.Errorf("right after the change %d sessions are open, want the one that changed it", n)
	}
	close(over)
	wg.Wait()
	if n := pods[1].open(t, u.User.ID); n != 1 {
		t.Errorf("logins under way left %d sessions, want 1", n)
	}
	if _, err := pods[1].login(t.Context(), "anna", "a new password"); err != nil {
		t.Errorf("with the new password: %v", err)
	}
}

func TestOnlyOneOfTwoPasswordChangesCounts(t *testing.T) {
	t.Parallel()
	p := newPod(t, testenv.Postgres(t), auth.Config{})
	u := p.register(t, "anna")
	p.locked(t, u.User.ID, func() {
		err := p.ChangePassword(context.Background(), identity(u), &auth.PasswordChange{Current: password, New: "a new password"}, auth.Client{})
		if !errors.Is(err, auth.ErrWrongPassword) {
			t.Errorf("a change whose old password was replaced meanwhile: %v", err)
		}
	}, `UPDATE users SET password_hash = 'another' WHERE id = $1`, u.User.ID)
}

func TestAPasswordChangeSpendsTheOldRefreshToken(t *testing.T) {
	t.Parallel()
	p := newPod(t, testenv.Postgres(t), auth.Config{Grace: time.Hour})
	change := func(u auth.Pair, from, to string) {
		t.Helper()
		if err := p.ChangePassword(t.Context(), identity(u), &auth.PasswordChange{Current: from, New: to}, auth.Client{}); err != nil {
			t.Fatal(err)
		}
	}
	u := p.register(t, "anna")
	change(u, password, "a new password")
	next, err := p.refresh(t, u.RefreshToken)
	if err != nil {
		t.Fatalf("the next refresh: %v", err)
	}
	again, err := p.refresh(t, next.RefreshToken)
	if err != nil {
		t.Fatalf("the one after it: %v", err)
	}
	if _, err := p.refresh(t, next.RefreshToken); err != nil {
		t.Errorf("tokens from after the change have their grace: %v", err)
	}
	if _, err := p.refresh(t, u.RefreshToken); !errors.Is(err, auth.ErrInvalidRefresh) {
		t.Errorf("the token from before the change, a second time, within the grace: %v", err)
	}
	if _, err := p.refresh(t, again.RefreshToken); !errors.Is(err, auth.ErrInvalidRefresh) || p.open(t, u.User.ID) != 0 {
		t.Errorf("its session goes on: %v", err)
	}

	v := p.register(t, "ben")
	sibling, err := p.refresh(t, v.RefreshToken)
	if err != nil {
		t.Fatal(err)
	}
	other, err := p.refresh(t, v.RefreshToken) // two tabs
	if err != nil {
		t.Fatal(err)
	}
	change(v, password, "a new password")
	if _, err := p.refresh(t, sibling.RefreshToken); err != nil {
		t.Fatal(err)
	}
	if _, err := p.refresh(t, other.RefreshToken); !errors.Is(err, auth.ErrInvalidRefresh) {
		t.Errorf("all tokens from before the change are good once together: %v", err)
	}
}

func TestAnEndedSessionChangesNoPassword(t *testing.T) {
	t.Parallel()
	p := newPod(t, testenv.Postgres(t), auth.Config{})
	u := p.register(t, "anna")
	if err := p.Logout(t.Context(), &auth.RefreshToken{Token: u.RefreshToken}); err != nil {
		t.Fatal(err)
	}
	err := p.ChangePassword(t.Context(), identity(u), &auth.PasswordChange{Current: password, New: "a new password"}, auth.Client{})
	if !errors.Is(err, auth.ErrUnauthorized) {
		t.Errorf("%v", err)
	}
	if _, err := p.login(t.Context(), "anna", password); err != nil {
		t.Errorf("the old password: %v", err)
	}
}

func TestSessionsAreBounded(t *testing.T) {
	t.Parallel()
	p := newPod(t, testenv.Postgres(t), auth.Config{})
	u := p.register(t, "anna")
	if _, err := p.db.Exec(`INSERT INTO sessions (id, user_id, user_agent, last_used_at, expires_at)
		SELECT gen_random_uuid(), $1, 'old ' || n, clock_timestamp() - n * interval '1 minute', clock_timestamp() + interval '1 day' FROM generate_series(1, 99) n`, u.User.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := p.login(t.Context(), "anna", password); err != nil {
		t.Fatal(err)
	}
	list, err := p.Sessions(t.Context(), identity(u))
	if err != nil {
		t.Fatal(err)
	}
	if n := len(list); n != 100 || list[n-1].UserAgent != "old 98" || p.announced.count() != 1 {
		t.Errorf("%d sessions are open, the oldest is %q, %d were announced as ended; want 100, old 98 and 1", n, list[n-1].UserAgent, p.announced.count())
	}
}

func TestASessionHasAGreatestAge(t *testing.T) {
	t.Parallel()
	p := newPod(t, testenv.Postgres(t), auth.Config{RefreshTTL: time.Hour, SessionMaxAge: 2 * time.Hour})
	u := p.register(t, "anna")
	for _, c := range []struct {
		age  string
		left time.Duration
	}{{"0", time.Hour}, {"90 minutes", 30 * time.Minute}} {
		if _, err := p.db.Exec(`UPDATE sessions SET created_at = clock_timestamp() - $2::interval WHERE id = $1`, u.SessionID, c.age); err != nil {
			t.Fatal(err)
		}
		next, err := p.refresh(t, u.RefreshToken)
		if err != nil {
			t.Fatal(err)
		}
		u.RefreshToken = next.RefreshToken
		var left float64
		p.query(t, &left, `SELECT extract(epoch FROM expires_at - clock_timestamp()) FROM sessions WHERE id = $1`, u.SessionID)
		if got := time.Duration(left * float64(time.Second)); got > c.left || got < c.left-5*time.Minute {
			t.Errorf("%s old, it has %s left, want %s", c.age, got, c.left)
		}
	}
	if _, err := p.db.Exec(`UPDATE sessions SET created_at = clock_timestamp() - interval '3 hours', expires_at = created_at WHERE id = $1`, u.SessionID); err != nil {
		t.Fatal(err)
	}
	if _, err := p.refresh(t, u.RefreshToken); !errors.Is(err, auth.ErrInvalidRefresh) {
		t.Errorf("after its age: %v", err)
	}
}

func TestEndedSessionsForgetTheirClients(t *testing.T) {
	t.Parallel()
	p := newPod(t, testenv.Postgres(t), auth.Config{})
	u := p.register(t, "anna")
	v, err := p.login(t.Context(), "anna", password)
	if err != nil {
		t.Fatal(err)
	}
	list, err := p.Sessions(t.Context(), identity(u))
	if err != nil || len(list) != 2 || list[0].UserAgent != "test" {
		t.Fatalf("%+v, %v", list, err)
	}
	if err := p.EndSession(t.Context(), u.User.ID, v.SessionID); err != nil {
		t.Fatal(err)
	}
	if err := p.EndSession(t.Context(), u.User.ID, v.SessionID); !errors.Is(err, auth.ErrSessionNotFound) {
		t.Errorf("ended twice: %v", err)
	}
	if !p.watch.Ended(v.SessionID) || p.watch.Ended(u.SessionID) {
		t.Error("the watch doesn't know which session ended")
	}
	var agent string
	p.query(t, &agent, `SELECT user_agent FROM sessions WHERE id = $1`, v.SessionID)
	if agent != "" {
		t.Errorf("an ended session's client is kept: %q", agent)
	}
}

func TestKnownAddresses(t *testing.T) {
	t.Parallel()
	p := newPod(t, testenv.Postgres(t), auth.Config{})
	u := p.register(t, "anna") // from 192.0.2.1
	known := func(username, address string) bool {
		t.Helper()
		yes, err := p.KnownAddress(t.Context(), username, address)
		if err != nil {
			t.Fatal(err)
		}
		return yes
	}
	if !known("anna", "192.0.2.1") || !known("ANNA", "192.0.2.1") {
		t.Error("where the account was made is unknown")
	}
	for _, x := range [][2]string{{"anna", "192.0.2.9"}, {"nobody", "192.0.2.1"}, {"anna", ""}, {"a\x00b", "192.0.2.1"}} {
		if known(x[0], x[1]) {
			t.Errorf("%q is known", x)
		}
	}
	if _, err := p.Refresh(t.Context(), &auth.RefreshToken{Token: u.RefreshToken}, auth.Client{Address: "192.0.2.9"}); err != nil || !known("anna", "192.0.2.9") {
		t.Errorf("where the session was refreshed is unknown: %v", err)
	}
	for i := range 30 {
		if _, err := p.Login(t.Context(), &auth.Credentials{Username: "anna", Password: password}, auth.Client{Address: fmt.Sprintf("198.51.100.%d", i)}); err != nil {
			t.Fatal(err)
		}
	}
	var n int
	p.query(t, &n, `SELECT count(*) FROM login_addresses WHERE user_id = $1`, u.User.ID)
	if n != 20 || known("anna", "192.0.2.1") || !known("anna", "198.51.100.29") {
		t.Errorf("%d addresses are kept, want the latest 20", n)
	}
	if _, err := p.db.Exec(`UPDATE login_addresses SET last_used_at = last_used_at - interval '91 days' WHERE user_id = $1`, u.User.ID); err != nil {
		t.Fatal(err)
	}
	if known("anna", "198.51.100.29") {
		t.Error("an address is known that was not used for 91 days")
	}
	v := p.register(t, "ben")
	if _, err := p.login(t.Context(), "ben", password); err != nil {
		t.Fatal(err)
	}
	if err := p.ChangePassword(t.Context(), identity(v), &auth.PasswordChange{Current: password, New: "a new password"}, auth.Client{Address: "192.0.2.1"}); err != nil {
		t.Fatal(err)
	}
	if !known("ben", "192.0.2.1") || known("ben", "192.0.2.2") {
		t.Error("after a change of the password only its own address stays known")
	}
}

func TestPasswordsAndUsernames(t *testing.T) {
	t.Parallel()
	p := newPod(t, testenv.Postgres(t), auth.Config{})
	u := p.register(t, "annabella")
	if _, err := p.Register(t.Context(), &auth.Registration{Username: "annabella", Password: password, DisplayName: new(string)}, auth.Client{}); !errors.Is(err, auth.ErrUsernameTaken) {
		t.Errorf("the same username: %v", err)
	}
	err := p.ChangePassword(t.Context(), identity(u), &auth.PasswordChange{Current: password, New: "AnnaBella"}, auth.Client{})
	if f, ok := errors.AsType[*invalid.Faults](err); !ok || !f.Has("new") {
		t.Errorf("the username as a password: %v", err)
	}
	if err := p.ChangePassword(t.Context(), identity(u), &auth.PasswordChange{Current: "wrong", New: "a new password"}, auth.Client{}); !errors.Is(err, auth.ErrWrongPassword) {
		t.Errorf("a wrong password: %v", err)
	}
	for _, name := range []string{"annabella", "nobody", "has\x00null", "no such name!", "deleted-0123456789", ""} {
		if _, err := p.login(t.Context(), name, "wrong password"); !errors.Is(err, auth.ErrInvalidCredentials) {
			t.Errorf("%q: %v", name, err)
		}
	}
	for name, reserved := range map[string]bool{
		"admin": true, "Ad_min": true, "support.": true, "deleted_user": true, "system": true, "parley": true, "deleted_0123456789abcdef01234567": true,
		"administrat0r": false, "anna": false, "adminanna": false, "supporter": false, "deleted_x": false,
	} {
		r := auth.Registration{Username: name, Password: password}
		var f invalid.Faults
		if r.Check(&f); f.Has("username") != reserved {
			t.Errorf("%s: %v, want reserved %v", name, f.List(), reserved)
		}
	}
	r := auth.Registration{Username: "Anna.Bella", Password: "anna.bella"}
	var f invalid.Faults
	if r.Check(&f); !f.Has("password") {
		t.Error("the username passes as the password")
	}
}

func TestChecks(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 300)
	for name, c := range map[string]struct {
		input  interface{ Check(f *invalid.Faults) }
		fields string
	}{
		"a registration":        {&auth.Registration{Username: "a!", Password: "x", DisplayName: new(string)}, "username password displayName"},
		"a common password":     {&auth.Registration{Username: "anna", Password: "Password123"}, "password"},
		"credentials":           {&auth.Credentials{Username: long, Password: long}, "username password"},
		"good credentials":      {&auth.Credentials{Username: "anna", Password: "x"}, ""},
		"a refresh token":       {&auth.RefreshToken{Token: long}, "refreshToken"},
		"no refresh token":      {&auth.RefreshToken{}, "refreshToken"},
		"a change of password":  {&auth.PasswordChange{Current: long, New: "short"}, "current new"},
		"a deletion's password": {&auth.Deletion{Password: long}, "password"},
	} {
		var f invalid.Faults
		c.input.Check(&f)
		var got []string
		for _, x := range f.List() {
			got = append(got, x.Field)
		}
		if strings.Join(got, " ") != c.fields {
			t.Errorf("%s: faults of %v, want %s", name, got, c.fields)
		}
	}
}

// good is for tests in which everybody may use Parley.
type good struct{}

func (good) StandingIn(context.Context, postgres.Querier, string) error { return nil }
