package bench

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/parley-chat/parley/bench/meter"
	"github.com/parley-chat/parley/internal/id"
)

// BenchmarkSizing measures what a size is reckoned from (docs/operating.md): what idle sockets, and a steady stream of
// messages in groups of ten, take of each process. Nobody reads the idle ones, so that part is
// shorter than a ping is waited for.
func BenchmarkSizing(b *testing.B) {
	const idle, stream, perSecond = 20 * time.Second, 20 * time.Second, 100
	n := meter.Size(b, "SOCKETS", 2000) / groupSize * groupSize
	s := start(b, 1)
	who := s.people(b, n)
	var groups []string
	for i := 0; i < n; i += groupSize {
		groups = append(groups, s.group(b, who[i:i+groupSize]))
	}
	rdb := s.redis.Client(b)
	memory := func() float64 {
		v, err := strconv.ParseFloat(rdb.InfoMap(b.Context(), "memory").Item("Memory", "used_memory"), 64)
		if err != nil {
			b.Fatal(err)
		}
		return v
	}
	api, pg, redis := s.pods[0].PID(), s.pg.PID(), s.redis.PID()
	redisBefore := memory()
	sockets := s.openAll(b, who)
	thousands := float64(n) / 1000
	b.ReportMetric((memory()-redisBefore)/thousands/(1<<20), "redis-MiB/1000-sockets")

	a, p, r := meter.CPU(api), meter.CPU(pg), meter.CPU(redis)
	time.Sleep(idle)
	b.ReportMetric((meter.CPU(api)-a)/idle.Seconds()/thousands*1000, "idle-api-millicores/1000-sockets")
	b.ReportMetric((meter.CPU(pg)-p)/idle.Seconds()*1000, "idle-postgres-millicores")
	b.ReportMetric((meter.CPU(redis)-r)/idle.Seconds()/thousands*1000, "idle-redis-millicores/1000-sockets")

	got := receive(b, sockets, nil)
	var before float64
	if err := s.db.QueryRow(`SELECT pg_database_size(current_database())`).Scan(&before); err != nil {
		b.Fatal(err)
	}
	a, p, r = meter.CPU(api), meter.CPU(pg), meter.CPU(redis)
	tick := time.NewTicker(time.Second / perSecond)
	defer tick.Stop()
	sent := 0
	for begun := time.Now(); time.Since(begun) < stream; sent++ {
		<-tick.C
		g := sent % len(groups)
		if err := sockets[g*groupSize+sent/len(groups)%groupSize].send(groups[g], id.New()); err != nil {
			b.Fatal(err)
		}
	}
	got.await(b, int64(sent*groupSize))
	hundreds := float64(sent) / stream.Seconds() / 100
	b.ReportMetric((meter.CPU(api)-a)/stream.Seconds()/hundreds*1000, "api-millicores/100-messages/s")
	b.ReportMetric((meter.CPU(pg)-p)/stream.Seconds()/hundreds*1000, "postgres-millicores/100-messages/s")
	b.ReportMetric((meter.CPU(redis)-r)/stream.Seconds()/hundreds*1000, "redis-millicores/100-messages/s")
	var after float64
	if err := s.db.QueryRow(`SELECT pg_database_size(current_database())`).Scan(&after); err != nil {
		b.Fatal(err)
	}
	b.ReportMetric((after-before)/float64(sent), "postgres-B/message")
	b.ReportMetric(0, "ns/op")
	if strings.Contains(s.pods[0].Logs(), "level=ERROR") {
		b.Error("the api logged errors")
	}
}
