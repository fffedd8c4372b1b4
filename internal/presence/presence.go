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

// ErrUnavailable is returned if Redis is unavailable. Users are not reported as offline then.
var ErrUnavailable = errors.New("presence cannot be read now")

const (
	// keepFor is how long a user's keys are kept in Redis after the last change. After that only Postgres has last_seen_at.
	keepFor = 24 * time.Hour
	// batchSize is the largest number of scripts in one pipeline, and of users in one statement.
	batchSize = 500
	// maxSockets is the largest number of sockets, and so of devices, of a user over all pods.
	maxSockets = 20
	// markGood is how old the mark of the last sweep may be while users are claimed. settleIn is how long claims wait after a gap. Pods
	// check for a gap every epochEvery, so they have renewed their open sockets by then.
	markGood = 3 * time.Second
	settleIn = 3 * time.Second
)

var (
	//go:embed publish.lua
	publishSource string // a function that touch and claim use
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

// Sharding decides between plain and sharded channels of a cluster.
type Sharding interface {
	// On reports whether all pods hear sharded channels.
	On() bool
}

// records are the keys of presence in Redis and the scripts that use them. Safe for concurrent use.
type records struct {
	rdb      redis.UniversalClient
	sharding Sharding // nil for plain channels
	keys     rediskey.Presence

	touch, close, claim, state, schedule, lease, settle, mark, present *redis.Script
}

func newRecords(rdb redis.UniversalClient, sharding Sharding) *records {
	_, cluster := rdb.(*redis.ClusterClient)
	return &records{
		rdb: rdb, sharding: sharding, keys: rediskey.Presence{Tagged: cluster},
		touch: redis.NewScript(publishSource + touchSource), close: redis.NewScript(closeSource), claim: redis.NewScript(publishSource + claimSource),
		state: redis.NewScript(stateSource), schedule: redis.NewScript(scheduleSource), lease: redis.NewScript(leaseSource),
		settle: redis.NewScript(settleSource), mark: redis.NewScript(markSource), present: redis.NewScript(presentSource),
	}
}

// sharded returns the sharded channel to which a user's presence is published, "" to use the plain one. It is in the slot of the user's keys.
func (r *records) sharded(userID string) string {
	if r.sharding == nil || !r.keys.Tagged || !r.sharding.On() {
		return ""
	}
	return rediskey.Sharded(rediskey.PresenceChannel(userID))
}

// marks are the keys of mark.lua: one, or on a cluster one in each of several slots, so that every node has some.
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

// mayClaim updates the marks and reports whether users may be claimed (mark.lua). On a cluster all marks must agree.
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

// staleMarks returns the marks that are old, joined into one text that differs for each gap; "" if all are fresh.
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

// call holds the keys and arguments of one script.
type call struct {
	keys []string
	args []any
}

// run runs the script once for each call, in one pipeline. The returned error is the pipeline's. Errors of single calls
// are in their commands.
func (r *records) run(ctx context.Context, script *redis.Script, calls []call) ([]*redis.Cmd, error) {
	all := make([]redisconn.Call, len(calls))
	for i, c := range calls {
		all[i] = redisconn.Call{Script: script, Keys: c.keys, Args: c.args}
	}
	return redisconn.RunScripts(ctx, r.rdb, all)
}

// scheduleIn writes hints: users are checked after the given time. All shards share one pipeline.
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

// record is the state of a user in Redis.
type record struct {
	event.PresenceState
	// lives is set if a connection of the user is before its deadline. If the last deadline has passed, Online stays true until a
	// watcher claims the user.
	lives bool
}

// read reads the states of users, in the order of the ids. A user without keys is offline, with version 0.
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

// numbers converts the reply of a script to numbers. Some arrive as text, because Lua's numbers would lose digits.
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
				return nil, fmt.Errorf("read a reply of presence: %w", err)
			}
		}
	}
	return out, nil
}
