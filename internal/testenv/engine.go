package testenv

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// Engines other than a Redis and a Postgres each, by the value of engineVar.
const (
	Cluster   = "redis-cluster"
	Sentinel  = "redis-sentinel"
	PgBouncer = "pgbouncer"
	Valkey    = "valkey"
)

// engineVar names the engine that the process tests run on.
const engineVar = "PARLEY_TEST_ENGINE"

// Engine is the engine that the process tests run on, "" for plain Redis and Postgres.
func Engine() string { return os.Getenv(engineVar) }

// RedisEngine is Redis as Parley may meet it: one server, a cluster, or a master with sentinels.
type RedisEngine interface {
	// Settings are Parley's settings that reach it.
	Settings() []string
	// Start starts all its servers again at the same addresses.
	Start()
	// Stop kills them all.
	Stop()
	// Pause makes them hang, with all their connections.
	Pause()
	Resume()
	Client(t testing.TB) redis.UniversalClient
	// Flush makes it forget everything.
	Flush(t testing.TB)
}

// NewRedis starts what Engine says. args are added to the command lines of the servers that hold data.
func NewRedis(t testing.TB, args ...string) RedisEngine {
	t.Helper()
	switch Engine() {
	case Cluster:
		return RedisCluster(t, 0, args...)
	case Sentinel:
		return RedisSentinels(t, args...)
	}
	return single{Redis(t, args...)}
}

// single is one server.
type single struct{ *RedisServer }

func (s single) Settings() []string { return []string{"PARLEY_REDIS_URL=" + s.URL()} }

func (s single) Client(t testing.TB) redis.UniversalClient { return s.RedisServer.Client(t) }

func (s single) Flush(t testing.TB) {
	t.Helper()
	if err := s.RedisServer.Client(t).FlushAll(context.Background()).Err(); err != nil {
		t.Fatal(err)
	}
}

// RedisGroup is several servers that work together.
type RedisGroup struct {
	t testing.TB
	// Nodes are those that hold data: a cluster's masters first, or the first master and its replicas.
	Nodes     []*RedisServer
	sentinels []*RedisServer
	masters   int
}

// sentinelMaster is the name of the master that the sentinels know.
const sentinelMaster = "parley"

// nodeTimeout is how long a node or master may be silent before the others act.
const nodeTimeout = time.Second

// engineStart is how long a group may take until it serves.
const engineStart = time.Minute

// RedisCluster starts a cluster of three masters, each with the given number of replicas.
func RedisCluster(t testing.TB, replicas int, args ...string) *RedisGroup {
	t.Helper()
	return RedisClusterOf(t, 3, replicas, args...)
}

// RedisClusterOf starts a cluster of three masters or more.
func RedisClusterOf(t testing.TB, masters, replicas int, args ...string) *RedisGroup {
	t.Helper()
	g := &RedisGroup{t: t, masters: masters}
	var bus []int
	for range g.masters * (1 + replicas) {
		port := FreePort(t)
		g.Nodes = append(g.Nodes, Redis(t, append([]string{
			"--cluster-enabled", "yes", "--cluster-port", fmt.Sprint(port), "--cluster-node-timeout", fmt.Sprint(nodeTimeout.Milliseconds()),
			// However late it is on a busy machine, a replica takes over.
			"--cluster-replica-validity-factor", "0",
		}, args...)...))
		g.Nodes[len(g.Nodes)-1].bus = port
		bus = append(bus, port)
	}
	first := g.Nodes[0].Client(t)
	const slots = 16384
	for i, n := range g.Nodes {
		c := n.Client(t)
		if i < g.masters {
			g.check(c.ClusterAddSlotsRange(t.Context(), slots*i/g.masters, slots*(i+1)/g.masters-1).Err())
		}
		g.check(c.Do(t.Context(), "cluster", "set-config-epoch", i+1).Err())
		g.check(first.Do(t.Context(), "cluster", "meet", "127.0.0.1", n.port, bus[i]).Err())
	}
	for i, n := range g.Nodes[g.masters:] {
		master := g.Nodes[i%g.masters].Client(t).ClusterMyID(t.Context()).Val()
		c := n.Client(t)
		Eventually(t, engineStart, func() bool { return c.ClusterReplicate(t.Context(), master).Err() == nil }, "a replica knows its master")
	}
	g.awaitCluster()
	return g
}

// RedisSentinels starts a master, a replica, and three sentinels that watch them.
func RedisSentinels(t testing.TB, args ...string) *RedisGroup {
	t.Helper()
	args = append([]string{"--repl-diskless-sync-delay", "0"}, args...)
	g := &RedisGroup{t: t, masters: 1, Nodes: []*RedisServer{Redis(t, args...)}}
	g.Nodes = append(g.Nodes, Redis(t, append(args, "--replicaof", "127.0.0.1", fmt.Sprint(g.Nodes[0].port))...))
	for range 3 {
		s := &RedisServer{t: t, port: FreePort(t), dir: tempDir(t, "sentinel"), sentinel: true}
		config := fmt.Sprintf("bind 127.0.0.1\nport %d\ndir %s\nsentinel monitor %s 127.0.0.1 %d 2\n"+
			"sentinel down-after-milliseconds %s %d\nsentinel failover-timeout %s %d\n", s.port, s.dir, sentinelMaster, g.Nodes[0].port,
			sentinelMaster, nodeTimeout.Milliseconds(), sentinelMaster, 5*nodeTimeout.Milliseconds())
		g.check(os.WriteFile(filepath.Join(s.dir, "sentinel.conf"), []byte(config), 0o600))
		s.Start()
		t.Cleanup(s.Stop)
		g.sentinels = append(g.sentinels, s)
	}
	g.awaitSentinels()
	return g
}

func (g *RedisGroup) check(err error) {
	g.t.Helper()
	if err != nil {
		g.t.Fatal(err)
	}
}

// Settings are Parley's settings that reach it.
func (g *RedisGroup) Settings() []string {
	servers := g.Nodes[:min(g.masters, len(g.Nodes))]
	if len(g.sentinels) > 0 {
		servers = g.sentinels
	}
	addrs := make([]string, len(servers))
	for i, s := range servers {
		addrs[i] = s.Addr()
		if s.announced != "" {
			addrs[i] = s.announced
		}
	}
	out := []string{"PARLEY_REDIS_URL=redis://" + strings.Join(addrs, ",")}
	if len(g.sentinels) > 0 {
		out = append(out, "PARLEY_REDIS_SENTINEL_MASTER="+sentinelMaster)
	}
	return out
}

// Behind puts a proxy in front of each node of a cluster, in the order of Nodes. The cluster announces the addresses of the proxies to clients.
func (g *RedisGroup) Behind(t testing.TB) []*Proxy {
	t.Helper()
	var out []*Proxy
	for _, n := range g.Nodes {
		p := NewProxy(t, n.Addr())
		_, port, err := net.SplitHostPort(p.Addr())
		g.check(err)
		c := n.Client(t)
		g.check(c.ConfigSet(t.Context(), "cluster-announce-bus-port", fmt.Sprint(n.bus)).Err())
		g.check(c.ConfigSet(t.Context(), "cluster-announce-port", port).Err())
		n.announced = p.Addr()
		out = append(out, p)
	}
	for _, n := range g.Nodes {
		c := n.Client(t)
		Eventually(t, engineStart, func() bool {
			slots := c.ClusterNodes(context.Background()).Val()
			for _, p := range out {
				if !strings.Contains(slots, p.Addr()) {
					return false
				}
			}
			return true
		}, "the nodes know each other's proxies")
	}
	return out
}

// Owner is the master that owns a key's slot.
func (g *RedisGroup) Owner(t testing.TB, key string) *RedisServer {
	t.Helper()
	c := g.Client(t).(*redis.ClusterClient)
	c.ReloadState(context.Background())
	owner, err := c.MasterForKey(context.Background(), key)
	g.check(err)
	for _, n := range g.Nodes {
		if a := owner.Options().Addr; a == n.Addr() || a == n.announced {
			return n
		}
	}
	t.Fatalf("no node has the address %s", owner.Options().Addr)
	return nil
}

// MoveSlot gives the slot of a key to another master, with its keys, as resharding does.
func (g *RedisGroup) MoveSlot(t testing.TB, key string, from, to *RedisServer) {
	t.Helper()
	ctx := context.Background()
	a, b := from.Client(t), to.Client(t)
	slot := a.ClusterKeySlot(ctx, key).Val()
	aID, bID := a.ClusterMyID(ctx).Val(), b.ClusterMyID(ctx).Val()
	g.check(b.Do(ctx, "cluster", "setslot", slot, "importing", aID).Err())
	g.check(a.Do(ctx, "cluster", "setslot", slot, "migrating", bID).Err())
	for {
		keys, err := a.ClusterGetKeysInSlot(ctx, int(slot), 100).Result()
		g.check(err)
		if len(keys) == 0 {
			break
		}
		args := []any{"migrate", "127.0.0.1", to.port, "", 0, 5000, "keys"}
		for _, k := range keys {
			args = append(args, k)
		}
		g.check(a.Do(ctx, args...).Err())
	}
	for _, c := range []*redis.Client{b, a} {
		g.check(c.Do(ctx, "cluster", "setslot", slot, "node", bID).Err())
	}
}

// Client connects to all of it.
func (g *RedisGroup) Client(t testing.TB) redis.UniversalClient {
	t.Helper()
	o := &redis.UniversalOptions{DialTimeout: time.Second, MaxRetries: 1}
	if len(g.sentinels) > 0 {
		o.MasterName = sentinelMaster
		o.Addrs = []string{g.sentinels[0].Addr(), g.sentinels[1].Addr(), g.sentinels[2].Addr()}
	} else {
		o.Addrs = []string{g.Nodes[0].Addr(), g.Nodes[1].Addr(), g.Nodes[2].Addr()}
	}
	c := redis.NewUniversalClient(o)
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// Flush makes it forget everything.
func (g *RedisGroup) Flush(t testing.TB) {
	t.Helper()
	for _, n := range g.Nodes {
		c := n.Client(t)
		if strings.Contains(c.Info(context.Background(), "replication").Val(), "role:master") {
			g.check(c.FlushAll(context.Background()).Err())
		}
	}
}

func (g *RedisGroup) all() []*RedisServer {
	return append(append([]*RedisServer{}, g.sentinels...), g.Nodes...)
}

// Stop kills all of it, those first that would notice the others' end.
func (g *RedisGroup) Stop() {
	for _, s := range g.all() {
		s.Stop()
	}
}

// Pause makes all of it hang.
func (g *RedisGroup) Pause() {
	for _, s := range g.all() {
		s.Pause()
	}
}

// Resume ends the hang.
func (g *RedisGroup) Resume() {
	for _, s := range g.all() {
		s.Resume()
	}
}

// Start starts all of it again and waits until it serves.
func (g *RedisGroup) Start() {
	g.t.Helper()
	for _, n := range g.Nodes {
		n.Start()
	}
	for _, s := range g.sentinels {
		s.Start()
	}
	if len(g.sentinels) > 0 {
		g.awaitSentinels()
	} else {
		g.awaitCluster()
	}
}

func (g *RedisGroup) awaitCluster() {
	g.t.Helper()
	for _, n := range g.Nodes {
		c := n.Client(g.t)
		Eventually(g.t, engineStart, func() bool {
			info := c.ClusterInfo(context.Background()).Val()
			return strings.Contains(info, "cluster_state:ok") && strings.Contains(info, fmt.Sprintf("cluster_known_nodes:%d\r", len(g.Nodes)))
		}, "the cluster serves")
	}
}

// awaitSentinels waits until each sentinel knows the others, the replica, and a master that takes writes.
func (g *RedisGroup) awaitSentinels() {
	g.t.Helper()
	for _, s := range g.sentinels {
		c := redis.NewSentinelClient(&redis.Options{Addr: s.Addr(), DialTimeout: time.Second})
		Eventually(g.t, engineStart, func() bool {
			m, err := c.Master(context.Background(), sentinelMaster).Result()
			return err == nil && m["flags"] == "master" && m["num-other-sentinels"] == "2" && m["num-slaves"] == "1"
		}, "the sentinels know each other")
		_ = c.Close()
	}
	c := g.Client(g.t)
	Eventually(g.t, engineStart, func() bool { return c.Set(context.Background(), "testenv", "", time.Second).Err() == nil }, "the master takes writes")
}

// Pooled puts PgBouncer in transaction mode in front of the database, and returns the URL through it.
func Pooled(t testing.TB, database string) string {
	t.Helper()
	return NewPooler(t, database).URL()
}
