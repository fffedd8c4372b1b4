package realtime

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/redis/go-redis/v9"

	"github.com/parley-chat/parley/internal/redisconn"
	"github.com/parley-chat/parley/internal/rediskey"
	"github.com/parley-chat/parley/internal/testenv"
)

// shardedSubscriber is a pod's subscriber, whose listeners are the test.
func shardedSubscriber(t *testing.T) (*Subscriber, *redisconn.ShardedListener, *testenv.Output) {
	t.Helper()
	out := &testenv.Output{}
	log := slog.New(slog.NewTextHandler(out, nil))
	metrics := NewMetrics(prometheus.NewRegistry())
	cluster := redis.NewClusterClient(&redis.ClusterOptions{Addrs: []string{"127.0.0.1:1"}})
	t.Cleanup(func() { _ = cluster.Close() })
	channels := NewChannels()
	sharding := redisconn.NewSharding(cluster, true, prometheus.NewRegistry(), log)
	publisher := NewPublisher(PublisherConfig{Redis: cluster, Sharding: sharding, Metrics: metrics, Log: log})
	hub := NewHub(HubConfig{Memberships: noMemberships{}, Channels: channels, Metrics: metrics, Log: log})
	s := NewSubscriber(SubscriberConfig{
		Redis: cluster, Channels: channels, Hub: hub, Sharding: sharding, Publisher: publisher, Metrics: metrics, Log: log,
	})
	return s, s.shardedListener(func(any) {}), out
}

type noMemberships struct{}

func (noMemberships) MembershipsOf(_ context.Context, users []string) ([]map[string]int64, error) {
	return make([]map[string]int64, len(users)), nil
}

// A pod is up once both kinds of channels are subscribed.
func TestAPodIsUpWithBothSubscriptions(t *testing.T) {
	t.Parallel()
	s, l, out := shardedSubscriber(t)
	is := func(when string, want float64) {
		t.Helper()
		if got := testutil.ToFloat64(s.Metrics.subscriberUp); got != want {
			t.Errorf("%s parley_subscriber_up is %v", when, got)
		}
	}
	s.hears()
	is("without a sharded channel", 0)
	l.OnWhole(nil)
	is("with all channels", 1)
	l.OnLost(errors.New("cut"))
	is("without a master", 0)
	l.OnUnsupported(errors.New("unknown command"))
	is("on a cluster that has no sharded channels", 1)
	if text := out.String(); strings.Count(text, "not all sharded channels are subscribed") != 1 || strings.Count(text, "no sharded channel is missing") != 1 {
		t.Errorf("the log has no beginning and end of the outage:\n%s", text)
	}
}

// While the pod lacks sharded channels it holds what is not repaired, unless publications go to plain channels.
func TestPublicationsAreHeldWhileShardedChannelsAreMissing(t *testing.T) {
	t.Parallel()
	s, l, _ := shardedSubscriber(t)
	hold := &s.Publisher.hold
	settled := func(sharded bool) bool { // as it is once the time for other pods is over
		hold.mu.Lock()
		hold.until = time.Time{}
		hold.mu.Unlock()
		return hold.flowing(sharded)
	}
	l.OnWhole(nil)
	if !settled(true) {
		t.Error("nothing flows with all channels")
	}
	l.OnLost(errors.New("cut"))
	if settled(true) {
		t.Error("it publishes to sharded channels that nobody may hear")
	}
	if !settled(false) {
		t.Error("it holds what goes to plain channels")
	}
	l.OnWhole(nil)
	if hold.flowing(true) {
		t.Error("other pods have no time to subscribe")
	}
	if !settled(true) {
		t.Error("nothing flows after the outage")
	}
}

// Users get a resync if notices may be lost that other pods published to a master that was alive.
func TestGapsThatNoPublisherNoticed(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		gap    redisconn.Gap
		resync bool
	}{
		"the slot moved":              {redisconn.Gap{Moved: true}, true},
		"the connection was silent":   {redisconn.Gap{Silent: true}, true},
		"the connection was cut":      {redisconn.Gap{Cut: true}, true},
		"another master has it since": {redisconn.Gap{}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, l, _ := shardedSubscriber(t)
			session := &Session{Identity: Identity{UserID: "a"}, hub: s.Hub, state: joining}
			session.out.frames = session.out.room[:0]
			shard := &s.Hub.users[s.Hub.userHash("a")%shards]
			shard.m = map[string][]*Session{"a": {session}}
			c.gap.Channel = rediskey.UserChannel("a")
			l.OnWhole([]redisconn.Gap{{Channel: rediskey.UserChannel("b"), Moved: true}, c.gap})
			if got := session.out.len() == 1; got != c.resync {
				t.Errorf("a resync: %t, want %t", got, c.resync)
			}
		})
	}
}
