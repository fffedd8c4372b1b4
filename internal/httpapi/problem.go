package httpapi

import (
	"errors"
	"net/http"

	"github.com/gofiber/fiber/v2"

	"github.com/parley-chat/parley/internal/attachment"
	"github.com/parley-chat/parley/internal/auth"
	"github.com/parley-chat/parley/internal/conversation"
	"github.com/parley-chat/parley/internal/cursor"
	"github.com/parley-chat/parley/internal/directory"
	"github.com/parley-chat/parley/internal/friend"
	"github.com/parley-chat/parley/internal/identity"
	"github.com/parley-chat/parley/internal/invalid"
	"github.com/parley-chat/parley/internal/jsonbody"
	"github.com/parley-chat/parley/internal/message"
	"github.com/parley-chat/parley/internal/postgres"
	"github.com/parley-chat/parley/internal/presence"
	"github.com/parley-chat/parley/internal/principal"
	"github.com/parley-chat/parley/internal/push"
	"github.com/parley-chat/parley/internal/realtime"
	"github.com/parley-chat/parley/internal/receipt"
	"github.com/parley-chat/parley/internal/serverkey"
	"github.com/parley-chat/parley/internal/timestamp"
	"github.com/parley-chat/parley/internal/user"
	"github.com/parley-chat/parley/internal/webhook"
)

// problem is the body of every error response (RFC 9457).
type problem struct {
	Type      string          `json:"type"`
	Title     string          `json:"title"`
	Status    int             `json:"status"`
	Detail    string          `json:"detail"`
	Code      string          `json:"code"`
	RequestID string          `json:"requestId"`
	Errors    []invalid.Fault `json:"errors,omitempty"`
	// RetryAfterSeconds is set for rate_limited only.
	RetryAfterSeconds int `json:"retryAfterSeconds,omitempty"`
	// Until is when a ban ends. It is left out for a permanent ban.
	Until *timestamp.Time `json:"until,omitempty"`
	// Scope is the scope that the server key lacks.
	Scope string `json:"scope,omitempty"`
}

// Errors of the edge itself.
var (
	errNotFound       = errors.New("there is no such resource")
	errForbidden      = errors.New("this is not allowed")
	errUnsupported    = errors.New("the body must be application/json")
	errEncoded        = errors.New("a request's body must be plain: no Content-Encoding")
	errUpgrade        = errors.New("this route only serves WebSockets")
	errOrigin         = errors.New("sockets may not be opened from this origin")
	errUnknownType    = errors.New("there is no such type of frame")
	errUnavailable    = errors.New("a dependency is down, or the server is going away")
	errInternal       = errors.New("something went wrong on our side")
	errMethod         = errors.New("the resource does not know this method")
	errNotImplemented = errors.New("there is no such method in HTTP")
	errTooLarge       = errors.New("the body is larger than 256 KiB")
	errHeaders        = errors.New("the headers are too large")
	errSlowRequest    = errors.New("the request took too long to arrive")
	errBadRequest     = errors.New("the request is not HTTP as we understand it")
	errLimited        = errors.New("too many requests")
)

// outcome is the status and the stable code of an error.
type outcome struct {
	err    error
	status int
	code   string
}

// outcomes is the only table that maps errors to problems. An error that is not in it is a 500.
var outcomes = []outcome{
	{jsonbody.ErrMalformed, 400, "malformed_json"},
	{cursor.ErrMalformed, 400, "invalid_cursor"},
	{errBadRequest, 400, "bad_request"},
	{errUnknownType, 400, "unknown_type"},

	{principal.ErrUnauthorized, 401, "unauthorized"},
	{push.ErrEnded, 401, "unauthorized"},
	{auth.ErrInvalidCredentials, 401, "invalid_credentials"},
	{auth.ErrInvalidRefresh, 401, "invalid_refresh_token"},

	{errForbidden, 403, "forbidden"},
	{errOrigin, 403, "origin_not_allowed"},
	{errKeyInBrowser, 403, "key_in_browser"},
	{errScopeMissing, 403, "scope_missing"},
	{serverkey.ErrBeyond, 403, "scope_missing"},
	{principal.ErrBanned, 403, "banned"},
	{errManaged, 403, "managed_externally"},
	{principal.ErrDeactivated, 403, "deactivated"},
	{identity.ErrNotProvisioned, 403, "not_provisioned"},
	{auth.ErrWrongPassword, 403, "wrong_password"},
	{conversation.ErrForbidden, 403, "forbidden"},
	{message.ErrForbidden, 403, "forbidden"},
	{message.ErrCannotMessage, 403, "cannot_message"},
	{message.ErrNoPosting, 403, "posting_not_allowed"},
	{message.ErrPinForbidden, 403, "forbidden"},
	{message.ErrMentionAll, 403, "mention_all_not_allowed"},

	{errNotFound, 404, "not_found"},
	{serverkey.ErrNotFound, 404, "key_not_found"},
	{auth.ErrSessionNotFound, 404, "session_not_found"},
	{user.ErrNotFound, 404, "user_not_found"},
	{directory.ErrNotFound, 404, "user_not_found"},
	{conversation.ErrUserNotFound, 404, "user_not_found"},
	{friend.ErrUserNotFound, 404, "user_not_found"},
	{friend.ErrRequestNotFound, 404, "request_not_found"},
	{conversation.ErrNotFound, 404, "conversation_not_found"},
	{conversation.ErrMemberNotFound, 404, "member_not_found"},
	{message.ErrConversationNotFound, 404, "conversation_not_found"},
	{message.ErrNotFound, 404, "message_not_found"},
	{webhook.ErrNotFound, 404, "webhook_not_found"},
	{errNoWebhooks, 404, "webhooks_not_configured"},
	{receipt.ErrNotFound, 404, "message_not_found"},
	{receipt.ErrNoConversation, 404, "conversation_not_found"},
	{attachment.ErrNotFound, 404, "attachment_not_found"},
	{attachment.ErrNotConfigured, 404, "storage_not_configured"},

	{errMethod, 405, "method_not_allowed"},
	{errSlowRequest, 408, "request_timeout"},

	{auth.ErrUsernameTaken, 409, "username_taken"},
	{directory.ErrUsernameTaken, 409, "username_taken"},
	{serverkey.ErrNameTaken, 409, "name_taken"},
	{serverkey.ErrTooMany, 409, "limit_reached"},
	{conversation.ErrDirect, 409, "direct_conversation"},
	{conversation.ErrClientIDReused, 409, "client_id_reused"},
	{conversation.ErrLastOwner, 409, "last_owner"},
	{webhook.ErrNameTaken, 409, "name_taken"},
	{webhook.ErrTooMany, 409, "limit_reached"},
	{webhook.ErrTooManyReplays, 409, "limit_reached"},
	{conversation.ErrTooManyPinned, 409, "limit_reached"},
	{conversation.ErrTooManyMembers, 409, "limit_reached"},
	{conversation.ErrTooManyGroups, 409, "limit_reached"},
	{conversation.ErrTooManyAdditions, 409, "limit_reached"},
	{friend.ErrTooManyFriends, 409, "limit_reached"},
	{friend.ErrTooManyRequests, 409, "limit_reached"},
	{realtime.ErrTooManyWatched, 409, "limit_reached"},
	{attachment.ErrTooManyUploads, 409, "limit_reached"},
	{attachment.ErrNotUploaded, 409, "not_uploaded"},
	{message.ErrDeleted, 409, "message_deleted"},
	{message.ErrClientMessageIDReused, 409, "client_message_id_reused"},
	{message.ErrTooManyReactions, 409, "limit_reached"},
	{message.ErrTooManyPins, 409, "limit_reached"},

	{message.ErrRevisionMismatch, 412, "revision_mismatch"},
	{conversation.ErrRevisionMismatch, 412, "revision_mismatch"},

	{errTooLarge, 413, "payload_too_large"},
	{attachment.ErrTooLarge, 413, "payload_too_large"},
	{attachment.ErrTypeNotAllowed, 415, "type_not_allowed"},
	{attachment.ErrMismatch, 422, "upload_mismatch"},
	{errUnsupported, 415, "unsupported_media_type"},
	{errEncoded, 415, "unsupported_media_type"},
	{errUpgrade, 426, "upgrade_required"},
	{errLimited, 429, "rate_limited"},
	{errHeaders, 431, "headers_too_large"},

	{errNotImplemented, 501, "not_implemented"},

	{errUnavailable, 503, "unavailable"},
	{identity.ErrUnavailable, 503, "identity_unavailable"},
	{presence.ErrUnavailable, 503, "unavailable"},
	{auth.ErrBusy, 503, "unavailable"},
	{message.ErrBusy, 503, "unavailable"},
	{message.ErrHistoryChanged, 503, "unavailable"},
	{receipt.ErrBusy, 503, "unavailable"},
	{attachment.ErrUnavailable, 503, "unavailable"},
}

// problemOf maps an error to its problem. The text of an unknown error is not revealed.
func problemOf(err error, requestID string) problem {
	p := problem{Type: "about:blank", RequestID: requestID}
	o := outcome{errInternal, http.StatusInternalServerError, "internal"}
	if f, ok := errors.AsType[*invalid.Faults](err); ok {
		o = outcome{errors.New("some fields are not valid"), http.StatusBadRequest, "invalid_request"}
		p.Errors = f.List()
	} else if known, ok := lookUp(err); ok {
		o = known
	} else if postgres.IsUnavailable(err) {
		o = outcome{errUnavailable, http.StatusServiceUnavailable, "unavailable"}
	}
	p.Status, p.Code, p.Title, p.Detail = o.status, o.code, http.StatusText(o.status), o.err.Error()
	if l, ok := errors.AsType[*tooLarge](err); ok {
		p.Detail = l.Error()
	}
	if b, ok := errors.AsType[*principal.BannedError](err); ok && !b.Until.IsZero() {
		p.Until = &timestamp.Time{Time: b.Until}
	}
	if sc, ok := errors.AsType[*scopeError](err); ok {
		p.Scope, p.Detail = sc.scope, sc.Error()
	}
	if beyond, ok := errors.AsType[*serverkey.BeyondError](err); ok {
		p.Scope, p.Detail = beyond.Scopes[0], beyond.Error()
	}
	if l, ok := errors.AsType[*limited](err); ok {
		p.Detail, p.RetryAfterSeconds = l.Error(), max(1, seconds(l.after))
	}
	return p
}

func lookUp(err error) (outcome, bool) {
	for _, o := range outcomes {
		if errors.Is(err, o.err) {
			return o, true
		}
	}
	f, ok := errors.AsType[*fiber.Error](err)
	if !ok {
		return outcome{}, false
	}
	of := map[int]error{
		404: errNotFound, 405: errMethod, 408: errSlowRequest, 413: errTooLarge, 426: errUpgrade, 431: errHeaders,
	}[f.Code]
	// Fiber reports a connection that the client has reset as 502, although the server has no fault.
	if of == nil && (f.Code >= 400 && f.Code < 500 || f.Code == fiber.StatusBadGateway) {
		of = errBadRequest
	}
	if of == nil {
		return outcome{}, false
	}
	return lookUp(of)
}

// retryAfter is the Retry-After of a 503, in seconds.
const retryAfter = "1"

// fail responds with an error's problem.
func (s *Server) fail(c *fiber.Ctx, err error) error {
	id := requestID(c)
	p := problemOf(err, id)
	switch {
	case p.Status == http.StatusInternalServerError:
		s.Log.ErrorContext(c.UserContext(), "a request failed", "method", c.Method(), "route", routeOf(c), "error", err)
	case p.Status == http.StatusServiceUnavailable:
		s.metrics.unavailable.Inc()
		s.Refusals.Fail(c.UserContext(), err, "method", c.Method(), "route", routeOf(c))
		c.Set(fiber.HeaderRetryAfter, retryAfter)
	case p.Status == http.StatusUnauthorized:
		c.Set(fiber.HeaderWWWAuthenticate, `Bearer realm="parley"`)
	case p.Status == http.StatusUpgradeRequired:
		c.Set(fiber.HeaderUpgrade, "websocket")
	}
	if err := c.Status(p.Status).JSON(p); err != nil {
		return err
	}
	c.Set(fiber.HeaderContentType, "application/problem+json")
	return nil
}
