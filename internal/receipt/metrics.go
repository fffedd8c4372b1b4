package receipt

import "github.com/prometheus/client_golang/prometheus"

// The destination of a read, as a label.
const (
	pathDirect   = "direct"
	pathBuffered = "buffered"
	pathFallback = "fallback"
)

// Metrics count the reads of a pod.
type Metrics struct {
	reads     *prometheus.CounterVec
	refused   prometheus.Counter
	frames    prometheus.Counter
	coalesced prometheus.Counter
}

// NewMetrics registers the metrics.
func NewMetrics(r prometheus.Registerer) *Metrics {
	m := &Metrics{
		reads: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "parley_receipts_reads_total",
			Help: "Reads that changed something, by destination: direct to Postgres, buffered in Redis, or fallback to Postgres because Redis was unavailable.",
		}, []string{"path"}),
		refused:   prometheus.NewCounter(prometheus.CounterOpts{Name: "parley_receipts_refused_total", Help: "Reads that were refused because too many waited."}),
		frames:    prometheus.NewCounter(prometheus.CounterOpts{Name: "parley_receipts_frames_total", Help: "Frames of receipt:read that were published for senders' sockets."}),
		coalesced: prometheus.NewCounter(prometheus.CounterOpts{Name: "parley_receipts_coalesced_total", Help: "Receipts that share a frame with others."}),
	}
	r.MustRegister(m.reads, m.refused, m.frames, m.coalesced)
	for _, p := range []string{pathDirect, pathBuffered, pathFallback} {
		m.reads.WithLabelValues(p)
	}
	return m
}

func (m *Metrics) count(r stored, path string) {
	if r.fresh || r.moved {
		m.reads.WithLabelValues(path).Inc()
	}
}
