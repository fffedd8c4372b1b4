package realtime

import (
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/parley-chat/parley/internal/event"
)

// Metrics are what on-call sees of sockets and events.
type Metrics struct {
	active         prometheus.Gauge
	opened         prometheus.Counter
	closedBy       *prometheus.CounterVec
	slowReaders    prometheus.Counter
	heard          prometheus.Counter
	duplicates     prometheus.Counter
	deliveries     prometheus.Counter
	delivery       prometheus.Histogram
	repairs        prometheus.Counter
	repaired       prometheus.Counter
	pollErrors     prometheus.Counter
	published      prometheus.Counter
	publishErrors  prometheus.Counter
	publishDropped prometheus.Counter
	subscriberUp   prometheus.Gauge
	presence       presenceMetrics
}

// presenceMetrics are those of what sockets are told of the presence of others.
type presenceMetrics struct {
	online, offline, hidden, dropped, errors prometheus.Counter
	watched                                  prometheus.Gauge
}

// NewMetrics registers the metrics.
func NewMetrics(r prometheus.Registerer) *Metrics {
	counter := func(name, help string) prometheus.Counter {
		c := prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
		r.MustRegister(c)
		return c
	}
	gauge := func(name, help string) prometheus.Gauge {
		g := prometheus.NewGauge(prometheus.GaugeOpts{Name: name, Help: help})
		r.MustRegister(g)
		return g
	}
	m := &Metrics{
		active:         gauge("websocket_connections_active", "Sockets that are open on this pod."),
		opened:         counter("parley_sockets_opened_total", "Sockets that were opened and got their ready frame."),
		slowReaders:    counter("parley_sockets_slow_total", "Sockets that were closed because their queue was full or a write took too long."),
		heard:          counter("parley_events_heard_total", "Messages that Redis brought to this pod."),
		duplicates:     counter("parley_events_duplicate_total", "Events that were dropped because this pod had told their revision."),
		deliveries:     counter("parley_deliveries_total", "Frames of conversations' events that were queued for sockets."),
		repairs:        counter("parley_gap_repairs_total", "Times that a conversation's missed events were read from Postgres."),
		repaired:       counter("parley_events_repaired_total", "Events that were told from Postgres because Redis did not bring them."),
		pollErrors:     counter("parley_poll_errors_total", "Polls of Postgres for missed events that failed."),
		published:      counter("parley_events_published_total", "Messages that were published to Redis."),
		publishErrors:  counter("parley_publish_errors_total", "Messages that Redis did not take; the pods read them from Postgres."),
		publishDropped: counter("parley_publish_dropped_total", "Messages that were not published because too many waited; the pods read them from Postgres."),
		subscriberUp:   gauge("parley_subscriber_up", "1 while this pod hears Redis."),
		closedBy: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "parley_sockets_closed_total", Help: "Sockets that were closed, by close code.",
		}, []string{"code"}),
		delivery: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "parley_delivery_seconds",
			Help:    "Time from the commit of an event (Postgres's clock) to its frames being queued for this pod's sockets (the pod's clock).",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
		}),
	}
	told := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "parley_presence_told_total", Help: "Frames of presence that were queued for sockets, by type.",
	}, []string{"type"})
	r.MustRegister(m.closedBy, m.delivery, told)
	m.presence = presenceMetrics{
		online: told.WithLabelValues(event.TypePresenceOnline), offline: told.WithLabelValues(event.TypePresenceOffline),
		hidden:  counter("parley_presence_hidden_total", "Times that a socket was told nothing because its user may not see the other's presence."),
		dropped: counter("parley_presence_old_total", "News of presence that were dropped because this pod knew as new ones."),
		errors:  counter("parley_presence_tell_errors_total", "Batches of presence that could not be told because Redis or Postgres did not answer; they are repeated."),
		watched: gauge("parley_presence_watched", "Users whose presence the sockets of this pod watch."),
	}
	for _, code := range []int{1000, 1001, CloseAbnormal, CloseTooLarge, CloseGoingAway, CloseBadFrame, CloseSessionOver, CloseTooSlow, CloseReplaced, CloseTooMany} {
		m.closedBy.WithLabelValues(strconv.Itoa(code))
	}
	return m
}

// closed counts a socket's end. Codes that are a client's invention share one label.
func (m *Metrics) closed(code int) {
	label := strconv.Itoa(code)
	switch {
	case code >= 1000 && code <= 1015:
	case code == CloseBadFrame || code == CloseSessionOver || code == CloseTooSlow || code == CloseReplaced || code == CloseTooMany:
	default:
		label = "other"
	}
	m.closedBy.WithLabelValues(label).Inc()
}

func (m *Metrics) told(e *event.Envelope, sockets int) {
	m.deliveries.Add(float64(sockets))
	if sockets > 0 && e.CommittedAt > 0 {
		m.delivery.Observe(max(0, time.Since(time.UnixMicro(e.CommittedAt)).Seconds()))
	}
}
