package postgres

import (
	"database/sql"
	"errors"
)

// ErrLeaseLost is returned for a step on a leased row whose lease is over or another's.
var ErrLeaseLost = errors.New("the lease is another's by now")

// Held returns the error of a statement that names a lease in its WHERE, and ErrLeaseLost if the statement found no row.
func Held(r sql.Result, err error) error {
	if err != nil {
		return err
	}
	if n, err := r.RowsAffected(); err != nil || n == 0 {
		return errors.Join(err, ErrLeaseLost)
	}
	return nil
}
