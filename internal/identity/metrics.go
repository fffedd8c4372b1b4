package identity

import (
	"math"

	"github.com/prometheus/client_golang/prometheus"
)

// Reasons for the rejection of tokens, for metrics and the log.
const (
	reasonSize      = "size"
	reasonForm      = "form"
	reasonHeader    = "header"
	reasonAlgorithm = "algorithm"
	reasonIssuer    = "issuer"
	reasonAudience  = "audience"
	reasonTimes     = "times"
	reasonExpired   = "expired"
	reasonNotYet    = "not_yet"
	reasonLifetime  = "lifetime"
	reasonUser      = "user_claim"
	reasonUnknown   = "unknown_key"
	reasonKey       = "key"
	reasonSignature = "signature"
	reasonWithdrawn = "withdrawn_key"
)

var reasons = []string{
	reasonSize, reasonForm, reasonHeader, reasonAlgorithm, reasonIssuer, reasonAudience, reasonTimes, reasonExpired, reasonNotYet, reasonLifetime,
	reasonUser, reasonUnknown, reasonKey, reasonSignature, reasonWithdrawn,
}

// Metrics are the metrics of external tokens.
type Metrics struct {
	rejected *prometheus.CounterVec
}

// NewMetrics registers the metrics of a source.
func NewMetrics(r prometheus.Registerer, s *Source) *Metrics {
	m := &Metrics{rejected: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "parley_auth_rejected_total", Help: "External tokens that were rejected, by reason.",
	}, []string{"reason"})}
	for _, reason := range reasons {
		m.rejected.WithLabelValues(reason)
	}
	age := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "parley_jwks_age_seconds", Help: "Time since the issuer's key set was last fetched, or since the start if it never was.",
	}, func() float64 { return math.Round(s.age().Seconds()*1000) / 1000 })
	r.MustRegister(m.rejected, age)
	return m
}
