package audit_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"gorm.io/gorm"

	"github.com/parley-chat/parley/internal/audit"
	"github.com/parley-chat/parley/internal/id"
	"github.com/parley-chat/parley/internal/postgres"
)

// acting is the context of a request that a key makes for a user.
func acting(ctx context.Context) (context.Context, audit.Actor) {
	a := audit.Actor{UserID: id.New(), KeyID: id.New(), RequestID: "r-1"}
	return audit.WithRequest(ctx, a, audit.Entry{Action: "request.put", TargetType: audit.TargetUser, TargetID: "a", Detail: map[string]any{"route": "PUT /x"}}), a
}

// change commits a change of a user's name, with entries.
func (a *archive) change(ctx context.Context, entries ...audit.Entry) {
	a.t.Helper()
	err := a.db.Tx(ctx, func(tx *gorm.DB) error {
		if _, err := postgres.Exec(tx, `UPDATE users SET display_name = 'X'`); err != nil {
			return err
		}
		return audit.Record(ctx, tx, entries...)
	})
	if err != nil {
		a.t.Fatal(err)
	}
}

func TestARequestForAUserIsRecordedWithItsChange(t *testing.T) {
	t.Parallel()
	a := open(t)
	ctx, actor := acting(t.Context())
	a.change(ctx)
	a.change(ctx) // another transaction of the same request
	list := a.list(audit.Filter{})
	if len(list) != 1 || list[0].Action != "request.put" || *list[0].Actor.KeyID != actor.KeyID || *list[0].Actor.UserID != actor.UserID {
		t.Errorf("recorded %+v", list)
	}
}

func TestARequestThatChangesNothingIsNotRecorded(t *testing.T) {
	t.Parallel()
	a := open(t)
	ctx, _ := acting(t.Context())
	if err := a.db.Tx(ctx, func(*gorm.DB) error { return postgres.ErrUnchanged }); err != nil {
		t.Fatal(err)
	}
	if got := a.actions(audit.Filter{}); got != "" {
		t.Errorf("recorded %q", got)
	}
}

// The entries of the change have the detail of the request's entry, under their own.
func TestEntriesTakeThePlaceOfTheRequests(t *testing.T) {
	t.Parallel()
	a := open(t)
	ctx, _ := acting(t.Context())
	second := entry("member.remove", "c")
	second.Detail = map[string]any{"route": "own", "n": 1}
	a.change(ctx, entry("member.role", "b"), second)
	got := map[string]string{}
	for _, r := range a.list(audit.Filter{}) {
		var d map[string]any
		if err := json.Unmarshal(r.Detail, &d); err != nil {
			t.Fatal(err)
		}
		got[r.Action] = fmt.Sprint(d)
	}
	if len(got) != 2 || got["member.role"] != "map[route:PUT /x]" || got["member.remove"] != "map[n:1 route:own]" {
		t.Errorf("recorded %v", got)
	}
	if len(second.Detail) != 2 {
		t.Errorf("the caller's detail became %v", second.Detail)
	}
}

// An entry that was rolled back does not take the place of the request's in the next transaction.
func TestARetryRecordsTheRequest(t *testing.T) {
	t.Parallel()
	a := open(t)
	ctx, _ := acting(t.Context())
	_ = a.db.Tx(ctx, func(tx *gorm.DB) error {
		if err := audit.Record(ctx, tx, entry("member.role", "b")); err != nil {
			t.Error(err)
		}
		return context.Canceled
	})
	a.change(ctx)
	if got := a.actions(audit.Filter{}); got != "request.put" {
		t.Errorf("recorded %q", got)
	}
}

// message/send.sql and message/react.sql read these names.
func TestASignedEntryIsARow(t *testing.T) {
	t.Parallel()
	if s := audit.OfRequest(audit.With(t.Context(), audit.Actor{UserID: "u"})); s != nil {
		t.Errorf("a user's own request has the entry %+v", s)
	}
	ctx, actor := acting(t.Context())
	text, err := audit.OfRequest(ctx).JSON()
	if err != nil {
		t.Fatal(err)
	}
	var row map[string]any
	if err := json.Unmarshal([]byte(text), &row); err != nil {
		t.Fatal(err)
	}
	if rowID, _ := row["id"].(string); !id.Valid(rowID) {
		t.Errorf("the id of %s", text)
	}
	delete(row, "id")
	want := map[string]any{
		"user_id": actor.UserID, "key_id": actor.KeyID, "action": "request.put", "type": "user", "target": "a", "request_id": "r-1", "ip": "",
		"detail": map[string]any{"route": "PUT /x"},
	}
	if fmt.Sprint(row) != fmt.Sprint(want) {
		t.Errorf("the row %v, want %v", row, want)
	}
	bad := audit.Signed{Entry: audit.Entry{Detail: map[string]any{"no JSON": func() {}}}}
	if text, err := bad.JSON(); err == nil || text != "" {
		t.Errorf("a detail that is no JSON: %q, %v", text, err)
	}
}

func TestAsKeepsTheRequest(t *testing.T) {
	t.Parallel()
	if got := audit.As(t.Context(), "u"); got != (audit.Actor{UserID: "u"}) {
		t.Errorf("without a request: %+v", got)
	}
	ctx := audit.With(t.Context(), audit.Actor{UserID: "before", KeyID: "k", RequestID: "r", IP: "i"})
	if got := audit.As(ctx, "u"); got != (audit.Actor{UserID: "u", KeyID: "k", RequestID: "r", IP: "i"}) {
		t.Errorf("in a request: %+v", got)
	}
}

// The outbox names the author of a change whose statement has the item, and of that transaction alone.
func TestActorSQLNamesTheAuthorToTriggers(t *testing.T) {
	t.Parallel()
	a, actor := open(t), audit.Actor{UserID: id.New(), KeyID: id.New()}
	var named string
	err := a.db.Tx(t.Context(), func(tx *gorm.DB) (err error) {
		q, ctx := postgres.In(tx), postgres.Context(tx)
		if _, err := q.ExecContext(ctx, `SELECT 1 FROM`+audit.ActorSQL("$1"), actor.ForOutbox()); err != nil {
			return err
		}
		named, err = postgres.Value[string](ctx, q, `SELECT current_setting('parley.actor')`)
		return err
	})
	if want := actor.UserID + "/" + actor.KeyID; err != nil || named != want || strings.Count(named, "/") != 1 {
		t.Errorf("named %q, %v, want %q", named, err, want)
	}
}
