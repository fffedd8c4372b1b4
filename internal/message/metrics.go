package message

import "github.com/prometheus/client_golang/prometheus"

// Metrics are the metrics of messages.
type Metrics struct {
	accepted     prometheus.Counter
	refused      prometheus.Counter
	queue        prometheus.Gauge
	batchSize    prometheus.Histogram
	batchSeconds prometheus.Histogram
}

// NewMetrics registers the metrics.
func NewMetrics(r prometheus.Registerer) *Metrics {
	m := &Metrics{
		accepted: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "parley_messages_accepted_total",
			Help: "Messages that were stored.",
		}),
		refused: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "parley_messages_refused_busy_total",
			Help: "Sends that were refused because too many waited for their commit.",
		}),
		queue: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "parley_message_queue",
			Help: "Sends that waited for their commit when the last commit ended.",
		}),
		batchSize: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "parley_message_batch_size",
			Help:    "Messages in one batch commit.",
			Buckets: []float64{1, 2, 4, 8, 16, 32, 64},
		}),
		batchSeconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "parley_message_commit_seconds",
			Help:    "Duration of a batch commit in Postgres.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5},
		}),
	}
	r.MustRegister(m.accepted, m.refused, m.queue, m.batchSize, m.batchSeconds)
	return m
}
