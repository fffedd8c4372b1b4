package directory_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/parley-chat/parley/internal/cursor"
	"github.com/parley-chat/parley/internal/directory"
	"github.com/parley-chat/parley/internal/id"
)

// list is the page of a filter, as usernames.
func (o *office) list(f directory.Filter) string {
	o.t.Helper()
	if f.Limit == 0 {
		f.Limit = 100
	}
	users, more, err := o.List(o.t.Context(), f)
	if err != nil {
		o.t.Fatal(err)
	}
	var names []string
	for _, u := range users {
		names = append(names, u.Username)
	}
	if more {
		names = append(names, "…")
	}
	return strings.Join(names, " ")
}

func TestListFilters(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	o.hire("Ada")
	o.exec(`UPDATE users SET deleted_at = now() WHERE id = $1`, o.hire("Gone"))
	once, banned, bannedFor, off := o.hire("Once"), o.hire("Bea"), o.hire("Bert"), o.hire("Off")
	o.ban(once, "spam", in(time.Hour))
	o.exec(`UPDATE users SET banned_until = now() WHERE id = $1`, once)
	o.ban(banned, "spam", nil)
	o.ban(bannedFor, "spam", in(time.Hour))
	if _, err := o.Deactivate(t.Context(), off); err != nil {
		t.Fatal(err)
	}
	for want, f := range map[string]directory.Filter{
		"ada once bea bert off": {},
		"ada once":              {State: directory.StateActive},
		"bea bert":              {State: directory.StateBanned},
		"off":                   {State: directory.StateDeactivated},
		"bert":                  {Text: "BER"},
		"ada":                   {Text: "ada"},
		"":                      {Text: "ert"}, // not the beginning of a word
		"once":                  {Text: "once baker", State: directory.StateActive},
	} {
		if got := o.list(f); got != want {
			t.Errorf("%+v: %q, want %q", f, got, want)
		}
	}
	o.exec(`UPDATE users SET external_id = 'X-17' WHERE id = $1`, off)
	if whole, part := o.list(directory.Filter{Text: "X-17"}), o.list(directory.Filter{Text: "X-1"}); whole != "off" || part != "" {
		t.Errorf("by an external id %q, by the beginning of one %q", whole, part)
	}
}

// Users whose changes have the same time are listed by their ids, and each is on one page.
func TestListPagesInTheOrderOfChanges(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	for i := range 5 {
		o.hire(fmt.Sprint("user", i))
	}
	o.exec(`UPDATE users SET updated_at = '2026-01-01' WHERE username IN ('user1', 'user2', 'user4')`)
	o.exec(`UPDATE users SET updated_at = '2026-01-02' WHERE username = 'user0'`)
	f, seen := directory.Filter{Limit: 2}, ""
	for pages := 1; ; pages++ {
		users, more, err := o.List(t.Context(), f)
		if err != nil {
			t.Fatal(err)
		}
		for _, u := range users {
			seen += u.Username + " "
		}
		if !more {
			if pages != 3 {
				t.Errorf("%d pages, want 3", pages)
			}
			break
		}
		last := users[len(users)-1]
		f.After = &cursor.Position{Time: last.UpdatedAt.Time, ID: last.ID}
	}
	if seen != "user1 user2 user4 user0 user3 " {
		t.Errorf("seen %q", seen)
	}
	if got := o.list(directory.Filter{Limit: 5}); strings.Contains(got, "…") {
		t.Errorf("a full last page: %q", got)
	}
}

// A change that another transaction may still precede is held back.
func TestListHoldsBackFreshChanges(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	o.hire("Old")
	o.hire("Late")
	o.hire("Fresh")
	o.exec(`UPDATE users SET updated_at = now() - interval '2 hours' WHERE username = 'old'`)
	o.exec(`UPDATE users SET updated_at = now() - interval '30 minutes' WHERE username = 'late'`)
	hour := time.Now().Add(-time.Hour)
	if got := o.list(directory.Filter{UpdatedAfter: &hour}); got != "late" {
		t.Errorf("changed within the hour: %q, want late", got)
	}
	if got := o.list(directory.Filter{}); got != "old late fresh" {
		t.Errorf("without a time: %q", got)
	}
}

func TestResolveFindsUsersByEitherName(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	ada, bob, gone := o.hire("Ada"), o.hire("Bob"), o.hire("Gone")
	o.exec(`UPDATE users SET deleted_at = now() WHERE id = $1`, gone)
	for range 2 { // the second time from memory
		for _, name := range []string{ada, "ext:ada"} {
			if got, err := o.Resolve(t.Context(), name); err != nil || got != ada {
				t.Errorf("%s is %s, %v", name, got, err)
			}
		}
	}
	for _, name := range []string{gone, "ext:gone", id.New(), "ext:nobody", "ext:", "ext:a\x00b", "ext:\xff", "ada", ""} {
		if got, err := o.Resolve(t.Context(), name); !errors.Is(err, directory.ErrNotFound) || got != "" {
			t.Errorf("%q is %q, %v", name, got, err)
		}
		if got, err := o.ResolveAll(t.Context(), []string{ada, name}); !errors.Is(err, directory.ErrNotFound) || got != nil {
			t.Errorf("%q among others: %v, %v", name, got, err)
		}
	}
	if _, err := o.Update(t.Context(), bob, &directory.Patch{Kind: given(directory.Bot)}); err != nil {
		t.Fatal(err)
	}
	got, err := o.ResolveAll(t.Context(), []string{"ext:bob", ada, bob})
	if want := fmt.Sprint([]directory.Named{{ID: bob, Bot: true}, {ID: ada}, {ID: bob, Bot: true}}); err != nil || fmt.Sprint(got) != want {
		t.Errorf("%v, %v, want %s", got, err, want)
	}
}

// A broken connection is not taken for a user who does not exist, nor for the end of a list.
func TestABrokenConnectionFailsReads(t *testing.T) {
	t.Parallel()
	o, cut := cutOffice(t)
	ada := o.hire("Ada")
	ctx := t.Context()
	for name, read := range map[string]func() error{
		"Get":        func() error { _, err := o.Get(ctx, ada); return err },
		"List":       func() error { _, _, err := o.List(ctx, directory.Filter{Limit: 1}); return err },
		"Resolve":    func() error { _, err := o.Resolve(ctx, ada); return err },
		"ResolveAll": func() error { _, err := o.ResolveAll(ctx, []string{ada}); return err },
		"StandingIn": func() error { return o.watch.StandingIn(ctx, o.db.SQL, ada) },
	} {
		errs := cut.EachStatement(t, read)
		if len(errs) != 1 || errors.Is(errs[0], directory.ErrNotFound) || errors.Is(errs[0], context.Canceled) {
			t.Errorf("%s: %v", name, errs)
		}
	}
}
