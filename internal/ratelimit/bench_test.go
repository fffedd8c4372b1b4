package ratelimit_test

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"

	"github.com/parley-chat/parley/internal/config"
	"github.com/parley-chat/parley/internal/ratelimit"
	"github.com/parley-chat/parley/internal/redisconn"
	"github.com/parley-chat/parley/internal/testenv"
)

func cpu(c redis.UniversalClient) (s float64) {
	for _, l := range strings.Split(c.Info(context.Background(), "cpu").Val(), "\r\n") {
		var v float64
		for _, k := range []string{"used_cpu_sys:", "used_cpu_user:"} {
			if strings.HasPrefix(l, k) {
				_, _ = fmt.Sscanf(l[len(k):], "%f", &v)
				s += v
			}
		}
	}
	return s
}

func BenchmarkAllow(b *testing.B) {
	server := testenv.Redis(b)
	o, _ := redisconn.Options(redisconn.Config{URL: server.URL(), PoolSize: 20})
	rdb := redis.NewUniversalClient(o)
	defer rdb.Close()
	l := ratelimit.New(rdb, prometheus.NewRegistry(), slog.New(slog.DiscardHandler))
	run(b, l)
	for _, par := range []int{1, 16, 64} {
		b.Run(fmt.Sprint(par), func(b *testing.B) {
			before := cpu(rdb)
			b.SetParallelism(par)
			b.RunParallel(func(pb *testing.PB) {
				for i := 0; pb.Next(); i++ {
					l.Allow(context.Background(), ratelimit.Take{Rule: "x", Subject: fmt.Sprint(i % 100), Rate: config.Rate{Count: 1e6, Window: time.Minute}})
				}
			})
			b.ReportMetric((cpu(rdb)-before)*1e6/float64(b.N), "redis-us/op")
		})
	}
}
