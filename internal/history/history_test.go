package history_test

import (
	"context"
	"database/sql"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/parley-chat/parley/internal/history"
	"github.com/parley-chat/parley/internal/testenv"
)

func TestMain(m *testing.M) { testenv.VerifyNoLeaks(m) }

// process is a watch as a process has it, with the changes that it made known.
type process struct {
	*history.Watch

	metrics *prometheus.Registry
	changes []history.Epoch
}

func newProcess() *process {
	p := &process{metrics: prometheus.NewRegistry()}
	p.Watch = history.New(p.metrics, slog.New(slog.DiscardHandler))
	p.OnChange(func(e history.Epoch) { p.changes = append(p.changes, e) })
	return p
}

// counted returns the metric of the changes.
func (p *process) counted(t *testing.T) float64 {
	t.Helper()
	families, err := p.metrics.Gather()
	if err != nil || len(families) != 1 {
		t.Fatalf("%v, %v", families, err)
	}
	return families[0].GetMetric()[0].GetCounter().GetValue()
}

// identify checks the epoch on a new connection.
func (p *process) identify(t *testing.T, url string) (changed bool) {
	t.Helper()
	changed, err := p.Identify(t.Context(), connect(t, url))
	if err != nil {
		t.Fatal(err)
	}
	return changed
}

func connect(t *testing.T, url string) *pgconn.PgConn {
	t.Helper()
	c, err := pgconn.Connect(context.WithoutCancel(t.Context()), url) // also when the test ends
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close(context.WithoutCancel(t.Context())) })
	return c
}

func exec(t *testing.T, url, statement string) {
	t.Helper()
	if _, err := connect(t, url).Exec(context.WithoutCancel(t.Context()), statement).ReadAll(); err != nil {
		t.Fatal(err)
	}
}

func TestTheFirstProcessBeginsTheEpochAndOthersFindIt(t *testing.T) {
	t.Parallel()
	url := testenv.Postgres(t)
	if e := newProcess().Current(); e.ID != "" {
		t.Errorf("before any server was reached the epoch is %+v", e)
	}
	const processes = 8
	all := make([]*process, processes)
	var wg sync.WaitGroup
	for i := range all {
		all[i] = newProcess()
		c := connect(t, url)
		wg.Go(func() {
			if changed, err := all[i].Identify(t.Context(), c); err != nil || changed {
				t.Errorf("process %d: changed %t, %v", i, changed, err)
			}
		})
	}
	wg.Wait()
	first := all[0].Current()
	if first.ID == "" || first.Since.IsZero() {
		t.Fatalf("the epoch is %+v", first)
	}
	for i, p := range all {
		if p.Current() != first {
			t.Errorf("process %d has %+v, process 0 %+v", i, p.Current(), first)
		}
		if p.identify(t, url) || len(p.changes) > 0 {
			t.Errorf("process %d finds a change on its second connection", i)
		}
	}
}

// A restore makes the table anew, with the row that was backed up: its fingerprint is that of the table that is gone.
func TestARestoreBeginsAnEpoch(t *testing.T) {
	t.Parallel()
	url := testenv.Postgres(t)
	live, other := newProcess(), newProcess()
	live.identify(t, url)
	other.identify(t, url)
	before := live.Current()
	exec(t, url, `CREATE TEMP TABLE backup AS SELECT * FROM history;
		ALTER TABLE history RENAME TO old; ALTER INDEX history_pkey RENAME TO old_pkey;
		CREATE TABLE history (LIKE old INCLUDING ALL); INSERT INTO history SELECT * FROM backup; DROP TABLE old`)
	if !live.identify(t, url) {
		t.Fatal("the process that lived through the restore finds no change")
	}
	after := live.Current()
	if after.ID == before.ID || !after.Since.After(before.Since) {
		t.Errorf("the epoch was %+v and is %+v", before, after)
	}
	if len(live.changes) != 1 || live.changes[0] != after || live.counted(t) != 1 {
		t.Errorf("made known: %+v", live.changes)
	}
	if !other.identify(t, url) || other.Current() != after {
		t.Errorf("another process has %+v, want %+v", other.Current(), after)
	}
	if fresh := newProcess(); fresh.identify(t, url) || fresh.Current() != after {
		t.Errorf("a process that starts has %+v, want %+v", fresh.Current(), after)
	}
}

// An api may run before the migration that brings epochs.
func TestWithoutTheTableThereIsNoEpoch(t *testing.T) {
	t.Parallel()
	url := testenv.Postgres(t)
	exec(t, url, `DROP TABLE history`)
	p := newProcess()
	if p.identify(t, url) || p.ID() != "" {
		t.Errorf("the epoch is %q", p.ID())
	}
}

// A role that may not call the server's functions for its log, and so never learns of a promotion, still has an epoch.
func TestARoleWithoutRightsHasAnEpoch(t *testing.T) {
	t.Parallel()
	url := testenv.Postgres(t)
	c := connect(t, url)
	role := "history_" + time.Now().Format("150405000000")
	if _, err := c.Exec(t.Context(), `CREATE ROLE `+role+`; GRANT SELECT, INSERT, UPDATE ON history TO `+role+`; SET ROLE `+role).ReadAll(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { exec(t, url, `DROP OWNED BY `+role+`; DROP ROLE `+role) })
	p := newProcess()
	if changed, err := p.Identify(t.Context(), c); err != nil || changed || p.ID() == "" {
		t.Errorf("changed %t, epoch %q, %v", changed, p.ID(), err)
	}
}

// The epoch is checked without a new connection too, as behind a pooler.
func TestRunFindsAChange(t *testing.T) {
	t.Parallel()
	url := testenv.Postgres(t)
	p := newProcess()
	p.identify(t, url)
	found := make(chan history.Epoch, 1)
	p.OnChange(func(e history.Epoch) { found <- e })
	db, err := sql.Open("pgx", url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx, db) }()
	exec(t, url, `UPDATE history SET fingerprint = 'of another server'`)
	p.Suspect()
	select {
	case e := <-found:
		if e.ID == "" {
			t.Error("the epoch that was found is empty")
		}
	case <-time.After(time.Minute):
		t.Error("the change was not found")
	}
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
