package auth_test

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/parley-chat/parley/internal/audit"
	"github.com/parley-chat/parley/internal/auth"
	"github.com/parley-chat/parley/internal/id"
	"github.com/parley-chat/parley/internal/postgres"
	"github.com/parley-chat/parley/internal/testenv"
)

// A session that a server key opens is refreshed and ended like that of a login, and no refresh prolongs it beyond its end.
func TestAMintedSession(t *testing.T) {
	t.Parallel()
	p := newPod(t, testenv.Postgres(t), auth.Config{})
	user, key := testenv.User(t, p.db), id.New()
	ctx := audit.With(t.Context(), audit.Actor{KeyID: key})

	pair, err := p.Mint(ctx, user, key, 0)
	if err != nil || pair.User.ID != user || pair.ExpiresIn != time.Minute {
		t.Fatalf("minted: %+v, %v", pair, err)
	}
	session := identity(pair).SessionID
	if got, err := p.HolderOf(ctx, &auth.RefreshToken{Token: pair.RefreshToken}); err != nil || got != (auth.Holder{UserID: user, Minted: true}) {
		t.Errorf("its token is of %+v, %v", got, err)
	}
	if got, err := p.SessionOf(ctx, &auth.RefreshToken{Token: pair.RefreshToken}); err != nil || got != session {
		t.Errorf("its session is %q, %v, want %q", got, err, session)
	}
	if who, err := p.Verify(pair.AccessToken); err != nil || who.UserID != user || who.SessionID != session {
		t.Errorf("its access token is of %+v, %v", who, err)
	}
	if _, err := p.refresh(t, pair.RefreshToken); err != nil {
		t.Errorf("refreshed: %v", err)
	}

	t.Run("with an end", func(t *testing.T) {
		short, err := p.Mint(ctx, user, key, 30*time.Second)
		if err != nil || short.ExpiresIn != 30*time.Second {
			t.Fatalf("%+v, %v", short, err)
		}
		if _, err := p.refresh(t, short.RefreshToken); err != nil {
			t.Fatal(err)
		}
		var left float64
		p.query(t, &left, `SELECT extract(epoch FROM expires_at - clock_timestamp()) FROM sessions WHERE id = $1`, identity(short).SessionID)
		if left > 30 {
			t.Errorf("a refresh prolongs it to %v s", left)
		}
	})
	t.Run("all are ended", func(t *testing.T) {
		before := p.announced.count()
		if err := p.EndAll(ctx, user); err != nil {
			t.Fatal(err)
		}
		if n := p.announced.count() - before; n != 2 || !p.watch.Ended(session) || p.open(t, user) != 0 {
			t.Errorf("%d are announced, %d are open", n, p.open(t, user))
		}
		if _, err := p.refresh(t, pair.RefreshToken); !errors.Is(err, auth.ErrInvalidRefresh) {
			t.Errorf("refreshed after the end: %v", err)
		}
		if err := p.EndAll(ctx, user); err != nil || p.announced.count() != before+2 {
			t.Errorf("again: %v", err)
		}
		var logged int
		p.query(t, &logged, `SELECT count(*) FROM audit_log WHERE target_id = $1 AND action IN ('session.mint', 'session.end_all')`, user)
		if logged != 4 {
			t.Errorf("%d of 4 actions are logged", logged)
		}
	})
}

// Tokens that are not ours have no holder and no session, and those of a login are not minted.
func TestWhoseTokensAre(t *testing.T) {
	t.Parallel()
	p := newPod(t, testenv.Postgres(t), auth.Config{})
	pair := p.register(t, "ana")
	if got, err := p.HolderOf(t.Context(), &auth.RefreshToken{Token: pair.RefreshToken}); err != nil || got != (auth.Holder{UserID: pair.User.ID}) {
		t.Errorf("a login's is of %+v, %v", got, err)
	}
	unknown := &auth.RefreshToken{Token: "nonsense"}
	if got, err := p.HolderOf(t.Context(), unknown); err != nil || got != (auth.Holder{}) {
		t.Errorf("an unknown one is of %+v, %v", got, err)
	}
	if got, err := p.SessionOf(t.Context(), unknown); err != nil || got != "" {
		t.Errorf("an unknown one has the session %q, %v", got, err)
	}
}

// Deleting the account of an external user, which has no password, erases the same data.
func TestAnExternalUserIsDeleted(t *testing.T) {
	t.Parallel()
	p := newPod(t, testenv.Postgres(t), auth.Config{})
	user := testenv.User(t, p.db)
	if _, err := p.Mint(t.Context(), user, id.New(), 0); err != nil {
		t.Fatal(err)
	}
	group := p.group(t, user, testenv.User(t, p.db))
	if err := p.DeleteExternal(t.Context(), user); err != nil {
		t.Fatal(err)
	}
	var name string
	p.query(t, &name, `SELECT display_name FROM users WHERE id = $1 AND deleted_at IS NOT NULL`, user)
	if name != "Deleted user" || p.open(t, user) != 0 {
		t.Errorf("the user is %q with %d sessions", name, p.open(t, user))
	}
	var members int
	p.query(t, &members, `SELECT count(*) FROM conversation_members WHERE conversation_id = $1 AND user_id = $2`, group, user)
	if members != 0 {
		t.Error("the user is still in a group")
	}
	for what, gone := range map[string]string{"deleted already": user, "nobody": id.New()} {
		if err := p.DeleteExternal(t.Context(), gone); !errors.Is(err, auth.ErrUnauthorized) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// run runs a part of a process until the test ends.
func run(t *testing.T, part func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- part(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// ends keeps the sessions that a watch reported.
type ends struct {
	mu   sync.Mutex
	list []string
}

func (e *ends) add(sessionIDs ...string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.list = append(e.list, sessionIDs...)
}

func (e *ends) count(sessionID string) (n int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, s := range e.list {
		if s == sessionID {
			n++
		}
	}
	return n
}

// A pod that missed every announcement reads which sessions ended, before it is ready and from then on, and reports each once.
func TestAWatchReadsTheSessionsThatEnded(t *testing.T) {
	t.Parallel()
	url := testenv.Postgres(t)
	p := newPod(t, url, auth.Config{})
	before, during, expired, living := p.register(t, "before"), p.register(t, "during"), p.register(t, "expired"), p.register(t, "living")
	endAll := func(pair auth.Pair) {
		t.Helper()
		if err := p.EndAll(t.Context(), pair.User.ID); err != nil {
			t.Fatal(err)
		}
	}
	endAll(before)
	db := testenv.Open(t, postgres.Config{URL: url, MaxConns: 2, Application: "watch"})
	reported := &ends{}
	w := auth.NewWatch(db, time.Minute, slog.New(slog.DiscardHandler), reported.add)
	if w.Ready() == nil {
		t.Error("it is ready before it has read anything")
	}
	run(t, w.Run)
	testenv.Eventually(t, 20*time.Second, func() bool { return w.Ready() == nil }, "it is ready")
	if s := identity(before).SessionID; !w.Ended(s) || reported.count(s) != 1 {
		t.Errorf("what ended before is reported %d times", reported.count(s))
	}
	endAll(during)
	if _, err := p.db.Exec(`UPDATE sessions SET expires_at = clock_timestamp() WHERE id = $1`, identity(expired).SessionID); err != nil {
		t.Fatal(err)
	}
	for _, pair := range []auth.Pair{during, expired} {
		testenv.Eventually(t, 20*time.Second, func() bool { return w.Ended(identity(pair).SessionID) }, "the end is read")
	}
	w.Note(identity(during).SessionID, identity(before).SessionID) // the announcements come late
	for _, pair := range []auth.Pair{before, during, expired} {
		if n := reported.count(identity(pair).SessionID); n != 1 {
			t.Errorf("%s is reported %d times", pair.User.Username, n)
		}
	}
	if w.Ended(identity(living).SessionID) {
		t.Error("a session that lives has ended")
	}
	var all []string
	for _, pair := range []auth.Pair{before, during, expired, living} {
		all = append(all, identity(pair).SessionID)
	}
	alive, err := auth.NewLookup(db).Living(t.Context(), append(slices.Clone(all), id.New()))
	if err != nil || len(alive) != 1 || !alive[all[3]] {
		t.Errorf("alive are %v, %v", alive, err)
	}
}

// While Postgres is unavailable a watch warns once, knows what it is notified of, and reads the rest once Postgres is back.
func TestAWatchOutlivesPostgres(t *testing.T) {
	t.Parallel()
	server := testenv.PostgresServer(t)
	p := newPod(t, server.URL(), auth.Config{})
	ana := p.register(t, "ana")
	log := &testenv.Output{}
	db := testenv.Open(t, postgres.Config{URL: server.URL(), MaxConns: 2, Application: "watch"})
	server.Stop()
	w := auth.NewWatch(db, time.Minute, slog.New(slog.NewTextHandler(log, nil)), func(...string) {})
	run(t, w.Run)
	testenv.Eventually(t, 20*time.Second, func() bool { return log.Count("ended sessions cannot be read") == 1 }, "it warns")
	if w.Ready() == nil {
		t.Error("it is ready without Postgres")
	}
	noticed := id.New()
	w.Note(noticed)
	if !w.Ended(noticed) {
		t.Error("a notice is lost")
	}
	server.Start()
	testenv.Eventually(t, 20*time.Second, func() bool { return w.Ready() == nil }, "it is ready once Postgres is back")
	testenv.Eventually(t, 20*time.Second, func() bool { return p.EndAll(t.Context(), ana.User.ID) == nil }, "a session ends")
	testenv.Eventually(t, 20*time.Second, func() bool { return w.Ended(identity(ana).SessionID) }, "the end is read")
	if n := log.Count("ended sessions cannot be read"); n != 1 {
		t.Errorf("it warned %d times", n)
	}
}
