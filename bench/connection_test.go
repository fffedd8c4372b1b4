package bench

import (
	"testing"
	"time"

	"github.com/parley-chat/parley/bench/meter"
	"github.com/parley-chat/parley/internal/id"
)

// groupSize is how many share a group in the benchmark of connections.
const groupSize = 10

// BenchmarkConnections opens sockets, each of a user in one group, and lets them idle.
func BenchmarkConnections(b *testing.B) {
	n := meter.Size(b, "SOCKETS", 10_000) / groupSize * groupSize
	s := start(b, 1)
	who := s.people(b, n)
	var groups []string
	for i := 0; i < n; i += groupSize {
		groups = append(groups, s.group(b, who[i:min(n, i+groupSize)]))
	}
	s.exec(b, `VACUUM ANALYZE`) // as autovacuum does within a minute
	api := s.pods[0].PID()
	// The first ones pay for what is made once.
	first := s.openAll(b, who[:groupSize])
	stack, heap := s.pods[0].metric(b, "go_memstats_stack_inuse_bytes"), s.pods[0].metric(b, "go_memstats_heap_inuse_bytes")
	bytes, objects := s.pods[0].metric(b, "go_memstats_alloc_bytes_total"), s.pods[0].metric(b, "go_memstats_mallocs_total")
	empty, before, all := meter.RSS(b, api), meter.CPU(api), s.allCPU()
	profiled := s.keepCPU(b, "8")
	b.ResetTimer()
	sockets := s.openAll(b, who[groupSize:])
	b.StopTimer()
	opened, took := float64(len(sockets)), meter.CPU(api)-before
	b.ReportMetric(took/opened*1000, "api-CPU-s/1000-connects")
	b.ReportMetric((s.allCPU()-all)/opened*1000, "all-CPU-s/1000-connects")
	b.ReportMetric((s.pods[0].metric(b, "go_memstats_alloc_bytes_total")-bytes)/opened/1024, "KiB-allocated/connect")
	b.ReportMetric((s.pods[0].metric(b, "go_memstats_mallocs_total")-objects)/opened, "allocations/connect")
	profiled()
	report := func(when string) {
		b.ReportMetric((s.settle(b)-empty)/opened, "KiB/socket"+when)
		b.ReportMetric((s.pods[0].metric(b, "go_memstats_stack_inuse_bytes")-stack)/opened/1024, "KiB-stack/socket"+when)
		b.ReportMetric((s.pods[0].metric(b, "go_memstats_heap_inuse_bytes")-heap)/opened/1024, "KiB-heap/socket"+when)
		free := s.pods[0].metric(b, "go_memstats_heap_idle_bytes") - s.pods[0].metric(b, "go_memstats_heap_released_bytes")
		b.ReportMetric(free/opened/1024, "KiB-free/socket"+when) // what Go has not given back
		s.keepAs(b, "heap"+when, "heap", "?gc=1")
		s.keepAs(b, "goroutine"+when, "goroutine", "")
	}
	report("")
	b.ReportMetric(0, "ns/op")
	traffic(b, groups, append(first, sockets...))
	report("-after-traffic")
	closeAll(append(first, sockets...))
	for _, r := range rivals(b, 1) {
		r.connections(b, who)
	}
}

// connections opens as many sockets to a rival.
func (r rival) connections(b *testing.B, who []person) {
	b.Helper()
	sockets := r.openAll(b, who[:groupSize])
	opened := float64(len(who) - groupSize)
	empty, before := meter.RSS(b, r.pods[0].PID()), r.podCPU()
	sockets = append(sockets, r.openAll(b, who[groupSize:])...)
	b.ReportMetric((r.podCPU()-before)/opened*1000, r.name+"-CPU-s/1000-connects")
	b.ReportMetric((r.settle(b)-empty)/opened, r.name+"-KiB/socket")
	closeAll(sockets)
}

// traffic has one of each group send some messages to all of it.
func traffic(b *testing.B, groups []string, sockets []*socket) {
	b.Helper()
	const rounds = 5
	r := receive(b, sockets, nil)
	defer r.end(b)
	for i := range rounds {
		for k, g := range groups {
			if err := sockets[k*groupSize+i].send(g, id.New()); err != nil {
				b.Fatal(err)
			}
		}
		r.await(b, int64((i+1)*len(sockets)))
	}
}

// settle waits until the api's memory has not shrunk by a hundredth for some seconds: what the upgrades left is given back by and by.
func (s *system) settle(b *testing.B) float64 {
	b.Helper()
	const steady, limit = 15 * time.Second, 3 * time.Minute
	least, since := meter.RSS(b, s.pods[0].PID()), time.Now()
	for end := since.Add(limit); time.Since(since) < steady && time.Now().Before(end); time.Sleep(time.Second) {
		if now := meter.RSS(b, s.pods[0].PID()); now < least*0.99 {
			least, since = now, time.Now()
		}
	}
	return least
}
