package presence_test

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"

	"github.com/parley-chat/parley/internal/event"
	"github.com/parley-chat/parley/internal/id"
	"github.com/parley-chat/parley/internal/presence"
	"github.com/parley-chat/parley/internal/rediskey"
	"github.com/parley-chat/parley/internal/testenv"
)

// useCluster gives the env a cluster of one node, and returns clients of the node and of the cluster.
func (e *env) useCluster() (node *redis.Client, cluster *redis.ClusterClient) {
	t := e.t
	t.Helper()
	e.redis = testenv.Redis(t, "--cluster-enabled", "yes", "--cluster-port", fmt.Sprint(testenv.FreePort(t)))
	node = e.redis.Client(t)
	if err := node.ClusterAddSlotsRange(t.Context(), 0, 16383).Err(); err != nil {
		t.Fatal(err)
	}
	testenv.Eventually(t, 10*time.Second, func() bool {
		return strings.Contains(node.ClusterInfo(t.Context()).Val(), "cluster_state:ok")
	}, "the cluster is up")
	cluster = redis.NewClusterClient(&redis.ClusterOptions{Addrs: []string{e.redis.Addr()}})
	t.Cleanup(func() { _ = cluster.Close() })
	e.rdb = node
	return node, cluster
}

// A cluster of one node refuses keys of different slots as one of many does.
func TestOnACluster(t *testing.T) {
	t.Parallel()
	e := setup(t, 1)
	node, cluster := e.useCluster()
	news := e.news()
	log := slog.New(slog.DiscardHandler)
	registry := prometheus.NewRegistry()
	w := presence.NewWatcher(cluster, nil, 0, e.db.SQL, times, presence.NewWatcherMetrics(registry), log)
	e.run(w.Run)
	h := presence.NewHeartbeat(cluster, nil, times, presence.NewHeartbeatMetrics(prometheus.NewRegistry()), log, func(string, []string) {})
	stop := e.run(h.Run)
	users := slices.Concat(e.users, []string{id.New(), id.New(), id.New()})
	for _, u := range users {
		h.Opened(u, "phone", id.New())
	}
	for range users {
		if u, n := next(t, news, 5*time.Second); !n.Online {
			t.Fatalf("%s: %+v", u, n)
		}
	}
	if node.Exists(t.Context(), rediskey.Presence{Tagged: true}.Device(users[0], "phone")).Val() != 1 {
		t.Error("the device's key is not tagged")
	}
	list, err := presence.NewService(e.db.SQL, cluster).Read(t.Context(), users[0], users[:1])
	if err != nil || list[0].Status != event.StatusOnline {
		t.Errorf("read %+v, %v", list, err)
	}
	stop()
	for range users {
		if u, n := next(t, news, times.TTL+2*time.Second); n.Online {
			t.Fatalf("%s: %+v", u, n)
		}
	}
	testenv.Eventually(t, 10*time.Second, func() bool { return testenv.Metric(t, registry, "parley_presence_expiries_total") > 0 }, "the node's expiries are heard")
}

// Transitions go to sharded channels while all pods hear them, and to plain ones otherwise, also if the cluster refuses SPUBLISH.
func TestTransitionsOnShardedChannels(t *testing.T) {
	t.Parallel()
	e := setup(t, 1)
	node, cluster := e.useCluster()
	var on switchable
	log := slog.New(slog.DiscardHandler)
	w := presence.NewWatcher(cluster, &on, 0, e.db.SQL, times, presence.NewWatcherMetrics(prometheus.NewRegistry()), log)
	e.run(w.Run)
	h := presence.NewHeartbeat(cluster, &on, times, presence.NewHeartbeatMetrics(prometheus.NewRegistry()), log, func(string, []string) {})
	e.run(h.Run)
	user := e.users[0]
	plain := e.news()
	ps := node.SSubscribe(t.Context(), rediskey.Sharded(rediskey.PresenceChannel(user)))
	t.Cleanup(func() { _ = ps.Close() })
	if _, err := ps.Receive(t.Context()); err != nil {
		t.Fatal(err)
	}
	sharded := ps.Channel()
	for _, c := range []struct {
		name   string
		before func()
		news   <-chan *redis.Message
	}{
		{"plain", func() {}, plain},
		{"sharded", func() { on.Store(true) }, sharded},
		{"refused", func() {
			if err := node.Do(context.Background(), "acl", "setuser", "default", "-spublish").Err(); err != nil {
				t.Fatal(err)
			}
		}, plain},
	} {
		c.before()
		connection := id.New()
		h.Opened(user, "phone", connection)
		if _, n := next(t, c.news, 10*time.Second); !n.Online {
			t.Fatalf("%s: %+v", c.name, n)
		}
		h.Closed(connection)
		if _, n := next(t, c.news, 10*time.Second); n.Online {
			t.Fatalf("%s: %+v", c.name, n)
		}
		if n := len(plain) + len(sharded); n > 0 {
			t.Errorf("%s: %d more publications", c.name, n)
		}
	}
}

type switchable struct{ atomic.Bool }

func (s *switchable) On() bool { return s.Load() }
