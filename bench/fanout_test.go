package bench

import (
	"fmt"
	"testing"

	"github.com/parley-chat/parley/internal/id"
)

// fanout is one way to load a group.
type fanout struct {
	name     string
	senders  int // sockets that take turns
	inFlight int // messages that some receiver may still lack
}

// BenchmarkFanout sends to one group whose members all listen, and reports the api's CPU per million deliveries: sends,
// their commits and what Redis brings included.
func BenchmarkFanout(b *testing.B) {
	ways := []fanout{{"one", 1, 1}, {"backlog", 32, 64}}
	for _, pods := range []int{1, 2} {
		b.Run(fmt.Sprintf("pods=%d", pods), func(b *testing.B) {
			s := start(b, pods)
			for _, n := range []int{100, 1000, 5000} {
				b.Run(fmt.Sprintf("receivers=%d", n), func(b *testing.B) {
					who := s.people(b, n)
					g := s.group(b, who)
					sockets := s.openAll(b, who)
					r := receive(b, sockets, nil)
					for _, w := range ways {
						b.Run(w.name, func(b *testing.B) { s.fanOut(b, w, g, sockets, r) })
					}
				})
			}
		})
	}
}

// fanOut makes some hundred thousand deliveries, or more, an operation.
func (s *system) fanOut(b *testing.B, w fanout, group string, sockets []*socket, r *receivers) {
	n := int64(len(sockets))
	round := max(40, 200_000/n)
	if w.inFlight > 1 {
		round = max(300, 500_000/n)
	}
	had := r.got.Load()
	before, all := s.podCPU(), s.allCPU()
	var sent int64
	stop := s.keepCPU(b, "3")
	for range b.N {
		for range round {
			r.await(b, had+(sent-int64(w.inFlight)+1)*n)
			if err := sockets[sent%int64(w.senders)].send(group, id.New()); err != nil {
				b.Fatal(err)
			}
			sent++
		}
		r.await(b, had+sent*n)
	}
	millions := float64(sent*n) / 1e6
	b.ReportMetric((s.podCPU()-before)/millions, "api-CPU-s/M")
	b.ReportMetric((s.allCPU()-all)/millions, "all-CPU-s/M")
	b.ReportMetric(float64(sent*n)/b.Elapsed().Seconds(), "deliveries/s")
	b.ReportMetric(0, "ns/op")
	stop()
	if got := r.got.Load() - had; got != sent*n {
		b.Fatalf("%d deliveries, want %d", got, sent*n)
	}
}
