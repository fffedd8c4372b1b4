package postgres_test

import (
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/parley-chat/parley/internal/postgres"
	"github.com/parley-chat/parley/internal/testenv"
)

func TestAPipelineIsOneTransaction(t *testing.T) {
	t.Parallel()
	db, ctx := openTest(t), t.Context()
	if _, err := db.SQL.ExecContext(ctx, `CREATE TABLE counters (id int PRIMARY KEY, n int)`); err != nil {
		t.Fatal(err)
	}
	rows := func() []int {
		t.Helper()
		list, err := postgres.Column[int](ctx, db.SQL, `SELECT id FROM counters ORDER BY id`)
		if err != nil {
			t.Fatal(err)
		}
		return list
	}
	insert := func(id int) postgres.Statement {
		return postgres.Statement{SQL: `INSERT INTO counters VALUES ($1, 0)`, Args: []any{id}}
	}
	var seen []int
	read := postgres.Statement{SQL: `SELECT id FROM counters ORDER BY id`, Scan: func(r postgres.Row) error {
		var id int
		err := r.Scan(&id)
		seen = append(seen, id)
		return err
	}}
	if err := db.Pipeline(ctx, insert(1), insert(2), read); err != nil || !reflect.DeepEqual(seen, []int{1, 2}) {
		t.Errorf("a statement sees %v of those before it, %v", seen, err)
	}
	if err := db.Pipeline(ctx, insert(3), insert(1), insert(4)); !postgres.IsUniqueViolation(err, "counters_pkey") || !postgres.IsRefused(err) {
		t.Errorf("the second statement fails: %v", err)
	}
	if got := rows(); !reflect.DeepEqual(got, []int{1, 2}) {
		t.Errorf("a pipeline that failed has left %v", got)
	}
	stop := errors.New("stop")
	err := db.Pipeline(ctx, insert(5), postgres.Statement{SQL: `SELECT 1`, Scan: func(postgres.Row) error { return stop }})
	if !errors.Is(err, stop) {
		t.Errorf("a row that can't be read: %v", err)
	}
	if n := db.SQL.Stats().InUse; n != 0 {
		t.Errorf("%d connections are still in use", n)
	}
	if err := db.Pipeline(ctx, insert(6)); err != nil {
		t.Errorf("the connection can't be used after a failure: %v", err)
	}
}

func TestAPipelineWithoutAServerIsUnavailable(t *testing.T) {
	t.Parallel()
	server := testenv.PostgresServer(t)
	proxy := testenv.NewProxy(t, server.Addr())
	db := testenv.Open(t, postgres.Config{URL: server.URLAt(proxy.Addr()), MaxConns: 1})
	one := postgres.Statement{SQL: `SELECT 1`}
	if err := db.Pipeline(t.Context(), one); err != nil {
		t.Fatal(err)
	}
	proxy.Cut()
	for range 2 { // on the connection that broke, and without one
		if err := db.Pipeline(t.Context(), one); !postgres.IsUnavailable(err) {
			t.Errorf("without a server: %v", err)
		}
	}
	proxy.Mend()
	testenv.Eventually(t, time.Minute, func() bool { return db.Pipeline(t.Context(), one) == nil }, "the pool works again")
}

// A process that was slow finds its lease taken by another one, and has to leave the row alone.
func TestALeaseThatIsAnothersIsLost(t *testing.T) {
	t.Parallel()
	db, ctx := openTest(t), t.Context()
	if _, err := db.SQL.ExecContext(ctx, `CREATE TABLE jobs (id int, holder text); INSERT INTO jobs VALUES (1, 'a')`); err != nil {
		t.Fatal(err)
	}
	finish := func(holder string) error {
		return postgres.Held(db.SQL.ExecContext(ctx, `UPDATE jobs SET holder = NULL WHERE id = 1 AND holder = $1`, holder))
	}
	if err := finish("b"); !errors.Is(err, postgres.ErrLeaseLost) {
		t.Errorf("another's lease: %v", err)
	}
	if err := finish("a"); err != nil {
		t.Errorf("its own lease: %v", err)
	}
	if err := finish("a"); !errors.Is(err, postgres.ErrLeaseLost) {
		t.Errorf("a lease that was given back: %v", err)
	}
	err := postgres.Held(db.SQL.ExecContext(ctx, `UPDATE nowhere SET holder = NULL`))
	if _, ok := errors.AsType[*pgconn.PgError](err); !ok || errors.Is(err, postgres.ErrLeaseLost) {
		t.Errorf("a statement that fails says nothing about the lease: %v", err)
	}
}

func TestArraysOfIDsAreThoseOfPostgres(t *testing.T) {
	t.Parallel()
	db := openTest(t)
	for _, ids := range [][]string{nil, {"a"}, {"a", "b", "c"}} {
		s, err := postgres.Value[string](t.Context(), db.SQL, `SELECT $1::text::text[]::text`, postgres.IDArray(ids))
		if err != nil || !reflect.DeepEqual(postgres.ParseIDArray(s), ids) {
			t.Errorf("%v is %s, and read as %v, %v", ids, s, postgres.ParseIDArray(s), err)
		}
	}
}

// A constraint is known by its name; another one, another error and none are not it.
func TestWhichConstraintWasViolated(t *testing.T) {
	t.Parallel()
	db, ctx := openTest(t), t.Context()
	if _, err := db.SQL.ExecContext(ctx, `CREATE TABLE named (a int CONSTRAINT one UNIQUE, b int CONSTRAINT two UNIQUE CHECK (b > 0)); INSERT INTO named VALUES (1, 1)`); err != nil {
		t.Fatal(err)
	}
	for query, want := range map[string]string{
		`INSERT INTO named VALUES (1, 2)`: "one", `INSERT INTO named VALUES (2, 1)`: "two",
		`INSERT INTO named VALUES (3, -1)`: "", `INSERT INTO named VALUES (9, 9)`: "",
	} {
		_, err := db.SQL.ExecContext(ctx, query)
		for _, name := range []string{"one", "two"} {
			if got := postgres.IsUniqueViolation(err, name); got != (name == want) {
				t.Errorf("%s violates %s: %t, %v", query, name, got, err)
			}
		}
	}
}

// The connection string may contain a password, which must not reach the log.
func TestAConnectionStringThatCannotBeReadIsNotShown(t *testing.T) {
	t.Parallel()
	for _, url := range []string{"postgres://parley:secret@localhost:port/x", "host=localhost password=secret port=x"} {
		if db, err := postgres.Open(postgres.Config{URL: url}); err == nil || db != nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v", url, err)
		}
	}
}
