package config

import (
	"cmp"
	"fmt"
	"os"
	"strings"
)

// tracing reads whether spans are exported, from the variables of OpenTelemetry's specification. It
// is off unless they name an exporter or an endpoint: the specification would export to localhost.
func (r *reader) tracing() bool {
	endpoint := cmp.Or(os.Getenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"), os.Getenv("OTEL_EXPORTER_OTLP_ENDPOINT"))
	exporter := os.Getenv("OTEL_TRACES_EXPORTER")
	switch {
	case strings.EqualFold(os.Getenv("OTEL_SDK_DISABLED"), "true"), exporter == "none", exporter == "" && endpoint == "":
		return false
	case exporter != "" && exporter != "otlp":
		r.otelFault("OTEL_TRACES_EXPORTER", "must be otlp or none")
	}
	const only = "http/protobuf"
	if p := cmp.Or(os.Getenv("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"), os.Getenv("OTEL_EXPORTER_OTLP_PROTOCOL"), only); p != only {
		r.otelFault("OTEL_EXPORTER_OTLP_PROTOCOL", "must be http/protobuf: collectors accept it on port 4318")
	}
	return true
}

func (r *reader) otelFault(name, what string) {
	r.faults.list = append(r.faults.list, fmt.Sprintf("%s %s", name, what))
}
