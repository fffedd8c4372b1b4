// Package presence measures the delay of offline events, and what presence costs Redis.
//
//	go test -run '^$' -bench . ./bench/presence/
//
// PARLEY_BENCH_DEVICES is how many other devices are alive (20000), PARLEY_BENCH_WAIT how many seconds expiry events are
// waited for (30).
package presence

import (
	"context"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"

	"github.com/parley-chat/parley/bench/meter"
	"github.com/parley-chat/parley/internal/config"
	"github.com/parley-chat/parley/internal/event"
	"github.com/parley-chat/parley/internal/id"
	"github.com/parley-chat/parley/internal/postgres"
	"github.com/parley-chat/parley/internal/presence"
	"github.com/parley-chat/parley/internal/rediskey"
	"github.com/parley-chat/parley/internal/testenv"
)

const (
	doomed   = 1000
	watchers = 2
	// spread is over what time the doomed devices' deadlines lie.
	spread = 5 * time.Second
)

// run runs a part until stop is called, or the benchmark ends.
func run(b *testing.B, part func(context.Context) error) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := part(ctx); err != nil {
			b.Error(err)
		}
	}()
	stop = sync.OnceFunc(func() {
		cancel()
		<-done
	})
	b.Cleanup(stop)
	return stop
}

// alive keeps devices online by a heartbeat of their own, which it runs until they are.
func alive(b *testing.B, rdb redis.UniversalClient, users []string, ttl, over time.Duration) (stop func()) {
	b.Helper()
	registry := prometheus.NewRegistry()
	h := presence.NewHeartbeat(rdb, nil, config.Presence{TTL: ttl, Grace: time.Second}, presence.NewHeartbeatMetrics(registry),
		slog.New(slog.DiscardHandler), func(string, []string) {})
	stop = run(b, h.Run)
	for i, u := range users {
		if over > 0 && i%10 == 0 {
			time.Sleep(over / time.Duration(len(users)/10)) // the load's own rhythm
		}
		h.Opened(u, "device", id.New())
	}
	testenv.Eventually(b, 10*time.Minute, func() bool { return renewals(b, registry) >= len(users) }, "all are online")
	return stop
}

func renewals(b *testing.B, r *prometheus.Registry) int {
	b.Helper()
	return int(testenv.Metric(b, r, "parley_presence_renewals_total"))
}

func ids(n int) []string {
	out := make([]string, n)
	for i := range out {
		out[i] = id.New()
	}
	return out
}

func percentile(d []time.Duration, p float64) float64 {
	slices.Sort(d)
	return d[min(len(d)-1, int(float64(len(d))*p))].Seconds() * 1000
}

// BenchmarkOfflineLag lets a thousand devices go while others live, and measures from each one's deadline, by Redis's
// clock, to the published presence:offline; and, beside it, to the expiry that Redis publishes.
func BenchmarkOfflineLag(b *testing.B) {
	server := testenv.Redis(b)
	rdb := server.Client(b)
	alive(b, rdb, ids(meter.Size(b, "DEVICES", 20_000)), time.Hour, 0)
	db := testenv.Open(b, postgres.Config{URL: testenv.Postgres(b), Application: "bench"})
	const ttl = 30 * time.Second // so that none of the doomed is renewed before the last is online
	for range watchers {
		run(b, presence.NewWatcher(rdb, nil, 0, db.SQL, config.Presence{TTL: ttl, Grace: time.Second},
			presence.NewWatcherMetrics(prometheus.NewRegistry()), slog.New(slog.DiscardHandler)).Run)
	}
	idle := meter.CPU(server.PID())
	const look = 5 * time.Second
	time.Sleep(look)
	idle = meter.CPU(server.PID()) - idle

	for b.Loop() {
		measure(b, rdb, server, ttl)
	}
	b.ReportMetric(100*idle/look.Seconds(), "redis-idle-%cpu")
}

func measure(b *testing.B, rdb *redis.Client, server *testenv.RedisServer, ttl time.Duration) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	transitions := rdb.PSubscribe(ctx, rediskey.PresenceChannel("*"))
	expired := rdb.Subscribe(ctx, rediskey.ExpiredChannel(0))
	defer transitions.Close()
	defer expired.Close()
	going := ids(doomed)
	stop := alive(b, rdb, going, ttl, spread)
	stop() // the pod is gone, without a word
	keys := rediskey.Presence{}
	deadline := map[string]time.Time{}
	for _, u := range going {
		z, err := rdb.ZRangeWithScores(ctx, keys.Connections(u), 0, -1).Result()
		if err != nil || len(z) != 1 {
			b.Fatalf("%v, %v", z, err)
		}
		deadline[u] = time.UnixMilli(int64(z[0].Score))
	}
	var lags, hints []time.Duration
	published, expiries := transitions.Channel(redis.WithChannelSize(1<<16)), expired.Channel(redis.WithChannelSize(1<<16))
	before, start := meter.CPU(server.PID()), time.Now()
	give := time.After(ttl + time.Duration(meter.Size(b, "WAIT", 30))*time.Second)
	for waiting := true; waiting && (len(lags) < doomed || len(hints) < doomed); {
		select {
		case m := <-published:
			u, _ := rediskey.ParsePresenceChannel(m.Channel)
			n, err := event.DecodePresence([]byte(m.Payload))
			if at, ours := deadline[u]; err == nil && ours && !n.Online {
				lags = append(lags, time.UnixMicro(n.Version).Sub(at))
			}
		case m := <-expiries:
			if u, _, ok := rediskey.ParseDevice(m.Payload); ok {
				if at, ours := deadline[u]; ours {
					hints = append(hints, time.Since(at))
				}
			}
		case <-give:
			waiting = false
		}
	}
	if len(lags) != doomed {
		b.Fatalf("%d of %d were published", len(lags), doomed)
	}
	b.ReportMetric(100*(meter.CPU(server.PID())-before)/time.Since(start).Seconds(), "redis-%cpu")
	b.ReportMetric(percentile(lags, .5), "p50-ms")
	b.ReportMetric(percentile(lags, .99), "p99-ms")
	b.ReportMetric(percentile(lags, 1), "max-ms")
	b.ReportMetric(float64(len(hints))/doomed*100, "expiries-%")
	if len(hints) > 0 {
		b.ReportMetric(percentile(hints, .5), "expiry-p50-ms")
		b.ReportMetric(percentile(hints, 1), "expiry-max-ms")
	}
}

// BenchmarkRenewal is what one renewal of ten thousand devices costs.
func BenchmarkRenewal(b *testing.B) {
	const devices = 10_000
	server := testenv.Redis(b)
	rdb := server.Client(b)
	const ttl = 6 * time.Second
	registry := prometheus.NewRegistry()
	m := presence.NewHeartbeatMetrics(registry)
	h := presence.NewHeartbeat(rdb, nil, config.Presence{TTL: ttl, Grace: time.Second}, m, slog.New(slog.DiscardHandler), func(string, []string) {})
	run(b, h.Run)
	for _, u := range ids(devices) {
		h.Opened(u, "device", id.New())
	}
	testenv.Eventually(b, time.Minute, func() bool { return renewals(b, registry) >= devices }, "all are online")
	for b.Loop() {
		from, used, own, commands := renewals(b, registry), meter.CPU(server.PID()), meter.Own(), processed(b, rdb)
		start := time.Now()
		testenv.Eventually(b, time.Minute, func() bool { return renewals(b, registry) >= from+5*devices }, "five rounds")
		n := float64(renewals(b, registry)-from) / devices
		b.ReportMetric((meter.CPU(server.PID())-used)*1000/n, "redis-CPU-ms/10000")
		b.ReportMetric((meter.Own()-own)*1000/n, "pod-CPU-ms/10000")
		b.ReportMetric(float64(processed(b, rdb)-commands)/n, "commands/10000")
		b.ReportMetric(time.Since(start).Seconds()/n, "s/round")
	}
}

// processed is how many commands Redis has carried out, those of scripts among them.
func processed(b *testing.B, rdb *redis.Client) int {
	b.Helper()
	info, err := rdb.Info(context.Background(), "stats").Result()
	if err != nil {
		b.Fatal(err)
	}
	_, rest, _ := strings.Cut(info, "total_commands_processed:")
	n, _ := strconv.Atoi(strings.TrimSpace(strings.SplitN(rest, "\n", 2)[0]))
	return n
}
