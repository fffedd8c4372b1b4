package postgres

import (
	"database/sql"
	"errors"
)

// ErrLeaseLost is returned for a change of a leased row if the lease has ended, or another process has taken it.
var ErrLeaseLost = errors.New("the lease is another's by now")

// Held converts the result of a statement whose WHERE has the lease: it returns the statement's error, or ErrLeaseLost if the statement found no row.
func Held(r sql.Result, err error) error {
	if err != nil {
		return err
	}
	if n, err := r.RowsAffected(); err != nil || n == 0 {
		return errors.Join(err, ErrLeaseLost)
	}
	return nil
}
