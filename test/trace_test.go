package test

import (
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	common "go.opentelemetry.io/proto/otlp/common/v1"
	trace "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/parley-chat/parley/internal/client"
	"github.com/parley-chat/parley/internal/testenv"
)

// spans is an OTLP collector.
type spans struct {
	url string

	mu   sync.Mutex
	list []span
}

type span struct {
	*trace.Span
	service string
	pid     int64
}

func (s span) id() string     { return hex.EncodeToString(s.SpanId) }
func (s span) trace() string  { return hex.EncodeToString(s.TraceId) }
func (s span) parent() string { return hex.EncodeToString(s.ParentSpanId) }

func collect(t *testing.T) *spans {
	t.Helper()
	c := &spans{}
	h := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(r.Body)
		var q trace.TracesData
		if err != nil || r.URL.Path != "/v1/traces" || proto.Unmarshal(b, &q) != nil {
			t.Errorf("not an export: %s %s %v", r.Method, r.URL.Path, err)
		}
		c.take(&q)
		w.Header().Set("Content-Type", "application/x-protobuf")
	}))
	t.Cleanup(h.Close)
	c.url = h.URL
	return c
}

func (c *spans) take(q *trace.TracesData) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, r := range q.ResourceSpans {
		for _, scope := range r.ScopeSpans {
			for _, s := range scope.Spans {
				c.list = append(c.list, span{s, attribute(r.Resource.Attributes, "service.name").GetStringValue(), attribute(r.Resource.Attributes, "process.pid").GetIntValue()})
			}
		}
	}
}

func attribute(list []*common.KeyValue, key string) *common.AnyValue {
	for _, a := range list {
		if a.Key == key {
			return a.Value
		}
	}
	return nil
}

func (c *spans) all() []span {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.list)
}

// find waits for a span that matches, and fails where none comes.
func (c *spans) find(t *testing.T, what string, match func(span) bool) span {
	t.Helper()
	var found span
	testenv.Eventually(t, time.Minute, func() bool {
		for _, s := range c.all() {
			if match(s) {
				found = s
				return true
			}
		}
		return false
	}, "a span: %s", what)
	return found
}

// Sending a message on one pod and its delivery on another are one trace, which goes through Postgres and Redis.
func TestATraceGoesFromASendToItsDelivery(t *testing.T) {
	t.Parallel()
	c := collect(t)
	s := start(t, 2, "OTEL_EXPORTER_OTLP_ENDPOINT="+c.url, "OTEL_BSP_SCHEDULE_DELAY=50",
		"PARLEY_TRUSTED_PROXIES=127.0.0.1/32", "PARLEY_RATE_LIMIT_SEND=1000/1m")
	from, to := s.pods[0], s.pods[1]
	u := from.users(t, 2)
	g := from.direct(t, u[0], u[1])
	sock := to.open(t, u[1])

	const traceID, client = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
	const content = "what-nobody-else-may-read"
	send := func() {
		from.want(t, 201, u[0].token, "POST", "/api/conversations/"+g.ID+"/messages", map[string]any{"content": content},
			"traceparent", "00-"+traceID+"-"+client+"-01")
	}
	send()
	sock.messages(1, 1, time.Minute)

	ours := func(p *pod, kind trace.Span_SpanKind, name string) func(span) bool {
		return func(s span) bool {
			return s.trace() == traceID && s.pid == int64(p.PID()) && s.Kind == kind && strings.HasPrefix(s.Name, name)
		}
	}
	request := c.find(t, "the request", ours(from, trace.Span_SPAN_KIND_SERVER, "POST /api/conversations/:id/messages"))
	checkRequestSpan(t, request, client)
	commit := c.find(t, "the commit", ours(from, trace.Span_SPAN_KIND_INTERNAL, "commit messages"))
	c.find(t, "its statement", func(s span) bool {
		return ours(from, trace.Span_SPAN_KIND_CLIENT, "WITH")(s) && s.parent() == commit.id()
	})
	c.find(t, "the limit in Redis", func(s span) bool {
		return ours(from, trace.Span_SPAN_KIND_CLIENT, "redis.pipeline")(s) && s.parent() == request.id()
	})
	publish := c.find(t, "publishing", ours(from, trace.Span_SPAN_KIND_PRODUCER, "publish message:new"))
	c.find(t, "the pipeline that publishes", func(s span) bool {
		return ours(from, trace.Span_SPAN_KIND_CLIENT, "redis.pipeline publish")(s) && s.parent() == publish.id()
	})
	deliver := c.find(t, "the delivery", ours(to, trace.Span_SPAN_KIND_CONSUMER, "deliver message:new"))
	for name, s := range map[string]span{"the commit": commit, "publishing": publish, "the delivery": deliver} {
		expectParent(t, name, s, request.id())
	}

	t.Run("histograms have exemplars of the trace", func(t *testing.T) {
		testenv.Eventually(t, time.Minute, func() bool { return hasExemplar(t, from, "http_request_duration_seconds_bucket", traceID) }, "an exemplar of requests")
		awaitDeliveryExemplar(t, to, traceID, send)
	})
	stranger := s.addPod("PARLEY_TRUSTED_PROXIES=")
	t.Run("a client that is no trusted proxy does not choose its trace", func(t *testing.T) {
		const chosen = "4bf92f3577b34da6a3ce929d0e0e4736"
		stranger.want(t, 200, u[0].token, "GET", "/api/users/me", nil, "traceparent", "00-"+chosen+"-"+client+"-01")
		c.find(t, "a stranger's request", func(s span) bool {
			return s.pid == int64(stranger.PID()) && s.Name == "GET /api/users/me" && s.trace() != chosen && s.parent() == ""
		})
	})

	framesAreTraced(t, c, sock, g.ID, content)
	t.Run("spans belong to a request and contain nothing that users write", func(t *testing.T) {
		for _, s := range c.all() {
			expectPartOfARequest(t, s)
			showsNone(t, s, content, password, u[0].token, u[0].Username)
		}
	})
}

func expectParent(t *testing.T, name string, s span, parent string) {
	t.Helper()
	if s.parent() != parent {
		t.Errorf("%s is a child of %s, want %s", name, s.parent(), parent)
	}
}

// expectPartOfARequest checks that a span without a parent is a request's: what the pods do in the background is no trace.
func expectPartOfARequest(t *testing.T, s span) {
	t.Helper()
	if s.parent() == "" && s.Kind != trace.Span_SPAN_KIND_SERVER {
		t.Errorf("a trace of its own: %s", s.Name)
	}
}

// awaitDeliveryExemplar waits until a pod's histogram of deliveries has an exemplar of the trace. It sends again until then: events that are
// written together have one observation, that of the oldest.
func awaitDeliveryExemplar(t *testing.T, p *pod, traceID string, send func()) {
	t.Helper()
	testenv.Eventually(t, time.Minute, func() bool {
		if hasExemplar(t, p, "parley_delivery_seconds_bucket", traceID) {
			return true
		}
		send()
		return false
	}, "an exemplar of deliveries")
}

// checkRequestSpan checks that a span is that of a request for something new, which the api served as a child of the client's span.
func checkRequestSpan(t *testing.T, s span, client string) {
	t.Helper()
	if s.parent() != client || s.service != "parley-api" || attribute(s.Attributes, "http.response.status_code").GetIntValue() != 201 {
		t.Errorf("the request's span is %v of %s", s.Span, s.service)
	}
}

// framesAreTraced sends a message over the socket and checks that the frame and its delivery are one trace, as with a request.
func framesAreTraced(t *testing.T, c *spans, sock *socket, conversationID, content string) {
	t.Helper()
	if f := sock.ask("message:send", map[string]any{"conversationId": conversationID, "content": content, "clientMessageId": "1"}); f.Type != "ack" {
		t.Fatalf("got %s %s", f.Type, f.Data)
	}
	frame := c.find(t, "a frame", func(s span) bool { return s.Name == "socket message:send" })
	c.find(t, "its delivery", func(s span) bool {
		return s.Name == "deliver message:new" && s.trace() == frame.trace() && s.parent() == frame.id()
	})
}

// hasExemplar reports whether the page of metrics has a sample of the metric with an exemplar of the trace.
func hasExemplar(t *testing.T, p *pod, metric, traceID string) bool {
	t.Helper()
	for line := range strings.Lines(openMetrics(t, p)) {
		if strings.HasPrefix(line, metric) && strings.Contains(line, fmt.Sprintf(`# {trace_id=%q}`, traceID)) {
			return true
		}
	}
	return false
}

// showsNone checks that none of the texts is anywhere in a span.
func showsNone(t *testing.T, s span, texts ...string) {
	t.Helper()
	for _, text := range texts {
		if strings.Contains(s.String(), text) {
			t.Errorf("a span shows %q: %v", text, s.Span)
		}
	}
}

// A flush is one trace from the tick that queued it, through asynq, to what it asks of Redis.
func TestATraceGoesThroughATask(t *testing.T) {
	t.Parallel()
	c := collect(t)
	s := start(t, 0)
	s.addBeside("receipt-worker", "OTEL_TRACES_EXPORTER=otlp", "OTEL_EXPORTER_OTLP_ENDPOINT="+c.url, "OTEL_BSP_SCHEDULE_DELAY=50", "OTEL_SERVICE_NAME=ours",
		"PARLEY_RECEIPT_FLUSH_INTERVAL=1s")
	task := c.find(t, "a flush", func(x span) bool { return x.Name == "task receipts:flush" && x.Kind == trace.Span_SPAN_KIND_CONSUMER })
	c.find(t, "its being queued", func(x span) bool {
		return x.Name == "enqueue receipts:flush" && x.id() == task.parent() && x.trace() == task.trace()
	})
	c.find(t, "what it asks of Redis", func(x span) bool { return x.Kind == trace.Span_SPAN_KIND_CLIENT && x.parent() == task.id() })
	if task.service != "ours" {
		t.Errorf("the service is %s", task.service)
	}
}

func openMetrics(t *testing.T, p *pod) string {
	t.Helper()
	r, err := client.Server{Base: p.ops, HTTP: httpClient}.Do(t.Context(), "GET", "/metrics", nil, "Accept", "application/openmetrics-text;version=1.0.0")
	if err != nil {
		t.Fatal(err)
	}
	return string(r.Body)
}
