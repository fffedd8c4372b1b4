package httpapi

import (
	"bytes"
	"fmt"
	"regexp"
	"strings"

	"github.com/gofiber/fiber/v2"
	"github.com/valyala/fasthttp"

	"github.com/parley-chat/parley/internal/audit"
	"github.com/parley-chat/parley/internal/id"
	"github.com/parley-chat/parley/internal/principal"
	"github.com/parley-chat/parley/internal/serverkey"
)

const serverPath = "/api/server"

// serverRoutes returns the routes for a product's back end, each with the required scope. l limits requests without a valid key.
func (s *Server) serverRoutes(l limit) []route {
	read := principal.Read
	const users, conversations, messages = serverPath + "/users", serverPath + "/conversations", serverPath + "/messages"
	return []route{
		{"PUT", users, key(principal.Users), l, s.upsertUsers},
		{"GET", users, key(read(principal.Users)), l, s.listUsers},
		{"GET", users + "/:user", key(read(principal.Users)), l, s.withUser(s.getUser)},
		{"PATCH", users + "/:user", key(principal.Users), l, s.withUser(s.patchUser)},
		{"POST", users + "/:user/deactivate", key(principal.Users), l, s.withUser(s.deactivateUser)},
		{"POST", users + "/:user/reactivate", key(principal.Users), l, s.withUser(s.reactivateUser)},
		{"POST", users + "/:user/tokens", key(principal.Tokens), l, s.mintTokens},
		{"DELETE", users + "/:user/sessions", key(principal.Tokens), l, s.withUser(s.endSessions)},
		{"PUT", users + "/:user/ban", key(principal.Moderation), l, s.withUser(s.banUser)},
		{"DELETE", users + "/:user/ban", key(principal.Moderation), l, s.withUser(s.unbanUser)},

		{"GET", conversations, key(read(principal.Conversations)), l, s.keyedList},
		{"PUT", conversations + "/:conversation", key(principal.Conversations), l, s.putConversation},
		{"GET", conversations + "/:conversation", key(read(principal.Conversations)), l, s.withConversation(s.keyedGet)},
		{"PATCH", conversations + "/:conversation", key(principal.Conversations), l, s.withConversation(s.keyedPatch)},
		{"DELETE", conversations + "/:conversation", key(principal.Conversations), l, s.withConversation(s.keyedDelete)},
		{"POST", conversations + "/:conversation/members", key(principal.Conversations), l, s.withConversation(s.keyedAdd)},
		{"DELETE", conversations + "/:conversation/members", key(principal.Conversations), l, s.withConversation(s.keyedRemove)},
		{"GET", conversations + "/:conversation/messages", key(read(principal.Messages)), l, s.keyedHistory},
		{"POST", conversations + "/:conversation/messages", key(principal.Messages), l, s.keyedSend},
		{"GET", messages + "/:id", key(read(principal.Messages)), l, s.keyedMessage},
		{"PATCH", messages + "/:id", key(principal.Messages), l, s.keyedEdit},
		{"DELETE", messages + "/:id", key(principal.Messages), l, s.keyedDeleteMessage},

		{"GET", serverPath + "/keys", key(read(principal.Keys)), l, s.listKeys},
		{"POST", serverPath + "/keys", key(principal.Keys), l, s.createKey},
		{"DELETE", serverPath + "/keys/:id", key(principal.Keys), l, s.endKey},
		{"GET", serverPath + "/webhooks", key(read(principal.Webhooks)), l, s.withWebhooks(s.listWebhooks)},
		{"POST", serverPath + "/webhooks", key(principal.Webhooks), l, s.withWebhooks(s.createWebhook)},
		{"GET", serverPath + "/webhooks/:id", key(read(principal.Webhooks)), l, s.withWebhooks(s.getWebhook)},
		{"PATCH", serverPath + "/webhooks/:id", key(principal.Webhooks), l, s.withWebhooks(s.updateWebhook)},
		{"DELETE", serverPath + "/webhooks/:id", key(principal.Webhooks), l, s.withWebhooks(s.deleteWebhook)},
		{"POST", serverPath + "/webhooks/:id/rotate", key(principal.Webhooks), l, s.withWebhooks(s.rotateWebhook)},
		{"POST", serverPath + "/webhooks/:id/test", key(principal.Webhooks), l, s.withWebhooks(s.testWebhook)},
		{"POST", serverPath + "/webhooks/:id/replay", key(principal.Webhooks), l, s.withWebhooks(s.replayWebhook)},
		{"GET", serverPath + "/webhooks/:id/attempts", key(read(principal.Webhooks)), l, s.withWebhooks(s.listAttempts)},
		{"GET", serverPath + "/webhooks/:id/dead", key(read(principal.Webhooks)), l, s.withWebhooks(s.listDead)},
		{"POST", serverPath + "/webhooks/:id/dead/:event/retry", key(principal.Webhooks), l, s.withWebhooks(s.retryDead)},
		{"DELETE", serverPath + "/webhooks/:id/dead/:event", key(principal.Webhooks), l, s.withWebhooks(s.forgetDead)},
		{"GET", serverPath + "/audit", key(read(principal.Audit)), l, s.listAudit},
	}
}

// bodyBounds are the routes that accept bodies of more than maxBody.
var bodyBounds = []struct {
	method string
	path   *regexp.Regexp
	bound  int
}{
	{"PUT", regexp.MustCompile(`^/api/server/users$`), 4 << 20},
	{"PUT", regexp.MustCompile(`^/api/server/conversations/`), 1 << 20},
}

// boundOf returns the largest size of a request's body. Only requests with a token in the form of a server key may have more than maxBody.
func boundOf(h *fasthttp.RequestHeader) int {
	uri := h.RequestURI()
	if !bytes.HasPrefix(uri, []byte(serverPath)) {
		return maxBody
	}
	token, _ := bearerToken(string(h.Peek(fasthttp.HeaderAuthorization)))
	path, _, _ := bytes.Cut(uri, []byte("?"))
	for _, b := range bodyBounds {
		if b.method == string(h.Method()) && b.path.Match(path) && serverkey.Is(token) {
			return b.bound
		}
	}
	return maxBody
}

// tooLarge is errTooLarge for the route's bound.
type tooLarge struct{ bound int }

func (e *tooLarge) Error() string { return fmt.Sprintf("the body is larger than %d KiB", e.bound>>10) }

// Is makes errors.Is match errTooLarge, which the table of outcomes has.
func (*tooLarge) Is(target error) bool { return target == errTooLarge }

var verbs = map[string]string{fiber.MethodPost: "create", fiber.MethodPut: "set", fiber.MethodPatch: "update", fiber.MethodDelete: "delete"}

// actedOn returns the entry of the audit log for a request that a key makes for a user. It is committed together with the request's change.
func actedOn(c *fiber.Ctx, userID string) audit.Entry {
	e := audit.Entry{TargetType: audit.TargetUser, TargetID: userID, Detail: map[string]any{"method": c.Method(), "route": routeOf(c)}}
	thing, verb := "request", verbs[c.Method()]
	kind := audit.TargetUser
	segments := strings.Split(strings.TrimPrefix(routeOf(c), "/api/"), "/")
	for i, segment := range segments {
		switch name, known := things[segment]; {
		case known:
			thing, kind = name, name
		case strings.HasPrefix(segment, ":"):
			if v := c.Params(segment[1:]); id.Valid(v) {
				e.TargetType, e.TargetID = kind, strings.Clone(v)
			}
		case i == len(segments)-1 && segment != "me" && segment != "all":
			verb = segment // read, accept, …
		}
	}
	e.Action = thing + "." + verb
	return e
}
