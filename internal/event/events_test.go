package event_test

import (
	"context"
	"encoding/json"
	"reflect"
	"testing"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/parley-chat/parley/internal/chat"
	"github.com/parley-chat/parley/internal/event"
	"github.com/parley-chat/parley/internal/timestamp"
)

const at = 1795531724087291

func members(ids ...string) []chat.Member {
	out := make([]chat.Member, len(ids))
	for i, id := range ids {
		out[i].User.ID = id
	}
	return out
}

// Each constructor sets the type, the place in the conversation's order, and the users who get the event. A wrong routing shows a conversation to users who may
// not see it, or keeps the event from its members.
func TestEventsOfAConversation(t *testing.T) {
	t.Parallel()
	m := &chat.Message{ID: "m", ConversationID: "c", Revision: 7, CreatedAt: timestamp.Time{Time: time.UnixMicro(5)}}
	c := &chat.Conversation{ID: "c", Revision: 7, MemberCount: 3}
	reactions := &event.MessageReactions{ConversationID: "c", MessageID: "m", Revision: 7}
	moved := event.ConversationMoved{ConversationID: "c", Revision: 7}
	marked := event.Markers{ConversationID: "c"}
	typing := event.Typing{ConversationID: "c", UserID: "a", Active: true}
	joined := members("a", "b")
	change := func(typ string, data any, at int64, r event.Routing) event.Event {
		return event.Event{Type: typ, Data: data, ConversationID: "c", Revision: 7, CommittedAt: at, Routing: r}
	}
	passing := func(typ string, data any, r event.Routing) event.Event {
		return event.Event{Type: typ, Data: data, ConversationID: "c", Routing: r}
	}
	for name, x := range map[string]struct {
		got  *event.Event
		want event.Event
	}{
		"a new message is as old as itself": {event.MessageNew(m), change("message:new", m, 5, event.Routing{})},
		"an edit":                           {event.MessageUpdated(m, at), change("message:updated", m, at, event.Routing{})},
		"a deletion":                        {event.MessageDeleted(m, at), change("message:deleted", m, at, event.Routing{})},
		"reactions":                         {event.MessageReacted(reactions, at), change("message:reacted", reactions, at, event.Routing{})},
		"a new conversation welcomes its members": {
			event.ConversationCreated(c, []string{"a", "b"}, at),
			change("conversation:created", c, at, event.Routing{Added: []string{"a", "b"}, Welcome: c}),
		},
		"a new name": {event.ConversationUpdated(c, at), change("conversation:updated", c, at, event.Routing{})},
		"the end": {
			event.ConversationDeleted("c", 7, at),
			change("conversation:deleted", event.ConversationEnded(moved), at, event.Routing{Ends: true}),
		},
		"an unknown change": {event.ConversationChanged("c", 7, at), change("conversation:changed", moved, at, event.Routing{})},
		"new members are welcomed": {
			event.MemberAdded(c, joined, at),
			change("conversation:member_added", event.MembersAdded{
				ConversationID: "c", Members: joined, MemberCount: 3, Revision: 7, UserIDs: []string{"a", "b"},
			}, at, event.Routing{Added: []string{"a", "b"}, Welcome: c}),
		},
		"a removed member gets nothing more": {
			event.MemberWasRemoved("c", "a", 2, 7, at),
			change("conversation:member_removed", event.MemberRemoved{ConversationID: "c", UserID: "a", MemberCount: 2, Revision: 7}, at,
				event.Routing{Removed: []string{"a"}}),
		},
		"nor do several": {
			event.MembersWereRemoved("c", []string{"a", "b"}, 1, 7, at),
			change("conversation:member_removed", event.MemberRemoved{
				ConversationID: "c", UserID: "a", MemberCount: 1, Revision: 7, UserIDs: []string{"a", "b"},
			}, at, event.Routing{Removed: []string{"a", "b"}}),
		},
		"another role": {
			event.MemberUpdated("c", joined, 7, at),
			change("conversation:member_updated", event.MembersUpdated{ConversationID: "c", Members: joined, Revision: 7}, at, event.Routing{}),
		},
		"typing is not shown to the one who types": {event.UserTyping(typing), passing("typing", typing, event.Routing{Except: "a"})},
		"markers for all":                          {event.MarkersMoved(marked, nil), passing("conversation:markers", marked, event.Routing{})},
		"markers for all but one":                  {event.MarkersMoved(marked, []string{"a"}), passing("conversation:markers", marked, event.Routing{Except: "a"})},
		"markers for all but several": {
			event.MarkersMoved(marked, []string{"a", "b"}), passing("conversation:markers", marked, event.Routing{ExceptMany: []string{"a", "b"}}),
		},
	} {
		if !reflect.DeepEqual(*x.got, x.want) {
			t.Errorf("%s: %+v\nwant %+v", name, *x.got, x.want)
		}
		if !event.Known(x.got.Type) {
			t.Errorf("%s: %s is not known", name, x.got.Type)
		}
	}
	if event.Known("confetti:thrown") {
		t.Error("a type that does not exist is known")
	}
}

func TestNotices(t *testing.T) {
	t.Parallel()
	other := chat.Profile{ID: "b", Username: "bob"}
	read := event.ReceiptRead{ConversationID: "c", MessageID: "m", UserID: "b", Count: 2}
	marker := event.ConversationRead{ConversationID: "c", Marker: chat.Marker{LastReadSeq: 4}}
	state := event.StateUpdated{ConversationID: "c", StateRevision: 9}
	profile := event.ProfileChange{User: other, At: at}
	for name, x := range map[string]struct {
		got  *event.Notice
		want event.Notice
	}{
		"a request":      {event.FriendNotice("friend:requested", "a", other), event.Notice{UserID: "a", Type: "friend:requested", Data: event.Friend{User: other}}},
		"a receipt":      {event.ReceiptNotice("a", read), event.Notice{UserID: "a", Type: "receipt:read", Data: read}},
		"a read marker":  {event.ReadNotice("a", "socket", marker), event.Notice{UserID: "a", Type: "conversation:read", Data: marker, ExceptSocket: "socket"}},
		"an own state":   {event.StateNotice("a", state), event.Notice{UserID: "a", Type: "state:updated", Data: state}},
		"an own profile": {event.ProfileNotice(profile), event.Notice{UserID: "b", Type: "user:updated", Data: event.UserUpdated{User: other}, Profile: &profile}},
	} {
		if !reflect.DeepEqual(*x.got, x.want) {
			t.Errorf("%s: %+v\nwant %+v", name, *x.got, x.want)
		}
		if !event.Known(x.got.Type) {
			t.Errorf("%s: %s is not known", name, x.got.Type)
		}
	}
}

// A single removed member has no userIds, and an unknown time is null, not absent.
func TestOptionalMembersOfData(t *testing.T) {
	t.Parallel()
	for want, data := range map[string]any{
		`{"conversationId":"c","userId":"a","memberCount":0,"revision":1}`:                     event.MemberWasRemoved("c", "a", 0, 1, 0).Data,
		`{"conversationId":"c","userId":"a","memberCount":0,"revision":1,"userIds":["a","b"]}`: event.MembersWereRemoved("c", []string{"a", "b"}, 0, 1, 0).Data,
		`{"userId":"a","status":"online","lastSeenAt":null}`:                                   event.Presence{UserID: "a", Status: event.StatusOnline, LastSeenAt: event.At(0)},
		`{"userId":"a","status":"offline","lastSeenAt":"2026-11-24T14:48:44.087291Z"}`:         event.Presence{UserID: "a", Status: event.StatusOffline, LastSeenAt: event.At(at)},
	} {
		b, err := json.Marshal(data)
		if err != nil || string(b) != want {
			t.Errorf("%s, %v\nwant %s", b, err, want)
		}
	}
}

// An event is in the trace of its request if that is recorded, and in none otherwise.
func TestEventsCarryTheirTrace(t *testing.T) {
	t.Parallel()
	of := func(flags trace.TraceFlags) context.Context {
		return trace.ContextWithSpanContext(t.Context(), trace.NewSpanContext(trace.SpanContextConfig{
			TraceID: trace.TraceID{1}, SpanID: trace.SpanID{2}, TraceFlags: flags,
		}))
	}
	const parent = "00-01000000000000000000000000000000-0200000000000000-01"
	for want, ctx := range map[string]context.Context{parent: of(trace.FlagsSampled), "": t.Context()} {
		if e := event.UserTyping(event.Typing{}).In(ctx); e.TraceParent != want {
			t.Errorf("the event is in the trace %q, want %q", e.TraceParent, want)
		}
		if n := event.FriendNotice("friend:removed", "a", chat.Profile{}).In(ctx); n.TraceParent != want {
			t.Errorf("the notice is in the trace %q, want %q", n.TraceParent, want)
		}
	}
	if e := event.UserTyping(event.Typing{}).In(of(0)); e.TraceParent != "" {
		t.Errorf("a trace that is not recorded is carried: %q", e.TraceParent)
	}
}
