package audit_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"gorm.io/gorm"

	"github.com/parley-chat/parley/internal/audit"
	"github.com/parley-chat/parley/internal/cursor"
	"github.com/parley-chat/parley/internal/id"
	"github.com/parley-chat/parley/internal/postgres"
	"github.com/parley-chat/parley/internal/testenv"
)

// archive is the audit log of a database of its own.
type archive struct {
	*audit.Log
	t   *testing.T
	db  *postgres.DB
	out *testenv.Output
}

func newArchive(t *testing.T, db *postgres.DB) *archive {
	t.Helper()
	out := &testenv.Output{}
	return &archive{audit.NewLog(db, 24*time.Hour, slog.New(slog.NewTextHandler(out, nil))), t, db, out}
}

func open(t *testing.T) *archive {
	t.Helper()
	return newArchive(t, testenv.Open(t, postgres.Config{URL: testenv.Postgres(t)}))
}

func (a *archive) record(ctx context.Context, entries ...audit.Entry) {
	a.t.Helper()
	if err := a.db.Tx(ctx, func(tx *gorm.DB) error { return audit.Record(ctx, tx, entries...) }); err != nil {
		a.t.Fatal(err)
	}
}

func (a *archive) exec(query string, args ...any) {
	a.t.Helper()
	if _, err := a.db.SQL.ExecContext(a.t.Context(), query, args...); err != nil {
		a.t.Fatal(err)
	}
}

// list is the page of a filter.
func (a *archive) list(f audit.Filter) []audit.Recorded {
	a.t.Helper()
	if f.Limit == 0 {
		f.Limit = 100
	}
	list, more, err := a.List(a.t.Context(), f)
	if err != nil || more {
		a.t.Fatalf("list %+v: %v, more: %v", f, err, more)
	}
	return list
}

// actions are those of the page of a filter, the newest first.
func (a *archive) actions(f audit.Filter) string {
	a.t.Helper()
	var out []string
	for _, r := range a.list(f) {
		out = append(out, r.Action)
	}
	return strings.Join(out, " ")
}

func entry(action, target string) audit.Entry {
	return audit.Entry{Action: action, TargetType: audit.TargetUser, TargetID: target}
}

func TestAnEntryIsListedAsItWasRecorded(t *testing.T) {
	t.Parallel()
	a, actor := open(t), audit.Actor{UserID: id.New(), KeyID: id.New(), RequestID: "r-1", IP: "192.0.2.7"}
	ctx := audit.With(t.Context(), actor)
	target := id.New()
	a.record(ctx, audit.Entry{Action: "message.delete", TargetType: audit.TargetMessage, TargetID: target, Detail: map[string]any{"by": `"quoted" ü`, "n": 3}})
	a.record(t.Context(), entry("key.create", "k")) // the operator
	list := a.list(audit.Filter{})
	if len(list) != 2 {
		t.Fatalf("listed %+v", list)
	}
	operator, got := list[0], list[1]
	if *got.Actor.UserID != actor.UserID || *got.Actor.KeyID != actor.KeyID || got.RequestID != "r-1" || got.IP != "192.0.2.7" || got.At.IsZero() {
		t.Errorf("the author of %+v", got)
	}
	var detail map[string]any
	if err := json.Unmarshal(got.Detail, &detail); err != nil || detail["by"] != `"quoted" ü` || detail["n"] != 3.0 || len(detail) != 2 {
		t.Errorf("the detail %s, %v", got.Detail, err)
	}
	if got.Action != "message.delete" || got.Target != (audit.RecordedTarget{Type: "message", ID: target}) {
		t.Errorf("the change of %+v", got)
	}
	if operator.Actor.UserID != nil || operator.Actor.KeyID != nil || string(operator.Detail) != "{}" || operator.IP != "" {
		t.Errorf("an entry of the operator: %+v", operator)
	}
}

func TestListSelects(t *testing.T) {
	t.Parallel()
	a, user, key := open(t), id.New(), id.New()
	a.record(audit.With(t.Context(), audit.Actor{UserID: user}), entry("user.ban", "a"))
	a.record(audit.With(t.Context(), audit.Actor{KeyID: key}), entry("user.unban", "a"))
	a.record(audit.With(t.Context(), audit.Actor{UserID: user, KeyID: key}), entry("user.update", "b"))
	for i, action := range []string{"user.ban", "user.unban", "user.update"} {
		a.exec(`UPDATE audit_log SET at = $1 WHERE action = $2`, day(i+1), action)
	}
	first, second, third := day(1), day(2), day(3)
	for name, c := range map[string]struct {
		filter audit.Filter
		want   string
	}{
		"all, the newest first":     {audit.Filter{}, "user.update user.unban user.ban"},
		"of a user":                 {audit.Filter{Actor: user}, "user.update user.ban"},
		"of a key":                  {audit.Filter{Actor: key}, "user.update user.unban"},
		"of nobody":                 {audit.Filter{Actor: id.New()}, ""},
		"of an action":              {audit.Filter{Action: "user.ban"}, "user.ban"},
		"not of a part of one":      {audit.Filter{Action: "user"}, ""},
		"of a target":               {audit.Filter{Target: "a"}, "user.unban user.ban"},
		"from a time on":            {audit.Filter{From: &second}, "user.update user.unban"},
		"before a time":             {audit.Filter{To: &second}, "user.ban"},
		"within a time":             {audit.Filter{From: &first, To: &third}, "user.unban user.ban"},
		"by several things at once": {audit.Filter{Actor: user, Target: "a", From: &first}, "user.ban"},
	} {
		if got := a.actions(c.filter); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}

func day(n int) time.Time { return time.Date(2026, 1, n, 0, 0, 0, 0, time.UTC) }

// Entries of the same time are listed once each.
func TestListPages(t *testing.T) {
	t.Parallel()
	a := open(t)
	for i := range 5 {
		a.record(t.Context(), entry(fmt.Sprint("user.", i), "a"))
	}
	a.exec(`UPDATE audit_log SET at = $1 WHERE action <> 'user.4'`, day(1))
	f, seen := audit.Filter{Limit: 2}, ""
	for range 3 {
		list, more, err := a.List(t.Context(), f)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range list {
			seen += strings.TrimPrefix(r.Action, "user.")
		}
		if !more {
			seen += "."
		}
		last := list[len(list)-1]
		f.After = &cursor.Position{Time: last.At.Time, ID: last.ID}
	}
	if seen != "43210." {
		t.Errorf("the pages have %q", seen)
	}
}

// Neither the change nor its entry exists without the other.
func TestAnEntryIsOfTheTransactionOfItsChange(t *testing.T) {
	t.Parallel()
	a, refused := open(t), errors.New("refused")
	err := a.db.Tx(t.Context(), func(tx *gorm.DB) error {
		if err := audit.Record(t.Context(), tx, entry("user.ban", "a")); err != nil {
			return err
		}
		return refused
	})
	if !errors.Is(err, refused) || a.actions(audit.Filter{}) != "" {
		t.Errorf("after a rollback: %v, %q", err, a.actions(audit.Filter{}))
	}
	bad := entry("user.ban", "a")
	bad.Detail = map[string]any{"no JSON": func() {}}
	if err := a.db.Tx(t.Context(), func(tx *gorm.DB) error { return audit.Record(t.Context(), tx, entry("user.ban", "b"), bad) }); err == nil {
		t.Error("a detail that is no JSON was recorded")
	}
	if got := a.actions(audit.Filter{}); got != "" {
		t.Errorf("a part of the entries was recorded: %q", got)
	}
}

func TestABrokenConnectionFailsTheChange(t *testing.T) {
	t.Parallel()
	cut := testenv.NewStatementCut(t, testenv.Postgres(t))
	a := newArchive(t, cut.Open(t))
	errs := cut.EachStatement(t, func() error {
		return a.db.Tx(t.Context(), func(tx *gorm.DB) error {
			return audit.Record(t.Context(), tx, entry("user.ban", "a"), entry("user.unban", "a"))
		})
	})
	if got := a.actions(audit.Filter{}); len(errs) != 3 || strings.Count(got, "user.") != 2 { // begin, record, commit
		t.Errorf("failed %d times, recorded %q", len(errs), got)
	}
	errs = cut.EachStatement(t, func() error {
		list, more, err := a.List(t.Context(), audit.Filter{Limit: 1})
		if err != nil && (list != nil || more) {
			t.Errorf("listed %v and %v, more: %v", list, err, more)
		}
		return err
	})
	if len(errs) != 1 {
		t.Errorf("List failed %d times, want once", len(errs))
	}
}

// There are more old entries than one statement removes.
func TestOldEntriesAreForgotten(t *testing.T) {
	t.Parallel()
	a := open(t)
	a.record(t.Context(), entry("user.ban", "a"), entry("user.unban", "a"))
	a.exec(`UPDATE audit_log SET at = now() - interval '23 hours' WHERE action = 'user.ban'`)
	a.exec(`INSERT INTO audit_log (id, at, action, target_type, target_id)
		SELECT gen_random_uuid(), now() - interval '25 hours', 'old', 'user', 'b' FROM generate_series(1, 5001)`)
	a.Sweep(t.Context())
	if got := a.actions(audit.Filter{}); got != "user.unban user.ban" {
		t.Errorf("kept %q", got)
	}
}

func TestAnOutageIsLogged(t *testing.T) {
	t.Parallel()
	a := open(t)
	if err := a.db.Close(); err != nil {
		t.Fatal(err)
	}
	a.Sweep(t.Context())
	if got := a.out.Count("could not be removed"); got != 1 {
		t.Errorf("%d warnings, want one: %s", got, a.out)
	}
}
