package httpapi

import (
	"context"
	"strings"
	"testing"

	"github.com/parley-chat/parley/internal/chat"
	"github.com/parley-chat/parley/internal/cursor"
	"github.com/parley-chat/parley/internal/message"
)

// helloFound is the message that the fakes return. Its place in a list is that of afterBob.
var helloFound = chat.Message{ID: bob, ConversationID: room, Seq: 3, Revision: 7, SenderID: ada, Content: "hello", CreatedAt: noon, Extras: chat.Extras{PinnedAt: &noon}}

const helloJSON = `{"id":"{bob}","conversationId":"{room}","seq":3,"revision":7,"senderId":"{ada}","content":"hello","clientMessageId":null,"replyToId":null,"createdAt":"{noon}","editedAt":null,"deletedAt":null,"pinnedAt":"{noon}"}`

type fakeMessages struct {
	keyedMessages
	*domains
}

func (f fakeMessages) page(err error) (message.Page, error) {
	return message.Page{Messages: []chat.Message{helloFound}, HasMore: f.yes}, err
}

func (f fakeMessages) Send(_ context.Context, conversationID, senderID string, d *message.Draft) (chat.Message, bool, error) {
	return helloFound, f.yes, f.record("Send", conversationID, senderID, d)
}

func (f fakeMessages) History(_ context.Context, conversationID, viewerID string, before *cursor.Position, limit int) (message.Page, error) {
	return f.page(f.record("History", conversationID, viewerID, before, limit))
}

func (f fakeMessages) AfterSeq(_ context.Context, conversationID, viewerID string, seq int64, limit int) (message.Page, error) {
	return f.page(f.record("AfterSeq", conversationID, viewerID, seq, limit))
}

func (f fakeMessages) Around(_ context.Context, conversationID, viewerID, messageID string, limit int) (message.AroundPage, error) {
	return message.AroundPage{Messages: []chat.Message{helloFound}, HasMore: f.yes, HasNewer: true}, f.record("Around", conversationID, viewerID, messageID, limit)
}

func (f fakeMessages) Get(_ context.Context, messageID, viewerID string) (chat.Message, error) {
	return helloFound, f.record("Get", messageID, viewerID)
}

func (f fakeMessages) Edit(_ context.Context, messageID, editorID string, e *message.Edit) (chat.Message, error) {
	return helloFound, f.record("Edit", messageID, editorID, optional(e.Content), e.IfRevision)
}

func (f fakeMessages) Delete(_ context.Context, messageID, userID string) error {
	return f.record("Delete", messageID, userID)
}

func (f fakeMessages) Pin(_ context.Context, messageID, userID string, pinned bool) (chat.Message, error) {
	return helloFound, f.record("Pin", messageID, userID, pinned)
}

func (f fakeMessages) Pins(_ context.Context, conversationID, viewerID string, before *cursor.Position, limit int) (message.Page, error) {
	return f.page(f.record("Pins", conversationID, viewerID, before, limit))
}

func (f fakeMessages) React(_ context.Context, messageID, userID, reaction string, added bool) (message.ReactionResult, error) {
	return message.ReactionResult{Reactions: []chat.Reaction{{Reaction: "+1", Count: 2}}, Mine: []string{}, Revision: 8}, f.record("React", messageID, userID, reaction, added)
}

func (f fakeMessages) Reactions(_ context.Context, messageID, viewerID, reaction string, before *cursor.Labelled, limit int) ([]message.UserReaction, bool, error) {
	return []message.UserReaction{{User: bobsProfile, Reaction: "+1", CreatedAt: noon}}, f.yes, f.record("Reactions", messageID, viewerID, reaction, before, limit)
}

func (f fakeMessages) CanType(_ context.Context, conversationID, userID string) error {
	return f.record("CanType", conversationID, userID)
}

func (f fakeMessages) Begin(_ context.Context, _ *message.Lane, conversationID, senderID string, d *message.Draft) (message.Queued, error) {
	return message.Queued{}, f.record("Begin", conversationID, senderID, d)
}

func messagesEdge(t *testing.T) *edge {
	t.Helper()
	return newEdge(t, func(d *domains, _ *Config, deps *Deps) { deps.Messages = fakeMessages{domains: d} })
}

func TestSends(t *testing.T) {
	t.Parallel()
	const body, send = `{"content":"hello","clientMessageId":"1"}`, `Send {room} {ada} {"content":"hello","clientMessageId":"1"}`
	const path, active = "POST /api/conversations/{room}/messages", "; Note {ada} {session}"
	messagesEdge(t).run(t, []exchange{
		{name: "sent", request: path, body: body, calls: send + active, status: 201, want: helloJSON},
		{name: "sent before", request: path, body: body, yes: true, calls: send + active, status: 200, want: helloJSON},
		{name: "an unknown conversation", request: path, body: body, err: message.ErrConversationNotFound, calls: send, status: 404, want: "conversation_not_found"},
		{name: "blocked", request: path, body: body, err: message.ErrCannotMessage, calls: send, status: 403, want: "cannot_message"},
		{name: "only admins post", request: path, body: body, err: message.ErrNoPosting, calls: send, status: 403, want: "posting_not_allowed"},
		{name: "may not mention all", request: path, body: body, err: message.ErrMentionAll, calls: send, status: 403, want: "mention_all_not_allowed"},
		{name: "an id that was used otherwise", request: path, body: body, err: message.ErrClientMessageIDReused, calls: send, status: 409, want: "client_message_id_reused"},
		{name: "too busy", request: path, body: body, err: message.ErrBusy, calls: send, status: 503, want: "unavailable", sets: map[string]string{"Retry-After": "1"}},
		{name: "all faults at once", request: path, body: `{"content":"","replyToId":"x","attachments":["y"],"kind":"system"}`, status: 400, want: "invalid_request: kind attachments replyToId"},
		{name: "a bad id", request: "POST /api/conversations/room/messages", body: body, status: 404, want: "conversation_not_found"},
		{name: "too large", request: path, body: `{"content":"` + strings.Repeat("x", maxBody) + `"}`, status: 413, want: "payload_too_large"},
		{name: "no token", request: path, body: body, header: map[string]string{"Authorization": ""}, status: 401, want: "unauthorized"},
		{name: "another token", request: path, body: body, header: map[string]string{"Authorization": "Bearer x"}, status: 401, want: "unauthorized"},
	})
}

func TestHistory(t *testing.T) {
	t.Parallel()
	const path = "GET /api/conversations/{room}/messages"
	const last = `{"data":[` + helloJSON + `],"pagination":{"nextCursor":null,"hasMore":false}}`
	const more = `{"data":[` + helloJSON + `],"pagination":{"nextCursor":"{afterBob}","hasMore":true}}`
	messagesEdge(t).run(t, []exchange{
		{name: "the newest", request: path, calls: "History {room} {ada} first 50", status: 200, want: last},
		{name: "older ones", request: path + "?cursor={afterBob}&limit=1", yes: true, calls: "History {room} {ada} {afterBob} 1", status: 200, want: more},
		{name: "an unknown conversation", request: path, err: message.ErrConversationNotFound, calls: "History {room} {ada} first 50", status: 404, want: "conversation_not_found"},
		{name: "a bad id", request: "GET /api/conversations/room/messages", status: 404, want: "conversation_not_found"},
		{name: "after a seq", request: path + "?afterSeq=0&limit=3", yes: true, calls: "AfterSeq {room} {ada} 0 3", status: 200,
			want: `{"data":[` + helloJSON + `],"pagination":{"nextCursor":null,"hasMore":true}}`},
		{name: "after a seq with all faults", request: path + "?afterSeq=&cursor={afterBob}&around={hello}&limit=0", status: 400, want: "invalid_request: afterSeq cursor around limit"},
		{name: "around", request: path + "?around={hello}", yes: true, calls: "Around {room} {ada} {hello} 50", status: 200,
			want: `{"data":[` + helloJSON + `],"pagination":{"nextCursor":"{afterBob}","hasMore":true,"hasNewer":true}}`},
		{name: "around a bad id", request: path + "?around=hello", status: 404, want: "message_not_found"},
		{name: "around with a cursor", request: path + "?around={hello}&cursor={afterBob}&limit=0", status: 400, want: "invalid_request: cursor limit"},
		{name: "pins", request: "GET /api/conversations/{room}/pins?limit=1", yes: true, calls: "Pins {room} {ada} first 1", status: 200, want: more},
		{name: "pins with a bad cursor", request: "GET /api/conversations/{room}/pins?cursor=x", status: 400, want: "invalid_cursor"},
		{name: "pins of a bad id", request: "GET /api/conversations/room/pins", status: 404, want: "conversation_not_found"},
		{name: "the history changed", request: path, err: message.ErrHistoryChanged, calls: "History {room} {ada} first 50", status: 503, want: "unavailable"},
	})
}

func TestMessages(t *testing.T) {
	t.Parallel()
	const path = " /api/messages/{hello}"
	messagesEdge(t).run(t, []exchange{
		{name: "read", request: "GET" + path, calls: "Get {hello} {ada}", status: 200, want: helloJSON},
		{name: "an unknown one", request: "GET" + path, err: message.ErrNotFound, calls: "Get {hello} {ada}", status: 404, want: "message_not_found"},
		{name: "a bad id", request: "GET /api/messages/hello", status: 404, want: "message_not_found"},
		{name: "edited", request: "PATCH" + path, body: `{"content":"hi","ifRevision":6}`, calls: "Edit {hello} {ada} hi 6", status: 200, want: helloJSON},
		{name: "edited since", request: "PATCH" + path, body: `{"content":"hi","ifRevision":6}`, err: message.ErrRevisionMismatch, calls: "Edit {hello} {ada} hi 6", status: 412, want: "revision_mismatch"},
		{name: "edited though deleted", request: "PATCH" + path, body: `{"content":"hi"}`, err: message.ErrDeleted, calls: "Edit {hello} {ada} hi null", status: 409, want: "message_deleted"},
		{name: "another's", request: "PATCH" + path, body: `{"content":"hi"}`, err: message.ErrForbidden, calls: "Edit {hello} {ada} hi null", status: 403, want: "forbidden"},
		{name: "faults of an edit", request: "PATCH" + path, body: `{"content":null,"x":1}`, status: 400, want: "invalid_request: x content"},
		{name: "an edit of a bad id", request: "PATCH /api/messages/hello", body: `{"content":"hi"}`, status: 404, want: "message_not_found"},
		{name: "deleted", request: "DELETE" + path, calls: "Delete {hello} {ada}", status: 204},
		{name: "delete another's", request: "DELETE" + path, err: message.ErrForbidden, calls: "Delete {hello} {ada}", status: 403, want: "forbidden"},
		{name: "delete a bad id", request: "DELETE /api/messages/hello", status: 404, want: "message_not_found"},
		{name: "pin", request: "PUT" + path + "/pin", calls: "Pin {hello} {ada} true", status: 200, want: helloJSON},
		{name: "unpin", request: "DELETE" + path + "/pin", calls: "Pin {hello} {ada} false", status: 200, want: helloJSON},
		{name: "may not pin", request: "PUT" + path + "/pin", err: message.ErrPinForbidden, calls: "Pin {hello} {ada} true", status: 403, want: "forbidden"},
		{name: "too many pins", request: "PUT" + path + "/pin", err: message.ErrTooManyPins, calls: "Pin {hello} {ada} true", status: 409, want: "limit_reached"},
		{name: "pin a bad id", request: "PUT /api/messages/hello/pin", status: 404, want: "message_not_found"},
	})
}

func TestReactions(t *testing.T) {
	t.Parallel()
	const path, result = " /api/messages/{hello}/reactions", `{"reactions":[{"reaction":"+1","count":2}],"mine":[],"revision":8}`
	const reaction = `{"user":` + bobsProfileJSON + `,"reaction":"+1","createdAt":"{noon}"}`
	next := cursor.EncodeLabelled(cursor.Labelled{Position: cursor.Position{Time: noon.Time, ID: bob}, Label: "+1"})
	messagesEdge(t).run(t, []exchange{
		{name: "added", request: "PUT" + path + "/%F0%9F%91%8D", calls: "React {hello} {ada} 👍 true", status: 200, want: result},
		{name: "removed", request: "DELETE" + path + "/+1", calls: "React {hello} {ada} +1 false", status: 200, want: result},
		{name: "too many", request: "PUT" + path + "/+1", err: message.ErrTooManyReactions, calls: "React {hello} {ada} +1 true", status: 409, want: "limit_reached"},
		{name: "of an unknown message", request: "PUT" + path + "/+1", err: message.ErrNotFound, calls: "React {hello} {ada} +1 true", status: 404, want: "message_not_found"},
		{name: "white space", request: "PUT" + path + "/a%20b", status: 400, want: "invalid_request: reaction"},
		{name: "to a bad id", request: "PUT /api/messages/hello/reactions/+1", status: 404, want: "message_not_found"},
		{name: "list", request: "GET" + path, calls: `Reactions {hello} {ada} "" null 50`, status: 200, want: `{"data":[` + reaction + `],"pagination":{"nextCursor":null,"hasMore":false}}`},
		{name: "list one of them", request: "GET" + path + "?reaction=%2B1&limit=1&cursor=" + next, yes: true, calls: `Reactions {hello} {ada} +1 {"Time":"2027-01-02T12:00:00Z","ID":"{bob}","Label":"+1"} 1`,
			status: 200, want: `{"data":[` + reaction + `],"pagination":{"nextCursor":"` + next + `","hasMore":true}}`},
		{name: "list with all faults", request: "GET" + path + "?reaction=&limit=0", status: 400, want: "invalid_request: limit reaction"},
		{name: "list after a cursor of another list", request: "GET" + path + "?cursor={afterBob}", status: 400, want: "invalid_cursor"},
		{name: "list of a bad id", request: "GET /api/messages/hello/reactions", status: 404, want: "message_not_found"},
	})
}
