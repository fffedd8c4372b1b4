package push

import "github.com/prometheus/client_golang/prometheus"

// Metrics are the metrics of the Decider and the Sender.
type Metrics struct {
	decisions *prometheus.CounterVec
	sends     *prometheus.CounterVec
	seconds   *prometheus.HistogramVec
	decided   prometheus.Gauge
}

// Outcomes of sends.
const (
	sendDelivered   = "delivered"
	sendGone        = "gone"        // the provider no longer knows the device, which is removed
	sendRetried     = "retried"     // tried again later
	sendDropped     = "dropped"     // given up after the last attempt
	sendRefused     = "refused"     // refused for good
	sendUnnecessary = "unnecessary" // not sent: read or deleted meanwhile, the device has ended, or its provider is not configured
)

// NewMetrics registers the metrics.
func NewMetrics(r prometheus.Registerer) *Metrics {
	m := &Metrics{
		decisions: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "parley_push_decisions_total", Help: "Decisions whether a member of a conversation gets a push, by outcome: sent, or why not.",
		}, []string{"outcome"}),
		sends: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "parley_push_sends_total",
			Help: "Attempts to send a push to a device, by provider and outcome: delivered, gone, retried, dropped, refused or unnecessary.",
		}, []string{"provider", "outcome"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "parley_push_send_seconds", Help: "How long a provider took to answer.", Buckets: []float64{.05, .1, .25, .5, 1, 2.5, 5, 10},
		}, []string{"provider"}),
		decided: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "parley_push_poll_last_success_timestamp_seconds",
			Help: "When this dispatcher last looked for messages to decide on, without an error; when it started, until then.",
		}),
	}
	m.decided.SetToCurrentTime()
	for _, o := range outcomes {
		m.decisions.WithLabelValues(o)
	}
	for _, p := range []string{ProviderWebPush, ProviderFCM} {
		m.seconds.WithLabelValues(p)
		for _, o := range []string{sendDelivered, sendGone, sendRetried, sendDropped, sendRefused, sendUnnecessary} {
			m.sends.WithLabelValues(p, o)
		}
	}
	r.MustRegister(m.decisions, m.sends, m.seconds, m.decided)
	return m
}
