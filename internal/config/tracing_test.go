package config

import (
	"strings"
	"testing"
)

func TestTracingIsOffUntilItIsAskedFor(t *testing.T) {
	const protocol = "OTEL_EXPORTER_OTLP_PROTOCOL must be"
	for name, x := range map[string]struct {
		env   []string
		want  bool
		fault string
	}{
		"nothing":             {nil, false, ""},
		"a protocol alone":    {[]string{"OTEL_EXPORTER_OTLP_PROTOCOL=grpc"}, false, ""},
		"an endpoint":         {[]string{"OTEL_EXPORTER_OTLP_ENDPOINT=http://x:4318"}, true, ""},
		"one of traces":       {[]string{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=http://x:4318"}, true, ""},
		"an exporter":         {[]string{"OTEL_TRACES_EXPORTER=otlp"}, true, ""},
		"gRPC":                {[]string{"OTEL_TRACES_EXPORTER=otlp", "OTEL_EXPORTER_OTLP_PROTOCOL=grpc"}, true, protocol},
		"gRPC for traces":     {[]string{"OTEL_TRACES_EXPORTER=otlp", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL=grpc"}, true, protocol},
		"none":                {[]string{"OTEL_TRACES_EXPORTER=none", "OTEL_EXPORTER_OTLP_ENDPOINT=http://x:4318"}, false, ""},
		"disabled":            {[]string{"OTEL_SDK_DISABLED=true", "OTEL_EXPORTER_OTLP_ENDPOINT=http://x:4318"}, false, ""},
		"an unknown one":      {[]string{"OTEL_TRACES_EXPORTER=zipkin"}, true, "OTEL_TRACES_EXPORTER must be"},
		"an unknown protocol": {[]string{"OTEL_TRACES_EXPORTER=otlp", "OTEL_EXPORTER_OTLP_PROTOCOL=http/json"}, true, protocol},
	} {
		t.Run(name, func(t *testing.T) {
			for _, v := range []string{
				"OTEL_SDK_DISABLED", "OTEL_TRACES_EXPORTER", "OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_PROTOCOL",
				"OTEL_EXPORTER_OTLP_TRACES_PROTOCOL",
			} {
				t.Setenv(v, "")
			}
			for _, e := range x.env {
				k, v, _ := strings.Cut(e, "=")
				t.Setenv(k, v)
			}
			r := newReader()
			if got := r.tracing(); got != x.want {
				t.Errorf("got %v, want %v", got, x.want)
			}
			faults := strings.Join(r.faults.list, " ")
			if x.fault == "" && faults != "" || !strings.Contains(faults, x.fault) {
				t.Errorf("the faults are %q", faults)
			}
		})
	}
}
