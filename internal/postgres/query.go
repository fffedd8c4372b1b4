package postgres

import (
	"context"
	"database/sql"

	"gorm.io/gorm"
)

// Querier runs SQL with $1, $2 … as placeholders: the pool (DB.SQL) or a transaction (In). Slices are arrays.
type Querier interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// Row is one row of a result.
type Row = interface{ Scan(dest ...any) error }

// In is the transaction of a function that DB.Tx runs, for SQL.
func In(tx *gorm.DB) Querier { return tx.Statement.ConnPool }

// Context is the context of a transaction that DB.Tx runs, which ends with StatementTimeout.
func Context(tx *gorm.DB) context.Context { return tx.Statement.Context }

// Collect reads all rows of a query, each by scan. It returns an empty slice for no rows, never nil.
func Collect[T any](ctx context.Context, q Querier, scan func(r Row, v *T) error, query string, args ...any) ([]T, error) {
	rows, err := q.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	out := []T{}
	for rows.Next() {
		var v T
		if err := scan(rows, &v); err != nil {
			return nil, err
		}
		out = append(out, v)
	}
	return out, rows.Err()
}
