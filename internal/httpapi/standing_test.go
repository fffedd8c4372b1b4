package httpapi

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gofiber/fiber/v2"

	"github.com/parley-chat/parley/internal/budget"
	"github.com/parley-chat/parley/internal/config"
	"github.com/parley-chat/parley/internal/principal"
	"github.com/parley-chat/parley/internal/testenv"
)

// withdrawn is a key set without keys.
type withdrawn struct{}

func (withdrawn) Holds(string) bool { return false }

// A socket that was registered is closed if what admitted it ended before.
func TestWhatAdmittedASocketMayHaveEnded(t *testing.T) {
	t.Parallel()
	e, _, _ := authEdge(t)
	e.ended.Note(session)
	e.barred.Note(bob, principal.Standing{Banned: true, ChangedAt: someTime.Time})
	gone := newServerEdge(t, func(_ *Config, d *Deps) { d.Keyset = withdrawn{} })
	for _, c := range []struct {
		name string
		on   *serverEdge
		p    principal.Principal
		ok   bool
	}{
		{"a session", e, principal.Principal{UserID: ada, SessionID: "another"}, true},
		{"an ended session", e, principal.Principal{UserID: ada, SessionID: session}, false},
		{"an external token", e, principal.Principal{UserID: ada, Signer: "s", ExpiresAt: time.Now().Add(time.Hour)}, true},
		{"an expired token", e, principal.Principal{UserID: ada, Signer: "s", ExpiresAt: time.Now().Add(-time.Second)}, false},
		{"a token of a withdrawn key", gone, principal.Principal{UserID: ada, Signer: "s", ExpiresAt: time.Now().Add(time.Hour)}, false},
		{"a banned user", e, principal.Principal{UserID: bob}, false},
	} {
		if err := c.on.stillAdmitted(c.p); (err == nil) != c.ok {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

// A response that its client does not read takes memory of the budget. One that is beyond it is 503.
func TestResponsesAreBoundedByTheBudget(t *testing.T) {
	t.Parallel()
	memory := budget.New(1<<20, 200<<10)
	e := newServerEdge(t, func(_ *Config, d *Deps) { d.Memory = memory })
	e.withRoute(http.MethodGet, "/test/:kib", func(c *fiber.Ctx) error {
		kib, err := c.ParamsInt("kib")
		if err != nil {
			return err
		}
		return c.SendString(strings.Repeat("x", kib<<10))
	})
	addr := e.serve()
	for _, c := range []struct{ kib, status int }{{60, 200}, {190, 200}, {210, 503}} {
		conn := dial(t, addr)
		send(t, conn, fmt.Sprintf("GET /test/%d HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", c.kib))
		if status, body := respond(t, conn); status != c.status || status == 200 && len(body) != c.kib<<10 {
			t.Errorf("a response of %d KiB is %d of %d bytes", c.kib, status, len(body))
		}
		testenv.Eventually(t, time.Minute, func() bool { return memory.Used() == 0 }, "the memory is given back")
	}
}

// A proxy that is missing in the settings is logged once, and a trusted one not at all.
func TestAnUntrustedProxyIsLoggedOnce(t *testing.T) {
	t.Parallel()
	e := newServerEdge(t, func(c *Config, _ *Deps) { c.ForwardedHeader = config.ForwardedFor })
	e.do("GET", "/api/health", "", "")
	if log := e.log.String(); log != "" {
		t.Errorf("without a proxy the log has %s", log)
	}
	for range 2 {
		e.do("GET", "/api/health", "", "", "X-Forwarded-For", "203.0.113.7")
	}
	if log := e.log.String(); strings.Count(log, "PARLEY_TRUSTED_PROXIES") != 1 || strings.Contains(log, "203.0.113.7") {
		t.Errorf("the log has %s", log)
	}
}
