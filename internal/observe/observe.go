// Package observe has the log, the metrics and the ops endpoints of a process.
package observe

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Version and Commit are stamped by the linker.
var (
	Version = "dev"
	Commit  = "unknown"
)

// NewRegistry makes the process's registry, with the Go runtime's and the process's own collectors, and the log's counts.
func NewRegistry(process string, log *slog.Logger) *prometheus.Registry {
	r := prometheus.NewRegistry()
	info := prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "parley_build_info",
		Help: "1, with the version and the commit that this process was built from.",
	}, []string{"process", "version", "commit"})
	info.WithLabelValues(process, Version, Commit).Set(1)
	r.MustRegister(info, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	if h, ok := log.Handler().(*handler); ok {
		r.MustRegister(h.records)
	}
	return r
}

// Exemplar observes a value, with the id of its trace if there is one.
func Exemplar(o prometheus.Observer, v float64, traceID string) {
	if e, ok := o.(prometheus.ExemplarObserver); ok && traceID != "" {
		e.ObserveWithExemplar(v, prometheus.Labels{"trace_id": traceID})
		return
	}
	o.Observe(v)
}

// NewPanicCounter counts the panics that were caught.
func NewPanicCounter(r prometheus.Registerer) *prometheus.CounterVec {
	c := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "parley_panics_total",
		Help: "Panics that were caught, by part of the process.",
	}, []string{"part"})
	r.MustRegister(c)
	return c
}

// MetricsHandler serves the registry as Prometheus and OpenMetrics text.
func MetricsHandler(r *prometheus.Registry) http.Handler {
	return promhttp.HandlerFor(r, promhttp.HandlerOpts{EnableOpenMetrics: true, Registry: r})
}

// Ops is the server of a process's own endpoints: /metrics, /healthz and /readyz.
type Ops struct {
	Addr     string
	Registry *prometheus.Registry
	// Ready reports why the process is not ready, nil if it is.
	Ready func(ctx context.Context) error
	Log   *slog.Logger
}

const opsTimeout = 5 * time.Second

// Run serves until ctx ends.
func (o *Ops) Run(ctx context.Context) error {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", MetricsHandler(o.Registry))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok\n") })
	mux.HandleFunc("GET /readyz", o.readyz)
	l, err := net.Listen("tcp", o.Addr)
	if err != nil {
		return err
	}
	o.Log.Info("ops endpoints are served", "addr", l.Addr().String())
	s := &http.Server{Handler: mux, ErrorLog: slog.NewLogLogger(o.Log.Handler(), slog.LevelWarn), ReadHeaderTimeout: opsTimeout, ReadTimeout: opsTimeout, WriteTimeout: 2 * opsTimeout}
	stop := context.AfterFunc(ctx, func() { _ = s.Close() })
	defer stop()
	if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

func (o *Ops) readyz(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), opsTimeout)
	defer cancel()
	if err := o.Ready(ctx); err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	_, _ = io.WriteString(w, "ok\n")
}
