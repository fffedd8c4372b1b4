package redisconn

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"

	"github.com/parley-chat/parley/internal/lifecycle"
	"github.com/parley-chat/parley/internal/rediskey"
)

const (
	// countEvery is how often the pods that don't hear sharded channels are counted.
	countEvery = time.Second
	countWait  = 2 * time.Second
	// quietFor is how long there must have been no such pod before publications go to sharded channels. It is longer than a pod takes to
	// subscribe again after its connection broke.
	quietFor = 5 * time.Second
)

// Sharding decides whether publications go to sharded channels. A publication to a sharded channel costs one node of the cluster, the owner of the
// channel's slot. One to a plain channel costs every node.
//
// Pods of earlier releases don't hear sharded channels, nor does a pod that has no connection to one of the masters. Every pod subscribes to
// SessionsChannel, and, while it hears all of its sharded channels, to ShardedPodsChannel on the same connection. So the difference of the two
// numbers of subscribers, over all nodes, is the number of pods that don't hear them:
//
//	plain ──── none for 5 s ────► sharded
//	  ▲                             │
//	  └─── one, within 1 to 3 s ────┘
//
// All pods subscribe to each channel both ways, so at any time some may publish to sharded channels and others to plain ones. A node that does not
// reply may have subscribers: it prevents the change to sharded channels, but does not cause the change back. Safe for concurrent use. A nil
// Sharding is always plain.
type Sharding struct {
	cluster *redis.ClusterClient // nil if sharded channels are not used
	on      atomic.Bool
	off     atomic.Bool // permanently
	quiet   time.Time   // since when all pods hear sharded channels, zero if they don't; used by Run only
	gauge   prometheus.Gauge
	log     *slog.Logger
}

// NewSharding makes a Sharding that begins with plain channels, and registers its metric. It needs its Run. Without a cluster, or if allowed is
// false, it keeps plain channels.
func NewSharding(rdb redis.UniversalClient, allowed bool, r prometheus.Registerer, log *slog.Logger) *Sharding {
	s := &Sharding{log: log, gauge: prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "parley_publish_sharded", Help: "1 while this process publishes to sharded channels, because all pods hear them; always 0 without a cluster.",
	})}
	r.MustRegister(s.gauge)
	if c, ok := rdb.(*redis.ClusterClient); ok && allowed {
		s.cluster = c
	}
	return s
}

// Cluster is the cluster whose sharded channels are used, nil if Used returns false from the beginning.
func (s *Sharding) Cluster() *redis.ClusterClient { return s.cluster }

// Used reports whether sharded channels are subscribed, and may be published to.
func (s *Sharding) Used() bool { return s != nil && s.cluster != nil && !s.off.Load() }

// On reports whether publications go to sharded channels.
func (s *Sharding) On() bool { return s != nil && s.on.Load() }

// Run counts until ctx ends.
func (s *Sharding) Run(ctx context.Context) error {
	return lifecycle.Every(ctx, countEvery, func(ctx context.Context) {
		if s.Used() {
			s.count(ctx)
		}
	})
}

// count asks every node for the subscribers of both channels.
func (s *Sharding) count(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, countWait)
	defer cancel()
	var mu sync.Mutex
	var all, sharded int64
	err := s.cluster.ForEachShard(ctx, func(ctx context.Context, c *redis.Client) error {
		n, err := c.PubSubNumSub(ctx, rediskey.SessionsChannel, rediskey.ShardedPodsChannel).Result()
		mu.Lock()
		defer mu.Unlock()
		all += n[rediskey.SessionsChannel]
		sharded += n[rediskey.ShardedPodsChannel]
		return err
	})
	now := time.Now()
	switch {
	case all != sharded:
		s.quiet = time.Time{}
		s.set(false, all-sharded)
	case err != nil || all == 0:
		s.quiet = time.Time{}
	case s.quiet.IsZero():
		s.quiet = now
	case now.Sub(s.quiet) >= quietFor:
		s.set(true, 0)
	}
}

func (s *Sharding) set(on bool, others int64) {
	if on && s.off.Load() || s.on.Swap(on) == on {
		return
	}
	if on {
		s.gauge.Set(1)
		s.log.Info("all pods hear sharded channels: publications go to them")
	} else {
		s.gauge.Set(0)
		s.log.Info("not all pods hear sharded channels: publications go to plain ones", "pods", others)
	}
}

// Refused ends the use of sharded channels if Redis does not have them, or not for this user.
func (s *Sharding) Refused(err error) {
	if !s.On() || !IsUnsupported(err) {
		return
	}
	s.Unsupported(err)
}

// Unsupported ends the use of sharded channels, because of an error of the cluster's.
func (s *Sharding) Unsupported(err error) {
	if s.off.Swap(true) {
		return
	}
	s.on.Store(false)
	s.gauge.Set(0)
	s.log.Warn("the cluster refuses sharded channels (Redis 7 has them, and the user needs the permission): each node gets every publication until this process is started again", "error", err)
}
