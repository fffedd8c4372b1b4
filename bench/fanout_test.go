package bench

import (
	"fmt"
	"testing"
	"time"

	"github.com/parley-chat/parley/internal/id"
)

// fanout is one way to load a group.
type fanout struct {
	name     string
	senders  int   // sockets that take turns
	inFlight int64 // messages that some receiver may still lack
}

// BenchmarkFanout sends to one group whose members all listen, and reports the api's CPU per million deliveries: sends,
// their commits and what Redis brings included. Beside it, in turns, its rivals write as much to as many sockets.
func BenchmarkFanout(b *testing.B) {
	ways := []fanout{{"one", 1, 1}, {"moderate", 50, 8}, {"backlog", 50, 64}, {"one-sender", 1, 64}}
	for _, pods := range []int{1, 2} {
		b.Run(fmt.Sprintf("pods=%d", pods), func(b *testing.B) {
			s, others := start(b, pods), rivals(b, pods)
			for _, n := range []int{100, 1000, 5000} {
				b.Run(fmt.Sprintf("receivers=%d", n), func(b *testing.B) {
					who := s.people(b, n)
					g := s.group(b, who)
					sockets := s.openAll(b, who)
					all := []audience{{"api", receive(b, sockets, nil), int64(n), s.podCPU, nil}}
					for _, o := range others {
						all = append(all, audience{o.name, receive(b, o.openAll(b, who), nil), int64(n), o.podCPU,
							func(int64) error { return o.say(text) }})
					}
					for _, w := range ways {
						all[0].send = func(i int64) error { return sockets[i%int64(w.senders)].send(g, id.New()) }
						b.Run(w.name, func(b *testing.B) {
							stop := s.keepCPU(b, "3")
							defer stop()
							fanOut(b, w, all)
						})
					}
				})
			}
		})
	}
}

// audience is sockets that all get each message.
type audience struct {
	name string
	*receivers
	n    int64
	cpu  func() float64 // what those who serve it have used, in seconds
	send func(i int64) error
}

// deliver sends so many messages, at most some of them in flight. It returns the CPU and the time that this took, in seconds.
func (a audience) deliver(b *testing.B, messages, inFlight int64) (cpu, took float64) {
	b.Helper()
	had, before, start := a.got.Load(), a.cpu(), time.Now()
	for i := range messages {
		a.await(b, had+(i-inFlight+1)*a.n)
		if err := a.send(i); err != nil {
			b.Fatal(err)
		}
	}
	a.await(b, had+messages*a.n)
	cpu, took = a.cpu()-before, time.Since(start).Seconds()
	if got := a.got.Load() - had; got != messages*a.n {
		b.Fatalf("%d deliveries, want %d", got, messages*a.n)
	}
	return cpu, took
}

// fanOut makes some hundred thousand deliveries, or more, a turn.
func fanOut(b *testing.B, w fanout, all []audience) {
	const turns = 2
	round := max(40, 200_000/all[0].n)
	if w.inFlight > 1 {
		round = max(300, 500_000/all[0].n)
	}
	used, spent := make([]float64, len(all)), make([]float64, len(all))
	for range b.N * turns {
		for i, a := range all {
			cpu, took := a.deliver(b, round, w.inFlight)
			used[i], spent[i] = used[i]+cpu, spent[i]+took
		}
	}
	for i, a := range all {
		b.ReportMetric(used[i]/float64(int64(b.N*turns)*round*a.n)*1e6, a.name+"-CPU-s/M")
		b.ReportMetric(float64(int64(b.N*turns)*round)/spent[i], a.name+"-messages/s")
	}
	b.ReportMetric(0, "ns/op")
}
