package observe_test

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/parley-chat/parley/internal/observe"
	"github.com/parley-chat/parley/internal/postgres"
	"github.com/parley-chat/parley/internal/testenv"
)

func health(t *testing.T, url string) *observe.Health {
	t.Helper()
	db, err := postgres.OpenPool(postgres.Config{URL: url, MaxConns: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return &observe.Health{DB: db, Redis: testenv.Redis(t).Client(t), Stopping: func() bool { return false }}
}

// ask is a check in which Postgres responded in time, which the first one does not on a busy machine.
func ask(t *testing.T, h *observe.Health) (c observe.Checks) {
	t.Helper()
	testenv.Eventually(t, time.Minute, func() bool {
		c = h.Check(t.Context())
		return !postgres.IsUnavailable(c.Postgres)
	}, "Postgres responds")
	return c
}

// A standby, and a primary that was set to take no writes, can be asked and not used.
func TestAServerThatTakesNoWritesIsNotReady(t *testing.T) {
	t.Parallel()
	primary := testenv.PostgresServer(t)
	standby := primary.Replica(t)
	h := health(t, standby.URL())
	if c := ask(t, h); c.Postgres == nil || c.Ready() == nil || !strings.Contains(c.Ready().Error(), "no writes") {
		t.Errorf("a standby: %v", c.Ready())
	}
	standby.Promote(t)
	if c := ask(t, h); c.Ready() != nil {
		t.Errorf("once promoted: %v", c.Ready())
	}

	h = health(t, primary.URL())
	if c := ask(t, h); c.Ready() != nil {
		t.Fatalf("a primary: %v", c.Ready())
	}
	testenv.Exec(t, primary.URL(), `ALTER SYSTEM SET default_transaction_read_only = on`)
	testenv.Exec(t, primary.URL(), `SELECT pg_reload_conf()`)
	testenv.Eventually(t, time.Minute, func() bool { return h.Check(t.Context()).Ready() != nil }, "the open connection notices")
}

// A database that is restored from an old backup has an old schema again.
func TestASchemaThatGetsOlderIsNoticed(t *testing.T) {
	t.Parallel()
	url := testenv.Postgres(t)
	h := health(t, url)
	if c := ask(t, h); c.Outdated || c.Ready() != nil {
		t.Fatalf("the newest schema: %v", c.Ready())
	}
	testenv.Exec(t, url, `DELETE FROM goose_db_version WHERE version_id = (SELECT max(version_id) FROM goose_db_version)`)
	if c := ask(t, h); !c.Outdated || c.Ready() == nil {
		t.Error("an older schema is not noticed")
	}
}

// Probes that come all at once share checks: they don't queue for the one connection until the last ones time out.
func TestManyProbesAtOnceAreAnswered(t *testing.T) {
	t.Parallel()
	h := health(t, testenv.Postgres(t))
	if c := ask(t, h); c.Ready() != nil {
		t.Fatal(c.Ready())
	}
	var g sync.WaitGroup
	for range 2000 {
		g.Go(func() {
			if err := h.Ready(context.Background()); err != nil {
				t.Errorf("one of many: %v", err)
			}
		})
	}
	g.Wait()
}

func TestTheClockOfThisMachineAgreesWithPostgres(t *testing.T) {
	t.Parallel()
	c := ask(t, health(t, testenv.Postgres(t)))
	if c.SkewError == 0 || c.Skew.Abs() > c.SkewError { // Postgres runs here
		t.Errorf("the skew is %s, to %s", c.Skew, c.SkewError)
	}
}
