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
	// activeFor is how long a focus, send, read or typing counts.
	activeFor = time.Minute
	// notePause is how often what one session does is noted: it counts as active for that much less at worst.
	notePause = 5 * time.Second
	// flushEvery is how long notes are gathered, well below any delay of a decision.
	flushEvery = 100 * time.Millisecond
	// askEvery is how often a pod asks whether anybody gets pushes.
	askEvery = 2 * time.Second
	// maxNoted bounds what a pod remembers of sessions. Beyond it further ones are noted each time.
	maxNoted = 20_000
	// maxSources is how many sources of a user count at once, the latest.
	maxSources = 100
	// focusWait bounds how long a frame waits for Redis.
	focusWait = 500 * time.Millisecond
)

// source is something that a user is active with: a session that sends, reads or types, or the app on a device in front.
type source struct{ userID, name string }

func sessionSource(sessionID string) string { return "s:" + sessionID }
func deviceSource(deviceID string) string   { return "d:" + deviceID }

// Attention notes in Redis who is active, for the dispatchers' decisions. Redis may forget it: then somebody who is looking gets a push.
// Unless anybody gets pushes, sends, reads and typing are not noted. It is safe for concurrent use.
type Attention struct {
	db     *sql.DB
	rdb    redis.UniversalClient
	script *redis.Script
	log    *slog.Logger
	used   atomic.Bool // whether anybody gets pushes

	mu      sync.Mutex // guards what follows
	noted   map[source]time.Time
	pending map[source]bool
}

// NewAttention makes it; Run makes it work.
func NewAttention(db *sql.DB, rdb redis.UniversalClient, log *slog.Logger) *Attention {
	return &Attention{
		db: db, rdb: rdb, script: redis.NewScript(attentionSource), log: log,
		noted: map[source]time.Time{}, pending: map[source]bool{},
	}
}

// Note notes that a user sent, read or typed, with a session, "" for a token that has none. It does not wait.
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

// Focus notes that the app on a device is in front, or is no more: then what the device's session did counts no more either. If Redis is
// unavailable that is lost, which is no error.
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

// Run writes what is noted until ctx ends.
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

// forget drops what is noted again anyway.
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

// inUse reports whether anybody gets pushes: a device, or a webhook.
func inUse(ctx context.Context, db *sql.DB) (used bool, err error) {
	err = db.QueryRowContext(ctx, `SELECT EXISTS (SELECT FROM push_devices) OR EXISTS (SELECT `+wantedFrom+`)`).Scan(&used)
	if err != nil {
		return false, fmt.Errorf("ask whether anybody gets pushes: %w", err)
	}
	return used, nil
}

// wantedFrom are the webhooks that get push.requested.
const wantedFrom = `FROM webhooks WHERE disabled_reason IS NULL AND types && ARRAY['*', 'push.requested']`

// Watch reads who is active. It is safe for concurrent use.
type Watch struct {
	rdb    redis.UniversalClient
	script *redis.Script
}

// NewWatch makes a watch.
func NewWatch(rdb redis.UniversalClient) *Watch {
	return &Watch{rdb: rdb, script: redis.NewScript(activeSource)}
}

// Active returns those of the users who are active on any device.
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
