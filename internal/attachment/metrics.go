package attachment

import "github.com/prometheus/client_golang/prometheus"

// Outcomes of uploads, for metrics.
const (
	outcomeCreated  = "created"
	outcomeReady    = "ready"
	outcomeMismatch = "mismatch"
	outcomeUnsent   = "unsent"
	outcomeRemoved  = "removed"
)

// Metrics are the metrics of files.
type Metrics struct {
	uploads *prometheus.CounterVec
	// swept is nil in a process that does not sweep.
	swept prometheus.Gauge
}

// NewMetrics registers the metrics, with a series for each of the outcomes that the process counts.
func NewMetrics(r prometheus.Registerer, states ...string) *Metrics {
	m := &Metrics{uploads: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "parley_uploads_total",
		Help: "Uploads by state: created, ready or mismatch at their completion, unsent when housekeeping discards them, removed once their object is deleted.",
	}, []string{"state"})}
	r.MustRegister(m.uploads)
	for _, s := range states {
		m.uploads.WithLabelValues(s)
	}
	return m
}

// NewSweepMetrics registers the metrics of a receipt-worker, which runs the sweep.
func NewSweepMetrics(r prometheus.Registerer) *Metrics {
	m := NewMetrics(r, SweepStates...)
	m.swept = prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "parley_uploads_sweep_last_success_timestamp_seconds",
		Help: "When this worker last removed all files that were to go; when it started, until then; 0 without a storage. Workers take turns.",
	})
	r.MustRegister(m.swept)
	return m
}

// RequestStates are the outcomes that an api counts, SweepStates those of a receipt-worker.
var (
	RequestStates = []string{outcomeCreated, outcomeReady, outcomeMismatch}
	SweepStates   = []string{outcomeUnsent, outcomeRemoved}
)

func (m *Metrics) count(state string) { m.uploads.WithLabelValues(state).Inc() }
