package directory_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/parley-chat/parley/internal/audit"
	"github.com/parley-chat/parley/internal/directory"
	"github.com/parley-chat/parley/internal/id"
	"github.com/parley-chat/parley/internal/invalid"
	"github.com/parley-chat/parley/internal/jsonbody"
	"github.com/parley-chat/parley/internal/metadata"
	"github.com/parley-chat/parley/internal/postgres"
	"github.com/parley-chat/parley/internal/principal"
	"github.com/parley-chat/parley/internal/testenv"
	"github.com/parley-chat/parley/internal/timestamp"
)

// office is a directory over a database of its own.
type office struct {
	*directory.Service
	t     *testing.T
	db    *postgres.DB
	watch *directory.Watch
	// profiles are the users whose profiles were reported as changed.
	profiles []string
	// barred are the users whom the watch reported, with the reasons.
	barred []string
}

func newOffice(t *testing.T) *office {
	t.Helper()
	db := testenv.Open(t, postgres.Config{URL: testenv.Postgres(t)})
	return officeOver(t, db, db)
}

// officeOver is an office over one pool, whose watch is over another.
func officeOver(t *testing.T, db, watched *postgres.DB) *office {
	t.Helper()
	o := &office{t: t, db: db}
	o.watch = directory.NewWatch(watched, time.Minute, slog.New(slog.DiscardHandler), func(userID string, why error) {
		o.barred = append(o.barred, userID+" "+why.Error())
	})
	o.Service = directory.NewService(db, o.watch, func(_ context.Context, userIDs ...string) { o.profiles = append(o.profiles, userIDs...) })
	return o
}

// cutOffice is an office whose only connection can be cut. That of its watch can't.
func cutOffice(t *testing.T) (*office, *testenv.StatementCut) {
	t.Helper()
	url := testenv.Postgres(t)
	cut := testenv.NewStatementCut(t, url)
	return officeOver(t, cut.Open(t), testenv.Open(t, postgres.Config{URL: url, MaxConns: 1})), cut
}

func given[T any](v T) jsonbody.Optional[T] { return jsonbody.Optional[T]{Set: true, Value: v} }

func null[T any]() jsonbody.Optional[T] { return jsonbody.Optional[T]{Set: true, Null: true} }

// hire creates a user whose external id and username are the name in lower case.
func (o *office) hire(name string) string {
	o.t.Helper()
	low := strings.ToLower(name)
	i := &directory.Item{Draft: directory.Draft{ExternalID: low, Username: given(low), DisplayName: given(name + " Baker")}}
	if err := o.Upsert(o.t.Context(), []*directory.Item{i}); err != nil || i.Err != nil || i.Result != directory.Created {
		o.t.Fatalf("create %s: %v, %v, %s", name, err, i.Err, i.Result)
	}
	return i.ID
}

func (o *office) exec(query string, args ...any) {
	o.t.Helper()
	if _, err := o.db.SQL.ExecContext(o.t.Context(), query, args...); err != nil {
		o.t.Fatal(err)
	}
}

// logged is the list of actions that the audit log has for a user, the oldest first.
func (o *office) logged(userID string) string {
	o.t.Helper()
	actions, err := postgres.Column[string](o.t.Context(), o.db.SQL, `SELECT action FROM audit_log WHERE target_id = $1 ORDER BY at, id`, userID)
	if err != nil {
		o.t.Fatal(err)
	}
	return strings.Join(actions, " ")
}

func (o *office) get(userID string) directory.User {
	o.t.Helper()
	u, err := o.Get(o.t.Context(), userID)
	if err != nil {
		o.t.Fatal(err)
	}
	return u
}

func (o *office) ban(userID, reason string, until *timestamp.Time) directory.User {
	o.t.Helper()
	u, err := o.Ban(o.t.Context(), userID, &directory.BanRequest{Reason: &reason, Until: until})
	if err != nil {
		o.t.Fatal(err)
	}
	return u
}

func in(d time.Duration) *timestamp.Time { return &timestamp.Time{Time: time.Now().Add(d)} }

func TestUpdateChangesGivenFieldsOnly(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	ada := o.hire("Ada")
	o.profiles = nil
	u, err := o.Update(t.Context(), ada, &directory.Patch{
		AvatarURL: given("https://example.com/a.png"), Metadata: given(metadata.Object(`{"team":"red","floor":2}`)), Kind: given(directory.Bot),
	})
	if err != nil {
		t.Fatal(err)
	}
	if u.Username != "ada" || u.DisplayName != "Ada Baker" || *u.ExternalID != "ada" || *u.AvatarURL != "https://example.com/a.png" || u.Kind != directory.Bot {
		t.Errorf("changed to %+v", u)
	}
	if got := o.get(ada); !got.UpdatedAt.Equal(u.UpdatedAt.Time) || !u.UpdatedAt.After(u.CreatedAt.Time) || string(got.Metadata) != string(u.Metadata) {
		t.Errorf("returned %+v, then read %+v", u, got)
	}
	if !slices.Equal(o.profiles, []string{ada}) || o.logged(ada) != "user.create user.update" {
		t.Errorf("reported %v, logged %q", o.profiles, o.logged(ada))
	}
	u, err = o.Update(t.Context(), ada, &directory.Patch{
		AvatarURL: null[string](), Metadata: given(metadata.Object(`{"team":null,"desk":"7"}`)), Username: given("lovelace"),
	})
	if err != nil || u.AvatarURL != nil || string(u.Metadata) != `{"desk":"7","floor":2}` || u.Username != "lovelace" || u.Kind != directory.Bot {
		t.Errorf("a merge, a new name and no picture: %+v, %v", u, err)
	}
	if u, err = o.Update(t.Context(), ada, &directory.Patch{Metadata: null[metadata.Object]()}); err != nil || string(u.Metadata) != "{}" {
		t.Errorf("no metadata: %s, %v", u.Metadata, err)
	}
}

func TestUpdateWithoutAChangeLeavesNoTrace(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	ada := o.hire("Ada")
	before := o.get(ada)
	o.profiles = nil
	u, err := o.Update(t.Context(), ada, &directory.Patch{Username: given("ada"), DisplayName: given("Ada Baker"), AvatarURL: null[string]()})
	if err != nil || u.ID != ada || !u.UpdatedAt.Equal(before.UpdatedAt.Time) {
		t.Errorf("%+v, %v, before %+v", u, err, before)
	}
	if len(o.profiles) != 0 || o.logged(ada) != "user.create" {
		t.Errorf("reported %v, logged %q", o.profiles, o.logged(ada))
	}
}

func TestUpdateRefuses(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	ada, before := o.hire("Ada"), o.get(o.hire("Bob"))
	o.profiles = nil
	if _, err := o.Update(t.Context(), before.ID, &directory.Patch{Username: given("ada"), DisplayName: given("Robert")}); !errors.Is(err, directory.ErrUsernameTaken) {
		t.Errorf("a taken username: %v", err)
	}
	half := strings.Repeat("x", 1500)
	for _, key := range []string{"a", "b", "c", "d", "e", "f"} {
		_, err := o.Update(t.Context(), ada, &directory.Patch{Metadata: given(metadata.Object(`{"` + key + `":"` + half + `"}`))})
		if f, is := errors.AsType[*invalid.Faults](err); is && f.Has("metadata") {
			break
		} else if err != nil || key == "f" {
			t.Fatalf("metadata grew up to the key %s: %v", key, err)
		}
	}
	if got := o.get(before.ID); got.DisplayName != before.DisplayName || !got.UpdatedAt.Equal(before.UpdatedAt.Time) || slices.Contains(o.profiles, before.ID) {
		t.Errorf("after a refusal %+v, before %+v, reported %v", got, before, o.profiles)
	}
}

// Each change refuses users who are unknown or deleted.
func TestNobodyIsNotFound(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	deleted := o.hire("Ada")
	o.exec(`UPDATE users SET deleted_at = now() WHERE id = $1`, deleted)
	ctx := t.Context()
	for name, call := range map[string]func(userID string) (directory.User, error){
		"Get":        func(u string) (directory.User, error) { return o.Get(ctx, u) },
		"Update":     func(u string) (directory.User, error) { return o.Update(ctx, u, &directory.Patch{Kind: given("bot")}) },
		"Ban":        func(u string) (directory.User, error) { return o.Ban(ctx, u, &directory.BanRequest{}) },
		"Unban":      func(u string) (directory.User, error) { return o.Unban(ctx, u) },
		"Deactivate": func(u string) (directory.User, error) { return o.Deactivate(ctx, u) },
		"Reactivate": func(u string) (directory.User, error) { return o.Reactivate(ctx, u) },
	} {
		for _, u := range []string{deleted, id.New()} {
			if got, err := call(u); !errors.Is(err, directory.ErrNotFound) || got.ID != "" {
				t.Errorf("%s: %+v, %v", name, got, err)
			}
		}
	}
	if got := o.logged(deleted); got != "user.create" {
		t.Errorf("logged %q", got)
	}
}

func TestABanIsReplacedAndLifted(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	ada := o.hire("Ada")
	if u := o.ban(ada, "spam", nil); u.Ban == nil || *u.Ban.Reason != "spam" || u.Ban.Until != nil || u.Ban.At.IsZero() {
		t.Errorf("banned: %+v", u.Ban)
	}
	if err := o.watch.Check(ada); !errors.Is(err, principal.ErrBanned) {
		t.Errorf("the pod of the ban: %v", err)
	}
	until := in(time.Hour)
	if u := o.ban(ada, "more spam", until); *u.Ban.Reason != "more spam" || u.Ban.Until.Sub(until.Time).Abs() > time.Microsecond {
		t.Errorf("the ban in the place of the first: %+v", u.Ban)
	}
	for range 2 { // the second changes nothing
		if u, err := o.Unban(t.Context(), ada); err != nil || u.Ban != nil || o.watch.Check(ada) != nil {
			t.Errorf("lifted: %+v, %v, %v", u.Ban, err, o.watch.Check(ada))
		}
	}
	if got := o.logged(ada); got != "user.create user.ban user.ban user.unban" {
		t.Errorf("logged %q", got)
	}
	if len(o.barred) != 2 {
		t.Errorf("reported %q, want each ban once", o.barred)
	}
}

func TestABanHasToEndInTheFuture(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	ada := o.hire("Ada")
	_, err := o.Ban(t.Context(), ada, &directory.BanRequest{Until: in(-time.Second)})
	if f, is := errors.AsType[*invalid.Faults](err); !is || !f.Has("until") {
		t.Errorf("a ban that is over: %v", err)
	}
	o.ban(ada, "spam", in(time.Hour))
	o.exec(`UPDATE users SET banned_until = now() WHERE id = $1`, ada)
	if u := o.get(ada); u.Ban != nil {
		t.Errorf("a ban that ended is %+v", u.Ban)
	}
	if err := o.watch.Standing(t.Context(), ada); err != nil {
		t.Errorf("the standing after the end: %v", err)
	}
}

func TestDeactivatedUsersComeBack(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	ada := o.hire("Ada")
	first, err := o.Deactivate(t.Context(), ada)
	if err != nil || first.DeactivatedAt == nil || !errors.Is(o.watch.Check(ada), principal.ErrDeactivated) {
		t.Fatalf("deactivated: %+v, %v, %v", first, err, o.watch.Check(ada))
	}
	if again, err := o.Deactivate(t.Context(), ada); err != nil || !again.DeactivatedAt.Equal(first.DeactivatedAt.Time) {
		t.Errorf("again: %+v, %v", again, err)
	}
	for range 2 {
		if u, err := o.Reactivate(t.Context(), ada); err != nil || u.DeactivatedAt != nil || o.watch.Check(ada) != nil {
			t.Errorf("reactivated: %+v, %v, %v", u, err, o.watch.Check(ada))
		}
	}
	if got := o.logged(ada); got != "user.create user.deactivate user.reactivate" {
		t.Errorf("logged %q", got)
	}
}

// A change whose transaction breaks has no effects: the row, the audit log and the pod's watch stay as they are.
func TestABrokenConnectionChangesNothing(t *testing.T) {
	t.Parallel()
	o, cut := cutOffice(t)
	ada := o.hire("Ada")
	ctx, n := audit.With(t.Context(), audit.Actor{KeyID: id.New()}), 0
	for name, call := range map[string]func() (directory.User, error){
		"Update": func() (directory.User, error) {
			n++
			return o.Update(ctx, ada, &directory.Patch{DisplayName: given(fmt.Sprint("Ada ", n))})
		},
		"Ban":        func() (directory.User, error) { return o.Ban(ctx, ada, &directory.BanRequest{}) },
		"Deactivate": func() (directory.User, error) { return o.Deactivate(ctx, ada) },
	} {
		before, logged, barred, profiles := o.get(ada), o.logged(ada), len(o.barred), len(o.profiles)
		errs := cut.EachStatement(t, func() error {
			u, err := call()
			if err != nil && u.ID != "" {
				t.Errorf("%s returned %+v and %v", name, u, err)
			}
			return err
		})
		if len(errs) != 6 { // begin, read and lock, change, read, record, commit
			t.Errorf("%s failed %d times, want once a statement", name, len(errs))
		}
		after := o.get(ada)
		if !after.UpdatedAt.After(before.UpdatedAt.Time) || strings.Count(o.logged(ada), " ") != strings.Count(logged, " ")+1 {
			t.Errorf("%s: logged %q, before %q; %+v", name, o.logged(ada), logged, after)
		}
		if got := len(o.barred) + len(o.profiles) - barred - profiles; got != 1 {
			t.Errorf("%s was reported %d times, want once", name, got)
		}
	}
}

// What the watch can't read after the commit does not fail the change.
func TestABanStandsIfTheWatchCannotReadIt(t *testing.T) {
	t.Parallel()
	url := testenv.Postgres(t)
	config := postgres.Config{URL: url, MaxConns: 1}
	watched := testenv.Open(t, config)
	o := officeOver(t, testenv.Open(t, config), watched)
	ada := o.hire("Ada")
	if err := watched.Close(); err != nil {
		t.Fatal(err)
	}
	if u := o.ban(ada, "spam", nil); u.Ban == nil || o.get(ada).Ban == nil || len(o.barred) != 0 {
		t.Errorf("banned: %+v, then %+v, reported %q", u.Ban, o.get(ada).Ban, o.barred)
	}
}

func TestUpsertReportsEachItem(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	o.hire("Ada")
	ada, bob := directory.Draft{ExternalID: "ada", DisplayName: given("Countess")}, directory.Draft{ExternalID: "bob", DisplayName: given("Bob"), Username: given("ada")}
	refused := errors.New("refused")
	items := []*directory.Item{
		{Draft: directory.Draft{ExternalID: "new", DisplayName: given("New"), Metadata: given(metadata.Object(`{"a":1}`))}},
		{Draft: ada}, {Draft: bob}, {Draft: directory.Draft{ExternalID: "nameless"}}, {Err: refused},
	}
	if err := o.Upsert(t.Context(), items); err != nil {
		t.Fatal(err)
	}
	if items[0].Result != directory.Created || items[1].Result != directory.Updated || items[2].Result != directory.Failed || items[3].Result != directory.Failed {
		t.Errorf("results %s, %s, %s, %s", items[0].Result, items[1].Result, items[2].Result, items[3].Result)
	}
	if f, is := errors.AsType[*invalid.Faults](items[3].Err); !errors.Is(items[2].Err, directory.ErrUsernameTaken) || !is || !f.Has("displayName") || !errors.Is(items[4].Err, refused) {
		t.Errorf("errors %v, %v, %v", items[2].Err, items[3].Err, items[4].Err)
	}
	if u := o.get(items[0].ID); !strings.HasPrefix(u.Username, "user_") || u.Kind != directory.Person || string(u.Metadata) != `{"a":1}` {
		t.Errorf("the new user is %+v", u)
	}
	if !slices.Equal(o.profiles, []string{items[1].ID}) || o.get(items[1].ID).DisplayName != "Countess" || o.get(items[1].ID).Username != "ada" {
		t.Errorf("changed %v: %+v", o.profiles, o.get(items[1].ID))
	}
}
