package postgres_test

import (
	"errors"
	"reflect"
	"testing"

	"gorm.io/gorm"

	"github.com/parley-chat/parley/internal/postgres"
	"github.com/parley-chat/parley/internal/testenv"
)

func openTest(t *testing.T) *postgres.DB {
	t.Helper()
	db := testenv.Open(t, postgres.Config{URL: testenv.Postgres(t), MaxConns: 2})
	return db
}

func TestRowsAreRead(t *testing.T) {
	t.Parallel()
	db, ctx := openTest(t), t.Context()
	list, err := postgres.Column[int](ctx, db.SQL, `SELECT n FROM unnest($1::int[]) AS i (n) ORDER BY n`, []int32{3, 1, 2})
	if err != nil || !reflect.DeepEqual(list, []int{1, 2, 3}) {
		t.Errorf("a column: %v, %v", list, err)
	}
	if list, err := postgres.Column[int](ctx, db.SQL, `SELECT 1 WHERE false`); list == nil || len(list) != 0 || err != nil {
		t.Errorf("a column of no rows: %#v, %v", list, err)
	}
	if v, err := postgres.Value[string](ctx, db.SQL, `SELECT 'a'`); v != "a" || err != nil {
		t.Errorf("a value: %q, %v", v, err)
	}
	if v, err := postgres.Value[string](ctx, db.SQL, `SELECT 'a' WHERE false`); v != "" || err != nil {
		t.Errorf("a value of no row: %q, %v", v, err)
	}
}

// An error in the middle of a result, of Postgres's or of the caller's, is returned, and none of the rows before it.
func TestAResultThatBreaksOffIsAnError(t *testing.T) {
	t.Parallel()
	db, ctx := openTest(t), t.Context()
	if list, err := postgres.Column[int](ctx, db.SQL, `SELECT 10 / (3 - n) FROM generate_series(1, 5) n`); err == nil || list != nil {
		t.Errorf("a division by zero in the third row: %v, %v", list, err)
	}
	if v, err := postgres.Value[int](ctx, db.SQL, `SELECT 1 / 0`); err == nil {
		t.Errorf("a division by zero: %v", v)
	}
	stop, rows := errors.New("stop"), 0
	err := postgres.Each(ctx, db.SQL, func(postgres.Row) error {
		if rows++; rows == 2 {
			return stop
		}
		return nil
	}, `SELECT generate_series(1, 5)`)
	if !errors.Is(err, stop) || rows != 2 {
		t.Errorf("scan returned an error for row 2: %d rows, %v", rows, err)
	}
	if n := db.SQL.Stats().InUse; n != 0 {
		t.Errorf("%d connections are still in use", n)
	}
}

func TestExecIsPartOfItsTransaction(t *testing.T) {
	t.Parallel()
	db, ctx := openTest(t), t.Context()
	back := errors.New("roll back")
	err := db.Tx(ctx, func(tx *gorm.DB) error {
		n, err := postgres.Exec(tx, `INSERT INTO users (id, username, display_name, password_hash)
			SELECT gen_random_uuid(), 'user_' || n, 'x', '' FROM generate_series(1, $1) n`, 3)
		if err != nil || n != 3 {
			t.Errorf("%d rows were inserted, %v", n, err)
		}
		return back
	})
	if !errors.Is(err, back) {
		t.Fatal(err)
	}
	if n, err := postgres.Value[int](ctx, db.SQL, `SELECT count(*) FROM users`); n != 0 || err != nil {
		t.Errorf("%d rows are left of a transaction that was rolled back, %v", n, err)
	}
}

func TestConditionsNumberTheirArguments(t *testing.T) {
	t.Parallel()
	var w postgres.Where
	if w.SQL() != "true" || len(w.Args()) != 0 {
		t.Errorf("no condition: %s, %v", w.SQL(), w.Args())
	}
	w.And("deleted_at IS NULL")
	w.And("(a = %[1]s OR b = %[1]s)", "x")
	w.And("(at, id) < (%s, %s)", 5, "y")
	limit := w.Arg(50)
	if got, want := w.SQL()+" LIMIT "+limit, "deleted_at IS NULL AND (a = $1 OR b = $1) AND (at, id) < ($2, $3) LIMIT $4"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if !reflect.DeepEqual(w.Args(), []any{"x", 5, "y", 50}) {
		t.Errorf("the arguments are %v", w.Args())
	}
}
