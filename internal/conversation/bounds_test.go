package conversation_test

import (
	"context"
	"errors"
	"testing"

	"github.com/parley-chat/parley/internal/chat"
	"github.com/parley-chat/parley/internal/conversation"
	"github.com/parley-chat/parley/internal/event"
	"github.com/parley-chat/parley/internal/message"
	"github.com/parley-chat/parley/internal/postgres"
	"github.com/parley-chat/parley/internal/testenv"
)

type nothing struct{}

func (nothing) Publish(...*event.Event)                                       {}
func (nothing) Notify(*event.Notice)                                          {}
func (nothing) Markers(context.Context, string) map[string]chat.PendingMarker { return nil }

func TestAStrangerPutsAUserIntoFewGroupsADay(t *testing.T) {
	t.Parallel()
	db := testenv.Open(t, postgres.Config{URL: testenv.Postgres(t)})
	s := conversation.NewService(db, conversation.NewStore(db, message.NewStore(db)), nothing{}, nothing{}, nothing{})
	u := testenv.Users(t, db.SQL, 5)
	stranger, victim, friend, other := u[0], u[1], u[2], u[3]
	exec := func(query string, args ...any) {
		t.Helper()
		if _, err := db.SQL.Exec(query, args...); err != nil {
			t.Fatal(err)
		}
	}
	exec(`INSERT INTO friendships (user_id, friend_id, status) VALUES ($1, $2, 'accepted'), ($2, $1, 'accepted')`, stranger, friend)
	name := "a group"
	create := func(actor string, members ...string) (string, error) {
		c, _, err := s.Create(t.Context(), actor, &conversation.Creation{Type: "group", MemberIDs: members, Name: &name})
		if err != nil {
			return "", err
		}
		return c.ID, nil
	}
	var last string
	var err error
	for range conversation.MaxGroupsByStranger {
		if last, err = create(stranger, victim, friend); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := create(stranger, victim, friend); !errors.Is(err, conversation.ErrTooManyAdditions) {
		t.Errorf("one more: %v", err)
	}
	own, err := create(stranger, friend, other)
	if err != nil {
		t.Fatalf("friends and others: %v", err)
	}
	if _, err := s.Add(t.Context(), own, stranger, &conversation.Addition{UserIDs: []string{victim}}); !errors.Is(err, conversation.ErrTooManyAdditions) {
		t.Errorf("by adding: %v", err)
	}
	if _, err := create(u[4], victim, other); err != nil {
		t.Errorf("another stranger: %v", err)
	}
	if _, err := create(victim, stranger, other); err != nil {
		t.Errorf("the victim's own group: %v", err)
	}
	if err := s.Remove(t.Context(), last, victim, victim); err != nil {
		t.Fatal(err)
	}
	if _, err := create(stranger, victim, friend); err != nil {
		t.Errorf("after one was left: %v", err)
	}
	exec(`UPDATE conversation_members SET joined_at = joined_at - interval '25 hours' WHERE user_id = $1`, victim)
	if _, err := create(stranger, victim, friend); err != nil {
		t.Errorf("the next day: %v", err)
	}
}
