package postgres

import (
	"errors"

	"github.com/jackc/pgx/v5/pgconn"
)

// IsDeadlock reports whether err means that two transactions waited for each other and this one was rolled back. It may be tried
// again as a whole.
func IsDeadlock(err error) bool {
	pg, ok := errors.AsType[*pgconn.PgError](err)
	return ok && pg.Code == "40P01"
}
