package bench

import (
	"bytes"
	"strconv"
	"testing"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"github.com/parley-chat/parley/bench/meter"
	"github.com/parley-chat/parley/internal/id"
)

// BenchmarkLatency finds how many messages a second can be delivered to a group of 1,000, sends at half of that rate whether
// or not what went before has come, and reports how long a message took from when it was due to each receiver. Its rivals
// are measured in the same way beside it; and all of them at one rate, half of what the slowest can.
func BenchmarkLatency(b *testing.B) {
	const receivers, senders = 1000, 32
	span := time.Duration(meter.Size(b, "SECONDS", 5)) * time.Second
	s := start(b, 1)
	who := s.people(b, receivers)
	g := s.group(b, who)
	sockets := s.openAll(b, who)
	all := []*timed{listen(b, "", sockets, func(i int64, content string) error { return sockets[i%senders].say(g, id.New(), content) })}
	for _, o := range rivals(b, 1) {
		all = append(all, listen(b, o.name+"-", o.openAll(b, who), func(_ int64, content string) error { return o.say(content) }))
	}
	for range b.N {
		slowest := all[0]
		for _, a := range all {
			a.rate = a.saturate(b, span)
			a.half = a.at(b, a.rate/2, span)
			if a.rate < slowest.rate {
				slowest = a
			}
		}
		for _, a := range all {
			a.same = a.at(b, slowest.rate/2, span)
		}
	}
	for _, a := range all {
		b.ReportMetric(a.rate, a.name+"messages/s-saturated")
		b.ReportMetric(a.half.p50, a.name+"p50-ms")
		b.ReportMetric(a.half.p99, a.name+"p99-ms")
		b.ReportMetric(a.same.p50, a.name+"p50-ms-at-one-rate")
		b.ReportMetric(a.same.p99, a.name+"p99-ms-at-one-rate")
		if a.name == centrifugo+"-" {
			b.ReportMetric(all[0].same.p99/a.same.p99, "p99-of-centrifugo's")
		}
	}
	b.ReportMetric(0, "ns/op")
}

// timed is sockets that all get each message, which contains the time it was due.
type timed struct {
	name string // before its units
	*receivers
	n    int64
	say  func(i int64, content string) error
	lags *hdrhistogram.Histogram // µs

	// The last that was measured.
	rate       float64 // messages a second at saturation
	half, same quantiles
}

// quantiles are of lags, in ms.
type quantiles struct{ p50, p99 float64 }

// listen starts to read the sockets.
func listen(b *testing.B, name string, sockets []*socket, say func(int64, string) error) *timed {
	b.Helper()
	lags := watch(sockets)
	return &timed{name: name, receivers: receive(b, sockets, nil), n: int64(len(sockets)), say: say, lags: lags}
}

var inContent = []byte(`"content":"`)

// stamp is a content of the usual length that begins with a time.
func stamp(t time.Time) string {
	s := strconv.FormatInt(t.UnixNano(), 10)
	return s + text[len(s):]
}

// watch makes the sockets report the lag of what they get, in µs. One thread may read them all.
func watch(sockets []*socket) *hdrhistogram.Histogram {
	lags := hdrhistogram.New(1, time.Minute.Microseconds(), 3)
	on := func(payload []byte) {
		i := bytes.Index(payload, inContent) + len(inContent)
		due, _ := strconv.ParseInt(string(payload[i:i+19]), 10, 64)
		_ = lags.RecordValue(max(1, (time.Now().UnixNano()-due)/1000))
	}
	for _, s := range sockets {
		s.on = on
	}
	return lags
}

// at sends so many messages a second and returns how long they took.
func (a *timed) at(b *testing.B, rate float64, span time.Duration) quantiles {
	b.Helper()
	end := time.Now().Add(span)
	return a.while(b, rate, func() bool { return time.Now().Before(end) })
}

// while is at for as long as goOn says.
func (a *timed) while(b *testing.B, rate float64, goOn func() bool) quantiles {
	b.Helper()
	a.lags.Reset()
	had, sent := a.got.Load(), int64(0)
	for begun := time.Now(); goOn(); sent++ {
		due := begun.Add(time.Duration(float64(sent) / rate * float64(time.Second)))
		time.Sleep(time.Until(due))
		if err := a.say(sent, stamp(due)); err != nil {
			b.Fatal(err)
		}
	}
	a.await(b, had+sent*a.n)
	return quantiles{float64(a.lags.ValueAtQuantile(50)) / 1000, float64(a.lags.ValueAtQuantile(99)) / 1000}
}

// saturate keeps 64 messages in flight and answers how many there were a second.
func (a *timed) saturate(b *testing.B, span time.Duration) float64 {
	b.Helper()
	const inFlight = 64
	had, sent, begun := a.got.Load(), int64(0), time.Now()
	for ; time.Since(begun) < span; sent++ {
		a.await(b, had+(sent-inFlight+1)*a.n)
		if err := a.say(sent, stamp(time.Now())); err != nil {
			b.Fatal(err)
		}
	}
	a.await(b, had+sent*a.n)
	return float64(sent) / time.Since(begun).Seconds()
}
