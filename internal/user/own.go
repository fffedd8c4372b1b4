package user

import (
	"context"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/parley-chat/parley/internal/chat"
	"github.com/parley-chat/parley/internal/id"
	"github.com/parley-chat/parley/internal/redisconn"
	"github.com/parley-chat/parley/internal/rediskey"
)

// A user's own profile is remembered by the pod that read it, together with the stamp that Redis had for it before. Whoever changes
// the profile sets another stamp after the commit and before the call returns. The stamp of now comes with the round trip of the
// request's limit, so that a profile that is remembered costs no round trip of its own:
//
//	stamp read ─ profile read ─────────────── same stamp: remembered ── another: read again
//	                           commit ─ stamp set ─┘
//
// If a stamp could not be set, because Redis was unavailable to the pod that changed the profile, ownAge bounds how old an answer is. If
// it could not be read, nothing remembered is used.
const (
	// ownAge bounds the age of what is remembered, from before it was read. Answers must not be older than two seconds.
	ownAge = 1500 * time.Millisecond
	// stampAge is how long a stamp lives: longer than anything that was remembered without it.
	stampAge = 10 * time.Second
	// maxOwn bounds how many profiles are remembered in each ownAge.
	maxOwn = 1 << 13
)

var (
	stampScript = redis.NewScript(`return redis.call('GET', KEYS[1]) or ''`)
	markScript  = redis.NewScript(`return redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])`)
)

// Stamp is the state of a user's profile as Redis knows it. The zero value is an unknown one.
type Stamp struct {
	known bool
	value string
}

// AskStamp is what a request runs in Redis for the stamp of a user's profile.
func AskStamp(userID string) redisconn.Call {
	return redisconn.Call{Script: stampScript, Keys: []string{rediskey.ProfileStamp(userID)}}
}

// StampOf reads the result of AskStamp, nil if Redis did not run it.
func StampOf(cmd *redis.Cmd) Stamp {
	if cmd == nil {
		return Stamp{}
	}
	value, err := cmd.Text()
	return Stamp{known: err == nil, value: value}
}

// Redis runs scripts, and returns none of their results if Redis is unavailable.
type Redis interface {
	Do(ctx context.Context, calls ...redisconn.Call) []*redis.Cmd
}

// Mark sets new stamps after changes of profiles.
func (s *Service) Mark(ctx context.Context, userIDs ...string) {
	if s.redis == nil || len(userIDs) == 0 {
		return
	}
	value, calls := id.New(), make([]redisconn.Call, len(userIDs))
	for i, userID := range userIDs {
		calls[i] = redisconn.Call{Script: markScript, Keys: []string{rediskey.ProfileStamp(userID)}, Args: []any{value, stampAge.Milliseconds()}}
	}
	s.redis.Do(context.WithoutCancel(ctx), calls...)
}

// OwnAsOf is Own for a request that has asked for the stamp, just now.
func (s *Service) OwnAsOf(ctx context.Context, userID string, stamp Stamp) (chat.Own, error) {
	if !stamp.known || s.redis == nil {
		return s.Own(ctx, userID)
	}
	now := time.Now()
	if own, ok := s.owns.get(userID, stamp.value, now); ok {
		return own, nil
	}
	own, err := s.Own(ctx, userID)
	if err == nil {
		s.owns.put(userID, remembered{own, stamp.value, now})
	}
	return own, err
}

// remembered is a profile that was read after at, when its stamp was stamp.
type remembered struct {
	own   chat.Own
	stamp string
	at    time.Time
}

// owns are the profiles that a pod remembers. They are forgotten a generation at a time.
type owns struct {
	mu         sync.Mutex // guards what follows
	young, old map[string]remembered
	born       time.Time // when young began
}

func (o *owns) get(userID, stamp string, now time.Time) (chat.Own, bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	r, ok := o.young[userID]
	if !ok {
		r, ok = o.old[userID]
	}
	return r.own, ok && r.stamp == stamp && now.Sub(r.at) < ownAge
}

func (o *owns) put(userID string, r remembered) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if r.at.Sub(o.born) >= ownAge {
		o.old, o.young, o.born = o.young, nil, r.at
	}
	if o.young == nil {
		o.young = map[string]remembered{}
	}
	if len(o.young) < maxOwn {
		o.young[userID] = r
	}
}
