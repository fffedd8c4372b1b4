package presence

import "github.com/prometheus/client_golang/prometheus"

// HeartbeatMetrics are the metrics of a pod's own connections.
type HeartbeatMetrics struct {
	connections prometheus.Gauge
	renewed     prometheus.Counter
	errors      prometheus.Counter
}

// NewHeartbeatMetrics registers the metrics.
func NewHeartbeatMetrics(r prometheus.Registerer) *HeartbeatMetrics {
	m := &HeartbeatMetrics{
		connections: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "parley_presence_connections", Help: "Sockets of devices that this pod keeps online.",
		}),
		renewed: prometheus.NewCounter(prometheus.CounterOpts{Name: "parley_presence_renewals_total", Help: "Renewals of connections that Redis accepted."}),
		errors:  prometheus.NewCounter(prometheus.CounterOpts{Name: "parley_presence_heartbeat_errors_total", Help: "Heartbeats that Redis did not accept; they are repeated."}),
	}
	r.MustRegister(m.connections, m.renewed, m.errors)
	return m
}

// WatcherMetrics are the metrics of users who go offline.
type WatcherMetrics struct {
	offline    prometheus.Counter
	lag        prometheus.Histogram
	sweep      prometheus.Histogram
	lost       prometheus.Counter
	heard      prometheus.Counter
	dropped    prometheus.Counter
	errors     prometheus.Counter
	subscribed prometheus.Gauge
	seenRows   prometheus.Counter
	seenErrors prometheus.Counter
}

// NewWatcherMetrics registers the metrics.
func NewWatcherMetrics(r prometheus.Registerer) *WatcherMetrics {
	counter := func(name, help string) prometheus.Counter {
		c := prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
		r.MustRegister(c)
		return c
	}
	m := &WatcherMetrics{
		offline:    counter("parley_presence_offline_total", "Users whom this watcher marked offline."),
		lost:       counter("parley_presence_claims_lost_total", "Users who were due, but whom another watcher had already marked offline."),
		heard:      counter("parley_presence_expiries_total", "Expiries of device keys that this watcher received from Redis."),
		dropped:    counter("parley_presence_expiries_dropped_total", "Expiries that were left to the sweep because the queue was full."),
		errors:     counter("parley_presence_sweep_errors_total", "Sweeps and claims that Redis did not accept; they are repeated."),
		seenRows:   counter("parley_presence_seen_rows_total", "Rows of last_seen_at that were written."),
		seenErrors: counter("parley_presence_seen_errors_total", "Batches of last_seen_at that Postgres did not accept; they are repeated."),
		lag: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "parley_presence_offline_lag_seconds", Help: "Time from a user's last deadline to the published presence:offline, by Redis's clock.",
			Buckets: []float64{.01, .025, .05, .1, .2, .3, .4, .5, .75, 1, 2, 5, 15, 60},
		}),
		sweep: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "parley_presence_sweep_seconds", Help: "Duration of one sweep over all deadlines that are due.",
			Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5},
		}),
		subscribed: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "parley_presence_subscriptions_up", Help: "Redis nodes whose expiries this watcher receives; with 0 it relies on the sweep.",
		}),
	}
	r.MustRegister(m.lag, m.sweep, m.subscribed)
	return m
}
