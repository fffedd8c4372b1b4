package directory

import (
	"context"
	"errors"
	"log/slog"
	"testing"

	"gorm.io/gorm"

	"github.com/parley-chat/parley/internal/jsonbody"
	"github.com/parley-chat/parley/internal/postgres"
	"github.com/parley-chat/parley/internal/testenv"
)

// A bulk that reads its users before the same bulk is committed elsewhere, and the usernames after, must start again: its own users have the
// usernames.
func TestUsersCreatedMeanwhileHaveTheirOwnUsernames(t *testing.T) {
	db := testenv.Open(t, postgres.Config{URL: testenv.Postgres(t)})
	s := NewService(db, NewWatch(db, 0, slog.New(slog.DiscardHandler), func(string, error) {}), func(context.Context, ...string) {})
	item := func(externalID, username string) *Item {
		set := func(v string) jsonbody.Optional[string] { return jsonbody.Optional[string]{Set: true, Value: v} }
		return &Item{Draft: Draft{ExternalID: externalID, DisplayName: set("Bea"), Username: set(username)}}
	}
	if err := s.Upsert(t.Context(), []*Item{item("b", "bea")}); err != nil {
		t.Fatal(err)
	}
	settle := func(i *Item) error {
		return db.Tx(t.Context(), func(tx *gorm.DB) error {
			items := []*Item{i}
			return settleUsernames(tx, items, plan(items, nil), nil)
		})
	}
	if err := settle(item("b", "bea")); !errors.Is(err, errCreatedMeanwhile) {
		t.Errorf("the user has the username: %v, want %v", err, errCreatedMeanwhile)
	}
	if i := item("another", "bea"); settle(i) != nil || !errors.Is(i.Err, ErrUsernameTaken) {
		t.Errorf("another user has the username: %v, want %v", i.Err, ErrUsernameTaken)
	}
	again := item("b", "bea")
	if err := s.Upsert(t.Context(), []*Item{again}); err != nil || again.Result != Unchanged {
		t.Errorf("the same bulk again: %v %s %v", err, again.Result, again.Err)
	}
}
