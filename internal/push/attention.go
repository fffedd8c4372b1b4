package push

import (
	"context"
	"database/sql"
	_ "embed"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/parley-chat/parley/internal/lifecycle"
	"github.com/parley-chat/parley/internal/redisconn"
	"github.com/parley-chat/parley/internal/rediskey"
)

var (
	//go:embed attention.lua
	attentionSource string
	//go:embed active.lua
	activeSource string
)

const (
	// activeFor is how long a user counts as active after a focus, send, read or typing.
	activeFor = time.Minute
	// notePause is the least time between two notes of one session. So a user may count as active for up to notePause less than activeFor.
	notePause = 5 * time.Second
	// flushEvery is how long notes are collected before they are written to Redis: well below any delay of a decision.
	flushEvery = 100 * time.Millisecond
	// askEvery is how often a process reads whether pushes are used at all (inUse).
	askEvery = 2 * time.Second
	// maxNoted bounds the sessions in noted and in pending. Sessions beyond it in noted are noted without notePause; sessions beyond it
	// in pending are dropped.
	maxNoted = 20_000
	// maxSources is the largest number of sources of a user; the latest ones are kept.
	maxSources = 100
	// focusWait bounds how long a focus frame waits for Redis.
	focusWait = 500 * time.Millisecond
)

// source is where a user is active: a session that sends, reads or types, or a device with the app in the foreground.
type source struct{ userID, name string }

func sessionSource(sessionID string) string { return "s:" + sessionID }
func deviceSource(deviceID string) string   { return "d:" + deviceID }

// Attention records in Redis which users are active, for the decisions on pushes. If Redis loses this, an active user gets a push. While no
// pushes are used, sends, reads and typing are not recorded. Safe for concurrent use; it needs its Run.
type Attention struct {
	db     *sql.DB
	rdb    redis.UniversalClient
	script *redis.Script
	log    *slog.Logger
	used   atomic.Bool // the last result of inUse

	mu      sync.Mutex           // guards the following fields
	noted   map[source]time.Time // when each source was last noted, for notePause
	pending map[source]bool      // noted, but not yet written to Redis
}

// NewAttention makes an Attention, which needs its Run.
func NewAttention(db *sql.DB, rdb redis.UniversalClient, log *slog.Logger) *Attention {
	return &Attention{
		db: db, rdb: rdb, script: redis.NewScript(attentionSource), log: log,
		noted: map[source]time.Time{}, pending: map[source]bool{},
	}
}

// Note records that a user sent, read or typed. sessionID is "" for a token without a session. It never waits for Redis.
func (a *Attention) Note(userID, sessionID string) {
	if !a.used.Load() {
		return
	}
	s, now := source{userID, sessionSource(sessionID)}, time.Now()
	a.mu.Lock()
	defer a.mu.Unlock()
	if now.Sub(a.noted[s]) < notePause || len(a.pending) >= maxNoted {
		return
	}
	if len(a.noted) < maxNoted {
		a.noted[s] = now
	}
	a.pending[s] = true
}

// Focus records whether the app on a device is in the foreground. When it no longer is, the session's earlier sends, reads and typing stop
// counting too. If Redis is unavailable the change is lost, which is not an error.
func (a *Attention) Focus(ctx context.Context, userID, sessionID, deviceID string, active bool) {
	args := []any{activeFor.Milliseconds(), maxSources, 1, deviceSource(deviceID)}
	if !active {
		s := source{userID, sessionSource(sessionID)}
		a.mu.Lock()
		delete(a.noted, s)
		delete(a.pending, s)
		a.mu.Unlock()
		args = []any{activeFor.Milliseconds(), maxSources, 0, deviceSource(deviceID), s.name}
	}
	ctx, cancel := context.WithTimeout(ctx, focusWait)
	defer cancel()
	if err := a.script.Run(ctx, a.rdb, []string{rediskey.Attention(userID)}, args...).Err(); err != nil {
		a.log.DebugContext(ctx, "a focus is lost", "error", err)
	}
}

// Run writes notes to Redis until ctx ends.
func (a *Attention) Run(ctx context.Context) error {
	var asked time.Time
	return lifecycle.Every(ctx, flushEvery, func(ctx context.Context) {
		if time.Since(asked) >= askEvery {
			asked = time.Now()
			if used, err := inUse(ctx, a.db); err == nil {
				a.used.Store(used)
			}
			a.forget(asked)
		}
		if err := a.flush(ctx); err != nil && ctx.Err() == nil {
			a.log.DebugContext(ctx, "activity is lost", "error", err)
		}
	})
}

// forget drops sources whose next action is noted in any case.
func (a *Attention) forget(now time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for s, at := range a.noted {
		if now.Sub(at) >= notePause {
			delete(a.noted, s)
		}
	}
}

func (a *Attention) flush(ctx context.Context) error {
	a.mu.Lock()
	pending := a.pending
	if len(pending) == 0 {
		a.mu.Unlock()
		return nil
	}
	a.pending = map[source]bool{}
	a.mu.Unlock()
	calls := make([]redisconn.Call, 0, len(pending))
	for s := range pending {
		calls = append(calls, redisconn.Call{
			Script: a.script, Keys: []string{rediskey.Attention(s.userID)}, Args: []any{activeFor.Milliseconds(), maxSources, 1, s.name},
		})
	}
	_, err := redisconn.RunScripts(ctx, a.rdb, calls)
	return err
}

// inUse reports whether pushes are used: whether any device is registered, or any webhook wants push.requested.
func inUse(ctx context.Context, db *sql.DB) (used bool, err error) {
	err = db.QueryRowContext(ctx, `SELECT EXISTS (SELECT FROM push_devices) OR EXISTS (SELECT `+wantedFrom+`)`).Scan(&used)
	if err != nil {
		return false, fmt.Errorf("ask whether anybody gets pushes: %w", err)
	}
	return used, nil
}

// wantedFrom is the FROM clause of the webhooks that get push.requested.
const wantedFrom = `FROM webhooks WHERE disabled_reason IS NULL AND types && ARRAY['*', 'push.requested']`

// Watch reads which users are active, as Attention recorded it. Safe for concurrent use.
type Watch struct {
	rdb    redis.UniversalClient
	script *redis.Script
}

// NewWatch makes a watch.
func NewWatch(rdb redis.UniversalClient) *Watch {
	return &Watch{rdb: rdb, script: redis.NewScript(activeSource)}
}

// Active returns the users among userIDs who are active on any device. It returns an error if Redis is unavailable.
func (w *Watch) Active(ctx context.Context, userIDs []string) (map[string]bool, error) {
	calls := make([]redisconn.Call, len(userIDs))
	for i, u := range userIDs {
		calls[i] = redisconn.Call{Script: w.script, Keys: []string{rediskey.Attention(u)}}
	}
	cmds, err := redisconn.RunScripts(ctx, w.rdb, calls)
	if err == nil {
		err = redisconn.FirstError(cmds)
	}
	if err != nil {
		return nil, fmt.Errorf("read who is active: %w", err)
	}
	out := make(map[string]bool, len(userIDs))
	for i, c := range cmds {
		if n, _ := c.Int64(); n == 1 {
			out[userIDs[i]] = true
		}
	}
	return out, nil
}
