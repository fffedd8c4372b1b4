package postgres

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
)

// Statement is one statement of a Pipeline.
type Statement struct {
	SQL  string
	Args []any
	// Scan is called for each row of the result, if it is set.
	Scan func(r Row) error
}

// Pipeline runs statements in one transaction and one round trip. Each statement sees all commits before its start, so a statement after one that
// takes a lock sees everything that was committed before the lock. If one fails, none has an effect.
func (db *DB) Pipeline(ctx context.Context, statements ...Statement) error {
	conn, err := db.SQL.Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	return conn.Raw(func(driverConn any) error {
		c, ok := driverConn.(*stdlib.Conn)
		if !ok {
			return fmt.Errorf("run a pipeline: the driver is %T, not pgx", driverConn)
		}
		b := &pgx.Batch{}
		for _, s := range statements {
			q := b.Queue(s.SQL, s.Args...)
			if s.Scan == nil {
				continue
			}
			q.Query(func(rows pgx.Rows) error {
				for rows.Next() {
					if err := s.Scan(rows); err != nil {
						return err
					}
				}
				return rows.Err()
			})
		}
		return c.Conn().SendBatch(ctx, b).Close()
	})
}
