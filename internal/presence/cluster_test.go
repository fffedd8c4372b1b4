package presence_test

import (
	"log/slog"
	"slices"
	"strings"
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

// A cluster of one node refuses keys of different slots as one of many does.
func TestOnACluster(t *testing.T) {
	t.Parallel()
	e := setup(t, 1)
	e.redis = testenv.Redis(t, "--cluster-enabled", "yes")
	node := e.redis.Client(t)
	if err := node.ClusterAddSlotsRange(t.Context(), 0, 16383).Err(); err != nil {
		t.Fatal(err)
	}
	testenv.Eventually(t, 10*time.Second, func() bool {
		return strings.Contains(node.ClusterInfo(t.Context()).Val(), "cluster_state:ok")
	}, "the cluster is up")
	cluster := redis.NewClusterClient(&redis.ClusterOptions{Addrs: []string{e.redis.Addr()}})
	t.Cleanup(func() { _ = cluster.Close() })
	e.rdb = node
	news := e.news()
	log := slog.New(slog.DiscardHandler)
	registry := prometheus.NewRegistry()
	w := presence.NewWatcher(cluster, 0, e.db.SQL, times, presence.NewWatcherMetrics(registry), log)
	e.run(w.Run)
	h := presence.NewHeartbeat(cluster, times, presence.NewHeartbeatMetrics(prometheus.NewRegistry()), log, func(string, []string) {})
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
	testenv.Eventually(t, 10*time.Second, func() bool { return counted(t, registry, "parley_presence_expiries_total") > 0 }, "the node's expiries are heard")
}
