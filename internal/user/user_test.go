package user_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/parley-chat/parley/internal/chat"
	"github.com/parley-chat/parley/internal/event"
	"github.com/parley-chat/parley/internal/id"
	"github.com/parley-chat/parley/internal/invalid"
	"github.com/parley-chat/parley/internal/jsonbody"
	"github.com/parley-chat/parley/internal/testenv"
	"github.com/parley-chat/parley/internal/user"
)

// reported collects the changes that are published.
type reported struct {
	mu      sync.Mutex
	changes []event.ProfileChange
}

func (r *reported) ProfileChanged(_ context.Context, c event.ProfileChange) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.changes = append(r.changes, c)
}

func set[T any](v T) jsonbody.Optional[T] { return jsonbody.Optional[T]{Set: true, Value: v} }
func null[T any]() jsonbody.Optional[T]   { return jsonbody.Optional[T]{Set: true, Null: true} }

func TestProfiles(t *testing.T) {
	t.Parallel()
	db := open(t, testenv.Postgres(t))
	r := &reported{}
	s := user.NewService(db, r, nil)
	ctx := t.Context()
	a, b := add(t, db.SQL, "anna", "Anna"), add(t, db.SQL, "ben", "Ben")
	own, err := s.Own(ctx, a)
	if err != nil || own.Username != "anna" || own.Privacy.PresenceSharing != user.ShareEveryone || !own.Privacy.ReadReceiptsEnabled || own.CreatedAt.IsZero() {
		t.Errorf("the user's own: %+v, %v", own, err)
	}
	const picture = "https://example.com/a.png"
	for i, c := range []struct {
		change   user.ProfileChange
		name     string
		picture  bool
		reported bool
	}{
		{user.ProfileChange{DisplayName: set("Anna B")}, "Anna B", false, true},
		{user.ProfileChange{AvatarURL: set(picture)}, "Anna B", true, true},
		{user.ProfileChange{DisplayName: set("Anna B"), AvatarURL: set(picture)}, "Anna B", true, false},
		{user.ProfileChange{AvatarURL: null[string]()}, "Anna B", false, true},
	} {
		before := len(r.changes)
		own, err := s.Update(ctx, a, &c.change)
		if err != nil || own.DisplayName != c.name || (own.AvatarURL != nil) != c.picture {
			t.Errorf("change %d: %+v, %v", i, own, err)
		}
		if got := len(r.changes) > before; got != c.reported {
			t.Errorf("change %d: reported %v, want %v", i, got, c.reported)
		} else if got {
			if x := r.changes[before]; x.User.ID != a || x.User.DisplayName != c.name || x.At == 0 {
				t.Errorf("change %d is reported as %+v", i, x)
			}
		}
	}
	before := len(r.changes)
	s.Report(ctx, a)
	s.Report(ctx, b) // who never changed
	s.Report(ctx, id.New())
	if len(r.changes) != before+1 || r.changes[before] != r.changes[before-1] {
		t.Errorf("reported %+v", r.changes[before:])
	}
	if u, err := s.Get(ctx, b, a); err != nil || u.DisplayName != "Anna B" {
		t.Errorf("another's: %+v, %v", u, err)
	}
	exec(t, db.SQL, `INSERT INTO blocks (user_id, blocked_id) VALUES ($1, $2)`, b, a)
	for _, pair := range [][2]string{{a, b}, {b, a}, {a, id.New()}} {
		if _, err := s.Get(ctx, pair[0], pair[1]); !errors.Is(err, user.ErrNotFound) {
			t.Errorf("across a block, or of nobody: %v", err)
		}
	}
	exec(t, db.SQL, `UPDATE users SET deleted_at = now() WHERE id = $1`, a)
	for name, f := range map[string]func() error{
		"own":    func() error { _, err := s.Own(ctx, a); return err },
		"update": func() error { _, err := s.Update(ctx, a, &user.ProfileChange{DisplayName: set("x")}); return err },
		"privacy": func() error {
			_, err := s.UpdatePrivacy(ctx, a, &user.PrivacyChange{ReadReceiptsEnabled: set(false)})
			return err
		},
	} {
		if err := f(); !errors.Is(err, user.ErrNotFound) {
			t.Errorf("%s of a deleted account: %v", name, err)
		}
	}
}

func TestPrivacy(t *testing.T) {
	t.Parallel()
	s, db := service(t)
	a := add(t, db, "anna", "Anna")
	for _, c := range []struct {
		change user.PrivacyChange
		want   chat.Privacy
	}{
		{user.PrivacyChange{PresenceSharing: set(user.ShareFriends)}, chat.Privacy{PresenceSharing: user.ShareFriends, ReadReceiptsEnabled: true}},
		{user.PrivacyChange{ReadReceiptsEnabled: set(false)}, chat.Privacy{PresenceSharing: user.ShareFriends}},
		{user.PrivacyChange{PresenceSharing: set(user.ShareNobody), ReadReceiptsEnabled: set(true)}, chat.Privacy{PresenceSharing: user.ShareNobody, ReadReceiptsEnabled: true}},
	} {
		if got, err := s.UpdatePrivacy(t.Context(), a, &c.change); err != nil || got != c.want {
			t.Errorf("%+v, %v, want %+v", got, err, c.want)
		}
	}
}

func TestFaults(t *testing.T) {
	t.Parallel()
	many := make(user.IDs, 101)
	for i := range many {
		many[i] = id.New()
	}
	for name, c := range map[string]struct {
		input  interface{ Check(f *invalid.Faults) }
		fields string
	}{
		"an empty profile":   {&user.ProfileChange{}, "body"},
		"no name":            {&user.ProfileChange{DisplayName: null[string]()}, "displayName"},
		"a short name":       {&user.ProfileChange{DisplayName: set(" x ")}, "displayName"},
		"a good name":        {&user.ProfileChange{DisplayName: set(" xy ")}, ""},
		"no picture":         {&user.ProfileChange{AvatarURL: null[string]()}, ""},
		"no URL":             {&user.ProfileChange{AvatarURL: set("x")}, "avatarUrl"},
		"user information":   {&user.ProfileChange{AvatarURL: set("https://user:secret@example.com/a.png")}, "avatarUrl"},
		"this machine":       {&user.ProfileChange{AvatarURL: set("http://localhost/a.png")}, "avatarUrl"},
		"a private address":  {&user.ProfileChange{AvatarURL: set("http://10.0.0.1/a.png")}, "avatarUrl"},
		"a loopback address": {&user.ProfileChange{AvatarURL: set("http://[::1]/a.png")}, "avatarUrl"},
		"a mapped address":   {&user.ProfileChange{AvatarURL: set("http://[::ffff:192.168.0.1]/a.png")}, "avatarUrl"},
		"a short address":    {&user.ProfileChange{AvatarURL: set("http://127.1/a.png")}, "avatarUrl"},
		"a number":           {&user.ProfileChange{AvatarURL: set("http://2130706433/a.png")}, "avatarUrl"},
		"a hex number":       {&user.ProfileChange{AvatarURL: set("http://0x7f000001/a.png")}, "avatarUrl"},
		"a local name":       {&user.ProfileChange{AvatarURL: set("http://printer/a.png")}, "avatarUrl"},
		"a cluster's name":   {&user.ProfileChange{AvatarURL: set("http://redis.chat.svc.cluster.local/a.png")}, "avatarUrl"},
		"metadata":           {&user.ProfileChange{AvatarURL: set("http://169.254.169.254/latest")}, "avatarUrl"},
		"a public address":   {&user.ProfileChange{AvatarURL: set("https://93.184.216.34/a.png")}, ""},
		"empty settings":     {&user.PrivacyChange{}, "body"},
		"no setting":         {&user.PrivacyChange{ReadReceiptsEnabled: null[bool]()}, "readReceiptsEnabled"},
		"a strange setting":  {&user.PrivacyChange{PresenceSharing: set("all")}, "presenceSharing"},
		"no ids":             {&user.IDs{}, "ids"},
		"an id that is none": {&user.IDs{"x"}, "ids"},
		"too many":           {&many, "ids"},
		"a short query":      {&user.Query{Text: "a"}, "q"},
		"not UTF-8":          {&user.Query{Text: "a\xff"}, "q"},
	} {
		var f invalid.Faults
		c.input.Check(&f)
		var got []string
		for _, x := range f.List() {
			got = append(got, x.Field)
		}
		if strings.Join(got, " ") != c.fields {
			t.Errorf("%s: faults of %v, want %q", name, f.List(), c.fields)
		}
	}
}

func TestManyProfiles(t *testing.T) {
	t.Parallel()
	s, db := service(t)
	u := testenv.Users(t, db, 6)
	me, blocked, blocker, deleted := u[0], u[1], u[2], u[3]
	exec(t, db, `INSERT INTO blocks (user_id, blocked_id) VALUES ($1, $2), ($3, $1)`, me, blocked, blocker)
	exec(t, db, `UPDATE users SET deleted_at = now() WHERE id = $1`, deleted)
	ids := user.IDs{u[5], blocked, id.New(), me, deleted, u[4], blocker, u[5]}
	var f invalid.Faults
	if ids.Check(&f); f.Err() != nil || len(ids) != 7 {
		t.Fatal(f.Err(), ids)
	}
	found, err := s.Many(t.Context(), me, ids)
	var got []string
	for _, p := range found {
		got = append(got, p.ID)
	}
	if err != nil || !slices.Equal(got, []string{u[5], me, u[4]}) {
		t.Errorf("%v, %v", got, err)
	}
}

// What pods ask to find changes of which no report came.
func TestChangedProfiles(t *testing.T) {
	t.Parallel()
	s, db := service(t)
	u := testenv.Users(t, db, 4)
	exec(t, db, `UPDATE users SET display_name = 'New' WHERE id = $1`, u[0])
	exec(t, db, `UPDATE users SET display_name = display_name, last_seen_at = now() WHERE id = $1`, u[1])
	exec(t, db, `UPDATE users SET avatar_url = 'x' WHERE id = $1`, u[2])
	exec(t, db, `UPDATE users SET profile_changed_at = now() - interval '1 hour' WHERE id = $1`, u[2])
	changed, err := s.Changed(t.Context(), time.Minute)
	if err != nil || len(changed) != 1 || changed[u[0]] == 0 {
		t.Errorf("changed within a minute: %v, %v", changed, err)
	}
	found, err := s.Profiles(t.Context(), u[:2])
	if err != nil || len(found) != 2 {
		t.Fatal(found, err)
	}
	for _, c := range found {
		if c.At != changed[c.User.ID] || (c.User.DisplayName == "New") != (c.User.ID == u[0]) {
			t.Errorf("read %+v", c)
		}
	}
	exec(t, db, `INSERT INTO blocks (user_id, blocked_id) VALUES ($1, $2)`, u[0], u[1])
	pairs := []event.PresencePair{{Viewer: u[0], Target: u[1]}, {Viewer: u[1], Target: u[0]}, {Viewer: u[2], Target: u[0]}}
	apart, err := s.Apart(t.Context(), pairs)
	if err != nil || fmt.Sprint(apart[pairs[0]], apart[pairs[1]], apart[pairs[2]]) != "true true false" {
		t.Errorf("apart: %v, %v", apart, err)
	}
}

func TestWithoutPostgres(t *testing.T) {
	t.Parallel()
	db := open(t, testenv.Postgres(t))
	s := user.NewService(db, nil, nil)
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	ctx, a := t.Context(), id.New()
	for name, f := range map[string]func() error{
		"own":      func() error { _, err := s.Own(ctx, a); return err },
		"get":      func() error { _, err := s.Get(ctx, a, a); return err },
		"many":     func() error { _, err := s.Many(ctx, a, user.IDs{a}); return err },
		"update":   func() error { _, err := s.Update(ctx, a, &user.ProfileChange{DisplayName: set("xy")}); return err },
		"privacy":  func() error { _, err := s.UpdatePrivacy(ctx, a, &user.PrivacyChange{}); return err },
		"search":   func() error { _, err := s.Search(ctx, a, user.Query{Text: "anna", Limit: 5}); return err },
		"changed":  func() error { _, err := s.Changed(ctx, time.Second); return err },
		"profiles": func() error { _, err := s.Profiles(ctx, []string{a}); return err },
		"apart":    func() error { _, err := s.Apart(ctx, []event.PresencePair{{Viewer: a, Target: a}}); return err },
	} {
		if err := f(); err == nil || errors.Is(err, user.ErrNotFound) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
