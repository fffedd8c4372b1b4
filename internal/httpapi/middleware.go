package httpapi

import (
	"context"
	"fmt"
	"maps"
	"regexp"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	semconv "go.opentelemetry.io/otel/semconv/v1.37.0"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/parley-chat/parley/internal/config"
	"github.com/parley-chat/parley/internal/fault"
	"github.com/parley-chat/parley/internal/id"
	"github.com/parley-chat/parley/internal/observe"
	"github.com/parley-chat/parley/internal/principal"
	"github.com/parley-chat/parley/internal/tracing"
)

// Names of a request's local values.
const (
	localRequestID = "request_id"
	localRoute     = "route"
	localStamp     = "stamp"     // the stamp of the caller's profile, if it was read with the limit
	localBearer    = "bearer"    // the recognized token
	localPrincipal = "principal" // set once the request was authenticated
	localBody      = "body"      // the result of the first readBody
	localWaited    = "waited"    // how long the body took to arrive
	localCancel    = "cancel"    // cancels the context that excludeWait made
	localShared    = "shared"    // the response's body is shared with other requests
)

// unmatched is the label of all requests that match no route.
const unmatched = "unmatched"

const headerRequestID = "X-Request-Id"

var requestIDRule = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)

// requestID returns the request's id: the client's if it is well-formed, otherwise a new one.
func requestID(c *fiber.Ctx) string {
	if v, ok := c.Locals(localRequestID).(string); ok {
		return v
	}
	v := c.Get(headerRequestID)
	if requestIDRule.MatchString(v) {
		v = strings.Clone(v) // Fiber reuses the buffer
	} else {
		v = id.New()
	}
	c.Locals(localRequestID, v)
	c.Set(headerRequestID, v)
	return v
}

func routeOf(c *fiber.Ctx) string {
	if v, ok := c.Locals(localRoute).(string); ok {
		return v
	}
	return unmatched
}

// observe is the outermost handler: it gives every request an id, a deadline and a span, converts panics and errors to responses, and counts.
func (s *Server) observe(c *fiber.Ctx) error {
	start := time.Now()
	id := requestID(c)
	s.proxies.warn(c)
	ctx, cancel := context.WithTimeout(observe.WithRequestID(context.Background(), id), requestTimeout)
	defer cancel()
	ctx, span := s.trace(ctx, c)
	defer span.End()
	c.SetUserContext(ctx)
	c.Set("X-Content-Type-Options", "nosniff")
	c.Set(fiber.HeaderCacheControl, "no-store") // most responses are personal or change all the time; the docs and the page set another value
	if s.Gate.Closed() {
		c.Context().SetConnectionClose() // clients that keep the connection open learn that the pod is stopping
	}
	err := s.runHandlers(c)
	if err == nil {
		err = holdAnswer(c)
	}
	if err != nil {
		if err := s.fail(c, err); err != nil {
			return err
		}
	}
	if cancel, ok := c.Locals(localCancel).(context.CancelFunc); ok {
		cancel()
	}
	took := time.Since(start)
	if d, ok := c.Locals(localWaited).(time.Duration); ok {
		took -= d
	}
	s.metrics.count(c.Method(), routeOf(c), c.Response().StatusCode(), took, tracing.IDOf(ctx))
	describe(span, c)
	return nil
}

// runHandlers runs the further handlers. A panic becomes errInternal.
func (s *Server) runHandlers(c *fiber.Ctx) (err error) {
	defer func() {
		if v := recover(); v != nil {
			s.panicked(c.UserContext(), partRequest, v)
			err = fmt.Errorf("%w: panic", errInternal)
		}
	}()
	fault.Point("http.request")
	if h := &c.Request().Header; len(h.RawHeaders())-len(h.Peek(fiber.HeaderAuthorization)) > maxHeader {
		return errHeaders
	}
	return c.Next()
}

// Parts for the metric of panics, in addition to those of the process.
const (
	partRequest = "request"
	partSocket  = "socket"
)

func (s *Server) panicked(ctx context.Context, part string, v any) {
	s.Panics.WithLabelValues(part).Inc()
	s.Log.ErrorContext(ctx, "a panic was caught", "part", part, "panic", fmt.Sprint(v), "stack", string(debug.Stack()))
}

// trace begins a request's span. A traceparent is used only if a trusted proxy sent it, because clients must not decide that their requests are
// recorded.
func (s *Server) trace(ctx context.Context, c *fiber.Ctx) (context.Context, trace.Span) {
	if !s.Tracer.On() {
		return ctx, noop.Span{}
	}
	parent := ""
	if s.proxies.trusts(peer(c)) {
		parent = c.Get("traceparent")
	}
	return s.Tracer.Server(ctx, methodLabel(c.Method()), parent)
}

// describe sets the name, attributes and status of a request's span. otelfiber is not used for this: it puts text from clients into the names
// of spans, uses outdated attributes, and measures every request a second time.
func describe(span trace.Span, c *fiber.Ctx) {
	if !span.IsRecording() {
		return
	}
	method, route, status := methodLabel(c.Method()), routeOf(c), c.Response().StatusCode()
	span.SetName(method + " " + route)
	span.SetAttributes(semconv.HTTPRequestMethodKey.String(method), semconv.HTTPRoute(route), semconv.HTTPResponseStatusCode(status),
		attribute.String("parley.request_id", requestID(c)))
	if status >= fiber.StatusInternalServerError {
		span.SetStatus(codes.Error, "")
	}
}

// allowed reports whether an origin is among the allowed ones, each of which may be "*" or end with config.AnyPort.
func allowed(origins []string, origin string) bool {
	origin = strings.ToLower(origin)
	return slices.ContainsFunc(origins, func(o string) bool {
		if host, all := strings.CutSuffix(o, config.AnyPort); all {
			port, more := strings.CutPrefix(origin, host+":")
			_, err := strconv.ParseUint(port, 10, 16)
			return origin == host || more && err == nil
		}
		return o == "*" || o == origin
	})
}

// metrics are the metrics of requests.
type metrics struct {
	requests    *prometheus.CounterVec
	duration    *prometheus.HistogramVec
	unavailable prometheus.Counter
	frames      *prometheus.CounterVec
	// framesFailed counts the frames that failed because of the server. The availability objective counts them like a 5xx.
	framesFailed *prometheus.CounterVec
	server       *prometheus.CounterVec
}

func newMetrics(r prometheus.Registerer) *metrics {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "http_requests_total", Help: "Requests that were completed.",
		}, []string{"method", "route", "status"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "http_request_duration_seconds", Help: "Duration of requests, without socket upgrades.",
			Buckets: []float64{.005, .01, .025, .05, .1, .2, .3, .5, 1, 2.5, 5, 10},
		}, []string{"method", "route"}),
		unavailable: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "parley_requests_unavailable_total", Help: "Requests that returned 503 because a dependency was unavailable or the pod too busy.",
		}),
	}
	m.frames = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "parley_socket_frames_received_total", Help: "Frames from clients, by type; unknown is for undefined types.",
	}, []string{"type"})
	m.framesFailed = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "parley_socket_frames_failed_total", Help: "Frames from clients that failed because of the server: a dependency was unavailable, the pod too busy, or there was a bug.",
	}, []string{"type"})
	kinds := slices.AppendSeq([]string{kindUnknown, kindProtocolPing, kindProtocolPong}, maps.Keys(frames))
	for _, t := range kinds {
		m.frames.WithLabelValues(t)
	}
	for t := range frames {
		m.framesFailed.WithLabelValues(t)
	}
	m.server = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "parley_server_requests_total", Help: "Requests by server keys, by the scope that they needed.",
	}, []string{"scope"})
	for _, scope := range principal.AllScopes() {
		m.server.WithLabelValues(scope)
		m.server.WithLabelValues(principal.Read(scope))
	}
	r.MustRegister(m.requests, m.duration, m.unavailable, m.frames, m.framesFailed, m.server)
	return m
}

var countedMethods = []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}

func methodLabel(method string) string {
	if i := slices.Index(countedMethods, method); i >= 0 {
		return countedMethods[i] // Fiber reuses the buffer
	}
	return "other"
}

func (m *metrics) count(method, route string, status int, d time.Duration, traceID string) {
	method = methodLabel(method)
	m.requests.WithLabelValues(method, route, strconv.Itoa(status)).Inc()
	if route != socketRoute {
		observe.Exemplar(m.duration.WithLabelValues(method, route), d.Seconds(), traceID)
	}
}
