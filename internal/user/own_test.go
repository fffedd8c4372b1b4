package user_test

import (
	"context"
	"log/slog"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"

	"github.com/parley-chat/parley/internal/postgres"
	"github.com/parley-chat/parley/internal/ratelimit"
	"github.com/parley-chat/parley/internal/redisconn"
	"github.com/parley-chat/parley/internal/testenv"
	"github.com/parley-chat/parley/internal/user"
)

// A profile that is remembered is used as long as its stamp is the one that Redis has; every change sets another one.
func TestOwnIsRememberedUntilItChanges(t *testing.T) {
	t.Parallel()
	db, rdb := open(t, testenv.Postgres(t)), client(t)
	here, there := podService(t, db, rdb), podService(t, db, rdb)
	a := add(t, db.SQL, "anna", "Anna")
	stamp := func() user.Stamp {
		cmds, err := redisconn.RunScripts(t.Context(), rdb, []redisconn.Call{user.AskStamp(a)})
		if err != nil {
			t.Fatal(err)
		}
		return user.StampOf(cmds[0])
	}
	name := func(s *user.Service, stamp user.Stamp) string {
		own, err := s.OwnAsOf(t.Context(), a, stamp)
		if err != nil {
			t.Fatal(err)
		}
		return own.DisplayName
	}
	before := stamp()
	if got := name(here, before); got != "Anna" {
		t.Errorf("it is %s", got)
	}
	if _, err := db.SQL.Exec(`UPDATE users SET display_name = 'Unseen' WHERE id = $1`, a); err != nil {
		t.Fatal(err)
	}
	if got := name(here, user.Stamp{}); got != "Unseen" {
		t.Errorf("without a stamp it is %s", got)
	}
	if got := name(here, stamp()); got != "Anna" {
		t.Errorf("it is not remembered: %s", got)
	}
	for i, change := range []func() error{
		func() error {
			_, err := there.Update(t.Context(), a, &user.ProfileChange{DisplayName: set("Anna B")})
			return err
		},
		func() error {
			_, err := there.UpdatePrivacy(t.Context(), a, &user.PrivacyChange{PresenceSharing: set(user.ShareNobody)})
			return err
		},
		func() error { there.Report(t.Context(), a); return nil },
	} {
		was := stamp()
		if err := change(); err != nil {
			t.Fatal(err)
		}
		if now := stamp(); now == was {
			t.Errorf("change %d leaves the stamp %v", i, now)
		} else if got := name(here, now); got != "Anna B" {
			t.Errorf("after change %d it is %s", i, got)
		}
	}
}

// podService is that of one pod.
func podService(t *testing.T, db *postgres.DB, rdb redis.UniversalClient) *user.Service {
	l := ratelimit.New(rdb, prometheus.NewRegistry(), slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = l.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	s := user.NewService(db, nil, l)
	return s
}

func client(t *testing.T) redis.UniversalClient {
	rdb, err := redisconn.Open(redisconn.Config{URL: testenv.Redis(t).URL()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = rdb.Close() })
	return rdb
}
