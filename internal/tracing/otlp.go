package tracing

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/parley-chat/parley/internal/backoff"
	"github.com/parley-chat/parley/internal/outbound"
)

const (
	exportTimeout = 10 * time.Second
	// giveUp is how long an unavailable collector is tried. (The batcher gives up after half of that.)
	giveUp        = time.Minute
	longestAnswer = 64 << 10
)

// retries are the pauses after attempts that failed.
var retries = backoff.Policy{First: time.Second, Most: 15 * time.Second}

// collector sends spans by OTLP over HTTP. OpenTelemetry's own client for that links gRPC, which is a tenth of a binary of ours
// (github.com/open-telemetry/opentelemetry-go/issues/2579).
type collector struct {
	client *http.Client
	url    string
	header http.Header
	gzip   bool
}

// setting is one of OpenTelemetry's variables for exporters, that for traces before that for all.
func setting(name string) string {
	return cmp.Or(strings.TrimSpace(os.Getenv("OTEL_EXPORTER_OTLP_TRACES_"+name)), strings.TrimSpace(os.Getenv("OTEL_EXPORTER_OTLP_"+name)))
}

// newCollector reads the collector's address and options from the environment.
func newCollector(userAgent string) (*collector, error) {
	c := &collector{header: http.Header{}}
	c.header.Set("User-Agent", userAgent)
	var faults [5]error
	var timeout time.Duration
	var certificates *tls.Config
	c.url, faults[0] = endpoint()
	timeout, faults[1] = exportWithin()
	certificates, faults[2] = tlsConfig()
	faults[3] = c.addHeaders(setting("HEADERS"))
	c.gzip, faults[4] = compressed()
	if c.gzip {
		c.header.Set("Content-Encoding", "gzip")
	}
	c.header.Set("Content-Type", "application/x-protobuf")
	c.client = &http.Client{Timeout: timeout, Transport: &http.Transport{
		Proxy: http.ProxyFromEnvironment, ForceAttemptHTTP2: true, IdleConnTimeout: time.Minute, TLSClientConfig: certificates,
	}}
	return c, errors.Join(faults[:]...)
}

// endpoint is the address that spans are sent to. An endpoint for traces is used verbatim.
func endpoint() (string, error) {
	forTraces := strings.TrimSpace(os.Getenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"))
	u, err := url.Parse(cmp.Or(setting("ENDPOINT"), "http://localhost:4318"))
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return "", errors.New("OTEL_EXPORTER_OTLP_ENDPOINT must be the address of a collector such as http://collector:4318")
	}
	if forTraces == "" {
		u = u.JoinPath("v1/traces")
	}
	return u.String(), nil
}

func compressed() (bool, error) {
	switch s := setting("COMPRESSION"); s {
	case "", "none":
		return false, nil
	case "gzip":
		return true, nil
	default:
		return false, errors.New("OTEL_EXPORTER_OTLP_COMPRESSION must be gzip or none")
	}
}

func exportWithin() (time.Duration, error) {
	s := setting("TIMEOUT")
	if s == "" {
		return exportTimeout, nil
	}
	ms, err := strconv.ParseUint(s, 10, 31)
	if err != nil {
		return 0, errors.New("OTEL_EXPORTER_OTLP_TIMEOUT must be milliseconds such as 10000")
	}
	return time.Duration(ms) * time.Millisecond, nil
}

func (c *collector) addHeaders(list string) error {
	for pair := range strings.SplitSeq(list, ",") {
		name, value, found := strings.Cut(pair, "=")
		value, err := url.PathUnescape(strings.TrimSpace(value))
		if name = strings.TrimSpace(name); found && err == nil && name != "" {
			c.header.Set(name, value)
		} else if strings.TrimSpace(pair) != "" {
			return errors.New("OTEL_EXPORTER_OTLP_HEADERS must be name=value, comma separated") // a value may be a secret
		}
	}
	return nil
}

// tlsConfig is nil if the machine's certificates are used.
func tlsConfig() (*tls.Config, error) {
	trusted, own, key := setting("CERTIFICATE"), setting("CLIENT_CERTIFICATE"), setting("CLIENT_KEY")
	if trusted == "" && own == "" && key == "" {
		return nil, nil //nolint:nilnil // nil is the machine's
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if trusted != "" {
		b, err := os.ReadFile(trusted) //nolint:gosec // the operator names it
		config.RootCAs = x509.NewCertPool()
		if err != nil {
			return nil, fmt.Errorf("OTEL_EXPORTER_OTLP_CERTIFICATE: %w", err)
		}
		if !config.RootCAs.AppendCertsFromPEM(b) {
			return nil, fmt.Errorf("OTEL_EXPORTER_OTLP_CERTIFICATE: %s holds no certificate", trusted)
		}
	}
	if own != "" || key != "" {
		pair, err := tls.LoadX509KeyPair(own, key)
		if err != nil {
			return nil, fmt.Errorf("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE and _KEY: %w", err)
		}
		config.Certificates = []tls.Certificate{pair}
	}
	return config, nil
}

// Start and Stop do nothing: connections are managed by the HTTP client.
func (c *collector) Start(context.Context) error { return nil }

// Stop does nothing.
func (c *collector) Stop(context.Context) error { return nil }

// UploadTraces sends spans. It retries while the collector is unavailable or asks for it.
func (c *collector) UploadTraces(ctx context.Context, spans []*tracepb.ResourceSpans) error {
	ctx, cancel := context.WithTimeout(ctx, giveUp)
	defer cancel()
	body, err := proto.Marshal(&tracepb.TracesData{ResourceSpans: spans}) // an ExportTraceServiceRequest has the same form
	if err != nil {
		return err
	}
	if c.gzip {
		var b bytes.Buffer
		z := gzip.NewWriter(&b)
		_, err := z.Write(body)
		if err := errors.Join(err, z.Close()); err != nil {
			return err
		}
		body = b.Bytes()
	}
	for failures := 1; ; failures++ {
		err := c.post(ctx, body)
		later, ok := errors.AsType[laterError](err)
		if !ok {
			return err
		}
		if !backoff.Wait(ctx, max(later.after, retries.After(failures))) {
			return err
		}
	}
}

// laterError says that another try may do.
type laterError struct {
	error
	after time.Duration
}

func (c *collector) post(ctx context.Context, body []byte) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	r.Header = c.header
	res, err := c.client.Do(r)
	if err != nil {
		return laterError{err, 0}
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(res.Body, longestAnswer))
	if err == nil && res.StatusCode/100 == 2 {
		return nil
	}
	err = errors.Join(fmt.Errorf("%s returned %s: %.200q", r.URL.Redacted(), res.Status, answer), err)
	switch res.StatusCode {
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return laterError{err, outbound.RetryAfter(res.Header.Get("Retry-After"))}
	}
	return err
}
