package bench

import (
	"fmt"
	"io"
	"net"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/parley-chat/parley/bench/meter"
	"github.com/parley-chat/parley/internal/testenv"
)

// BenchmarkPublish is what Redis spends on a message that so many pods hear, in pipelines of 16: the capacity of one
// Redis is reckoned from it (docs/performance.md).
func BenchmarkPublish(b *testing.B) {
	frame := fmt.Appendf(nil, barePayload, 42, text)
	for _, pods := range []int{1, 4, 16} {
		b.Run(fmt.Sprintf("pods=%d", pods), func(b *testing.B) {
			server := testenv.Redis(b)
			for range pods {
				hear(b, server.Addr())
			}
			rdb := server.Client(b)
			testenv.Eventually(b, 20*time.Second, func() bool {
				return rdb.PubSubNumSub(b.Context(), bareChannel).Val()[bareChannel] == int64(pods)
			}, "all listen")
			before, published := meter.CPU(server.PID()), 0
			for b.Loop() {
				_, err := rdb.Pipelined(b.Context(), func(p redis.Pipeliner) error {
					for range 16 {
						p.Publish(b.Context(), bareChannel, frame)
					}
					return nil
				})
				if err != nil {
					b.Fatal(err)
				}
				published += 16
			}
			b.ReportMetric((meter.CPU(server.PID())-before)/float64(published)*1e6, "redis-CPU-µs/publish")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// hear subscribes, and reads whatever comes until the benchmark ends.
func hear(b *testing.B, addr string) {
	b.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = c.Close() })
	if _, err := fmt.Fprintf(c, "SUBSCRIBE %s\r\n", bareChannel); err != nil {
		b.Fatal(err)
	}
	go func() { _, _ = io.Copy(io.Discard, c) }()
}
