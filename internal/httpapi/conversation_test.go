package httpapi

import (
	"context"
	"testing"

	"github.com/parley-chat/parley/internal/chat"
	"github.com/parley-chat/parley/internal/conversation"
	"github.com/parley-chat/parley/internal/cursor"
)

// roomFound is the conversation that the fakes return. Its place in a list is that of afterBob, so that the fakes need no further cursor.
// ownState is the own state of roomFound.
const ownState = `"lastReadSeq":0,"unreadCount":0,"mentionCount":0,"markedUnread":false,"notifications":null,"mutedUntil":null,"archivedAt":null,"pinnedAt":null,"hidden":false`

var roomFound = chat.Conversation{ID: bob, Type: "group", Members: []chat.Member{}, MemberCount: 2, Revision: 7, LastMessageAt: noon, LastSeq: 3, CreatedAt: noon, OwnState: &chat.OwnState{}}

const (
	roomJSON   = `{"id":"{bob}","type":"group","name":null,"members":[],"memberCount":2,"revision":7,"lastMessageId":null,"lastMessageAt":"{noon}","lastMessage":null,"lastSeq":3,"createdAt":"{noon}",` + ownState + `}`
	memberJSON = `{"user":` + bobsProfileJSON + `,"role":"admin","joinedAt":"{noon}"}`
)

var bobsMembership = chat.Member{User: bobsProfile, Role: "admin", JoinedAt: noon}

type fakeConversations struct {
	keyedConversations
	*domains
}

func (f fakeConversations) Create(_ context.Context, creatorID string, c *conversation.Creation) (*chat.Conversation, bool, error) {
	return &roomFound, f.yes, f.record("Create", creatorID, c)
}

func (f fakeConversations) List(_ context.Context, userID string, sel conversation.Selection, before *cursor.Position, limit int) ([]chat.Conversation, bool, error) {
	return []chat.Conversation{roomFound}, f.yes, f.record("List", userID, sel.Filter, sel.Type, sel.Query, before, limit)
}

func (f fakeConversations) Get(_ context.Context, conversationID, viewerID string) (*chat.Conversation, error) {
	return &roomFound, f.record("Get", conversationID, viewerID)
}

func (f fakeConversations) Update(_ context.Context, conversationID, actorID string, p *conversation.Patch) (*chat.Conversation, error) {
	return &roomFound, f.record("Update", conversationID, actorID, optional(p.Name), optional(p.Description), p.IfRevision)
}

func (f fakeConversations) UpdateState(_ context.Context, conversationID, userID string, c *conversation.StateChange) (*chat.Conversation, error) {
	return &roomFound, f.record("UpdateState", conversationID, userID, optional(c.Archived), optional(c.MutedUntil))
}

func (f fakeConversations) Delete(_ context.Context, conversationID, actorID string) error {
	return f.record("Delete", conversationID, actorID)
}

func (f fakeConversations) Unread(_ context.Context, userID string, muted bool) (conversation.Totals, error) {
	return conversation.Totals{Unread: conversation.Unread{Messages: 3, Mentions: 1, Conversations: 2}, AsOf: noon}, f.record("Unread", userID, muted)
}

func (f fakeConversations) Members(_ context.Context, conversationID, viewerID string, after *cursor.Position, limit int) ([]chat.Member, bool, error) {
	return []chat.Member{bobsMembership}, f.yes, f.record("Members", conversationID, viewerID, after, limit)
}

func (f fakeConversations) Add(_ context.Context, conversationID, actorID string, a *conversation.Addition) ([]chat.Member, error) {
	return []chat.Member{bobsMembership}, f.record("Add", conversationID, actorID, a)
}

func (f fakeConversations) SetRole(_ context.Context, conversationID, actorID, memberID string, r *conversation.RoleChange) (chat.Member, error) {
	return bobsMembership, f.record("SetRole", conversationID, actorID, memberID, r.Role)
}

func (f fakeConversations) Remove(_ context.Context, conversationID, actorID, memberID string) error {
	return f.record("Remove", conversationID, actorID, memberID)
}

func conversationsEdge(t *testing.T) *edge {
	t.Helper()
	return newEdge(t, func(d *domains, _ *Config, deps *Deps) { deps.Conversations = fakeConversations{domains: d} })
}

func TestConversationLists(t *testing.T) {
	t.Parallel()
	const last = `{"data":[` + roomJSON + `],"pagination":{"nextCursor":null,"hasMore":false}}`
	const more = `{"data":[` + roomJSON + `],"pagination":{"nextCursor":"{afterBob}","hasMore":true}}`
	conversationsEdge(t).run(t, []exchange{
		{name: "all defaults", request: "GET /api/conversations", calls: `List {ada} default "" "" first 50`, status: 200, want: last},
		{name: "a selection", request: "GET /api/conversations?filter=unread&type=group&q=%20te%20&cursor={afterBob}&limit=2", yes: true,
			calls: "List {ada} unread group te {afterBob} 2", status: 200, want: more},
		{name: "all faults of a selection", request: "GET /api/conversations?filter=new&type=room&q=&limit=0", status: 400, want: "invalid_request: filter type q limit"},
		{name: "a cursor that is none", request: "GET /api/conversations?cursor=x", status: 400, want: "invalid_cursor"},
		{name: "unread", request: "GET /api/unread", calls: "Unread {ada} false", status: 200, want: `{"messages":3,"mentions":1,"conversations":2,"asOf":"{noon}"}`},
		{name: "unread with muted ones", request: "GET /api/unread?muted=true", calls: "Unread {ada} true", status: 200, want: `{"messages":3,"mentions":1,"conversations":2,"asOf":"{noon}"}`},
		{name: "unread with a fault", request: "GET /api/unread?muted=1", status: 400, want: "invalid_request: muted"},
		{name: "members", request: "GET /api/conversations/{room}/members?cursor={afterBob}&limit=1", yes: true, calls: "Members {room} {ada} {afterBob} 1", status: 200,
			want: `{"data":[` + memberJSON + `],"pagination":{"nextCursor":"{afterBob}","hasMore":true}}`},
		{name: "members of an unknown conversation", request: "GET /api/conversations/{room}/members", err: conversation.ErrNotFound, calls: "Members {room} {ada} first 50", status: 404, want: "conversation_not_found"},
		{name: "members with a bad id", request: "GET /api/conversations/room/members", status: 404, want: "conversation_not_found"},
		{name: "members with a bad limit", request: "GET /api/conversations/{room}/members?limit=-1", status: 400, want: "invalid_request: limit"},
	})
}

func TestConversations(t *testing.T) {
	t.Parallel()
	const group, create = `{"type":"group","name":"Team","memberIds":["{bob}"]}`, `Create {ada} {"type":"group","memberIds":["{bob}"],"name":"Team"}`
	conversationsEdge(t).run(t, []exchange{
		{name: "created", request: "POST /api/conversations", body: group, yes: true, calls: create, status: 201, want: roomJSON},
		{name: "created before", request: "POST /api/conversations", body: group, calls: create, status: 200, want: roomJSON},
		{name: "with an unknown user", request: "POST /api/conversations", body: group, err: conversation.ErrUserNotFound, calls: create, status: 404, want: "user_not_found"},
		{name: "a client id that was used otherwise", request: "POST /api/conversations", body: group, err: conversation.ErrClientIDReused, calls: create, status: 409, want: "client_id_reused"},
		{name: "too many groups", request: "POST /api/conversations", body: group, err: conversation.ErrTooManyGroups, calls: create, status: 409, want: "limit_reached"},
		{name: "all faults at once", request: "POST /api/conversations", body: `{"type":"room","memberIds":["x"],"clientId":"","color":1}`, status: 400, want: "invalid_request: color memberIds clientId type"},
		{name: "read", request: "GET /api/conversations/{room}", calls: "Get {room} {ada}", status: 200, want: roomJSON},
		{name: "an unknown one", request: "GET /api/conversations/{room}", err: conversation.ErrNotFound, calls: "Get {room} {ada}", status: 404, want: "conversation_not_found"},
		{name: "a bad id", request: "GET /api/conversations/room", status: 404, want: "conversation_not_found"},
		{name: "changed", request: "PATCH /api/conversations/{room}", body: `{"name":"Crew","description":null,"ifRevision":7}`, calls: "Update {room} {ada} Crew null 7", status: 200, want: roomJSON},
		{name: "changed since", request: "PATCH /api/conversations/{room}", body: `{"name":"Crew","ifRevision":6}`, err: conversation.ErrRevisionMismatch, calls: "Update {room} {ada} Crew absent 6", status: 412, want: "revision_mismatch"},
		{name: "a direct one", request: "PATCH /api/conversations/{room}", body: `{"name":"Crew"}`, err: conversation.ErrDirect, calls: "Update {room} {ada} Crew absent null", status: 409, want: "direct_conversation"},
		{name: "faults of a change", request: "PATCH /api/conversations/{room}", body: `{"name":null,"x":1}`, status: 400, want: "invalid_request: x name"},
		{name: "a change of a bad id", request: "PATCH /api/conversations/room", body: `{}`, status: 404, want: "conversation_not_found"},
		{name: "own state", request: "PATCH /api/conversations/{room}/me", body: `{"archived":true,"mutedUntil":"forever"}`, calls: "UpdateState {room} {ada} true forever", status: 200, want: roomJSON},
		{name: "too many pinned", request: "PATCH /api/conversations/{room}/me", body: `{"pinned":true}`, err: conversation.ErrTooManyPinned, calls: "UpdateState {room} {ada} absent absent", status: 409, want: "limit_reached"},
		{name: "faults of a state", request: "PATCH /api/conversations/{room}/me", body: `{"notifications":"some","mutedUntil":"soon"}`, status: 400, want: "invalid_request: notifications mutedUntil"},
		{name: "deleted", request: "DELETE /api/conversations/{room}", calls: "Delete {room} {ada}", status: 204},
		{name: "not the owner", request: "DELETE /api/conversations/{room}", err: conversation.ErrForbidden, calls: "Delete {room} {ada}", status: 403, want: "forbidden"},
		{name: "delete a bad id", request: "DELETE /api/conversations/room", status: 404, want: "conversation_not_found"},
	})
}

func TestMembers(t *testing.T) {
	t.Parallel()
	const add = `Add {room} {ada} {"userIds":["{bob}"]}`
	conversationsEdge(t).run(t, []exchange{
		{name: "added", request: "POST /api/conversations/{room}/members", body: `{"userIds":["{bob}"]}`, calls: add, status: 200, want: `{"data":[` + memberJSON + `]}`},
		{name: "too many members", request: "POST /api/conversations/{room}/members", body: `{"userIds":["{bob}"]}`, err: conversation.ErrTooManyMembers, calls: add, status: 409, want: "limit_reached"},
		{name: "too many at once", request: "POST /api/conversations/{room}/members", body: `{"userIds":["{bob}"]}`, err: conversation.ErrTooManyAdditions, calls: add, status: 409, want: "limit_reached"},
		{name: "nobody", request: "POST /api/conversations/{room}/members", body: `{"userIds":[]}`, status: 400, want: "invalid_request: userIds"},
		{name: "to a bad id", request: "POST /api/conversations/room/members", body: `{"userIds":["{bob}"]}`, status: 404, want: "conversation_not_found"},
		{name: "a role", request: "PATCH /api/conversations/{room}/members/{bob}", body: `{"role":"admin"}`, calls: "SetRole {room} {ada} {bob} admin", status: 200, want: memberJSON},
		{name: "the last owner", request: "PATCH /api/conversations/{room}/members/{bob}", body: `{"role":"member"}`, err: conversation.ErrLastOwner, calls: "SetRole {room} {ada} {bob} member", status: 409, want: "last_owner"},
		{name: "a role of nobody", request: "PATCH /api/conversations/{room}/members/bob", body: `{"role":"member"}`, status: 404, want: "member_not_found"},
		{name: "a role in a bad conversation", request: "PATCH /api/conversations/room/members/{bob}", body: `{"role":"member"}`, status: 404, want: "conversation_not_found"},
		{name: "an unknown role", request: "PATCH /api/conversations/{room}/members/{bob}", body: `{"role":"king"}`, status: 400, want: "invalid_request: role"},
		{name: "removed", request: "DELETE /api/conversations/{room}/members/{bob}", calls: "Remove {room} {ada} {bob}", status: 204},
		{name: "not a member", request: "DELETE /api/conversations/{room}/members/{bob}", err: conversation.ErrMemberNotFound, calls: "Remove {room} {ada} {bob}", status: 404, want: "member_not_found"},
		{name: "remove a bad id", request: "DELETE /api/conversations/{room}/members/bob", status: 404, want: "member_not_found"},
		{name: "remove from a bad id", request: "DELETE /api/conversations/room/members/{bob}", status: 404, want: "conversation_not_found"},
	})
}
