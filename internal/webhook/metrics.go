package webhook

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Metrics are a dispatcher's.
type Metrics struct {
	attempts *prometheus.CounterVec
	first    prometheus.Histogram
	dead     *prometheus.CounterVec
	state    *prometheus.GaugeVec
	lag      *prometheus.GaugeVec
}

// NewMetrics registers the metrics.
func NewMetrics(r prometheus.Registerer) *Metrics {
	m := &Metrics{
		attempts: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "parley_webhook_attempts_total", Help: "Deliveries to webhooks, by endpoint and outcome: delivered, refused or unreachable.",
		}, []string{"endpoint", "outcome"}),
		first: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "parley_webhook_first_attempt_seconds", Help: "Time from the commit of a change to its first delivery.",
			Buckets: []float64{.05, .1, .25, .5, 1, 2, 5, 15, 60, 300},
		}),
		dead: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "parley_webhook_dead", Help: "Events that an endpoint refused for good while it accepted others.",
		}, []string{"endpoint"}),
		state: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "parley_webhook_endpoint_state", Help: "1 for the state that an endpoint is in.",
		}, []string{"endpoint", "state"}),
		lag: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "parley_journal_lag_seconds", Help: "Age of the oldest change that a follower of the journal has delivered last.",
		}, []string{"consumer"}),
	}
	r.MustRegister(m.attempts, m.first, m.dead, m.state, m.lag)
	return m
}

func (m *Metrics) observe(endpoints []endpointRow) {
	m.state.Reset()
	for _, e := range endpoints {
		state := StateActive
		if e.failing {
			state = StateFailing
		}
		m.state.WithLabelValues(e.name, state).Set(1)
	}
}

func (m *Metrics) attempt(w *work, o outcome, committed time.Time) {
	result := "refused"
	switch {
	case o.ok():
		result = "delivered"
	case o.status == 0:
		result = "unreachable"
	}
	m.attempts.WithLabelValues(w.endpoint.name, result).Inc()
	if w.replay {
		return
	}
	age := max(time.Since(committed), 0).Seconds()
	if w.firstFailed.IsZero() {
		m.first.Observe(age)
	}
	if o.ok() {
		m.lag.WithLabelValues(w.endpoint.name).Set(age)
	}
}

func (m *Metrics) died(w *work) { m.dead.WithLabelValues(w.endpoint.name).Inc() }
