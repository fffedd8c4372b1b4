package friend_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/parley-chat/parley/internal/cursor"
	"github.com/parley-chat/parley/internal/event"
	"github.com/parley-chat/parley/internal/friend"
	"github.com/parley-chat/parley/internal/id"
	"github.com/parley-chat/parley/internal/invalid"
	"github.com/parley-chat/parley/internal/postgres"
	"github.com/parley-chat/parley/internal/testenv"
)

// heard collects what would be published.
type heard struct {
	mu      sync.Mutex
	notices []string // type, user who gets it, the other
	changed int      // relations
}

func (h *heard) Notify(n *event.Notice) {
	h.mu.Lock()
	defer h.mu.Unlock()
	f, _ := n.Data.(event.Friend)
	h.notices = append(h.notices, n.Type+" to "+n.UserID+" of "+f.User.ID)
}

func (h *heard) RelationChanged(context.Context, string, string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.changed++
}

// since returns what was heard since the last call, with names for ids.
func (h *heard) since(names map[string]string) string {
	h.mu.Lock()
	defer h.mu.Unlock()
	out := append([]string{}, h.notices...)
	slices.Sort(out)
	if h.changed > 0 {
		out = append(out, fmt.Sprint("changed ", h.changed))
	}
	h.notices, h.changed = nil, 0
	s := strings.Join(out, ", ")
	for id, name := range names {
		s = strings.ReplaceAll(s, id, name)
	}
	return s
}

// circle is three users and the service.
type circle struct {
	*friend.Service
	t       *testing.T
	db      *postgres.DB
	heard   *heard
	a, b, c string
	names   map[string]string
}

func newCircle(t *testing.T) *circle {
	t.Helper()
	db := testenv.Open(t, postgres.Config{URL: testenv.Postgres(t), MaxConns: 6})
	h := &heard{}
	u := testenv.Users(t, db.SQL, 3)
	return &circle{friend.NewService(db, h, h), t, db, h, u[0], u[1], u[2], map[string]string{u[0]: "a", u[1]: "b", u[2]: "c"}}
}

func (x *circle) exec(query string, args ...any) {
	x.t.Helper()
	if _, err := x.db.SQL.Exec(query, args...); err != nil {
		x.t.Fatal(err)
	}
}

func (x *circle) ask(from, to string) (friend.State, bool, error) {
	return x.Ask(x.t.Context(), from, &friend.Request{UserID: to})
}

// state is what a user's lists show: friends, incoming and outgoing requests, blocks.
func (x *circle) state(userID string) string {
	x.t.Helper()
	of := func(list []friend.Relation) string {
		var out []string
		for _, r := range list {
			out = append(out, x.names[r.User.ID])
		}
		return strings.Join(out, "")
	}
	friends, _, err := x.Friends(x.t.Context(), userID, nil, 50)
	if err != nil {
		x.t.Fatal(err)
	}
	requests, err := x.Requests(x.t.Context(), userID, nil, 50)
	if err != nil {
		x.t.Fatal(err)
	}
	blocks, _, err := x.Blocks(x.t.Context(), userID, nil, 50)
	if err != nil {
		x.t.Fatal(err)
	}
	return fmt.Sprintf("friends %s in %s out %s blocks %s", of(friends), of(requests.Incoming), of(requests.Outgoing), of(blocks))
}

// What two users do, one step after the other: what each step returns, what it publishes, and what both see after it.
func TestWhatTwoBecome(t *testing.T) {
	t.Parallel()
	x := newCircle(t)
	ctx := t.Context()
	asked := func(from, to string) func() string {
		return func() string {
			s, created, err := x.ask(from, to)
			return strings.TrimSpace(fmt.Sprint(s.Status, " ", created, " ", x.names[s.User.ID], " ", word(err)))
		}
	}
	accepted := func(user, other string) func() string {
		return func() string {
			s, err := x.Accept(ctx, user, other)
			return strings.TrimSpace(s.Status + " " + word(err))
		}
	}
	plain := func(f func(context.Context, string, string) error, user, other string) func() string {
		return func() string { return word(f(ctx, user, other)) }
	}
	const nobody = "friends  in  out  blocks "
	for i, step := range []struct {
		name    string
		do      func() string
		returns string
		heard   string
		a, b    string
	}{
		{"accept nothing", accepted(x.a, x.b), "no request", "", nobody, nobody},
		{"drop nothing", plain(x.Drop, x.a, x.b), "no request", "", nobody, nobody},
		{"unfriend a stranger", plain(x.Unfriend, x.a, x.b), "no user", "", nobody, nobody},
		{"ask", asked(x.a, x.b), "pending true b", "friend:requested to b of a, changed 1", "friends  in  out b blocks ", "friends  in a out  blocks "},
		{"ask again", asked(x.a, x.b), "pending false b", "", "friends  in  out b blocks ", "friends  in a out  blocks "},
		{"accept the own request", accepted(x.a, x.b), "no request", "", "friends  in  out b blocks ", "friends  in a out  blocks "},
		{"unfriend one who asked", plain(x.Unfriend, x.b, x.a), "no user", "", "friends  in  out b blocks ", "friends  in a out  blocks "},
		{"cancel", plain(x.Drop, x.a, x.b), "", "friend:removed to a of b, friend:removed to b of a, changed 1", nobody, nobody},
		{"ask", asked(x.a, x.b), "pending true b", "friend:requested to b of a, changed 1", "friends  in  out b blocks ", "friends  in a out  blocks "},
		{"decline", plain(x.Drop, x.b, x.a), "", "friend:removed to a of b, friend:removed to b of a, changed 1", nobody, nobody},
		{"ask", asked(x.b, x.a), "pending true a", "friend:requested to a of b, changed 1", "friends  in b out  blocks ", "friends  in  out a blocks "},
		{"ask back", asked(x.a, x.b), "accepted false b", "friend:accepted to a of b, friend:accepted to b of a, changed 1", "friends b in  out  blocks ", "friends a in  out  blocks "},
		{"ask a friend", asked(x.a, x.b), "accepted false b", "", "friends b in  out  blocks ", "friends a in  out  blocks "},
		{"accept a friend", accepted(x.b, x.a), "accepted", "", "friends b in  out  blocks ", "friends a in  out  blocks "},
		{"drop a friendship", plain(x.Drop, x.a, x.b), "no request", "", "friends b in  out  blocks ", "friends a in  out  blocks "},
		{"unfriend", plain(x.Unfriend, x.a, x.b), "", "friend:removed to a of b, friend:removed to b of a, changed 1", nobody, nobody},
		{"ask", asked(x.a, x.b), "pending true b", "friend:requested to b of a, changed 1", "friends  in  out b blocks ", "friends  in a out  blocks "},
		{"block who asked", plain(x.Block, x.b, x.a), "", "friend:removed to a of b, friend:removed to b of a, changed 1", nobody, "friends  in  out  blocks a"},
		{"block again", plain(x.Block, x.b, x.a), "", "changed 1", nobody, "friends  in  out  blocks a"},
		{"ask across", asked(x.a, x.b), "false  no user", "", nobody, "friends  in  out  blocks a"},
		{"ask across, by who blocks", asked(x.b, x.a), "false  no user", "", nobody, "friends  in  out  blocks a"},
		{"accept across", accepted(x.a, x.b), "no user", "", nobody, "friends  in  out  blocks a"},
		{"block back, which shows nothing", plain(x.Block, x.a, x.b), "", "changed 1", nobody, "friends  in  out  blocks a"},
		{"unblock", plain(x.Unblock, x.b, x.a), "", "changed 1", "friends  in  out  blocks b", nobody},
		{"unblock again", plain(x.Unblock, x.b, x.a), "", "", "friends  in  out  blocks b", nobody},
		{"unblock", plain(x.Unblock, x.a, x.b), "", "changed 1", nobody, nobody},
		{"block a stranger", plain(x.Block, x.a, x.b), "", "changed 1", "friends  in  out  blocks b", nobody},
	} {
		if got := step.do(); got != step.returns {
			t.Errorf("%d, %s: returned %q, want %q", i, step.name, got, step.returns)
		}
		if got := x.heard.since(x.names); got != step.heard {
			t.Errorf("%d, %s: published %q, want %q", i, step.name, got, step.heard)
		}
		if a, b := x.state(x.a), x.state(x.b); a != step.a || b != step.b {
			t.Errorf("%d, %s: the lists are %q and %q, want %q and %q", i, step.name, a, b, step.a, step.b)
		}
	}
}

// word is an error in a word.
func word(err error) string {
	switch {
	case err == nil:
		return ""
	case errors.Is(err, friend.ErrRequestNotFound):
		return "no request"
	case errors.Is(err, friend.ErrUserNotFound):
		return "no user"
	}
	return err.Error()
}

func TestOneselfAndNobody(t *testing.T) {
	t.Parallel()
	x := newCircle(t)
	deleted := testenv.User(t, x.db.SQL)
	x.exec(`UPDATE users SET deleted_at = now() WHERE id = $1`, deleted)
	if _, _, err := x.ask(x.a, x.a); !isFault(err, "userId") {
		t.Errorf("asking oneself: %v", err)
	}
	if err := x.Block(t.Context(), x.a, x.a); !isFault(err, "userId") {
		t.Errorf("blocking oneself: %v", err)
	}
	for name, who := range map[string]string{"nobody": id.New(), "a deleted user": deleted} {
		if _, _, err := x.ask(x.a, who); !errors.Is(err, friend.ErrUserNotFound) {
			t.Errorf("asking %s: %v", name, err)
		}
		if err := x.Block(t.Context(), x.a, who); err != nil {
			t.Errorf("blocking %s shows that: %v", name, err)
		}
		if err := x.Unfriend(t.Context(), x.a, who); !errors.Is(err, friend.ErrUserNotFound) {
			t.Errorf("unfriending %s: %v", name, err)
		}
	}
	var f invalid.Faults
	if (&friend.Request{UserID: "x"}).Check(&f); !f.Has("userId") {
		t.Error("an id that is none")
	}
	if got := x.heard.since(x.names); got != "" {
		t.Errorf("published %s", got)
	}
}

func isFault(err error, field string) bool {
	f, ok := errors.AsType[*invalid.Faults](err)
	return ok && f.Has(field)
}

func TestBoundsOfRelations(t *testing.T) {
	t.Parallel()
	x := newCircle(t)
	for from := 0; from < friend.MaxFriends; from += 500 { // within the time of a statement on a busy machine too
		x.exec(`INSERT INTO users (id, username, display_name, password_hash)
			SELECT gen_random_uuid(), 'bulk_' || n, 'Bulk', '!' FROM generate_series($1::int + 1, $1::int + 500) n`, from)
	}
	x.exec(`INSERT INTO friendships (user_id, friend_id, status) SELECT $1, id, 'pending' FROM users WHERE username LIKE 'bulk%' LIMIT $2`, x.a, friend.MaxOutgoing)
	if _, _, err := x.ask(x.a, x.b); !errors.Is(err, friend.ErrTooManyRequests) {
		t.Errorf("one request too many: %v", err)
	}
	if _, created, err := x.ask(x.b, x.a); err != nil || !created {
		t.Errorf("being asked: %v", err)
	}
	x.exec(`DELETE FROM friendships WHERE user_id = $1`, x.a)
	x.exec(`INSERT INTO friendships (user_id, friend_id, status) SELECT $1, id, 'accepted' FROM users WHERE username LIKE 'bulk%'`, x.a)
	if _, err := x.Accept(t.Context(), x.a, x.b); !errors.Is(err, friend.ErrTooManyFriends) {
		t.Errorf("one friend too many: %v", err)
	}
	if _, _, err := x.ask(x.c, x.a); err != nil {
		t.Errorf("asking one who has many: %v", err)
	}
	x.exec(`DELETE FROM friendships WHERE user_id = $1 AND friend_id IN (SELECT id FROM users WHERE username LIKE 'bulk%' LIMIT 1)`, x.a)
	if _, err := x.Accept(t.Context(), x.a, x.b); err != nil {
		t.Errorf("the last place: %v", err)
	}
	if _, _, err := x.ask(x.a, x.c); !errors.Is(err, friend.ErrTooManyFriends) {
		t.Errorf("accepting by asking back: %v", err)
	}
}

func TestListsArePagedNewestFirst(t *testing.T) {
	t.Parallel()
	x := newCircle(t)
	var others []string
	for _, u := range testenv.Users(t, x.db.SQL, 5) {
		others = append(others, u)
		for _, f := range []func() error{
			func() error { _, _, err := x.ask(u, x.b); return err },       // incoming of b
			func() error { return x.Block(context.Background(), x.c, u) }, // blocks of c
			func() error { _, _, err := x.ask(u, x.a); return err },
			func() error { _, err := x.Accept(context.Background(), x.a, u); return err }, // friends of a
		} {
			if err := f(); err != nil {
				t.Fatal(err)
			}
		}
	}
	slices.Reverse(others)
	for name, page := range map[string]func(*cursor.Position) ([]friend.Relation, bool, error){
		"friends": func(p *cursor.Position) ([]friend.Relation, bool, error) { return x.Friends(t.Context(), x.a, p, 2) },
		"blocks":  func(p *cursor.Position) ([]friend.Relation, bool, error) { return x.Blocks(t.Context(), x.c, p, 2) },
		"incoming": func(p *cursor.Position) ([]friend.Relation, bool, error) {
			r, err := x.Requests(t.Context(), x.b, p, 2)
			return r.Incoming, r.HasMore, err
		},
	} {
		var got []string
		var before *cursor.Position
		for more := true; more; {
			var list []friend.Relation
			var err error
			if list, more, err = page(before); err != nil {
				t.Fatal(err)
			}
			for _, r := range list {
				got = append(got, r.User.ID)
				before = &cursor.Position{Time: r.CreatedAt.Time, ID: r.User.ID}
			}
		}
		if !slices.Equal(got, others) {
			t.Errorf("%s: %v, want %v", name, got, others)
		}
	}
}

// Without Postgres every call fails, and publishes nothing.
func TestWithoutPostgres(t *testing.T) {
	t.Parallel()
	x := newCircle(t)
	if err := x.db.Close(); err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	for name, f := range map[string]func() error{
		"ask":      func() error { _, _, err := x.ask(x.a, x.b); return err },
		"accept":   func() error { _, err := x.Accept(ctx, x.a, x.b); return err },
		"drop":     func() error { return x.Drop(ctx, x.a, x.b) },
		"unfriend": func() error { return x.Unfriend(ctx, x.a, x.b) },
		"block":    func() error { return x.Block(ctx, x.a, x.b) },
		"unblock":  func() error { return x.Unblock(ctx, x.a, x.b) },
		"friends":  func() error { _, _, err := x.Friends(ctx, x.a, nil, 1); return err },
		"blocks":   func() error { _, _, err := x.Blocks(ctx, x.a, nil, 1); return err },
		"requests": func() error { _, err := x.Requests(ctx, x.a, nil, 1); return err },
	} {
		if err := f(); err == nil {
			t.Errorf("%s succeeds", name)
		}
	}
	if got := x.heard.since(x.names); got != "" {
		t.Errorf("published %s", got)
	}
}
