package httpapi

import (
	"context"
	"crypto/subtle"

	"github.com/gofiber/fiber/v2"
	"github.com/gofiber/fiber/v2/middleware/adaptor"

	"github.com/parley-chat/parley/internal/auth"
	"github.com/parley-chat/parley/internal/observe"
)

// dependencies are the services that the process depends on. HasStorage reports whether there is storage for files.
type dependencies interface {
	Check(ctx context.Context) observe.Checks
	HasStorage() bool
}

type healthBody struct {
	Status string        `json:"status"`
	Checks *healthChecks `json:"checks,omitempty"`
}

type healthChecks struct {
	Postgres string `json:"postgres"`
	Redis    string `json:"redis"`
	Schema   string `json:"schema"`
	// Storage is left out unless there is storage for files.
	Storage string `json:"storage,omitempty"`
	// Identity is left out unless external tokens are accepted.
	Identity string `json:"identity,omitempty"`
}

// health reports that the process is alive. It uses no dependency: a probe must not kill pods because Postgres is unavailable.
func (s *Server) health(c *fiber.Ctx) error { return c.JSON(healthBody{Status: "ok"}) }

// ready reports whether the pod can serve requests.
func (s *Server) ready(c *fiber.Ctx) error {
	checks := s.Health.Check(c.UserContext())
	body := healthBody{Status: "ok", Checks: &healthChecks{Postgres: "up", Redis: "up", Schema: "current"}}
	if checks.Redis != nil {
		body.Status, body.Checks.Redis = "degraded", "down"
	}
	if s.Health.HasStorage() {
		body.Checks.Storage = "up"
	}
	if checks.Storage != nil {
		body.Status, body.Checks.Storage = "degraded", "down"
	}
	if s.Verifier != nil {
		body.Checks.Identity = "up"
	}
	if checks.Identity != nil {
		body.Status, body.Checks.Identity = "degraded", "down"
	}
	if checks.Postgres != nil {
		body.Checks.Postgres = "down"
	}
	if checks.Outdated {
		body.Checks.Schema = "outdated"
	}
	if checks.Ready() != nil || s.Watch.Ready() != nil || s.Standings.Ready() != nil {
		body.Status = "unavailable"
		c.Status(fiber.StatusServiceUnavailable)
		c.Set(fiber.HeaderRetryAfter, retryAfter)
	}
	return c.JSON(body)
}

// metricsPage serves the metrics to requests with one of the tokens. If no token is set, it serves them to requests that come directly, without a
// proxy, from this machine or a private network. All others get 404.
func (s *Server) metricsPage() fiber.Handler {
	serve := adaptor.HTTPHandler(observe.MetricsHandler(s.Registry))
	return func(c *fiber.Ctx) error {
		if len(s.MetricsTokens) == 0 && !s.proxies.isNear(c) {
			return errNotFound
		}
		if len(s.MetricsTokens) > 0 {
			token, _ := bearerToken(c.Get(fiber.HeaderAuthorization))
			if !isOneOf(token, s.MetricsTokens) {
				return auth.ErrUnauthorized
			}
		}
		return serve(c)
	}
}

// isOneOf reports whether the token is one of those accepted. It compares with all of them, in constant time, so that the time does not show
// which one came closest.
func isOneOf(token string, accepted []string) bool {
	matches := 0
	for _, a := range accepted {
		matches |= subtle.ConstantTimeCompare([]byte(token), []byte(a))
	}
	return matches == 1
}
