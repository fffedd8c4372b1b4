package realtime

import (
	"context"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/parley-chat/parley/internal/id"
	"github.com/parley-chat/parley/internal/lifecycle"
	"github.com/parley-chat/parley/internal/rediskey"
)

const probeEvery = time.Second

// Probe measures the time from publishing to receiving. Each pod sends a message to itself every second, in the same way as events. So both
// times are from one clock, and even an idle pod notices if it receives nothing.
type Probe struct {
	publisher *Publisher
	channel   string
	born      time.Time
	last      atomic.Int64 // when a message was last received, in nanoseconds since born
	lag       prometheus.Histogram
}

// NewProbe makes a probe and adds its channel to the channels. It needs its Run.
func NewProbe(p *Publisher, c *Channels, r prometheus.Registerer) *Probe {
	b := &Probe{
		publisher: p, channel: rediskey.ProbeChannel(id.New()), born: time.Now(),
		lag: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "parley_pubsub_lag_seconds", Help: "Time from publishing to receiving, which each pod measures with a message to itself every second.",
			Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
		}),
	}
	r.MustRegister(b.lag, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "parley_pubsub_silence_seconds", Help: "Time since this pod last received its own message; normally below 2.",
	}, func() float64 { return (b.now() - time.Duration(b.last.Load())).Seconds() }))
	c.add(b.channel)
	return b
}

func (b *Probe) now() time.Duration { return time.Since(b.born) }

// Run publishes a message every second until ctx ends.
func (b *Probe) Run(ctx context.Context) error {
	return lifecycle.Every(ctx, probeEvery, func(context.Context) {
		b.publisher.add(b.channel, strconv.AppendInt(nil, int64(b.now()), 10))
	})
}

// heard processes a message of the probe.
func (b *Probe) heard(payload string) {
	sent, err := strconv.ParseInt(payload, 10, 64)
	if err != nil {
		return
	}
	now := b.now()
	b.last.Store(int64(now))
	b.lag.Observe((now - time.Duration(sent)).Seconds())
}
