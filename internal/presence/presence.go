// Package presence is the domain of who is online.
//
// A pod's Heartbeat keeps the connections of its sockets in Redis. Every offline goes one way, whether by a closed tab, a
// killed pod or a cut cable: the connection's deadline passes, and a Watcher's claim marks the user offline and publishes
// it in the same script. Watchers learn of deadlines by sweeping sorted sets of them; the expiries that Redis tells are a
// hint that may come first. Whoever reads (Service) asks Redis for the state, and Postgres for who may see it.
//
// In Redis a user has a sorted set of connections by deadline, a hash of what was told, and a key for each device. A
// script touches the keys of one user alone. The deadlines of all users are hints in sharded sets: one is written before
// the connection that it is of, or right after it was shortened, and goes only if nobody wrote it since. So a hint is
// never later than the last deadline of its user, and looking too early only means looking again.
package presence

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/parley-chat/parley/internal/event"
	"github.com/parley-chat/parley/internal/redisconn"
	"github.com/parley-chat/parley/internal/rediskey"
)

// ErrUnavailable is returned where Redis cannot be asked: nobody is called offline for want of an answer.
var ErrUnavailable = errors.New("presence cannot be read now")

const (
	// keepFor is how long what is known of a user is kept in Redis after the last change. Postgres knows last_seen_at.
	keepFor = 24 * time.Hour
	// batchSize is how many scripts go into one pipeline, and how many users into one statement.
	batchSize = 500
	// maxSockets is how many sockets, and so devices, a user has over all pods.
	maxSockets = 20
	// markGood is how old the mark of a sweep may be for users to be claimed, settleIn how long claims wait after a gap, so that pods renew
	// the sockets that live: they look for a gap every epochEvery.
	markGood = 3 * time.Second
	settleIn = 3 * time.Second
)

var (
	//go:embed touch.lua
	touchSource string
	//go:embed close.lua
	closeSource string
	//go:embed claim.lua
	claimSource string
	//go:embed state.lua
	stateSource string
	//go:embed schedule.lua
	scheduleSource string
	//go:embed lease.lua
	leaseSource string
	//go:embed settle.lua
	settleSource string
	//go:embed mark.lua
	markSource string
	//go:embed present.lua
	presentSource string
)

// records are the keys in Redis and the scripts that work on them.
type records struct {
	rdb  redis.UniversalClient
	keys rediskey.Presence

	touch, close, claim, state, schedule, lease, settle, mark, present *redis.Script
}

func newRecords(rdb redis.UniversalClient) *records {
	_, cluster := rdb.(*redis.ClusterClient)
	return &records{
		rdb: rdb, keys: rediskey.Presence{Tagged: cluster},
		touch: redis.NewScript(touchSource), close: redis.NewScript(closeSource), claim: redis.NewScript(claimSource),
		state: redis.NewScript(stateSource), schedule: redis.NewScript(scheduleSource), lease: redis.NewScript(leaseSource),
		settle: redis.NewScript(settleSource), mark: redis.NewScript(markSource), present: redis.NewScript(presentSource),
	}
}

// marks are the keys of mark.lua: one, but on a cluster one for each of a number of slots.
func (r *records) marks() []string {
	if !r.keys.Tagged {
		return []string{rediskey.PresenceMark(0)}
	}
	out := make([]string, rediskey.PresenceShards)
	for n := range out {
		out[n] = rediskey.PresenceMark(n)
	}
	return out
}

// mayClaim keeps the marks, and reports whether users may be claimed (mark.lua).
func (r *records) mayClaim(ctx context.Context) (bool, error) {
	var calls []call
	for _, k := range r.marks() {
		calls = append(calls, call{[]string{k}, []any{markGood.Milliseconds(), settleIn.Milliseconds()}})
	}
	cmds, err := r.run(ctx, r.mark, calls)
	if err == nil {
		err = redisconn.FirstError(cmds)
	}
	if err != nil {
		return false, err
	}
	may := true
	for _, c := range cmds {
		n, err := c.Int64()
		may = may && err == nil && n == 1
	}
	return may, nil
}

// staleMarks are those of the marks that are old, as one text; "" for none.
func (r *records) staleMarks(ctx context.Context) (string, error) {
	var calls []call
	for _, k := range r.marks() {
		calls = append(calls, call{[]string{k}, []any{markGood.Milliseconds()}})
	}
	cmds, err := r.run(ctx, r.present, calls)
	if err == nil {
		err = redisconn.FirstError(cmds)
	}
	if err != nil {
		return "", err
	}
	var stale strings.Builder
	for n, c := range cmds {
		if at, _ := c.Text(); at != "" {
			fmt.Fprintf(&stale, "%d:%s ", n, at)
		}
	}
	return stale.String(), nil
}

// call is a script's keys and arguments.
type call struct {
	keys []string
	args []any
}

// run runs a script for each of the calls, in one pipeline. Errors of single calls are left in their commands; the error is
// the pipeline's.
func (r *records) run(ctx context.Context, script *redis.Script, calls []call) ([]*redis.Cmd, error) {
	all := make([]redisconn.Call, len(calls))
	for i, c := range calls {
		all[i] = redisconn.Call{Script: script, Keys: c.keys, Args: c.args}
	}
	return redisconn.RunScripts(ctx, r.rdb, all)
}

// scheduleIn notes when to look at users, at once for all shards.
func (r *records) scheduleIn(ctx context.Context, in time.Duration, users []string) error {
	shards := map[int][]any{}
	for _, u := range users {
		n := rediskey.PresenceShard(u)
		if shards[n] == nil {
			shards[n] = []any{in.Milliseconds()}
		}
		shards[n] = append(shards[n], u)
	}
	calls := make([]call, 0, len(shards))
	for n, args := range shards {
		calls = append(calls, call{[]string{rediskey.PresenceDeadlines(n)}, args})
	}
	cmds, err := r.run(ctx, r.schedule, calls)
	if err != nil {
		return err
	}
	return redisconn.FirstError(cmds)
}

// record is what is known of a user.
type record struct {
	event.PresenceState
	// lives is whether they are online now; who is not may count as online until a watcher comes.
	lives bool
}

// read reads what is known of users, in their order.
func (r *records) read(ctx context.Context, users []string) ([]record, error) {
	out := make([]record, 0, len(users))
	for len(users) > 0 {
		part := users[:min(len(users), batchSize)]
		users = users[len(part):]
		calls := make([]call, len(part))
		for i, u := range part {
			calls[i] = call{keys: []string{r.keys.Connections(u), r.keys.User(u)}}
		}
		cmds, err := r.run(ctx, r.state, calls)
		if err == nil {
			err = redisconn.FirstError(cmds)
		}
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
		}
		for _, c := range cmds {
			f, err := numbers(c)
			if err != nil || len(f) != 4 {
				return nil, fmt.Errorf("read a presence: %v, %w", f, err)
			}
			out = append(out, record{event.PresenceState{Online: f[0] == 1, Version: f[1], Seen: f[2]}, f[3] == 1})
		}
	}
	return out, nil
}

// numbers reads an answer of numbers, some of them as text because Lua's would lose digits.
func numbers(c *redis.Cmd) ([]int64, error) {
	list, err := c.Slice()
	if err != nil {
		return nil, fmt.Errorf("run a script of presence: %w", err)
	}
	out := make([]int64, len(list))
	for i, v := range list {
		switch v := v.(type) {
		case int64:
			out[i] = v
		case string:
			if out[i], err = strconv.ParseInt(v, 10, 64); err != nil {
				return nil, fmt.Errorf("read an answer of presence: %w", err)
			}
		}
	}
	return out, nil
}
