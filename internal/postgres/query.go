package postgres

import (
	"context"
	"database/sql"
	"errors"

	"gorm.io/gorm"
)

// Querier runs SQL with the placeholders $1, $2 …: the pool (DB.SQL) or a transaction (In). Slices are passed as arrays.
type Querier interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// Row is one row of a result.
type Row = interface{ Scan(dest ...any) error }

// In returns the transaction of a function that DB.Tx runs, as a Querier.
func In(tx *gorm.DB) Querier { return tx.Statement.ConnPool }

// Context returns the context of a transaction that DB.Tx runs. It ends after StatementTimeout.
func Context(tx *gorm.DB) context.Context { return tx.Statement.Context }

// Exec runs a statement in a transaction and returns how many rows it affected.
func Exec(tx *gorm.DB, query string, args ...any) (int64, error) {
	r, err := In(tx).ExecContext(Context(tx), query, args...)
	if err != nil {
		return 0, err
	}
	return r.RowsAffected()
}

// Each calls scan for each row of a query, up to its first error.
func Each(ctx context.Context, q Querier, scan func(r Row) error, query string, args ...any) error {
	rows, err := q.QueryContext(ctx, query, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := scan(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}

// Collect reads all rows of a query, each by scan. It returns an empty slice for no rows, never nil.
func Collect[T any](ctx context.Context, q Querier, scan func(r Row, v *T) error, query string, args ...any) ([]T, error) {
	out := []T{}
	err := Each(ctx, q, func(r Row) error {
		var v T
		if err := scan(r, &v); err != nil {
			return err
		}
		out = append(out, v)
		return nil
	}, query, args...)
	if err != nil {
		return nil, err
	}
	return out, nil
}

// Column is Collect for a query with one column.
func Column[T any](ctx context.Context, q Querier, query string, args ...any) ([]T, error) {
	return Collect(ctx, q, func(r Row, v *T) error { return r.Scan(v) }, query, args...)
}

// Value reads the only column of a query's first row, the zero value if it has no rows.
func Value[T any](ctx context.Context, q Querier, query string, args ...any) (v T, err error) {
	err = q.QueryRowContext(ctx, query, args...).Scan(&v)
	if errors.Is(err, sql.ErrNoRows) {
		err = nil
	}
	return v, err
}
