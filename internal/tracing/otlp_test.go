package tracing_test

import (
	"compress/gzip"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/parley-chat/parley/internal/tracing"
)

// export makes a span named "it" and closes its tracer, which exports it, and returns what was logged.
func export(t *testing.T) string {
	t.Helper()
	var log strings.Builder
	tr, err := tracing.Start(t.Context(), "x", "v", true, slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	_, span := tr.Server(t.Context(), "it", "")
	span.End()
	tr.Close()
	return log.String()
}

// spanOf reads the name of the span in a request.
func spanOf(t *testing.T, r *http.Request) string {
	t.Helper()
	body := r.Body
	if r.Header.Get("Content-Encoding") == "gzip" {
		z, err := gzip.NewReader(body)
		if err != nil {
			t.Error(err)
			return ""
		}
		body = z
	}
	b, err := io.ReadAll(body)
	var data tracepb.TracesData
	if err != nil || proto.Unmarshal(b, &data) != nil || len(data.ResourceSpans) != 1 {
		t.Errorf("no spans: %v", err)
		return ""
	}
	return data.ResourceSpans[0].ScopeSpans[0].Spans[0].Name
}

func TestSpansAreSentAsTheVariablesSay(t *testing.T) {
	for name, x := range map[string]struct {
		env              map[string]string
		path, encoding   string
		header, contents string
	}{
		"to a collector":   {map[string]string{"ENDPOINT": ""}, "/v1/traces", "", "", ""},
		"below a path":     {map[string]string{"ENDPOINT": "/otlp/"}, "/otlp/v1/traces", "", "", ""},
		"to an address":    {map[string]string{"ENDPOINT": "/no", "TRACES_ENDPOINT": "/yes"}, "/yes", "", "", ""},
		"compressed":       {map[string]string{"ENDPOINT": "", "COMPRESSION": "gzip"}, "/v1/traces", "gzip", "", ""},
		"with headers":     {map[string]string{"ENDPOINT": "", "HEADERS": "x-a=1, Authorization=Basic%20x="}, "/v1/traces", "", "Authorization", "Basic x="},
		"with some theirs": {map[string]string{"ENDPOINT": "", "HEADERS": "x-a=1", "TRACES_HEADERS": "x-a=2", "TIMEOUT": "5000"}, "/v1/traces", "", "X-A", "2"},
	} {
		t.Run(name, func(t *testing.T) {
			got := make(chan *http.Request, 1)
			s := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				if span := spanOf(t, r); span != "it" {
					t.Errorf("the span is %q", span)
				}
				got <- r
			}))
			defer s.Close()
			for k, v := range x.env {
				if strings.HasSuffix(k, "ENDPOINT") {
					v = s.URL + v
				}
				t.Setenv("OTEL_EXPORTER_OTLP_"+k, v)
			}
			if log := export(t); log != "" {
				t.Fatal(log)
			}
			r := <-got
			if r.URL.Path != x.path || r.Header.Get("Content-Encoding") != x.encoding || x.header != "" && r.Header.Get(x.header) != x.contents ||
				r.Header.Get("Content-Type") != "application/x-protobuf" || r.Header.Get("User-Agent") != "parley-x/v" {
				t.Errorf("got %s %v", r.URL.Path, r.Header)
			}
		})
	}
}

// A collector that is busy or unavailable is tried again; one that refuses is not, and its reply is logged.
func TestSpansAreSentAgain(t *testing.T) {
	for name, x := range map[string]struct {
		fail  func(w http.ResponseWriter)
		tries int
		log   string
	}{
		"busy": {func(w http.ResponseWriter) { w.WriteHeader(http.StatusTooManyRequests) }, 2, ""},
		"waiting": {func(w http.ResponseWriter) {
			w.Header().Set("Retry-After", "60")
			w.WriteHeader(http.StatusServiceUnavailable)
		}, 1, "could not be exported"},
		"away":     {func(http.ResponseWriter) { panic(http.ErrAbortHandler) }, 2, ""},
		"refusing": {func(w http.ResponseWriter) { http.Error(w, "who are you?", http.StatusForbidden) }, 1, "who are you?"},
	} {
		t.Run(name, func(t *testing.T) {
			tries := 0
			s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if tries++; tries == 1 {
					x.fail(w)
				} else if span := spanOf(t, r); span != "it" {
					t.Errorf("the span is %q", span)
				}
			}))
			t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", s.URL)
			log := export(t)
			s.Close() // and its handlers end
			if tries != x.tries || x.log == "" && log != "" || !strings.Contains(log, x.log) {
				t.Errorf("%d tries, and it logs %q", tries, log)
			}
		})
	}
}

func TestSpansAreSentByTLS(t *testing.T) {
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if span := spanOf(t, r); span != "it" || len(r.TLS.PeerCertificates) != 1 {
			t.Errorf("the span %q of %d certificates", span, len(r.TLS.PeerCertificates))
		}
	}))
	s.TLS = &tls.Config{ClientAuth: tls.RequireAnyClientCert} //nolint:gosec // a test
	s.StartTLS()
	defer s.Close()
	certificate, key := filepath.Join(t.TempDir(), "certificate"), filepath.Join(t.TempDir(), "key")
	private, err := x509.MarshalPKCS8PrivateKey(s.TLS.Certificates[0].PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	for file, block := range map[string]*pem.Block{
		certificate: {Type: "CERTIFICATE", Bytes: s.Certificate().Raw},
		key:         {Type: "PRIVATE KEY", Bytes: private},
	} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", s.URL)
	t.Setenv("OTEL_EXPORTER_OTLP_CERTIFICATE", certificate)
	t.Setenv("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", certificate)
	t.Setenv("OTEL_EXPORTER_OTLP_CLIENT_KEY", key)
	if log := export(t); log != "" {
		t.Error(log)
	}
}

func TestWrongVariablesAreToldAllAtOnce(t *testing.T) {
	for k, v := range map[string]string{"ENDPOINT": "collector:4318", "TIMEOUT": "10s", "CERTIFICATE": "otlp_test.go", "HEADERS": "secret", "COMPRESSION": "zstd"} {
		t.Setenv("OTEL_EXPORTER_OTLP_"+k, v)
	}
	_, err := tracing.Start(t.Context(), "x", "v", true, slog.New(slog.DiscardHandler))
	if err == nil {
		t.Fatal("it starts")
	}
	for _, k := range []string{"ENDPOINT", "TIMEOUT", "CERTIFICATE", "HEADERS", "COMPRESSION"} {
		if !strings.Contains(err.Error(), "OTEL_EXPORTER_OTLP_"+k) {
			t.Errorf("%s is not named: %v", k, err)
		}
	}
	if strings.Contains(err.Error(), "secret") {
		t.Errorf("a secret is shown: %v", err)
	}
}
