package realtime

import (
	"context"
	"errors"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/parley-chat/parley/internal/redisconn"
	"github.com/parley-chat/parley/internal/rediskey"
)

// shardedListener makes the second subscription of a pod on a cluster. While it does not have all channels the pod leaves ShardedPodsChannel,
// so that publications go to plain channels within three seconds. Until then the pod's own publications that are not repaired are held, as
// the other pods have probably lost the same master.
func (s *Subscriber) shardedListener(heard func(m any)) *redisconn.ShardedListener {
	l := redisconn.NewShardedListener(s.Sharding.Cluster())
	l.OnHeard = heard
	l.OnLost = func(err error) {
		s.shardedWhole(false)
		if errors.Is(err, redisconn.ErrSilent) {
			s.Metrics.subscriberSilent.Inc()
		}
		s.incomplete.Fail(context.Background(), err)
	}
	l.OnWhole = func(gaps []redisconn.Gap) {
		s.shardedWhole(true)
		s.incomplete.End()
		s.readMissed()
		s.resyncGaps(gaps)
	}
	l.OnUnsupported = func(err error) {
		s.Channels.setSharded(false)
		s.Channels.remove(rediskey.ShardedPodsChannel)
		s.up.setSharded(true)
		s.Sharding.Unsupported(err)
		s.holdSharded(false)
		s.incomplete.End()
	}
	return l
}

// shardedWhole records whether all sharded channels are subscribed.
func (s *Subscriber) shardedWhole(whole bool) {
	s.Channels.setSharded(whole)
	s.up.setSharded(whole)
	if whole {
		s.Channels.add(rediskey.ShardedPodsChannel)
	} else {
		s.Channels.remove(rediskey.ShardedPodsChannel)
	}
	s.holdSharded(!whole)
}

func (s *Subscriber) holdSharded(now bool) {
	if s.Publisher != nil {
		s.Publisher.hold.incomplete(now)
	}
}

// resyncGaps asks the clients of users to sync whose notices may have been missed without a publisher noticing. Events of conversations are
// read from Postgres, and presence from Redis.
func (s *Subscriber) resyncGaps(gaps []redisconn.Gap) {
	var users []string
	for _, g := range gaps {
		if g.Moved {
			s.Metrics.subscriberMoved.Inc()
		}
		if user, ok := rediskey.ParseUserChannel(g.Channel); ok && (g.Moved || g.Silent || g.Cut) {
			users = append(users, user)
		}
	}
	if len(users) > 0 {
		s.Hub.ResyncUsers(users)
	}
}

// shardedChannels are the sharded channels that correspond to channels.
func shardedChannels(channels []string) []string {
	out := make([]string, 0, len(channels))
	for _, c := range channels {
		if shardable(c) {
			out = append(out, rediskey.Sharded(c))
		}
	}
	return out
}

// upState is the gauge of the pod's subscriptions: 1 while both are established, or the plain one if there is no other.
type upState struct {
	gauge          prometheus.Gauge
	mu             sync.Mutex // guards the following fields
	plain, sharded bool
}

func (u *upState) setPlain(up bool)   { u.set(&u.plain, up) }
func (u *upState) setSharded(up bool) { u.set(&u.sharded, up) }

func (u *upState) set(which *bool, up bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	*which = up
	if u.plain && u.sharded {
		u.gauge.Set(1)
	} else {
		u.gauge.Set(0)
	}
}
