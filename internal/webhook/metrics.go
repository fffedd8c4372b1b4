package webhook

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Metrics are a dispatcher's.
type Metrics struct {
	attempts *prometheus.CounterVec
	first    prometheus.Histogram
	dead     *prometheus.GaugeVec
	state    *prometheus.GaugeVec
	lag      *prometheus.GaugeVec
	polled   prometheus.Gauge
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
		dead: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "parley_webhook_dead", Help: "Events that an endpoint refused for good while it accepted others, and that were neither retried nor dropped. All dispatchers report the same.",
		}, []string{"endpoint"}),
		state: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "parley_webhook_endpoint_state", Help: "1 for the state that an endpoint is in: active, failing or disabled. All dispatchers report the same.",
		}, []string{"endpoint", "state"}),
		lag: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "parley_journal_lag_seconds", Help: "Age of the oldest change that waits for a follower of the journal, 0 if none does; of a webhook that is not disabled, as webhook:NAME, of pushes as push. All dispatchers report the same.",
		}, []string{"consumer"}),
	}
	m.polled = prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "parley_webhook_poll_last_success_timestamp_seconds", Help: "When this dispatcher last looked for what is to be delivered, without an error; when it started, until then.",
	})
	m.polled.SetToCurrentTime()
	r.MustRegister(m.attempts, m.first, m.dead, m.state, m.lag, m.polled)
	return m
}

// consumer returns the label of an endpoint as a consumer of the journal.
func consumer(endpoint string) string { return "webhook:" + endpoint }

var endpointStates = []string{StateActive, StateFailing, StateDisabled}

// Lag sets the lag of another consumer of the journal, in seconds.
func (m *Metrics) Lag(consumer string, seconds float64) { m.lag.WithLabelValues(consumer).Set(seconds) }

// set sets the gauges of an endpoint.
func (m *Metrics) set(s *standing) {
	for _, state := range endpointStates {
		if state == s.state {
			m.state.WithLabelValues(s.name, state).Set(1)
		} else {
			m.state.DeleteLabelValues(s.name, state)
		}
	}
	m.dead.WithLabelValues(s.name).Set(float64(s.dead))
	if s.state == StateDisabled { // its events wait on purpose
		m.lag.DeleteLabelValues(consumer(s.name))
		return
	}
	m.lag.WithLabelValues(consumer(s.name)).Set(s.lag)
}

// remove removes the gauges of an endpoint that is gone.
func (m *Metrics) remove(endpoint string) {
	m.state.DeletePartialMatch(prometheus.Labels{"endpoint": endpoint})
	m.dead.DeleteLabelValues(endpoint)
	m.lag.DeleteLabelValues(consumer(endpoint))
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
	if w.firstFailed.IsZero() {
		m.first.Observe(max(time.Since(committed), 0).Seconds())
	}
}
