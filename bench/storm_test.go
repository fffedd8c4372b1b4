package bench

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"github.com/parley-chat/parley/bench/meter"
	"github.com/parley-chat/parley/internal/id"
)

// stormLimits are the defaults, which the other benchmarks switch off.
var stormLimits = []string{
	"PARLEY_RATE_LIMIT_DEFAULT=100/1m", "PARLEY_RATE_LIMIT_SEND=120/1m", "PARLEY_RATE_LIMIT_SOCKET=300/1m", "PARLEY_RATE_LIMIT_FRAMES=50/1s",
}

// BenchmarkStorm has all sockets but a few cut at once, and their clients come back together, with the default limits on. Each user is
// in a group of ten, and a friend of four. It reports how long it takes until all are ready, what that costs, and how long messages
// between the others take meanwhile.
func BenchmarkStorm(b *testing.B) {
	const atOnce, others, rate = 512, 40, 40
	n := meter.Size(b, "SOCKETS", 10_000) / groupSize * groupSize
	s := start(b, 1, stormLimits...)
	who := s.people(b, n)
	for i := 0; i < n; i += groupSize {
		g := who[i : i+groupSize]
		s.group(b, g)
		s.befriend(b, g[:5])
	}
	rest := s.people(b, others)
	group := s.group(b, rest)
	s.exec(b, `VACUUM ANALYZE`)
	calm := s.openAll(b, rest)
	o := listen(b, "", calm, func(i int64, content string) error { return calm[i%others].say(group, id.New(), content) })
	quiet := o.at(b, rate, 5*time.Second)

	sockets := s.reopen(b, who, 16, nil)
	closeAll(sockets)
	for s.pods[0].metric(b, "websocket_connections_active") > others {
		time.Sleep(50 * time.Millisecond)
	}
	waits := hdrhistogram.New(1, time.Minute.Microseconds(), 3)
	before, all, begun := s.podCPU(), s.allCPU(), time.Now()
	done := make(chan struct{})
	var took time.Duration
	go func() {
		defer close(done)
		sockets = s.reopen(b, who, atOnce, waits)
		took = time.Since(begun)
	}()
	storm := o.while(b, rate, func() bool {
		select {
		case <-done:
			return false
		default:
			return true
		}
	})
	b.ReportMetric((s.podCPU()-before)/float64(n)*1000, "api-CPU-s/1000-connects")
	b.ReportMetric((s.allCPU()-all)/float64(n)*1000, "all-CPU-s/1000-connects")
	b.ReportMetric(took.Seconds(), "s-until-ready")
	b.ReportMetric(float64(waits.ValueAtQuantile(50))/1000, "connect-p50-ms")
	b.ReportMetric(float64(waits.ValueAtQuantile(99))/1000, "connect-p99-ms")
	b.ReportMetric(quiet.p50, "p50-ms-before")
	b.ReportMetric(quiet.p99, "p99-ms-before")
	b.ReportMetric(storm.p50, "p50-ms-meanwhile")
	b.ReportMetric(storm.p99, "p99-ms-meanwhile")
	b.ReportMetric(0, "ns/op")
	closeAll(sockets)
}

// befriend makes all of them friends.
func (s *system) befriend(b *testing.B, who []person) {
	b.Helper()
	ids := make([]string, len(who))
	for i, p := range who {
		ids[i] = p.id
	}
	s.exec(b, `INSERT INTO friendships (user_id, friend_id, status)
		SELECT a::uuid, f::uuid, 'accepted' FROM unnest($1::text[]) a, unnest($1::text[]) f WHERE a <> f`, ids)
}

// reopen opens sockets from several addresses, none of which has more than a pod allows, so many at once. waits gets how long each took,
// in µs, if it is not nil.
func (s *system) reopen(b *testing.B, who []person, atOnce int, waits *hdrhistogram.Histogram) []*socket {
	out := make([]*socket, len(who))
	var wg sync.WaitGroup
	var mu sync.Mutex // guards waits
	next := make(chan int, len(who))
	for i := range who {
		next <- i
	}
	close(next)
	for range atOnce {
		wg.Go(func() {
			for i := range next {
				begun := time.Now()
				x, err := s.pods[0].open(who[i], i*10)
				if err != nil {
					b.Error(fmt.Errorf("socket %d: %w", i, err))
					return
				}
				out[i] = x
				if waits != nil {
					mu.Lock()
					_ = waits.RecordValue(max(1, time.Since(begun).Microseconds()))
					mu.Unlock()
				}
			}
		})
	}
	wg.Wait()
	return out
}
