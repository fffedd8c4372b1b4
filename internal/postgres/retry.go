package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/parley-chat/parley/internal/backoff"
)

// retryTries is how often a transaction that conflicts with others is tried.
const retryTries = 10

// retryPauses vary, so that transactions that conflicted don't do so again.
var retryPauses = backoff.Policy{First: 5 * time.Millisecond, Most: 100 * time.Millisecond}

// ErrConflict is returned if a transaction conflicted with others in every one of its tries, or until its time was over. The same call may
// succeed later.
var ErrConflict = errors.New("other transactions change the same rows")

// Retry runs a whole transaction, such as a call of Tx, and runs it again if it conflicts with others: after a deadlock, a serialization
// failure, or an error for which also returns true; also may be nil. A failed try must leave no effects, neither in the database nor in the
// caller's variables. Any other error is returned at once. After ten tries, or once ctx ends, Retry returns ErrConflict with the last error.
func Retry(ctx context.Context, also func(err error) bool, transaction func() error) error {
	for try := 1; ; try++ {
		err := transaction()
		if err == nil || !isConflict(err) && (also == nil || !also(err)) {
			return err
		}
		if try == retryTries || !backoff.Wait(ctx, retryPauses.After(try)) {
			return fmt.Errorf("%w: %w", ErrConflict, err)
		}
	}
}

// isConflict reports whether err means that a transaction was rolled back because of others that run at the same time, and may succeed
// when it is tried again as a whole.
func isConflict(err error) bool {
	pg, ok := errors.AsType[*pgconn.PgError](err)
	return ok && (pg.Code == codeDeadlock || pg.Code == codeSerialization)
}
