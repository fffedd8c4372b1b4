package test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/parley-chat/parley/internal/testenv"
)

// A master that dies is replaced: what is sent meanwhile is answered, and everybody gets it, in order and once.
func TestRedisFailover(t *testing.T) {
	t.Parallel()
	if testenv.Engine() != "" {
		t.Skip("it brings its own engines")
	}
	for name, newGroup := range map[string]func(t testing.TB) *testenv.RedisGroup{
		"sentinels": func(t testing.TB) *testenv.RedisGroup { return testenv.RedisSentinels(t) },
		"cluster":   func(t testing.TB) *testenv.RedisGroup { return testenv.RedisCluster(t, 1) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			chatDuringFailover(t, newGroup(t))
		})
	}
}

// chatDuringFailover ends the first node while two people chat, and checks messages and presence on the master that takes over.
func chatDuringFailover(t *testing.T, g *testenv.RedisGroup) {
	t.Helper()
	s := &system{t: t, pg: testenv.Postgres(t), redis: g, extra: presenceTimes}
	for range 2 {
		s.addPod()
	}
	s.addWatcher()
	u := s.pods[0].users(t, 3)
	c := s.pods[0].group(t, u[0], u[1:]...)
	a, b := s.pods[0].open(t, u[0]), s.pods[1].open(t, u[1])
	sent := 0
	send := func() {
		s.pods[sent%2].send(t, u[sent%2], c.ID, fmt.Sprint(sent))
		sent++
	}
	send()
	g.Nodes[0].Stop()
	tookOver := takeover(t, g)
	testenv.Eventually(t, 3*time.Minute, func() bool {
		if tookOver() {
			return true
		}
		send()
		return false
	}, "a replica takes over")
	for range 5 {
		send()
	}
	for _, x := range []*socket{a, b} {
		x.messages(1, int64(sent), time.Minute)
	}
	t.Logf("%d messages", sent)
	for _, late := range s.pods[0].users(t, 6) { // of every slot
		s.expectPresence(t, a, u[0], late)
	}
}

// expectPresence checks that the first pod's socket, a watcher's, is notified when a user comes to the other pod and goes.
func (s *system) expectPresence(t *testing.T, watching *socket, watcher, of user) {
	t.Helper()
	testenv.Eventually(t, time.Minute, func() bool {
		return s.pods[0].call(t, watcher.token, "GET", "/api/presence/"+of.ID, nil).status == 200
	}, "presence can be read")
	watching.watch(of.ID)
	going := s.pods[1].open(t, of)
	watching.until("presence:online", time.Minute)
	going.cut()
	watching.until("presence:offline", time.Minute)
}

// takeover answers what reports whether a replica took over what the first node had.
func takeover(t testing.TB, g *testenv.RedisGroup) func() bool {
	t.Helper()
	var others []*redis.Client
	for _, n := range g.Nodes[1:] {
		others = append(others, n.Client(t))
	}
	return func() bool {
		masters := 0
		for _, c := range others {
			if strings.Contains(c.Info(t.Context(), "replication").Val(), "role:master") {
				masters++
			}
		}
		return masters == len(g.Nodes)/2
	}
}

// key is what stands for an id's key: on a cluster the id is a hash tag.
func key(prefix, id string) string {
	if testenv.Engine() == testenv.Cluster {
		return prefix + "{" + id + "}"
	}
	return prefix + id
}

// keys are those of all nodes that match.
func keys(t testing.TB, rdb redis.UniversalClient, pattern string) []string {
	t.Helper()
	cluster, ok := rdb.(*redis.ClusterClient)
	if !ok {
		list, err := rdb.Keys(t.Context(), pattern).Result()
		if err != nil {
			t.Fatal(err)
		}
		return list
	}
	var mu sync.Mutex
	var list []string
	err := cluster.ForEachMaster(t.Context(), func(ctx context.Context, c *redis.Client) error {
		some, err := c.Keys(ctx, pattern).Result()
		mu.Lock()
		defer mu.Unlock()
		list = append(list, some...)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}
