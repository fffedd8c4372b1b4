package httpapi

import (
	"context"
	"testing"

	"github.com/parley-chat/parley/internal/attachment"
	"github.com/parley-chat/parley/internal/push"
)

type fakeAttachments struct {
	*domains
	off bool
}

var fileLink = attachment.Link{ID: file, URL: "https://files.example.com/x", ExpiresAt: noon}

func (f fakeAttachments) Configured() bool { return !f.off }

func (f fakeAttachments) Create(_ context.Context, ownerID string, u *attachment.Upload) (attachment.Ticket, error) {
	return attachment.Ticket{ID: file, URL: fileLink.URL, Method: "PUT", Headers: map[string]string{"Content-Type": u.ContentType}, ExpiresAt: noon}, f.record("Create", ownerID, u)
}

func (f fakeAttachments) Complete(_ context.Context, id, ownerID string) (attachment.Completed, error) {
	return attachment.Completed{ID: file, State: "ready", ContentType: "image/png", Size: 9}, f.record("Complete", id, ownerID)
}

func (f fakeAttachments) Link(_ context.Context, userID, id string) (attachment.Link, error) {
	return fileLink, f.record("Link", userID, id)
}

func (f fakeAttachments) Links(_ context.Context, userID string, w *attachment.Wanted) ([]attachment.Link, error) {
	return []attachment.Link{fileLink}, f.record("Links", userID, w)
}

func TestAttachments(t *testing.T) {
	t.Parallel()
	const body, create = `{"filename":"a.png","contentType":"image/png","size":9}`, `Create {ada} {"filename":"a.png","contentType":"image/png","size":9}`
	e := newEdge(t, func(d *domains, _ *Config, deps *Deps) { deps.Attachments = fakeAttachments{domains: d} })
	e.run(t, []exchange{
		{name: "an upload", request: "POST /api/uploads", body: body, calls: create, status: 201,
			want: `{"id":"{file}","url":"https://files.example.com/x","method":"PUT","headers":{"Content-Type":"image/png"},"expiresAt":"{noon}"}`},
		{name: "too many uploads", request: "POST /api/uploads", body: body, err: attachment.ErrTooManyUploads, calls: create, status: 409, want: "limit_reached"},
		{name: "too large", request: "POST /api/uploads", body: body, err: attachment.ErrTooLarge, calls: create, status: 413, want: "payload_too_large"},
		{name: "a type that is not allowed", request: "POST /api/uploads", body: body, err: attachment.ErrTypeNotAllowed, calls: create, status: 415, want: "type_not_allowed"},
		{name: "all faults at once", request: "POST /api/uploads", body: `{"filename":"","contentType":"png","size":0,"x":1}`, status: 400, want: "invalid_request: x filename contentType size"},
		{name: "completed", request: "POST /api/uploads/{file}/complete", calls: "Complete {file} {ada}", status: 200, want: `{"id":"{file}","state":"ready","contentType":"image/png","size":9}`},
		{name: "not uploaded", request: "POST /api/uploads/{file}/complete", err: attachment.ErrNotUploaded, calls: "Complete {file} {ada}", status: 409, want: "not_uploaded"},
		{name: "another file", request: "POST /api/uploads/{file}/complete", err: attachment.ErrMismatch, calls: "Complete {file} {ada}", status: 422, want: "upload_mismatch"},
		{name: "complete a bad id", request: "POST /api/uploads/x/complete", status: 404, want: "attachment_not_found"},
		{name: "links", request: "POST /api/attachments/urls", body: `{"ids":["{file}"]}`, calls: `Links {ada} {"ids":["{file}"]}`, status: 200,
			want: `{"data":[{"id":"{file}","url":"https://files.example.com/x","expiresAt":"{noon}"}]}`},
		{name: "links to nothing", request: "POST /api/attachments/urls", body: `{"ids":[]}`, status: 400, want: "invalid_request: ids"},
		{name: "a redirect", request: "GET /api/attachments/{file}", calls: "Link {ada} {file}", status: 302, sets: map[string]string{"Location": fileLink.URL, "Cache-Control": "no-store"}},
		{name: "an unknown file", request: "GET /api/attachments/{file}", err: attachment.ErrNotFound, calls: "Link {ada} {file}", status: 404, want: "attachment_not_found"},
		{name: "a bad id", request: "GET /api/attachments/x", status: 404, want: "attachment_not_found"},
		{name: "storage is unavailable", request: "GET /api/attachments/{file}", err: attachment.ErrUnavailable, calls: "Link {ada} {file}", status: 503, want: "unavailable"},
	})
}

// Without storage every route of files has the same problem, whatever else is wrong with the request.
func TestAttachmentsWithoutStorage(t *testing.T) {
	t.Parallel()
	e := newEdge(t, func(d *domains, _ *Config, deps *Deps) { deps.Attachments = fakeAttachments{d, true} })
	for _, request := range []string{"POST /api/uploads", "POST /api/uploads/x/complete", "POST /api/attachments/urls", "GET /api/attachments/x"} {
		e.run(t, []exchange{{name: request, request: request, status: 404, want: "storage_not_configured"}})
	}
}

type fakePushes struct{ *domains }

func (fakePushes) Config() push.Config {
	return push.Config{WebPush: &push.WebPushConfig{PublicKey: "key"}}
}

func (f fakePushes) Put(_ context.Context, userID, sessionID, deviceID string, r *push.Registration) error {
	return f.record("Put", userID, sessionID, deviceID, r.Provider, optional(r.Token))
}

func (f fakePushes) Delete(_ context.Context, userID, deviceID string) error {
	return f.record("Delete", userID, deviceID)
}

func (f fakePushes) Preferences(_ context.Context, userID string) (push.Preferences, error) {
	return push.Preferences{Level: "mentions", Preview: true}, f.record("Preferences", userID)
}

func (f fakePushes) Change(_ context.Context, userID string, c *push.PreferencesChange) (push.Preferences, error) {
	return push.Preferences{Level: "none"}, f.record("Change", userID, optional(c.Level), optional(c.Preview))
}

func TestPushes(t *testing.T) {
	t.Parallel()
	const put = "Put {ada} {session} phone fcm t"
	e := newEdge(t, func(d *domains, _ *Config, deps *Deps) { deps.Push = fakePushes{d} })
	e.run(t, []exchange{
		{name: "configuration", request: "GET /api/push/config", status: 200, want: `{"webPush":{"publicKey":"key"},"fcm":false}`},
		{name: "a device", request: "PUT /api/push/devices/phone", body: `{"provider":"fcm","token":"t"}`, calls: put, status: 204},
		{name: "a session that ended", request: "PUT /api/push/devices/phone", body: `{"provider":"fcm","token":"t"}`, err: push.ErrEnded, calls: put, status: 401, want: "unauthorized"},
		{name: "an unknown provider", request: "PUT /api/push/devices/phone", body: `{"provider":"apns"}`, status: 400, want: "invalid_request: provider"},
		{name: "remove a device", request: "DELETE /api/push/devices/phone", calls: "Delete {ada} phone", status: 204},
		{name: "preferences", request: "GET /api/push/preferences", calls: "Preferences {ada}", status: 200, want: `{"level":"mentions","preview":true}`},
		{name: "change preferences", request: "PATCH /api/push/preferences", body: `{"level":"none"}`, calls: "Change {ada} none absent", status: 200, want: `{"level":"none","preview":false}`},
		{name: "all faults at once", request: "PATCH /api/push/preferences", body: `{"level":"some","preview":null}`, status: 400, want: "invalid_request: level preview"},
		{name: "nothing", request: "PATCH /api/push/preferences", body: `{}`, status: 400, want: "invalid_request: body"},
	})
}
