package bench

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/parley-chat/parley/bench/meter"
	"github.com/parley-chat/parley/internal/redisconn"
	"github.com/parley-chat/parley/internal/testenv"
)

const (
	shardedListeners = 4
	shardedChannels  = 256 // each heard by all listeners
)

// BenchmarkClusterPublish is what the nodes of a cluster spend on a message that four pods hear, on plain and on sharded channels, in
// pipelines of 64: CPU of all nodes and of the busiest, and how often a message crosses the cluster's bus. Every message must arrive at every
// listener once.
func BenchmarkClusterPublish(b *testing.B) {
	for _, nodes := range []int{3, 6} {
		b.Run(fmt.Sprintf("nodes=%d", nodes), func(b *testing.B) {
			for _, sharded := range []bool{false, true} {
				b.Run(map[bool]string{false: "plain", true: "sharded"}[sharded], func(b *testing.B) { clusterPublish(b, nodes, sharded) })
			}
		})
	}
}

func clusterPublish(b *testing.B, nodes int, sharded bool) {
	g := testenv.RedisClusterOf(b, nodes, 0)
	channels := make([]string, shardedChannels)
	for i := range channels {
		channels[i] = fmt.Sprintf("parley:conversation:%036d", i)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var done sync.WaitGroup
	defer done.Wait()
	defer cancel()
	var heard, confirmed atomic.Int64
	for range shardedListeners {
		run := listener(b, g, sharded, channels, func(m any) {
			switch m.(type) {
			case *redis.Message:
				heard.Add(1)
			case *redis.Subscription:
				confirmed.Add(1)
			}
		})
		done.Go(func() { run(ctx) })
	}
	testenv.Eventually(b, time.Minute, func() bool { return confirmed.Load() >= shardedListeners*shardedChannels }, "all listen")
	rdb := clusterClient(b, g)
	frame := fmt.Appendf(nil, barePayload, 42, text)
	total := meter.Size(b, "PUBLISHES", 100_000)
	cpu, bus := nodeCPU(g), busMessages(b, g)
	start := time.Now()
	for range b.N {
		heard.Store(0)
		for n := 0; n < total; n += 64 {
			_, err := rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
				for i := n; i < min(n+64, total); i++ {
					if c := channels[i%len(channels)]; sharded {
						p.SPublish(ctx, c, frame)
					} else {
						p.Publish(ctx, c, frame)
					}
				}
				return nil
			})
			if err != nil {
				b.Fatal(err)
			}
		}
		want := int64(total * shardedListeners)
		testenv.Eventually(b, time.Minute, func() bool { return heard.Load() >= want }, "every message arrives")
		if n := heard.Load(); n != want {
			b.Fatalf("%d messages arrived of %d", n, want)
		}
	}
	published := float64(b.N * total)
	idle := idleCPU(g) * time.Since(start).Seconds()
	sum, most := 0.0, 0.0
	for i, after := range nodeCPU(g) {
		used := after - cpu[i] - idle
		sum, most = sum+used, max(most, used)
	}
	b.ReportMetric(sum/published*1e5, "CPU-s/100k")
	b.ReportMetric(most/published*1e5, "busiest-node-CPU-s/100k")
	b.ReportMetric((busMessages(b, g)-bus)/published, "bus-messages/publish")
	b.ReportMetric(0, "ns/op")
}

func clusterClient(b *testing.B, g *testenv.RedisGroup) *redis.ClusterClient {
	b.Helper()
	rdb, err := redisconn.Open(redisconn.Config{URL: strings.TrimPrefix(g.Settings()[0], "PARLEY_REDIS_URL="), PoolSize: 2})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = rdb.Close() })
	return rdb.(*redis.ClusterClient)
}

// listener makes the subscription of a pod, as the api has it.
func listener(b *testing.B, g *testenv.RedisGroup, sharded bool, channels []string, heard func(m any)) (run func(ctx context.Context)) {
	b.Helper()
	rdb := clusterClient(b, g)
	lost := func(err error) { b.Errorf("a subscription is lost: %v", err) }
	if sharded {
		l := redisconn.NewShardedListener(rdb)
		l.OnHeard, l.OnLost, l.OnWhole, l.OnUnsupported = heard, lost, func([]redisconn.Gap) {}, lost
		l.Subscribe(channels...)
		return l.Run
	}
	l := &redisconn.Listener{Client: rdb, Last: channels[0], OnHeard: heard, OnLost: lost}
	l.Subscribe(b.Context(), channels...)
	return l.Run
}

func nodeCPU(g *testenv.RedisGroup) []float64 {
	out := make([]float64, len(g.Nodes))
	for i, n := range g.Nodes {
		out[i] = meter.CPU(n.PID())
	}
	return out
}

// idleCPU is what a node uses in a second without any load: its cron and the bus.
func idleCPU(g *testenv.RedisGroup) float64 {
	const span = 2 * time.Second
	before := nodeCPU(g)
	time.Sleep(span)
	sum := 0.0
	for i, after := range nodeCPU(g) {
		sum += after - before[i]
	}
	return sum / float64(len(g.Nodes)) / span.Seconds()
}

// busMessages is how many publications the nodes have sent to each other.
func busMessages(b *testing.B, g *testenv.RedisGroup) (sum float64) {
	b.Helper()
	for _, n := range g.Nodes {
		for line := range strings.SplitSeq(n.Client(b).ClusterInfo(b.Context()).Val(), "\r\n") {
			name, value, _ := strings.Cut(line, ":")
			if name == "cluster_stats_messages_publish_sent" || name == "cluster_stats_messages_publishshard_sent" {
				x, err := strconv.ParseFloat(value, 64)
				if err != nil {
					b.Fatal(err)
				}
				sum += x
			}
		}
	}
	return sum
}
