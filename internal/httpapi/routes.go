package httpapi

import "github.com/gofiber/fiber/v2"

const socketRoute = "/api/ws"

// route is one line of the table: who may call it and what answers.
type route struct {
	method, path string
	auth         bool
	handler      fiber.Handler
}

// routes is everything that the api serves.
func (s *Server) routes(d *docs) []route {
	const anyone, user = false, true
	return []route{
		{"GET", "/api/health", anyone, s.health},
		{"GET", "/api/health/ready", anyone, s.ready},
		{"GET", "/api/metrics", anyone, s.metricsPage()},
		{"GET", docsPath, anyone, d.page},
		{"GET", docsPath + "/openapi.json", anyone, d.document},
		{"GET", docsPath + "/:asset", anyone, d.page},

		{"POST", "/api/auth/register", anyone, s.register},
		{"POST", "/api/auth/login", anyone, s.login},
		{"POST", "/api/auth/refresh", anyone, s.refresh},
		{"POST", "/api/auth/logout", anyone, s.logout},

		{"GET", "/api/users/me", user, s.ownProfile},
		{"GET", "/api/users/:id", user, s.profile},

		{"POST", "/api/conversations", user, s.createConversation},
		{"GET", "/api/conversations", user, s.listConversations},
		{"GET", "/api/conversations/:id", user, s.getConversation},
		{"PATCH", "/api/conversations/:id", user, s.renameConversation},
		{"GET", "/api/conversations/:id/members", user, s.listMembers},
		{"POST", "/api/conversations/:id/members", user, s.addMembers},
		{"PATCH", "/api/conversations/:id/members/:userId", user, s.setRole},
		{"DELETE", "/api/conversations/:id/members/:userId", user, s.removeMember},

		{"GET", "/api/conversations/:id/messages", user, s.listMessages},
		{"POST", "/api/conversations/:id/messages", user, s.sendMessage},
		{"PATCH", "/api/messages/:id", user, s.editMessage},
		{"DELETE", "/api/messages/:id", user, s.deleteMessage},

		{"GET", socketRoute, anyone, s.socket()}, // which authenticates by itself, for browsers
	}
}

// add puts a route into the app.
func (s *Server) add(r route) {
	handler := func(c *fiber.Ctx) error {
		c.Locals(localRoute, r.path)
		if r.auth {
			if err := s.authenticate(c); err != nil {
				return err
			}
		}
		return r.handler(c)
	}
	s.app.Add(r.method, r.path, handler)
	if r.method == fiber.MethodGet {
		s.app.Add(fiber.MethodHead, r.path, handler)
	}
}
