package postgres

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync/atomic"
)

// ErrUnchanged is returned by a function that was passed to Tx, InTx or Write, if it found nothing to change. The transaction is then rolled back, so
// that no companion is written, and Tx, InTx or Write returns nil.
var ErrUnchanged = errors.New("nothing to change")

// companion is a write that has to be committed together with the change of a request.
type companion struct {
	write func(ctx context.Context, q Querier) error
	done  atomic.Bool // whether it was committed
}

type companionKey struct{}

// WithCompanion returns the context of a request whose change has to be committed together with another write, an entry of the audit log. The first
// Tx, InTx or Write with this context that commits includes the write; later ones don't. A request must not run two of them concurrently. Changes
// that are committed in any other way, for example in a batch, don't include it and have to do so themselves
// (TestEveryWriteOfAnActingKeyHasItsEntry).
func WithCompanion(ctx context.Context, write func(ctx context.Context, q Querier) error) context.Context {
	return context.WithValue(ctx, companionKey{}, &companion{write: write})
}

// companionOf returns the companion of a context, nil if there is none or it was committed already.
func companionOf(ctx context.Context) *companion {
	if c, ok := ctx.Value(companionKey{}).(*companion); ok && !c.done.Load() {
		return c
	}
	return nil
}

// WriteCompanion writes the companion of a context, if there is one, without a change. It is for changes that are not committed by Postgres: call it
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
