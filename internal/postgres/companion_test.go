package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"gorm.io/gorm"

	"github.com/parley-chat/parley/internal/postgres"
	"github.com/parley-chat/parley/internal/testenv"
)

// openCompanions opens a database with a table for changes and one for what accompanies them.
func openCompanions(t *testing.T) *postgres.DB {
	t.Helper()
	db := openTest(t)
	if _, err := db.SQL.ExecContext(t.Context(), `CREATE TABLE changes (n int); CREATE TABLE entries (n int)`); err != nil {
		t.Fatal(err)
	}
	return db
}

// changeWith is a change in one of the three ways in which requests commit: f runs within it.
var changeWith = map[string]func(ctx context.Context, db *postgres.DB, f func(ctx context.Context, q postgres.Querier) error) error{
	"Tx": func(ctx context.Context, db *postgres.DB, f func(context.Context, postgres.Querier) error) error {
		return db.Tx(ctx, func(tx *gorm.DB) error { return f(postgres.Context(tx), postgres.In(tx)) })
	},
	"InTx": func(ctx context.Context, db *postgres.DB, f func(context.Context, postgres.Querier) error) error {
		return postgres.InTx(ctx, db.SQL, f)
	},
	"Write": func(ctx context.Context, db *postgres.DB, f func(context.Context, postgres.Querier) error) error {
		return postgres.Write(ctx, db.SQL, f)
	},
}

// A change and its companion are committed together or not at all, and the companion once for a request.
func TestAChangeAndItsCompanionAreCommittedTogether(t *testing.T) {
	t.Parallel()
	db := openCompanions(t)
	refused := errors.New("refused")
	for _, c := range []struct {
		name              string
		change, companion error
		changes, entries  int
		want              error
	}{
		{"both succeed", nil, nil, 1, 1, nil},
		{"the change fails", refused, nil, 0, 0, refused},
		{"the companion fails", nil, refused, 0, 0, refused},
		{"there is nothing to change", postgres.ErrUnchanged, nil, 0, 0, nil},
	} {
		for way, change := range changeWith {
			t.Run(fmt.Sprintf("%s: %s", way, c.name), func(t *testing.T) {
				if _, err := db.SQL.ExecContext(t.Context(), `TRUNCATE changes, entries`); err != nil {
					t.Fatal(err)
				}
				ctx := postgres.WithCompanion(t.Context(), func(ctx context.Context, q postgres.Querier) error {
					if _, err := q.ExecContext(ctx, `INSERT INTO entries VALUES (1)`); err != nil {
						t.Error(err)
					}
					return c.companion
				})
				insert := func(result error) error {
					return change(ctx, db, func(ctx context.Context, q postgres.Querier) error {
						if _, err := q.ExecContext(ctx, `INSERT INTO changes VALUES (1)`); err != nil {
							t.Error(err)
						}
						return result
					})
				}
				has := func(changes, entries int) {
					t.Helper()
					var a, b int
					if err := db.SQL.QueryRowContext(t.Context(), `SELECT (SELECT count(*) FROM changes), (SELECT count(*) FROM entries)`).Scan(&a, &b); err != nil || a != changes || b != entries {
						t.Errorf("%d changes and %d entries, want %d and %d, %v", a, b, changes, entries, err)
					}
				}
				if err := insert(c.change); !errors.Is(err, c.want) || (err == nil) != (c.want == nil) {
					t.Errorf("got %v, want %v", err, c.want)
				}
				has(c.changes, c.entries)
				if c.companion == nil { // a later change of the request has the entry that is missing, and no second one
					if err := insert(nil); err != nil {
						t.Error(err)
					}
					has(c.changes+1, 1)
				}
			})
		}
	}
}

// A change that Postgres does not commit, as one in Redis, has its companion written before it, once.
func TestACompanionWithoutAChangeIsWrittenOnce(t *testing.T) {
	t.Parallel()
	db := openCompanions(t)
	entries := func() int {
		t.Helper()
		n, err := postgres.Value[int](t.Context(), db.SQL, `SELECT count(*) FROM entries`)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	if err := postgres.WriteCompanion(t.Context(), db.SQL); err != nil || entries() != 0 {
		t.Errorf("a request without a companion: %v, %d entries", err, entries())
	}
	refused := errors.New("refused")
	fails := refused
	ctx := postgres.WithCompanion(t.Context(), func(ctx context.Context, q postgres.Querier) error {
		if fails != nil {
			return fails
		}
		_, err := q.ExecContext(ctx, `INSERT INTO entries VALUES (1)`)
		return err
	})
	if err := postgres.WriteCompanion(ctx, db.SQL); !errors.Is(err, refused) {
		t.Errorf("an entry that fails: %v", err)
	}
	fails = nil
	for range 2 {
		if err := postgres.WriteCompanion(ctx, db.SQL); err != nil || entries() != 1 {
			t.Errorf("%v, %d entries", err, entries())
		}
	}
}

// A transaction whose server goes away before its commit, or whose caller has gone, changes nothing; both are distinguished.
func TestATransactionThatBreaks(t *testing.T) {
	t.Parallel()
	server := testenv.PostgresServer(t)
	testenv.Exec(t, server.URL(), marks)
	proxy := testenv.NewProxy(t, server.Addr())
	db := testenv.Open(t, postgres.Config{URL: server.URLAt(proxy.Addr()), MaxConns: 2})
	in := func(ctx context.Context, then func()) error {
		return postgres.InTx(ctx, db.SQL, func(ctx context.Context, q postgres.Querier) error {
			_, err := q.ExecContext(ctx, `INSERT INTO marks DEFAULT VALUES`)
			then()
			return err
		})
	}
	if err := in(t.Context(), proxy.Cut); !postgres.IsUnavailable(err) {
		t.Errorf("the connection broke before the commit: %v", err)
	}
	if err := in(t.Context(), func() { t.Error("a transaction began without a connection") }); !postgres.IsUnavailable(err) {
		t.Errorf("no connection: %v", err)
	}
	proxy.Mend()
	ctx, cancel := context.WithCancel(t.Context())
	if err := in(ctx, cancel); err == nil || postgres.IsUnavailable(err) {
		t.Errorf("a caller that has gone: %v", err)
	}
	testenv.Eventually(t, time.Minute, func() bool { return in(t.Context(), func() {}) == nil }, "the pool works again")
	if n, err := postgres.Value[int](t.Context(), db.SQL, `SELECT count(*) FROM marks`); n != 1 || err != nil {
		t.Errorf("%d rows, want that of the transaction that succeeded, %v", n, err)
	}
}
