// Package history detects which history of the database a process works with. A failover to a standby without the last commits, or a
// restore from a backup, undoes acknowledged changes: revisions and seqs that clients and pods remember are then assigned to other
// content. So the history has an identity, the epoch. It changes whenever commits may have been lost, and not at an ordinary restart.
//
// The epoch is a random text in a row, with a fingerprint of the place where it was written:
//
//	fingerprint = the database's oid . the table's oid . the cluster's system identifier . the timeline
//
//	promotion of a standby, point-in-time recovery    another timeline
//	pg_restore into a new database, or with --clean    another oid
//	restore into another cluster                       another system identifier
//	a disk that was set back to a snapshot             none of these; the end of the log is before one that this process has seen
//
// The first process that finds another fingerprint writes it with a new epoch, in one statement. Every new connection is checked before
// it is used (Identify), so a process cannot write to another history without noticing. The check also runs every second (Run), for
// connections through a pooler, which outlive servers, and for disks that were set back.
package history

import (
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/parley-chat/parley/internal/lifecycle"
	"github.com/parley-chat/parley/internal/observe"
)

const (
	// lookEvery is how often the epoch is checked, lookWait how long that may take.
	lookEvery = 1 * time.Second
	lookWait  = 3 * time.Second
)

// Epoch is one history. The zero value is unknown: the schema has no epochs yet, or no server was reached.
type Epoch struct {
	// ID is opaque to clients.
	ID string
	// Since is when it began, by Postgres's clock. Earlier commits may be lost.
	Since time.Time
}

// Watch knows the present epoch. Its methods may be called from any goroutine.
type Watch struct {
	log      *slog.Logger
	looking  *observe.Outage
	changes  prometheus.Counter
	onChange []func(Epoch)
	wake     chan struct{}

	check       sync.Mutex // held while a change is made known, so that changes are made known in order
	mu          sync.Mutex // guards the following fields
	epoch       Epoch
	fingerprint string
	end         int64 // of the log, in bytes, the furthest that was seen with that fingerprint
	plain       bool  // the server's functions for its log may not be called
}

// New makes a watch.
func New(r prometheus.Registerer, log *slog.Logger) *Watch {
	w := &Watch{
		log: log, wake: make(chan struct{}, 1),
		looking: observe.NewOutage(log, "the epoch of the database cannot be checked", "the epoch of the database is checked again"),
		changes: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "parley_history_changes_total", Help: "Times that this pod found another history in the database, which may lack the last commits.",
		}),
	}
	r.MustRegister(w.changes)
	return w
}

// OnChange has f called when the epoch changes, before a connection to the new history is used. It must not use the database itself.
// It is called before Identify and Run.
func (w *Watch) OnChange(f func(Epoch)) { w.onChange = append(w.onChange, f) }

// Current is the present epoch.
func (w *Watch) Current() Epoch {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.epoch
}

// ID is the present epoch's.
func (w *Watch) ID() string { return w.Current().ID }

// Suspect has the epoch checked at once: another pod knows another one.
func (w *Watch) Suspect() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// Identify checks the epoch on a connection that is not used yet (postgres.Config.Identify). It reports whether the epoch changed.
func (w *Watch) Identify(ctx context.Context, c *pgconn.PgConn) (changed bool, err error) {
	w.mu.Lock()
	floor := w.end
	w.mu.Unlock()
	found, err := w.read(ctx, c)
	if err != nil || found.fingerprint == "" {
		return false, err
	}
	w.mu.Lock()
	lost := found.fingerprint == w.fingerprint && found.end > 0 && found.end < floor
	w.mu.Unlock()
	if lost || found.written != found.fingerprint {
		if found, err = w.begin(ctx, c, found); err != nil {
			return false, err
		}
	}
	return w.adopt(found), nil
}

// Run checks the epoch until ctx ends.
func (w *Watch) Run(ctx context.Context, db *sql.DB) error {
	t := time.NewTicker(lookEvery)
	defer t.Stop()
	var suspected time.Time
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		case <-w.wake:
			// Connections that are open may lead to the server of the old history still.
			if most := db.Stats().MaxOpenConnections; time.Since(suspected) > lookEvery {
				suspected = time.Now()
				db.SetMaxIdleConns(-1)
				db.SetMaxIdleConns(most)
			}
		}
		w.looking.Note(w.look(ctx, db))
	}
}

// Part is Run for lifecycle.Part.
func (w *Watch) Part(db *sql.DB) lifecycle.Part {
	return lifecycle.Part{Name: "history", Run: func(ctx context.Context) error { return w.Run(ctx, db) }}
}

func (w *Watch) look(ctx context.Context, db *sql.DB) error {
	ctx, cancel := context.WithTimeout(ctx, lookWait)
	defer cancel()
	c, err := db.Conn(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	return c.Raw(func(driver any) error {
		conn, ok := driver.(*stdlib.Conn)
		if !ok {
			return errors.New("not a connection of pgx")
		}
		_, err := w.Identify(ctx, conn.Conn().PgConn())
		return err
	})
}

// state is the reply of a server. fingerprint is "" if the schema has no epochs.
type state struct {
	fingerprint string
	end         int64
	epoch       Epoch
	written     string // the stored fingerprint of the epoch
}

// The functions for the log are not on every server that speaks Postgres's protocol. A server without them keeps its epoch through
// a failover, which is right where storage is shared, as Aurora's is.
const (
	logPrint = `(SELECT system_identifier FROM pg_control_system()) || '.' || left(pg_walfile_name(pg_current_wal_insert_lsn()), 8)`
	logEnd   = `(pg_current_wal_flush_lsn() - '0/0'::pg_lsn)::bigint`
	readSQL  = `SELECT (SELECT oid FROM pg_database WHERE datname = current_database()) || '.' || 'history'::regclass::oid || '.' || %s, %s,
		h.epoch, h.fingerprint, (extract(epoch FROM h.since) * 1000000)::bigint FROM (SELECT 1) one LEFT JOIN history h ON true`
	// beginSQL writes a new epoch unless another process has done so. $3 is the epoch that ends, '' for any with another fingerprint.
	beginSQL = `INSERT INTO history (epoch, fingerprint) VALUES ('%[1]s', '%[2]s') ON CONFLICT (one) DO UPDATE
		SET epoch = excluded.epoch, fingerprint = excluded.fingerprint, since = clock_timestamp()
		WHERE history.fingerprint <> excluded.fingerprint OR history.epoch = '%[3]s'`
)

func (w *Watch) read(ctx context.Context, c *pgconn.PgConn) (state, error) {
	w.mu.Lock()
	plain := w.plain
	w.mu.Unlock()
	if plain {
		return query(ctx, c, fmt.Sprintf(readSQL, "'-'", "0"))
	}
	s, err := query(ctx, c, fmt.Sprintf(readSQL, logPrint, logEnd))
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok && missing[pg.Code] {
		w.mu.Lock()
		w.plain = true
		w.mu.Unlock()
		w.log.Warn("the server does not show its timeline: a failover that loses a tail will not be noticed", "error", err)
		return query(ctx, c, fmt.Sprintf(readSQL, "'-'", "0"))
	}
	return s, err
}

// missing are the SQLSTATEs of functions that may not be called, that are not supported, or that do not exist.
var missing = map[string]bool{"42501": true, "0A000": true, "42883": true, "55000": true}

// undefinedTable is the SQLSTATE of a schema without epochs.
const undefinedTable = "42P01"

func query(ctx context.Context, c *pgconn.PgConn, statement string) (state, error) {
	results, err := c.Exec(ctx, statement).ReadAll()
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok && pg.Code == undefinedTable {
		return state{}, nil
	}
	if err != nil {
		return state{}, fmt.Errorf("read the epoch: %w", err)
	}
	row := results[0].Rows[0]
	end, _ := strconv.ParseInt(string(row[1]), 10, 64)
	since, _ := strconv.ParseInt(string(row[4]), 10, 64)
	return state{fingerprint: string(row[0]), end: end, epoch: Epoch{ID: string(row[2]), Since: time.UnixMicro(since)}, written: string(row[3])}, nil
}

// begin begins a new epoch, or reads the one that another process began meanwhile.
func (w *Watch) begin(ctx context.Context, c *pgconn.PgConn, found state) (state, error) {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand)
	ends := ""
	if found.written == found.fingerprint {
		ends = strings.ReplaceAll(found.epoch.ID, "'", "''")
	}
	if _, err := c.Exec(ctx, fmt.Sprintf(beginSQL, hex.EncodeToString(b[:]), found.fingerprint, ends)).ReadAll(); err != nil {
		return state{}, fmt.Errorf("begin an epoch: %w", err)
	}
	return w.read(ctx, c)
}

// adopt takes over the state of a server, and reports a change before it returns.
func (w *Watch) adopt(s state) (changed bool) {
	w.check.Lock()
	defer w.check.Unlock()
	was := w.Current()
	changed = was.ID != "" && was.ID != s.epoch.ID
	if changed {
		w.changes.Inc()
		w.log.Warn("the database has another history, which may lack the last commits: cached state is dropped, and clients start over",
			"epoch", s.epoch.ID, "before", was.ID, "server", s.fingerprint)
		for _, f := range w.onChange { // before anything is said to be of the new one
			f(s.epoch)
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if changed || s.fingerprint != w.fingerprint {
		w.end = 0
	}
	w.fingerprint, w.epoch, w.end = s.fingerprint, s.epoch, max(w.end, s.end)
	return changed
}
