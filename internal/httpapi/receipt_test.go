package httpapi

import (
	"context"
	"testing"

	"github.com/parley-chat/parley/internal/cursor"
	"github.com/parley-chat/parley/internal/event"
	"github.com/parley-chat/parley/internal/presence"
	"github.com/parley-chat/parley/internal/receipt"
)

type fakeReceipts struct{ *domains }

func (f fakeReceipts) Read(_ context.Context, userID, messageID, socketID string) error {
	if socketID != "" {
		socketID = "socket"
	}
	return f.record("Read", userID, messageID, socketID)
}

func (f fakeReceipts) ReadUpTo(_ context.Context, userID, conversationID string, u *receipt.UpTo) error {
	return f.record("ReadUpTo", userID, conversationID, u.UpToMessageID)
}

func (f fakeReceipts) ReadMany(_ context.Context, userID string, r *receipt.ReadMany) error {
	return f.record("ReadMany", userID, r)
}

func (f fakeReceipts) Receipts(_ context.Context, viewerID, messageID string, after *cursor.Position, limit int) (receipt.Page, error) {
	return receipt.Page{Receipts: []receipt.Receipt{{UserID: bob, ReadAt: noon}}, Count: 9, HasMore: f.yes}, f.record("Receipts", viewerID, messageID, after, limit)
}

func (f fakeReceipts) MarkersOf(_ context.Context, viewerID, conversationID string) ([]event.Marker, error) {
	return []event.Marker{{UserID: bob, LastReadSeq: 3}}, f.record("MarkersOf", viewerID, conversationID)
}

type fakePresences struct{ *domains }

func (f fakePresences) Read(_ context.Context, viewerID string, userIDs []string) ([]event.Presence, error) {
	return []event.Presence{{UserID: bob, Status: "offline", LastSeenAt: &noon}}, f.record("Read", viewerID, userIDs)
}

func TestReceipts(t *testing.T) {
	t.Parallel()
	const one = `{"data":[{"userId":"{bob}","readAt":"{noon}"}],"pagination":{"nextCursor":"{afterBob}","hasMore":true},"count":9}`
	const active = "; Note {ada} {session}"
	e := newEdge(t, func(d *domains, _ *Config, deps *Deps) { deps.Receipts = fakeReceipts{d} })
	e.run(t, []exchange{
		{name: "read", request: "POST /api/messages/{hello}/read", calls: `Read {ada} {hello} ""` + active, status: 204},
		{name: "read an unknown message", request: "POST /api/messages/{hello}/read", err: receipt.ErrNotFound, calls: `Read {ada} {hello} ""`, status: 404, want: "message_not_found"},
		{name: "read a bad id", request: "POST /api/messages/hello/read", status: 404, want: "message_not_found"},
		{name: "too busy", request: "POST /api/messages/{hello}/read", err: receipt.ErrBusy, calls: `Read {ada} {hello} ""`, status: 503, want: "unavailable"},
		{name: "read a conversation", request: "POST /api/conversations/{room}/read", body: `{"upToMessageId":"{hello}"}`, calls: "ReadUpTo {ada} {room} {hello}" + active, status: 204},
		{name: "read an unknown conversation", request: "POST /api/conversations/{room}/read", body: `{"upToMessageId":"{hello}"}`, err: receipt.ErrNoConversation, calls: "ReadUpTo {ada} {room} {hello}", status: 404, want: "conversation_not_found"},
		{name: "read a conversation up to a bad id", request: "POST /api/conversations/{room}/read", body: `{"upToMessageId":"x","x":1}`, status: 400, want: "invalid_request: x upToMessageId"},
		{name: "read a bad conversation", request: "POST /api/conversations/room/read", body: `{"upToMessageId":"{hello}"}`, status: 404, want: "conversation_not_found"},
		{name: "read many", request: "POST /api/conversations/read", body: `{"conversations":{"{room}":"{hello}"}}`, calls: `ReadMany {ada} {"conversations":{"{room}":"{hello}"}}` + active, status: 204},
		{name: "read all", request: "POST /api/conversations/read", body: `{"all":true}`, calls: `ReadMany {ada} {"all":true}` + active, status: 204},
		{name: "read none", request: "POST /api/conversations/read", body: `{}`, status: 400, want: "invalid_request: conversations"},
		{name: "receipts", request: "GET /api/messages/{hello}/receipts?cursor={afterBob}&limit=2", yes: true, calls: "Receipts {ada} {hello} {afterBob} 2", status: 200, want: one},
		{name: "receipts of another's message", request: "GET /api/messages/{hello}/receipts", err: receipt.ErrNotFound, calls: "Receipts {ada} {hello} first 50", status: 404, want: "message_not_found"},
		{name: "receipts with a bad limit", request: "GET /api/messages/{hello}/receipts?limit=x", status: 400, want: "invalid_request: limit"},
		{name: "receipts of a bad id", request: "GET /api/messages/hello/receipts", status: 404, want: "message_not_found"},
		{name: "markers", request: "GET /api/conversations/{room}/markers", calls: "MarkersOf {ada} {room}", status: 200, want: `{"data":[{"userId":"{bob}","lastReadSeq":3,"readAt":null}]}`},
		{name: "markers of a bad id", request: "GET /api/conversations/room/markers", status: 404, want: "conversation_not_found"},
		{name: "markers of an unknown conversation", request: "GET /api/conversations/{room}/markers", err: receipt.ErrNoConversation, calls: "MarkersOf {ada} {room}", status: 404, want: "conversation_not_found"},
	})
}

// A key that acts for a user does not make the user active: pushes still go out.
func TestAKeyThatReadsIsNotTheUsersAttention(t *testing.T) {
	t.Parallel()
	e := newEdge(t, func(d *domains, _ *Config, deps *Deps) {
		deps.Receipts, deps.Directory = fakeReceipts{d}, fakeNames{}
	})
	e.run(t, []exchange{{
		name: "read", request: "POST /api/messages/{hello}/read", header: map[string]string{"Authorization": "Bearer " + keyToken, "Parley-User": bob},
		calls: `Read {bob} {hello} ""`, status: 204,
	}})
}

// fakeNames finds every user under the name that is the id.
type fakeNames struct {
	userNames
	keyedUsers
}

func (fakeNames) Resolve(_ context.Context, name string) (string, error) { return name, nil }

func TestPresences(t *testing.T) {
	t.Parallel()
	const one = `{"userId":"{bob}","status":"offline","lastSeenAt":"{noon}"}`
	e := newEdge(t, func(d *domains, _ *Config, deps *Deps) { deps.Presence = fakePresences{d} })
	e.run(t, []exchange{
		{name: "one", request: "GET /api/presence/{bob}", calls: `Read {ada} ["{bob}"]`, status: 200, want: one},
		{name: "a bad id", request: "GET /api/presence/bob", status: 404, want: "not_found"},
		{name: "several", request: "GET /api/presence?userIds={bob}&userIds={ada}", calls: `Read {ada} ["{bob}","{ada}"]`, status: 200, want: `{"data":[` + one + `]}`},
		{name: "none", request: "GET /api/presence", status: 400, want: "invalid_request: userIds"},
		{name: "several with a bad id", request: "GET /api/presence?userIds={bob},x", status: 400, want: "invalid_request: userIds"},
		{name: "without Redis", request: "GET /api/presence/{bob}", err: presence.ErrUnavailable, calls: `Read {ada} ["{bob}"]`, status: 503, want: "unavailable", sets: map[string]string{"Retry-After": "1"}},
	})
}
