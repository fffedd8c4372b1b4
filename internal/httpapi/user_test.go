package httpapi

import (
	"context"
	"strings"
	"testing"

	"github.com/parley-chat/parley/internal/chat"
	"github.com/parley-chat/parley/internal/event"
	"github.com/parley-chat/parley/internal/jsonbody"
	"github.com/parley-chat/parley/internal/user"
)

// optional writes a member of a body that may be absent or null.
func optional[T any](o jsonbody.Optional[T]) any {
	switch {
	case !o.Set:
		return "absent"
	case o.Null:
		return nil
	}
	return o.Value
}

type fakeUsers struct{ *domains }

func (f fakeUsers) Get(_ context.Context, viewerID, userID string) (chat.Profile, error) {
	return bobsProfile, f.record("Get", viewerID, userID)
}

func (f fakeUsers) Many(_ context.Context, viewerID string, ids user.IDs) ([]chat.Profile, error) {
	return []chat.Profile{bobsProfile}, f.record("Many", viewerID, ids)
}

func (f fakeUsers) Search(_ context.Context, viewerID string, q user.Query) ([]chat.Profile, error) {
	return []chat.Profile{bobsProfile}, f.record("Search", viewerID, q.Text, q.Limit)
}

func (f fakeUsers) OwnAsOf(_ context.Context, userID string, _ user.Stamp) (chat.Own, error) {
	return adasOwn, f.record("OwnAsOf", userID)
}

func (f fakeUsers) Update(_ context.Context, userID string, c *user.ProfileChange) (chat.Own, error) {
	return adasOwn, f.record("Update", userID, optional(c.DisplayName), optional(c.AvatarURL))
}

func (f fakeUsers) UpdatePrivacy(_ context.Context, userID string, c *user.PrivacyChange) (chat.Privacy, error) {
	return adasOwn.Privacy, f.record("UpdatePrivacy", userID, optional(c.PresenceSharing), optional(c.ReadReceiptsEnabled))
}

// fakePublisher records what is published.
type fakePublisher struct{ *domains }

func (f fakePublisher) PrivacyChanged(_ context.Context, userID string) {
	_ = f.record("PrivacyChanged", userID)
}

func (f fakePublisher) Publish(events ...*event.Event) {
	for _, e := range events {
		_ = f.record("Publish", e.Type, e.Data)
	}
}

// fakeManaged are users of external tokens. If managed is set, their names and pictures follow the tokens.
type fakeManaged struct {
	externalUsers
	managed bool
}

func (f fakeManaged) Managed(context.Context, string) (bool, error) { return f.managed, nil }

func usersEdge(t *testing.T) *edge {
	t.Helper()
	return newEdge(t, func(d *domains, _ *Config, deps *Deps) {
		deps.Users, deps.Publisher = fakeUsers{d}, fakePublisher{d}
	})
}

func TestProfiles(t *testing.T) {
	t.Parallel()
	const found = `{"data":[` + bobsProfileJSON + `]}`
	many := strings.TrimSuffix(strings.Repeat("{bob},", 101), ",")
	usersEdge(t).run(t, []exchange{
		{name: "one", request: "GET /api/users/{bob}", calls: "Get {ada} {bob}", status: 200, want: bobsProfileJSON},
		{name: "an unknown one", request: "GET /api/users/{bob}", err: user.ErrNotFound, calls: "Get {ada} {bob}", status: 404, want: "user_not_found"},
		{name: "a bad id", request: "GET /api/users/bob", status: 404, want: "user_not_found"},
		{name: "several", request: "GET /api/users?ids={bob},{ada}&ids={bob}", calls: `Many {ada} ["{bob}","{ada}"]`, status: 200, want: found},
		{name: "none", request: "GET /api/users", status: 400, want: "invalid_request: ids"},
		{name: "too many", request: "GET /api/users?ids=" + many, status: 400, want: "invalid_request: ids"},
		{name: "several with a bad id", request: "GET /api/users?ids={bob},bob", status: 400, want: "invalid_request: ids"},
		{name: "search", request: "GET /api/users/search?q=%20bo%20", calls: "Search {ada} bo 20", status: 200, want: found},
		{name: "search with a limit", request: "GET /api/users/search?q=bo&limit=50", calls: "Search {ada} bo 50", status: 200, want: found},
		{name: "search with all faults", request: "GET /api/users/search?limit=51", status: 400, want: "invalid_request: limit q"},
		{name: "search for bytes that are no text", request: "GET /api/users/search?q=%ff%ff", status: 400, want: "invalid_request: q"},
	})
}

func TestOwnProfile(t *testing.T) {
	t.Parallel()
	usersEdge(t).run(t, []exchange{
		{name: "own", request: "GET /api/users/me", calls: "OwnAsOf {ada}", status: 200, want: adasOwnJSON},
		{name: "deleted meanwhile", request: "GET /api/users/me", err: user.ErrNotFound, calls: "OwnAsOf {ada}", status: 404, want: "user_not_found"},
		{name: "privacy", request: "GET /api/users/me/privacy", calls: "OwnAsOf {ada}", status: 200, want: adasPrivacyJSON},
		{name: "a new name", request: "PATCH /api/users/me", body: `{"displayName":" Ada "}`, calls: "Update {ada} Ada absent", status: 200, want: adasOwnJSON},
		{name: "no picture", request: "PATCH /api/users/me", body: `{"avatarUrl":null}`, calls: "Update {ada} absent null", status: 200, want: adasOwnJSON},
		{name: "nothing", request: "PATCH /api/users/me", body: `{}`, status: 400, want: "invalid_request: body"},
		{name: "all faults at once", request: "PATCH /api/users/me", body: `{"displayName":null,"avatarUrl":"x","age":3}`, status: 400, want: "invalid_request: age displayName avatarUrl"},
		{name: "new privacy", request: "PATCH /api/users/me/privacy", body: `{"presenceSharing":"nobody","readReceiptsEnabled":true}`,
			calls: "UpdatePrivacy {ada} nobody true; PrivacyChanged {ada}", status: 200, want: adasPrivacyJSON},
		{name: "privacy that cannot be stored is not published", request: "PATCH /api/users/me/privacy", body: `{"presenceSharing":"nobody"}`, err: user.ErrNotFound,
			calls: "UpdatePrivacy {ada} nobody absent", status: 404, want: "user_not_found"},
		{name: "faults of privacy", request: "PATCH /api/users/me/privacy", body: `{"presenceSharing":"me","readReceiptsEnabled":null}`, status: 400,
			want: "invalid_request: presenceSharing readReceiptsEnabled"},
	})
}

func TestManagedProfiles(t *testing.T) {
	t.Parallel()
	for _, managed := range []bool{true, false} {
		e := newEdge(t, func(d *domains, c *Config, deps *Deps) {
			c.ProfileSync = true
			deps.Users, deps.Identity = fakeUsers{d}, fakeManaged{managed: managed}
		})
		x := exchange{name: "of Parley", request: "PATCH /api/users/me", body: `{"displayName":"Ada"}`, calls: "Update {ada} Ada absent", status: 200, want: adasOwnJSON}
		if managed {
			x.name, x.calls, x.status, x.want = "of the issuer", "", 403, "managed_externally"
		}
		e.run(t, []exchange{x})
	}
}
