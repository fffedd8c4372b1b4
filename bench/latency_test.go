package bench

import (
	"bytes"
	"fmt"
	"strconv"
	"testing"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"github.com/parley-chat/parley/internal/id"
)

// BenchmarkLatency finds how many messages a second can be told to a group of 1,000, sends at half of that rate whether
// or not what went before has come, and reports how long a message took from when it was due to each receiver. A bare
// broadcaster is measured in the same way beside it.
func BenchmarkLatency(b *testing.B) {
	const receivers, senders = 1000, 32
	span := time.Duration(size(b, "SECONDS", 5)) * time.Second
	s, limit := start(b, 1), startBare(b, 1)
	who := s.people(b, receivers)
	g := s.group(b, who)
	sockets, bareSockets := s.openAll(b, who), limit.openAll(b, who)
	ours := timed{lags: watch(sockets), audience: audience{receive(b, sockets, nil), receivers, s.podCPU}}
	ours.say = func(i int64, content string) error { return sockets[i%senders].say(g, id.New(), content) }
	bare := timed{lags: watch(bareSockets), audience: audience{receive(b, bareSockets, nil), receivers, limit.podCPU}}
	bare.say = func(_ int64, content string) error { return limit.say(content) }
	for range b.N {
		ours.measure(b, span)
		bare.measure(b, span)
	}
	ours.report(b, "")
	bare.report(b, "bare-")
}

// timed is an audience whose messages tell when they were due.
type timed struct {
	audience
	say  func(i int64, content string) error
	lags *hdrhistogram.Histogram // µs
	rate float64                 // messages a second at saturation, the last one measured
}

var inContent = []byte(`"content":"`)

// stamp is a content of the usual length that begins with a time.
func stamp(t time.Time) string {
	s := strconv.FormatInt(t.UnixNano(), 10)
	return s + text[len(s):]
}

// watch has the sockets tell the lag of what they get, in µs. One thread may read them all.
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

func (a *timed) measure(b *testing.B, span time.Duration) {
	b.Helper()
	a.rate = a.saturate(b, span)
	a.lags.Reset()
	had, sent := a.got.Load(), int64(0)
	for begun := time.Now(); time.Since(begun) < span; sent++ {
		due := begun.Add(time.Duration(float64(sent) / (a.rate / 2) * float64(time.Second)))
		time.Sleep(time.Until(due))
		if err := a.say(sent, stamp(due)); err != nil {
			b.Fatal(err)
		}
	}
	a.await(b, had+sent*a.n)
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

func (a *timed) report(b *testing.B, prefix string) {
	b.Helper()
	b.ReportMetric(a.rate, prefix+"messages/s-saturated")
	for _, q := range []float64{50, 99} {
		b.ReportMetric(float64(a.lags.ValueAtQuantile(q))/1000, fmt.Sprintf("%sp%.0f-ms", prefix, q))
	}
	b.ReportMetric(0, "ns/op")
}
