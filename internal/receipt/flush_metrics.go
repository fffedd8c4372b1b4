package receipt

import "github.com/prometheus/client_golang/prometheus"

// FlushMetrics are the metrics of the receipt-worker.
type FlushMetrics struct {
	duration, lag                            prometheus.Histogram
	rows, markers, dropped, failures, missed prometheus.Counter
	lastSuccess                              prometheus.Gauge
	pending, pendingMessages, age, retrying  prometheus.Gauge
}

// NewFlushMetrics registers the metrics.
func NewFlushMetrics(r prometheus.Registerer) *FlushMetrics {
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
	m := &FlushMetrics{
		duration: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "parley_receipts_flush_seconds", Help: "Duration of one flush of all pending reads.",
			Buckets: []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60},
		}),
		lag: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "parley_receipts_flush_lag_seconds", Help: "Time from a read in a group to its row in Postgres, by Redis's clock.",
			Buckets: []float64{1, 2.5, 5, 7.5, 10, 12.5, 15, 20, 30, 60, 120, 300},
		}),
		rows:            counter("parley_receipts_flush_rows_total", "Pending receipts that became rows."),
		markers:         counter("parley_receipts_flush_markers_total", "Pending markers that moved a member's last_read_seq."),
		dropped:         counter("parley_receipts_flush_dropped_total", "Pending receipts that made no row: already written, or for a message or user that no longer exists."),
		failures:        counter("parley_receipts_flush_failures_total", "Flushes that Redis or Postgres did not accept, and ids that could not be written; all are retried."),
		missed:          counter("parley_receipts_flush_ticks_missed_total", "Attempts to enqueue a flush that Redis did not accept; they are repeated every second."),
		lastSuccess:     gauge("parley_receipts_flush_last_success_timestamp_seconds", "When this worker last completed a flush."),
		pending:         gauge("parley_receipts_pending", "Reads in Redis that are not in Postgres yet; an estimate above 20,000 messages."),
		pendingMessages: gauge("parley_receipts_pending_messages", "Messages with reads that are not in Postgres yet."),
		age:             gauge("parley_receipts_oldest_age_seconds", "Age of the oldest read that is not in Postgres yet, 0 if there is none."),
		retrying:        gauge("parley_receipts_retrying", "Ids that this worker could not write and will retry."),
	}
	r.MustRegister(m.duration, m.lag)
	return m
}

func (m *FlushMetrics) flushed(name string, t totals) {
	if name == nameMarkers {
		m.markers.Add(float64(t.written))
		return
	}
	m.rows.Add(float64(t.written))
	m.dropped.Add(float64(int64(t.rows) - t.written))
}
