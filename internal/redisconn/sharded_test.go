package redisconn_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/parley-chat/parley/internal/redisconn"
	"github.com/parley-chat/parley/internal/testenv"
)

// shardedEar notes what a sharded listener hears.
type shardedEar struct {
	ear
	whole       int
	gaps        []redisconn.Gap
	unsupported error
}

// listenSharded subscribes to n channels of a cluster, which are on all masters.
func listenSharded(t *testing.T, g *testenv.RedisGroup, n int) (*redis.ClusterClient, *redisconn.ShardedListener, *shardedEar, []string) {
	t.Helper()
	url := strings.TrimPrefix(g.Settings()[0], "PARLEY_REDIS_URL=")
	rdb, err := redisconn.Open(redisconn.Config{URL: url, PoolSize: 2})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = rdb.Close() })
	cluster := rdb.(*redis.ClusterClient)
	e := &shardedEar{ear: ear{heard: map[string]int{}}}
	l := redisconn.NewShardedListener(cluster)
	l.OnHeard = func(m any) {
		e.mu.Lock()
		defer e.mu.Unlock()
		switch m := m.(type) {
		case *redis.Subscription:
			e.heard[m.Kind+" "+m.Channel]++
		case *redis.Message:
			e.heard[m.Payload]++
		}
	}
	l.OnLost = func(err error) {
		e.mu.Lock()
		defer e.mu.Unlock()
		e.lost = append(e.lost, err)
	}
	l.OnWhole = func(gaps []redisconn.Gap) {
		e.mu.Lock()
		defer e.mu.Unlock()
		e.whole++
		e.gaps = append(e.gaps, gaps...)
	}
	l.OnUnsupported = func(err error) {
		e.mu.Lock()
		defer e.mu.Unlock()
		e.unsupported = err
	}
	channels := make([]string, n)
	for i := range channels {
		channels[i] = fmt.Sprint("channel", i)
	}
	l.Subscribe(channels...)
	ctx, cancel := context.WithCancel(context.Background())
	var done sync.WaitGroup
	done.Go(func() { l.Run(ctx) })
	t.Cleanup(func() { cancel(); done.Wait() })
	for _, c := range channels {
		e.awaits(t, 1, "ssubscribe "+c)
	}
	return cluster, l, e, channels
}

// all publishes to each channel until it is heard.
func (e *shardedEar) all(t *testing.T, rdb redis.UniversalClient, channels []string, what string) {
	t.Helper()
	for _, c := range channels {
		payload := what + " on " + c
		testenv.Eventually(t, time.Minute, func() bool {
			_ = rdb.SPublish(t.Context(), c, payload).Err()
			e.mu.Lock()
			defer e.mu.Unlock()
			return e.heard[payload] > 0
		}, "%q is heard", payload)
	}
}

// Sharded channels of all slots are heard while they come and go, slots move, a master is replaced, and a connection leads nowhere.
func TestShardedChannels(t *testing.T) {
	t.Parallel()
	g := testenv.RedisCluster(t, 1)
	proxies := g.Behind(t)
	rdb, l, e, channels := listenSharded(t, g, 60)
	e.all(t, rdb, channels, "first")

	l.Unsubscribe(channels[:10]...)
	l.Subscribe(channels[5:10]...) // some of them are subscribed again at once
	for _, c := range channels[5:10] {
		e.awaits(t, 2, "ssubscribe "+c)
	}
	e.all(t, rdb, channels[5:], "second")
	for _, c := range channels[:5] {
		testenv.Eventually(t, time.Minute, func() bool {
			return rdb.SPublish(t.Context(), c, "unwanted").Val() == 0
		}, "%s is unsubscribed", c)
	}
	channels = channels[5:]

	// A slot moves.
	moved := channels[20]
	from := g.Owner(t, moved)
	to := g.Nodes[0]
	if to == from {
		to = g.Nodes[1]
	}
	g.MoveSlot(t, moved, from, to)
	testenv.Eventually(t, time.Minute, func() bool { return e.healed(moved).Moved }, "the move is noticed")
	e.all(t, rdb, channels, "moved")

	// The connection to a node leads nowhere.
	silent := g.Owner(t, channels[30])
	for i, n := range g.Nodes {
		if n == silent {
			proxies[i].Swallow()
		}
	}
	defer func() { t.Log(e.losses(), e.gaps) }()
	testenv.Eventually(t, 20*time.Second, func() bool { return e.healed(channels[30]).Silent }, "the silence is noticed")
	if !e.lostBy(redisconn.ErrSilent) {
		t.Errorf("lost by %v", e.losses())
	}
	e.all(t, rdb, channels, "silent")

	// A master dies.
	dead := g.Owner(t, channels[40])
	before := e.wholes()
	dead.Stop()
	e.all(t, rdb, channels, "failover")
	testenv.Eventually(t, time.Minute, func() bool { return e.wholes() > before }, "everything is subscribed again")
	if gap := e.healed(channels[40]); gap.Channel == "" || gap.Cut {
		t.Errorf("a channel of the dead master has the gap %+v", gap)
	}
}

// A connection that is cut, to a master that lives on, leaves a gap of which no publisher knows.
func TestACutConnectionToALiveMaster(t *testing.T) {
	t.Parallel()
	g := testenv.RedisCluster(t, 0)
	rdb, _, e, channels := listenSharded(t, g, 6)
	owner := g.Owner(t, channels[0])
	if n := owner.Client(t).ClientKillByFilter(t.Context(), "TYPE", "pubsub").Val(); n == 0 {
		t.Fatal("there is no connection to cut")
	}
	testenv.Eventually(t, time.Minute, func() bool { return e.healed(channels[0]).Cut }, "the gap is reported")
	if gap := e.healed(channels[0]); gap.Moved || gap.Silent {
		t.Errorf("%+v", gap)
	}
	e.all(t, rdb, channels, "cut")
}

// healed is the last gap of a channel.
func (e *shardedEar) healed(channel string) (last redisconn.Gap) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, g := range e.gaps {
		if g.Channel == channel {
			last = g
		}
	}
	return last
}

func (e *shardedEar) wholes() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.whole
}

func (e *shardedEar) lostBy(want error) bool {
	for _, err := range e.losses() {
		if errors.Is(err, want) {
			return true
		}
	}
	return false
}
