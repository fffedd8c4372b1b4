package observe

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/parley-chat/parley/migrations"
)

// healthTimeout bounds each check: a probe gets its answer while a dependency hangs.
const healthTimeout = 1 * time.Second

// Checks is the state of what a process depends on.
type Checks struct {
	// Postgres and Redis are nil where they answer.
	Postgres, Redis error
	// Outdated is set where the schema is older than this binary needs.
	Outdated bool
	// Stopping is set where the process is going away.
	Stopping bool
}

// Ready is nil where the process can do its work. Redis away alone only degrades it.
func (c Checks) Ready() error {
	switch {
	case c.Stopping:
		return errors.New("stopping")
	case c.Postgres != nil:
		return errors.New("postgres is down")
	case c.Outdated:
		return errors.New("the schema is too old: run api migrate")
	}
	return nil
}

// Health checks a process's dependencies.
type Health struct {
	DB    *sql.DB
	Redis redis.UniversalClient
	// Stopping tells whether the process is going away.
	Stopping func() bool

	mu      sync.Mutex // guards current
	current bool       // the schema was seen new enough; it never gets older
}

// Check asks them all at once.
func (h *Health) Check(ctx context.Context) Checks {
	ctx, cancel := context.WithTimeout(ctx, healthTimeout)
	defer cancel()
	c := Checks{Stopping: h.Stopping()}
	var wg sync.WaitGroup
	wg.Go(func() { c.Postgres, c.Outdated = h.schema(ctx) })
	wg.Go(func() {
		if err := h.Redis.Ping(ctx).Err(); err != nil {
			c.Redis = fmt.Errorf("ping redis: %w", err)
		}
	})
	wg.Wait()
	return c
}

// Ready is Check's verdict, for Ops.
func (h *Health) Ready(ctx context.Context) error { return h.Check(ctx).Ready() }

func (h *Health) schema(ctx context.Context) (down error, outdated bool) { //nolint:revive // two verdicts, not a failure
	h.mu.Lock()
	current := h.current
	h.mu.Unlock()
	if current {
		if err := h.DB.PingContext(ctx); err != nil {
			return fmt.Errorf("ping postgres: %w", err), false
		}
		return nil, false
	}
	v, err := migrations.Current(ctx, h.DB)
	if err != nil {
		return err, false
	}
	if v < migrations.Newest() {
		return nil, true
	}
	h.mu.Lock()
	h.current = true
	h.mu.Unlock()
	return nil, false
}
