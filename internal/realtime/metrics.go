package realtime

import (
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/parley-chat/parley/internal/event"
	"github.com/parley-chat/parley/internal/observe"
	"github.com/parley-chat/parley/internal/realtime/wire"
	"github.com/parley-chat/parley/internal/tracing"
)

// Metrics are the metrics of sockets and events.
type Metrics struct {
	active         prometheus.Gauge
	opened         prometheus.Counter
	ended          *prometheus.CounterVec
	frames         map[string]prometheus.Counter
	dropped        prometheus.Counter
	pings          prometheus.Histogram
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
	publishQueue   prometheus.Gauge
	subscriberUp   prometheus.Gauge
	// subscriberSilent counts subscriptions that were dead without an error, subscriberMoved channels whose slot moved to another node.
	subscriberSilent, subscriberMoved prometheus.Counter
	presence                          presenceMetrics
}

// presenceMetrics count the delivery of presence to sockets.
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
		active:           gauge("websocket_connections_active", "Open sockets of this pod."),
		opened:           counter("parley_sockets_opened_total", "Sockets that were opened and got their ready frame."),
		slowReaders:      counter("parley_sockets_slow_total", "Sockets that were closed because their queue was full or a write took too long."),
		heard:            counter("parley_events_heard_total", "Publications that this pod received from Redis."),
		duplicates:       counter("parley_events_duplicate_total", "Events that were dropped because this pod had already delivered their revision."),
		deliveries:       counter("parley_deliveries_total", "Frames of conversation events that were queued for sockets."),
		repairs:          counter("parley_gap_repairs_total", "Repairs: a conversation's missed events were read from Postgres."),
		repaired:         counter("parley_events_repaired_total", "Events that were delivered from Postgres because Redis did not bring them."),
		pollErrors:       counter("parley_poll_errors_total", "Polls of Postgres for missed events that failed."),
		published:        counter("parley_events_published_total", "Events that were published to Redis."),
		publishErrors:    counter("parley_publish_errors_total", "Events that Redis did not accept; the pods read them from Postgres."),
		publishDropped:   counter("parley_publish_dropped_total", "Events that were not published because too many waited; the pods read them from Postgres."),
		publishQueue:     gauge("parley_publish_queue", "Events that wait to be published to Redis."),
		subscriberUp:     gauge("parley_subscriber_up", "1 while this pod's subscription to Redis is established and receives messages or replies."),
		subscriberSilent: counter("parley_subscriber_silent_total", "Times that the subscription to Redis was replaced because it received nothing, not even replies to its pings."),
		subscriberMoved:  counter("parley_subscriber_moved_total", "Sharded channels whose slot moved to another node of the cluster; the pod subscribed there."),
		dropped:          counter("parley_socket_frames_dropped_total", "Frames that were dropped because a socket's queue was full or its write took too long; the client syncs."),
		ended: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "parley_sockets_closed_total", Help: "Sockets that were closed, by close code and reason.",
		}, []string{"code", "reason"}),
		delivery: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "parley_delivery_seconds",
			Help: "Time from the commit of an event (Postgres's clock) to its write to a socket (the pod's clock): one observation " +
				"for up to 16 sockets that a flusher writes in a row, of the oldest event among theirs. Writes that wait for a slow " +
				"client are not counted.",
			Buckets: deliveryBuckets,
		}),
		pings: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "parley_socket_ping_seconds", Help: "Time from a protocol ping to the client's pong.", Buckets: deliveryBuckets,
		}),
		frames: map[string]prometheus.Counter{},
	}
	frames := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "parley_socket_frames_sent_total", Help: "Frames that were queued for sockets, by type.",
	}, []string{"type"})
	for _, t := range frameTypes {
		m.frames[t] = frames.WithLabelValues(t)
	}
	changes := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "parley_presence_told_total", Help: "Frames of presence that were queued for sockets, by type.",
	}, []string{"type"})
	r.MustRegister(m.ended, m.delivery, m.pings, frames, changes)
	m.presence = presenceMetrics{
		online: changes.WithLabelValues(event.TypePresenceOnline), offline: changes.WithLabelValues(event.TypePresenceOffline),
		hidden:  counter("parley_presence_hidden_total", "Changes of presence that were not delivered to a socket because its user may not see them."),
		dropped: counter("parley_presence_old_total", "Presence updates that were dropped because this pod already had the same or a newer version."),
		errors:  counter("parley_presence_tell_errors_total", "Batches of presence that could not be delivered because Redis or Postgres did not reply; they are repeated."),
		watched: gauge("parley_presence_watched", "Users whose presence the sockets of this pod watch."),
	}
	for _, c := range Closings {
		m.ended.WithLabelValues(strconv.Itoa(c.Code), c.Reason)
	}
	m.ended.WithLabelValues(strconv.Itoa(CloseTooSlow), reasonWriteTimeout)
	for _, reason := range []string{reasonLost, reasonSilent, reasonWriteError, reasonPanic} {
		m.ended.WithLabelValues(strconv.Itoa(CloseAbnormal), reason)
	}
	for _, code := range []string{"1000", "1001"} {
		m.ended.WithLabelValues(code, reasonPeer)
	}
	return m
}

// deliveryBuckets have the bound of the objective, 0.25 s.
var deliveryBuckets = []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10}

// Types of frames that are not events, for metrics.
const (
	typeProtocolPing = "protocol_ping"
	typeProtocolPong = "protocol_pong"
	typeOther        = "other"
)

var frameTypes = append([]string{typeProtocolPing, typeProtocolPong, typeOther}, event.Types...)

// closed counts a socket's end. Codes that Parley does not know, which clients may send, share one label.
func (m *Metrics) closed(code int, reason string) {
	label := "other"
	if code >= 1000 && code <= 1015 || closings[code].Code != 0 && reason != reasonPeer {
		label = strconv.Itoa(code)
	}
	m.ended.WithLabelValues(label, reason).Inc()
}

// sent counts n frames of a type.
func (m *Metrics) sent(typ string, n int) {
	c := m.frames[typ]
	if c == nil {
		c = m.frames[typeOther]
	}
	c.Add(float64(n))
}

// queued counts the frames of an event.
func (m *Metrics) queued(typ string, sockets int) {
	m.deliveries.Add(float64(sockets))
	m.sent(typ, sockets)
}

// delivered measures an event that was written to a socket.
func (m *Metrics) delivered(e *wire.Envelope, at time.Time) {
	observe.Exemplar(m.delivery, max(0, time.Duration(at.UnixMicro()-e.CommittedAt)*time.Microsecond).Seconds(), tracing.ID(e.TraceParent))
}
