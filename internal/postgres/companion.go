package postgres

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync/atomic"
)

// ErrUnchanged is returned by a function of Tx, InTx or Write that found nothing to change. The transaction is rolled back, so no companion is
// written, and the caller gets nil.
var ErrUnchanged = errors.New("nothing to change")

// companion is a write that has to be committed with the change of a request.
type companion struct {
	write func(ctx context.Context, q Querier) error
	done  atomic.Bool // whether it was committed
}

type companionKey struct{}

// WithCompanion returns the context of a request whose change has to be committed together with another write: an entry of the audit
// log. The first Tx, InTx or Write under the context that commits includes it, once. A request must not run two of them at the same time.
// A change that is committed otherwise goes without, so such changes have to include the write themselves
// (TestEveryWriteOfAnActingKeyHasItsEntry).
func WithCompanion(ctx context.Context, write func(ctx context.Context, q Querier) error) context.Context {
	return context.WithValue(ctx, companionKey{}, &companion{write: write})
}

// companionOf returns the companion of a context that was not committed yet, or nil.
func companionOf(ctx context.Context) *companion {
	if c, ok := ctx.Value(companionKey{}).(*companion); ok && !c.done.Load() {
		return c
	}
	return nil
}

// WriteCompanion commits the companion of a context on its own, if there is one, for changes that Postgres does not commit. Call it
// before such a change is accepted.
func WriteCompanion(ctx context.Context, q Querier) error {
	c := companionOf(ctx)
	if c == nil {
		return nil
	}
	if err := c.write(ctx, q); err != nil {
		return err
	}
	c.done.Store(true)
	return nil
}

// Write runs a change that is one statement. Without a companion it has no transaction and costs one round trip; with one it is InTx.
func Write(ctx context.Context, db *sql.DB, f func(ctx context.Context, q Querier) error) error {
	if companionOf(ctx) != nil {
		return InTx(ctx, db, f)
	}
	if err := f(ctx, db); !errors.Is(err, ErrUnchanged) {
		return err
	}
	return nil
}

// InTx is DB.Tx without GORM.
func InTx(ctx context.Context, db *sql.DB, f func(ctx context.Context, q Querier) error) error {
	c := companionOf(ctx)
	ctx, cancel := context.WithTimeout(ctx, StatementTimeout)
	defer cancel()
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("begin a transaction: %w", err)
	}
	defer func() { _ = tx.Rollback() }()
	if err := f(ctx, tx); errors.Is(err, ErrUnchanged) {
		return nil
	} else if err != nil {
		return err
	}
	if c != nil {
		if err := c.write(ctx, tx); err != nil {
			return err
		}
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("commit a transaction: %w", err)
	}
	if c != nil {
		c.done.Store(true)
	}
	return nil
}
