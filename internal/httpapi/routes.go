package httpapi

import (
	"slices"

	"github.com/gofiber/fiber/v2"
)

const socketRoute = "/api/ws"

// route is one line of the table of routes: the admitted callers, the limit and the handler.
type route struct {
	method, path string
	who          access
	limit        limit
	handler      fiber.Handler
}

// builtinRoutes exist only if users may have passwords of Parley (config: auth mode).
var builtinRoutes = []string{"/api/auth/register", "/api/auth/login", "/api/auth/password"}

// things maps segments of paths to the names of targets in the audit log.
var things = map[string]string{
	"users": "user", "friends": "friend", "requests": "friend_request", "blocks": "block", "conversations": "conversation", "members": "member",
	"messages": "message", "reactions": "reaction", "pin": "pin", "uploads": "upload", "attachments": "attachment", "devices": "push_device",
	"preferences": "push_preferences", "privacy": "privacy", "sessions": "session", "auth": "account",
}

// routes returns the table of everything that the api serves.
func (s *Server) routes(d *docs) []route {
	anyone, user := access{}, access{user: true}
	by := s.limits()
	table := slices.Concat(s.serverRoutes(by.everything), []route{
		{"GET", "/api/health", anyone, by.none, s.health},
		{"GET", "/api/health/ready", anyone, by.none, s.ready},
		{"GET", "/api/metrics", anyone, by.none, s.metricsPage()},
		{"POST", "/api/auth/register", anyone, by.register, s.register},
		{"POST", "/api/auth/login", anyone, by.login, s.login},
		{"POST", "/api/auth/refresh", anyone, by.refresh, s.refresh},
		{"POST", "/api/auth/logout", anyone, by.everything, s.logout},

		{"GET", "/api/auth/sessions", user, by.everything, s.listSessions},
		{"DELETE", "/api/auth/sessions/:id", user, by.everything, s.endSession},
		{"POST", "/api/auth/password", user, by.everything, s.changePassword},

		{"GET", "/api/users", user, by.everything, s.profiles},
		{"GET", "/api/users/me", user, by.own, s.ownProfile},
		{"PATCH", "/api/users/me", user, by.everything, s.updateProfile},
		{"DELETE", "/api/users/me", user, by.everything, s.deleteAccount},
		{"GET", "/api/users/me/privacy", user, by.own, s.privacy},
		{"PATCH", "/api/users/me/privacy", user, by.everything, s.updatePrivacy},
		{"GET", "/api/users/search", user, by.search, s.search},
		{"GET", "/api/users/:id", user, by.everything, s.profile},

		{"GET", "/api/friends", user, by.everything, s.listFriends},
		{"GET", "/api/friends/requests", user, by.everything, s.listRequests},
		{"POST", "/api/friends/requests", user, by.everything, s.askFriend},
		{"POST", "/api/friends/requests/:userId/accept", user, by.everything, s.acceptFriend},
		{"DELETE", "/api/friends/requests/:userId", user, by.everything, s.dropRequest},
		{"DELETE", "/api/friends/:userId", user, by.everything, s.unfriend},
		{"GET", "/api/blocks", user, by.everything, s.listBlocks},
		{"PUT", "/api/blocks/:userId", user, by.everything, s.block},
		{"DELETE", "/api/blocks/:userId", user, by.everything, s.unblock},

		{"POST", "/api/conversations", user, by.everything, s.createConversation},
		{"GET", "/api/conversations", user, by.everything, s.listConversations},
		{"POST", "/api/conversations/read", user, by.everything, s.readMany},
		{"GET", "/api/unread", user, by.everything, s.unread},
		{"GET", "/api/conversations/:id", user, by.everything, s.getConversation},
		{"PATCH", "/api/conversations/:id", user, by.everything, s.updateConversation},
		{"DELETE", "/api/conversations/:id", user, by.everything, s.deleteConversation},
		{"PATCH", "/api/conversations/:id/me", user, by.everything, s.updateState},
		{"GET", "/api/conversations/:id/members", user, by.everything, s.listMembers},
		{"POST", "/api/conversations/:id/members", user, by.everything, s.addMembers},
		{"PATCH", "/api/conversations/:id/members/:userId", user, by.everything, s.setRole},
		{"DELETE", "/api/conversations/:id/members/:userId", user, by.everything, s.removeMember},

		{"GET", "/api/conversations/:id/messages", user, by.everything, s.listMessages},
		{"POST", "/api/conversations/:id/messages", user, by.send, s.sendMessage},
		{"GET", "/api/conversations/:id/pins", user, by.everything, s.listPins},
		{"GET", "/api/messages/:id", user, by.everything, s.getMessage},
		{"PATCH", "/api/messages/:id", user, by.everything, s.editMessage},
		{"DELETE", "/api/messages/:id", user, by.everything, s.deleteMessage},
		{"PUT", "/api/messages/:id/pin", user, by.everything, s.pinMessage},
		{"DELETE", "/api/messages/:id/pin", user, by.everything, s.unpinMessage},
		{"GET", "/api/messages/:id/reactions", user, by.everything, s.listReactions},
		{"PUT", "/api/messages/:id/reactions/:reaction", user, by.react, s.addReaction},
		{"DELETE", "/api/messages/:id/reactions/:reaction", user, by.react, s.removeReaction},

		{"POST", "/api/uploads", user, by.upload, s.createUpload},
		{"POST", "/api/uploads/:id/complete", user, by.upload, s.completeUpload},
		{"POST", "/api/attachments/urls", user, by.everything, s.listAttachmentURLs},
		{"GET", "/api/attachments/:id", user, by.everything, s.fetchAttachment},

		{"POST", "/api/messages/:id/read", user, by.everything, s.readMessage},
		{"POST", "/api/conversations/:id/read", user, by.everything, s.readConversation},
		{"GET", "/api/conversations/:id/markers", user, by.everything, s.listMarkers},
		{"GET", "/api/messages/:id/receipts", user, by.everything, s.listReceipts},

		{"GET", "/api/push/config", user, by.everything, s.pushConfig},
		{"PUT", "/api/push/devices/:deviceId", user, by.everything, s.putPushDevice},
		{"DELETE", "/api/push/devices/:deviceId", user, by.everything, s.deletePushDevice},
		{"GET", "/api/push/preferences", user, by.everything, s.pushPreferences},
		{"PATCH", "/api/push/preferences", user, by.everything, s.updatePushPreferences},

		{"GET", "/api/presence", user, by.everything, s.presences},
		{"GET", "/api/presence/:userId", user, by.everything, s.presence},

		{"GET", socketRoute, anyone, by.socket, s.socket()}, // its handler authenticates, because browsers send the token in a sub-protocol
	})
	if s.Docs {
		table = append(table,
			route{"GET", docsPath, anyone, by.none, d.page},
			route{"GET", docsPath + "/openapi.json", anyone, by.none, d.document},
			route{"GET", docsPath + "/asyncapi.json", anyone, by.none, d.asyncDocument},
			route{"GET", docsPath + "/frames", anyone, by.none, d.framesPage},
			route{"GET", docsPath + "/frames.css", anyone, by.none, d.framesCSS},
			route{"GET", docsPath + "/:asset", anyone, by.none, d.page})
	}
	return table
}

// add puts a route into the app.
func (s *Server) add(r route) {
	handler := func(c *fiber.Ctx) error {
		c.Locals(localRoute, r.path)
		if err := s.admitRequest(c, r.limit); err != nil {
			return err
		}
		if r.who != (access{}) {
			if err := s.authenticate(c, r.who); err != nil {
				return err
			}
		}
		if r.path != socketRoute { // which has a different order
			if err := checkQuery(c); err != nil {
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
