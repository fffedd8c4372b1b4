package postgres_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/jackc/pgx/v5/pgconn"
	"gorm.io/gorm"

	"github.com/parley-chat/parley/internal/postgres"
)

// Two transactions lock two rows in opposite orders: Postgres ends one of them, which is tried again.
func TestADeadlockIsRetried(t *testing.T) {
	t.Parallel()
	db := openTest(t)
	if _, err := db.SQL.ExecContext(t.Context(), `CREATE TABLE counters (id int PRIMARY KEY, n int); INSERT INTO counters VALUES (1, 0), (2, 0)`); err != nil {
		t.Fatal(err)
	}
	var met, done sync.WaitGroup // met: each holds its first row
	met.Add(2)
	errs := make([]error, 2)
	var tries atomic.Int64
	for i, order := range [][2]int{{1, 2}, {2, 1}} {
		done.Go(func() {
			first := sync.OnceFunc(func() {
				met.Done()
				met.Wait()
			})
			errs[i] = postgres.Retry(t.Context(), nil, func() error {
				tries.Add(1)
				return db.Tx(t.Context(), func(tx *gorm.DB) error {
					for _, id := range order {
						if _, err := postgres.Exec(tx, `UPDATE counters SET n = n + 1 WHERE id = $1`, id); err != nil {
							return err
						}
						first()
					}
					return nil
				})
			})
		})
	}
	done.Wait()
	if tries.Load() < 3 {
		t.Errorf("two transactions took %d tries: none was tried again", tries.Load())
	}
	sum, err := postgres.Value[int](t.Context(), db.SQL, `SELECT sum(n) FROM counters`)
	if errors.Join(errs...) != nil || err != nil || sum != 4 {
		t.Errorf("the rows were changed %d times, want 4: %v, %v, %v", sum, errs[0], errs[1], err)
	}
}

func TestWhichErrorsAreRetried(t *testing.T) {
	t.Parallel()
	mine := errors.New("mine")
	also := func(err error) bool { return errors.Is(err, mine) }
	deadlock, serialization, unique := &pgconn.PgError{Code: "40P01"}, &pgconn.PgError{Code: "40001"}, &pgconn.PgError{Code: "23505"}
	for _, c := range []struct {
		name  string
		also  func(error) bool
		fails []error // of the tries, one after the other; the next one succeeds
		tries int
		want  error
	}{
		{"success", nil, nil, 1, nil},
		{"a deadlock and a serialization failure", nil, []error{deadlock, serialization}, 3, nil},
		{"another error", nil, []error{unique}, 1, unique},
		{"another error after a deadlock", nil, []error{deadlock, unique}, 2, unique},
		{"an error of the caller's", also, []error{mine, deadlock, mine}, 4, nil},
		{"the same error without the caller's condition", nil, []error{mine}, 1, mine},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				tries := 0
				err := postgres.Retry(t.Context(), c.also, func() error {
					if tries++; tries <= len(c.fails) {
						return c.fails[tries-1]
					}
					return nil
				})
				if !errors.Is(err, c.want) || tries != c.tries || errors.Is(err, postgres.ErrConflict) {
					t.Errorf("%d tries, %v; want %d, %v", tries, err, c.tries, c.want)
				}
			})
		})
	}
}

// Callers get 503 for a transaction that never succeeds, whatever it conflicts with.
func TestRetriesEnd(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		mine, tries := errors.New("mine"), 0
		always := func() error {
			tries++
			return mine
		}
		also := func(error) bool { return true }
		if err := postgres.Retry(t.Context(), also, always); tries != 10 || !errors.Is(err, mine) || !errors.Is(err, postgres.ErrConflict) || !postgres.IsUnavailable(err) {
			t.Errorf("%d tries, %v", tries, err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		tries = 0
		if err := postgres.Retry(ctx, also, always); !errors.Is(err, mine) || !postgres.IsUnavailable(err) || tries != 1 {
			t.Errorf("%d tries for a caller that has gone", tries)
		}
	})
}
