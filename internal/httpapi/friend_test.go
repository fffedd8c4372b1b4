package httpapi

import (
	"context"
	"testing"

	"github.com/parley-chat/parley/internal/chat"
	"github.com/parley-chat/parley/internal/cursor"
	"github.com/parley-chat/parley/internal/friend"
)

// bobsProfile is the profile that the fakes return.
var bobsProfile = chat.Profile{ID: bob, Username: "bob", DisplayName: "Bob"}

const bobsProfileJSON = `{"id":"{bob}","username":"bob","displayName":"Bob","avatarUrl":null}`

type fakeFriends struct{ *domains }

func (f fakeFriends) page(err error) ([]friend.Relation, bool, error) {
	return []friend.Relation{{User: bobsProfile, CreatedAt: noon}}, f.yes, err
}

func (f fakeFriends) Friends(_ context.Context, userID string, before *cursor.Position, limit int) ([]friend.Relation, bool, error) {
	return f.page(f.record("Friends", userID, before, limit))
}

func (f fakeFriends) Blocks(_ context.Context, userID string, before *cursor.Position, limit int) ([]friend.Relation, bool, error) {
	return f.page(f.record("Blocks", userID, before, limit))
}

func (f fakeFriends) Requests(_ context.Context, userID string, before *cursor.Position, limit int) (friend.Requests, error) {
	list, more, err := f.page(f.record("Requests", userID, before, limit))
	return friend.Requests{Incoming: list, Outgoing: []friend.Relation{}, HasMore: more}, err
}

func (f fakeFriends) Ask(_ context.Context, userID string, r *friend.Request) (friend.State, bool, error) {
	return friend.State{Status: friend.StatusPending, User: bobsProfile}, f.yes, f.record("Ask", userID, r)
}

func (f fakeFriends) Accept(_ context.Context, userID, otherID string) (friend.State, error) {
	return friend.State{Status: friend.StatusAccepted, User: bobsProfile}, f.record("Accept", userID, otherID)
}

func (f fakeFriends) Drop(_ context.Context, userID, otherID string) error {
	return f.record("Drop", userID, otherID)
}

func (f fakeFriends) Unfriend(_ context.Context, userID, otherID string) error {
	return f.record("Unfriend", userID, otherID)
}

func (f fakeFriends) Block(_ context.Context, userID, otherID string) error {
	return f.record("Block", userID, otherID)
}

func (f fakeFriends) Unblock(_ context.Context, userID, otherID string) error {
	return f.record("Unblock", userID, otherID)
}

func friendsEdge(t *testing.T) *edge {
	t.Helper()
	return newEdge(t, func(d *domains, _ *Config, deps *Deps) { deps.Friends = fakeFriends{d} })
}

func TestFriendLists(t *testing.T) {
	t.Parallel()
	const relation = `{"user":` + bobsProfileJSON + `,"createdAt":"{noon}"}`
	const last = `{"data":[` + relation + `],"pagination":{"nextCursor":null,"hasMore":false}}`
	const more = `{"data":[` + relation + `],"pagination":{"nextCursor":"{afterBob}","hasMore":true}}`
	friendsEdge(t).run(t, []exchange{
		{name: "friends", request: "GET /api/friends", calls: "Friends {ada} first 50", status: 200, want: last},
		{name: "friends after a cursor", request: "GET /api/friends?cursor={afterBob}&limit=100", yes: true, calls: "Friends {ada} {afterBob} 100", status: 200, want: more},
		{name: "blocks", request: "GET /api/blocks?limit=1", yes: true, calls: "Blocks {ada} first 1", status: 200, want: more},
		{name: "blocks after a cursor", request: "GET /api/blocks?cursor={afterBob}", yes: true, calls: "Blocks {ada} {afterBob} 50", status: 200, want: more},
		{name: "requests after a cursor", request: "GET /api/friends/requests?cursor={afterBob}&limit=3", calls: "Requests {ada} {afterBob} 3", status: 200,
			want: `{"incoming":[` + relation + `],"outgoing":[],"pagination":{"nextCursor":null,"hasMore":false}}`},
		{name: "requests", request: "GET /api/friends/requests", yes: true, calls: "Requests {ada} first 50", status: 200,
			want: `{"incoming":[` + relation + `],"outgoing":[],"pagination":{"nextCursor":"{afterBob}","hasMore":true}}`},
		{name: "a limit of zero", request: "GET /api/friends?limit=0", status: 400, want: "invalid_request: limit"},
		{name: "a limit above the largest", request: "GET /api/blocks?limit=101", status: 400, want: "invalid_request: limit"},
		{name: "a limit that is no number", request: "GET /api/friends/requests?limit=many", status: 400, want: "invalid_request: limit"},
		{name: "a cursor that is none", request: "GET /api/friends?cursor=xx", status: 400, want: "invalid_cursor"},
		{name: "an empty cursor", request: "GET /api/friends?cursor=", status: 400, want: "invalid_cursor"},
		{name: "a parameter twice", request: "GET /api/friends?limit=1&limit=2", status: 400, want: "invalid_request: limit"},
		{name: "an unknown error", request: "GET /api/friends", err: context.Canceled, calls: "Friends {ada} first 50", status: 500, want: "internal"},
	})
}

func TestFriendRequests(t *testing.T) {
	t.Parallel()
	const ask, pending = `Ask {ada} {"userId":"{bob}"}`, `{"status":"pending","user":` + bobsProfileJSON + `}`
	friendsEdge(t).run(t, []exchange{
		{name: "a new request", request: "POST /api/friends/requests", body: `{"userId":"{bob}"}`, yes: true, calls: ask, status: 201, want: pending},
		{name: "a request that exists", request: "POST /api/friends/requests", body: `{"userId":"{bob}"}`, calls: ask, status: 200, want: pending},
		{name: "all faults at once", request: "POST /api/friends/requests", body: `{"userId":7,"note":"hi"}`, status: 400, want: "invalid_request: userId note"},
		{name: "no id", request: "POST /api/friends/requests", body: `{"userId":"bob"}`, status: 400, want: "invalid_request: userId"},
		{name: "no body", request: "POST /api/friends/requests", status: 415, want: "unsupported_media_type"},
		{name: "not JSON", request: "POST /api/friends/requests", body: `{`, status: 400, want: "malformed_json"},
		{name: "an unknown user", request: "POST /api/friends/requests", body: `{"userId":"{bob}"}`, err: friend.ErrUserNotFound, calls: ask, status: 404, want: "user_not_found"},
		{name: "too many requests", request: "POST /api/friends/requests", body: `{"userId":"{bob}"}`, err: friend.ErrTooManyRequests, calls: ask, status: 409, want: "limit_reached"},
		{name: "too many friends", request: "POST /api/friends/requests/{bob}/accept", err: friend.ErrTooManyFriends, calls: "Accept {ada} {bob}", status: 409, want: "limit_reached"},
		{name: "accept", request: "POST /api/friends/requests/{bob}/accept", calls: "Accept {ada} {bob}", status: 200, want: `{"status":"accepted","user":` + bobsProfileJSON + `}`},
		{name: "accept an unknown request", request: "POST /api/friends/requests/{bob}/accept", err: friend.ErrRequestNotFound, calls: "Accept {ada} {bob}", status: 404, want: "request_not_found"},
		{name: "accept a bad id", request: "POST /api/friends/requests/bob/accept", status: 404, want: "request_not_found"},
		{name: "drop", request: "DELETE /api/friends/requests/{bob}", calls: "Drop {ada} {bob}", status: 204},
		{name: "drop an unknown request", request: "DELETE /api/friends/requests/{bob}", err: friend.ErrRequestNotFound, calls: "Drop {ada} {bob}", status: 404, want: "request_not_found"},
		{name: "drop a bad id", request: "DELETE /api/friends/requests/BOB", status: 404, want: "request_not_found"},
	})
}

func TestFriendsAndBlocks(t *testing.T) {
	t.Parallel()
	friendsEdge(t).run(t, []exchange{
		{name: "unfriend", request: "DELETE /api/friends/{bob}", calls: "Unfriend {ada} {bob}", status: 204},
		{name: "unfriend an unknown user", request: "DELETE /api/friends/{bob}", err: friend.ErrUserNotFound, calls: "Unfriend {ada} {bob}", status: 404, want: "user_not_found"},
		{name: "unfriend a bad id", request: "DELETE /api/friends/bob", status: 404, want: "user_not_found"},
		{name: "block", request: "PUT /api/blocks/{bob}", calls: "Block {ada} {bob}", status: 204},
		{name: "block an unknown user", request: "PUT /api/blocks/{bob}", err: friend.ErrUserNotFound, calls: "Block {ada} {bob}", status: 404, want: "user_not_found"},
		{name: "block a bad id", request: "PUT /api/blocks/bob", status: 404, want: "user_not_found"},
		{name: "unblock", request: "DELETE /api/blocks/{bob}", calls: "Unblock {ada} {bob}", status: 204},
		{name: "unblock an unknown user", request: "DELETE /api/blocks/{bob}", err: friend.ErrUserNotFound, calls: "Unblock {ada} {bob}", status: 404, want: "user_not_found"},
		{name: "unblock a bad id", request: "DELETE /api/blocks/bob", status: 404, want: "user_not_found"},
		{name: "without a token", request: "PUT /api/blocks/{bob}", header: map[string]string{"Authorization": ""}, status: 401, want: "unauthorized",
			sets: map[string]string{"Www-Authenticate": `Bearer realm="parley"`}},
	})
}
