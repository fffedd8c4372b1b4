package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/parley-chat/parley/internal/backoff"
)

// retryTries is how often a transaction is tried that conflicts with others.
const retryTries = 10

// retryPauses keep transactions that conflicted from doing so again: each of them waits for another time.
var retryPauses = backoff.Policy{First: 5 * time.Millisecond, Most: 100 * time.Millisecond}

// ErrConflict is returned if a transaction conflicted with others in every one of its tries. The same call may succeed later.
var ErrConflict = errors.New("other transactions change the same rows")

// Retry runs a whole transaction, such as a call of Tx, and runs it again if it conflicts with others: after a deadlock, a serialization
// failure, or an error for which also, unless it is nil, returns true. Nothing may be left of a try that failed, in the database or in
// the caller's variables. Any other error is returned at once. It gives up with ErrConflict and the last error after ten tries, and with the
// last error alone once ctx has ended.
func Retry(ctx context.Context, also func(err error) bool, transaction func() error) error {
	for try := 1; ; try++ {
		err := transaction()
		if err == nil || !isConflict(err) && (also == nil || !also(err)) {
			return err
		}
		if try == retryTries {
			return fmt.Errorf("%w: %w", ErrConflict, err)
		}
		if !backoff.Wait(ctx, retryPauses.After(try)) {
			return err
		}
	}
}

// isConflict reports whether err means that a transaction was rolled back because of others that run at the same time, and may succeed
// when it is tried again as a whole.
func isConflict(err error) bool {
	pg, ok := errors.AsType[*pgconn.PgError](err)
	return ok && (pg.Code == codeDeadlock || pg.Code == codeSerialization)
}
