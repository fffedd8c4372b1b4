// Package httpapi is Parley's edge: REST and sockets. It is the only package that uses Fiber. A handler decodes, calls one method of a domain and
// encodes. It returns errors, which problem.go maps to responses. The way of a request:
//
//	listener (bounds connections) ─► screenHeader (drops bodies) ─► observe (id, deadline, span, errors) ─► admitRequest (limit)
//	  ─► authenticate ─► handler
//
// A socket leaves fasthttp after its handshake (upgrade.go). A reader then processes its frames one after the other, except that sends wait for
// their commits in a pipeline (pipeline.go).
package httpapi

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/gofiber/fiber/v2/middleware/cors"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/valyala/fasthttp"

	"github.com/parley-chat/parley/internal/budget"
	"github.com/parley-chat/parley/internal/config"
	"github.com/parley-chat/parley/internal/lifecycle"
	"github.com/parley-chat/parley/internal/observe"
	"github.com/parley-chat/parley/internal/realtime"
	"github.com/parley-chat/parley/internal/tracing"
)

// Bounds of requests.
const (
	maxBody = 256 << 10
	// maxHeader is the largest size of a request's headers without the Authorization header. A token that is too long is an invalid
	// token, not headers that are too large.
	maxHeader = 8 << 10
	// readHeader is the size of the buffer for all headers.
	readHeader = 16 << 10
	// readTimeout bounds the arrival of a request, and how long an idle connection is kept.
	readTimeout = 30 * time.Second
	// writeTimeout bounds how long a client may take to read a response.
	writeTimeout = 30 * time.Second
	// requestTimeout bounds all queries of a handler to Postgres and Redis. They are not cancelled if the client disconnects.
	requestTimeout = 6 * time.Second
)

// Config are the edge's settings.
type Config struct {
	Addr           string
	TrustedProxies []netip.Prefix
	// ForwardedHeader is config.ForwardedFor or config.ForwardedRFC.
	ForwardedHeader string
	// ConnectionsPerAddress bounds the HTTP connections of one address; 0 for no bound.
	ConnectionsPerAddress int
	AllowedOrigins        []string
	// MetricsTokens are accepted by /api/metrics. If there are none, only requests that come directly are served.
	MetricsTokens []string
	// Docs is set if /api/docs is served.
	Docs bool
	// Web is set if the page is served at /. Storage has the origin of files, which the page's policy allows.
	Web        bool
	Storage    config.Storage
	DrainDelay time.Duration
	// StopTimeout bounds the drain and the end of requests in flight, after the delay.
	StopTimeout time.Duration
	Limits      config.Limits
	// AuthMode says which kinds of tokens are accepted: one of the modes of package config.
	AuthMode string
	// ProfileSync is set if names and pictures follow external tokens.
	ProfileSync bool
}

// Deps are the dependencies of the edge. The files of the handlers declare the interfaces of the domains. A part that is off must
// be a nil interface, not an interface that holds a nil pointer.
type Deps struct {
	Auth interface {
		accounts
		knownAddresses
		refreshSessions
		tokens
		keyedSessions
	}
	Watch endedSessions
	// Keyset, Verifier and Identity are nil unless external tokens are accepted.
	Keyset   signers
	Verifier externalTokens
	Identity externalUsers
	Keys     interface {
		keyTokens
		serverKeys
	}
	Directory interface {
		userNames
		keyedUsers
	}
	Standings standings
	Audit     auditLog
	// Webhooks is nil without PARLEY_SECRETS_KEY.
	Webhooks      webhooks
	Push          pushes
	Attention     attention
	Users         users
	Friends       friends
	Conversations interface {
		conversations
		keyedConversations
	}
	Messages interface {
		messages
		reactions
		typists
		sendQueue
		keyedMessages
	}
	Receipts    receipts
	Attachments attachments
	Syncer      syncer
	Presence    presences
	Hub         *realtime.Hub
	Limiter     limiter
	Publisher   interface {
		privacyEvents
		typingEvents
	}
	// Memory bounds the memory that slow clients occupy.
	Memory   *budget.Budget
	Health   dependencies
	Gate     *lifecycle.Gate
	Registry *prometheus.Registry
	Panics   *prometheus.CounterVec
	Tracer   *tracing.Tracer
	// Refusals logs the requests, frames and sockets that fail with 503.
	Refusals *observe.Outage
	Log      *slog.Logger
}

// Server is the api's HTTP server.
type Server struct {
	Config
	Deps
	app     *fiber.App
	metrics *metrics
	conns   *connMetrics
	proxies *proxies
	refused refusals
	typing  typingPaces
	syncs   slots
}

// New makes the server with all its routes.
func New(c Config, d Deps) (*Server, error) {
	s := &Server{Config: c, Deps: d, metrics: newMetrics(d.Registry), conns: newConnMetrics(d.Registry, d.Memory), proxies: &proxies{trusted: c.TrustedProxies, header: c.ForwardedHeader, log: d.Log}}
	s.syncs = make(slots, syncSlots)
	d.Limiter.Rules(rules...)
	for _, part := range []string{partRequest, partSocket} {
		d.Panics.WithLabelValues(part)
	}
	s.app = s.newApp()
	docs, err := newDocs()
	if err != nil {
		return nil, err
	}
	for _, r := range s.routes(docs) {
		if c.AuthMode != config.AuthExternal || !slices.Contains(builtinRoutes, r.path) {
			s.add(r)
		}
	}
	everything := s.limits().everything
	if c.Web {
		p, err := newPage(c.Storage)
		if err != nil {
			return nil, err
		}
		for _, r := range p.routes(s.limits().none) {
			s.add(r)
		}
	}
	s.app.Use(func(c *fiber.Ctx) error { // requests that match no route
		if err := s.admitRequest(c, everything); err != nil {
			return err
		}
		return c.Next()
	})
	return s, nil
}

// newApp makes the Fiber app with everything that comes before routes: the bounds of requests, observe, and CORS.
func (s *Server) newApp() *fiber.App {
	app := fiber.New(fiber.Config{
		DisableStartupMessage: true,
		ReduceMemoryUsage:     true,
		BodyLimit:             maxBody,
		ReadBufferSize:        readHeader,
		ReadTimeout:           readTimeout,
		WriteTimeout:          writeTimeout,
		// Bodies are streamed for readBody, whose memory grows with the bytes that arrive. fasthttp would allocate the Content-Length.
		StreamRequestBody:            true,
		DisablePreParseMultipartForm: true,
		IdleTimeout:                  2 * readTimeout,
		ErrorHandler:                 s.fail,
		CaseSensitive:                true,
		StrictRouting:                true,
	})
	server := app.Server()
	server.CloseOnShutdown = true
	server.HeaderReceived = screenHeader
	server.ConnState = func(c net.Conn, state fasthttp.ConnState) {
		if own, ok := c.(*conn); ok && state != fasthttp.StateActive {
			own.release()
		}
	}
	app.Use(s.observe)
	if len(s.AllowedOrigins) > 0 {
		app.Use(cors.New(cors.Config{
			AllowOriginsFunc: func(origin string) bool { return allowed(s.AllowedOrigins, origin) },
			AllowMethods:     "GET,POST,PUT,PATCH,DELETE",
			AllowHeaders:     "Authorization,Content-Type,X-Request-Id",
			ExposeHeaders:    "X-RateLimit-Limit,X-RateLimit-Remaining,X-RateLimit-Reset,Retry-After,X-Request-Id",
			MaxAge:           int((10 * time.Minute).Seconds()),
		}))
	}
	known := server.Handler
	server.Handler = func(ctx *fasthttp.RequestCtx) {
		if slices.Contains(fiber.DefaultMethods, string(ctx.Method())) {
			known(ctx)
		} else {
			s.unknownMethod(ctx)
		}
	}
	return app
}

// unknownMethod responds to a request with an unknown method, before all else; Fiber would respond in plain text.
func (s *Server) unknownMethod(ctx *fasthttp.RequestCtx) {
	c := s.app.AcquireCtx(ctx)
	defer s.app.ReleaseCtx(c)
	if err := s.fail(c, errNotImplemented); err != nil {
		s.Log.Error("a problem could not be written", "error", err)
	}
	s.metrics.count(c.Method(), unmatched, c.Response().StatusCode(), 0, "")
}

// Listen opens the server's address.
func (s *Server) Listen() (net.Listener, error) {
	l, err := listenConfig.Listen(context.Background(), "tcp", s.Addr)
	if err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	return &listener{
		Listener: l, perAddress: s.ConnectionsPerAddress, proxies: s.proxies, memory: s.Memory, metrics: s.conns, log: s.Log,
		stopped: make(chan struct{}), open: map[netip.Addr]int{},
	}, nil
}

// Serve serves until ctx ends. Then the pod reports that it is not ready, waits DrainDelay so that load balancers notice, closes its sockets and
// finishes the requests in progress. After StopTimeout the remaining connections are cut off.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	served := make(chan error, 1)
	go func() { served <- s.app.Listener(l) }()
	select {
	case err := <-served:
		return err
	case <-ctx.Done():
	}
	s.Gate.Close()
	s.Log.Info("draining", "delay", s.DrainDelay.String())
	time.Sleep(s.DrainDelay)
	stop, cancel := context.WithTimeout(context.Background(), s.StopTimeout)
	defer cancel()
	drained := make(chan struct{})
	go func() {
		defer close(drained)
		s.Hub.Drain(stop)
	}()
	err := s.closeServer(stop, l)
	<-drained
	if errors.Is(err, context.DeadlineExceeded) {
		s.Log.Warn("connections were cut off that took longer than the time to stop", "open", s.app.Server().GetOpenConnectionsCount())
		err = nil
	}
	if err != nil {
		return fmt.Errorf("shut down: %w", err)
	}
	return <-served
}

// closeServer stops serving l, and finishes the requests in progress until ctx ends. It also closes l: if the process is stopped while it
// starts, fasthttp may not have l yet, and would not stop.
func (s *Server) closeServer(ctx context.Context, l net.Listener) error {
	defer func() { _ = l.Close() }()
	return s.app.ShutdownWithContext(ctx)
}

// Run listens and serves.
func (s *Server) Run(ctx context.Context) error {
	l, err := s.Listen()
	if err != nil {
		return err
	}
	s.Log.Info("the api is served", "addr", l.Addr().String())
	return s.Serve(ctx, l)
}
