package observe

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/parley-chat/parley/internal/postgres"
	"github.com/parley-chat/parley/migrations"
)

// healthTimeout bounds each check, so that a probe gets its response while a dependency hangs.
const healthTimeout = 1 * time.Second

// errReadOnly is reported for a Postgres that is a standby, or was set to read-only.
var errReadOnly = errors.New("postgres accepts no writes: it is a standby, or set to read-only")

// Checks is the state of a process's dependencies.
type Checks struct {
	// Postgres and Redis are nil if they can be used. Postgres can be used only if it accepts writes.
	Postgres, Redis error
	// Storage is nil if the storage for files can be used, and if there is none. Without it a process is degraded.
	Storage error
	// Identity is nil while external tokens can be verified, and where none are accepted. NoKeys is set while there was no key set yet.
	Identity error
	NoKeys   bool
	// Outdated is set if the schema is older than this binary needs.
	Outdated bool
	// Stopping is set if the process is going away.
	Stopping bool
	// Skew is how far the process's clock is ahead of Postgres's, to about half of SkewError. Both are zero if Postgres did not respond.
	Skew, SkewError time.Duration
}

// Ready is nil if the process can work. If only Redis is unavailable, it is degraded but ready.
func (c Checks) Ready() error {
	switch {
	case c.Stopping:
		return errors.New("stopping")
	case errors.Is(c.Postgres, errReadOnly):
		return errReadOnly
	case c.Postgres != nil:
		return errors.New("postgres is down")
	case c.Outdated:
		return errors.New("the schema is too old: run api migrate")
	case c.NoKeys:
		return errors.New("the issuer's key set was never fetched")
	}
	return nil
}

// IdentityCheck is the state of external identity. Its methods don't block.
type IdentityCheck interface {
	// Ready is nil once there was a key set.
	Ready() error
	// Up is nil while there is one that is not too old.
	Up() error
}

// Health checks a process's dependencies. Check may be called by any number of goroutines: those that ask while a check runs
// share its result.
type Health struct {
	// Identity is nil in processes that accept no external tokens.
	Identity IdentityCheck
	// DB is a separate pool of one connection (postgres.Config.MaxConns): a check does not wait for requests that hold all
	// connections of theirs, and is not refused one when the server has too many.
	DB    *sql.DB
	Redis redis.UniversalClient
	// Storage asks the storage for files; nil if none is configured.
	Storage func(ctx context.Context) error
	// Stopping reports whether the process is going away.
	Stopping func() bool

	mu      sync.Mutex // guards running
	running *check     // nil if none runs
}

// check is one that runs. done is closed when result is set.
type check struct {
	done   chan struct{}
	result Checks
}

// Check asks all dependencies at once. It returns within healthTimeout, whatever they do.
func (h *Health) Check(ctx context.Context) Checks {
	h.mu.Lock()
	c := h.running
	if c == nil {
		c = &check{done: make(chan struct{})}
		h.running = c
		go h.run(context.WithoutCancel(ctx), c)
	}
	h.mu.Unlock()
	<-c.done
	result := c.result
	result.Stopping = h.Stopping()
	if h.Identity != nil {
		result.Identity, result.NoKeys = h.Identity.Up(), h.Identity.Ready() != nil
	}
	return result
}

func (h *Health) run(ctx context.Context, c *check) {
	ctx, cancel := context.WithTimeout(ctx, healthTimeout)
	defer cancel()
	defer func() {
		h.mu.Lock()
		h.running = nil
		h.mu.Unlock()
		close(c.done)
	}()
	var wg sync.WaitGroup
	wg.Go(func() { h.postgres(ctx, &c.result) })
	wg.Go(func() {
		if err := h.Redis.Ping(ctx).Err(); err != nil {
			c.result.Redis = fmt.Errorf("ping redis: %w", err)
		}
	})
	if h.Storage != nil {
		wg.Go(func() { c.result.Storage = h.Storage(ctx) })
	}
	wg.Wait()
}

// HasStorage reports whether a storage for files is configured.
func (h *Health) HasStorage() bool { return h.Storage != nil }

// Ready is Check's verdict, for Ops.
func (h *Health) Ready(ctx context.Context) error { return h.Check(ctx).Ready() }

// postgres reads whether the server accepts writes, its time, and its schema version.
func (h *Health) postgres(ctx context.Context, c *Checks) {
	var readOnly bool
	var clock time.Time
	asked := time.Now()
	err := h.DB.QueryRowContext(ctx, `SELECT pg_is_in_recovery() OR current_setting('transaction_read_only') = 'on', clock_timestamp()`).Scan(&readOnly, &clock)
	took := time.Since(asked)
	switch {
	case err != nil && postgres.IsReadOnly(err), err == nil && readOnly:
		c.Postgres = errReadOnly
		return
	case err != nil:
		c.Postgres = fmt.Errorf("ask postgres: %w", err)
		return
	}
	c.Skew, c.SkewError = asked.Add(took/2).Sub(clock), took
	version, err := migrations.Current(ctx, h.DB)
	if err != nil {
		c.Postgres = err
		return
	}
	c.Outdated = version < migrations.Newest()
}
