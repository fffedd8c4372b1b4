package test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/parley-chat/parley/internal/testenv"
)

// hookEvent is a delivery as a receiver reads it.
type hookEvent struct {
	Type      string
	Timestamp time.Time
	Data      struct {
		ID, Content           string
		ConversationID        string
		Conversation          *struct{ ID, ExternalID, Type string }
		User                  *struct{ ID, DisplayName string }
		Users                 []struct{ ID string }
		UserIDs               []string
		Members               []struct{ User struct{ ID string } }
		MemberCount, Revision int
		Reactions             []struct{ Reaction string }
		DeletedAt             *time.Time
		Name                  string
	}
	Actor struct{ UserID, KeyID *string }
}

// Every type of event comes, with what the contract says about its data and its actor.
func TestEveryTypeOfWebhook(t *testing.T) {
	t.Parallel()
	got := newHookEvents(t)
	s := start(t, 1, "PARLEY_BOOTSTRAP_KEY="+bootstrapKey, "PARLEY_SECRETS_KEY="+strings.Repeat("k", 43)+"=", "PARLEY_WEBHOOK_ALLOW_CIDRS=127.0.0.0/8")
	p := s.pods[0]
	testenv.Eventually(t, 20*time.Second, func() bool { return p.call(t, bootstrapKey, "GET", "/api/server/keys", nil).status == 200 }, "the key is made")
	p.want(t, 201, bootstrapKey, "POST", "/api/server/webhooks", map[string]any{"name": "all", "url": got.receiver.URL, "types": []string{"*"}})
	s.launchBeside("dispatcher")
	var keys struct{ Data []struct{ ID string } }
	p.want(t, 200, bootstrapKey, "GET", "/api/server/keys", nil).into(t, &keys)
	keyID := keys.Data[0].ID

	const many = 25
	var people, names []map[string]any
	for i := range many {
		people = append(people, map[string]any{"externalId": fmt.Sprint("u", i), "displayName": fmt.Sprint("U", i)})
		names = append(names, map[string]any{"user": fmt.Sprint("ext:u", i)})
	}
	key := func(status int, method, path string, body any, headers ...string) answer {
		t.Helper()
		return p.want(t, status, bootstrapKey, method, path, body, headers...)
	}
	key(200, "PUT", "/api/server/users", map[string]any{"users": people})
	key(200, "PATCH", "/api/server/users/ext:u1", map[string]any{"displayName": "Renamed"})
	key(200, "PUT", "/api/server/users/ext:u2/ban", map[string]any{})
	key(204, "DELETE", "/api/server/users/ext:u2/ban", nil)
	key(200, "POST", "/api/server/users/ext:u2/deactivate", nil)
	key(200, "POST", "/api/server/users/ext:u2/reactivate", nil)
	ana, ben := p.register(t), p.register(t)
	p.want(t, 200, ana.token, "PATCH", "/api/users/me", map[string]any{"displayName": "Ana"})
	key(200, "PATCH", "/api/users/me", map[string]any{"displayName": "Ben"}, "Parley-User", ben.ID)
	p.want(t, 201, ana.token, "POST", "/api/friends/requests", map[string]any{"userId": ben.ID})
	p.want(t, 200, ben.token, "POST", "/api/friends/requests/"+ana.ID+"/accept", nil)
	p.want(t, 204, ana.token, "DELETE", "/api/friends/"+ben.ID, nil)
	p.want(t, 204, ben.token, "DELETE", "/api/users/me", map[string]any{"password": password})

	key(201, "PUT", "/api/server/conversations/ext:room", map[string]any{"name": "Room"})
	key(200, "POST", "/api/server/conversations/ext:room/members", map[string]any{"users": names})
	got.await(t, "conversation.members_added")
	key(200, "POST", "/api/server/conversations/ext:room/members", map[string]any{"users": []map[string]any{{"user": "ext:u0", "role": "admin"}}})
	key(200, "PATCH", "/api/server/conversations/ext:room", map[string]any{"name": "Renamed"})
	var m struct{ ID string }
	key(201, "POST", "/api/server/conversations/ext:room/messages", map[string]any{"sender": "ext:u0", "content": "hello", "clientMessageId": "1"}).into(t, &m)
	key(200, "PUT", "/api/messages/"+m.ID+"/reactions/+1", nil, "Parley-User", "ext:u1")
	got.await(t, "message.reacted")
	key(200, "PATCH", "/api/server/messages/"+m.ID, map[string]any{"content": "edited"})
	key(204, "DELETE", "/api/server/messages/"+m.ID, nil)
	key(200, "DELETE", "/api/server/conversations/ext:room/members", map[string]any{"users": []string{"ext:u3", "ext:u4"}})
	got.await(t, "conversation.members_removed")
	key(204, "DELETE", "/api/server/conversations/ext:room", nil)

	want := []string{
		"message.created", "message.updated", "message.deleted", "message.reacted", "conversation.created", "conversation.updated", "conversation.deleted",
		"conversation.members_added", "conversation.members_removed", "conversation.members_updated", "user.created", "user.updated", "user.deactivated",
		"user.reactivated", "user.banned", "user.unbanned", "user.deleted", "friend.added", "friend.removed",
	}
	testenv.Eventually(t, time.Minute, func() bool {
		return len(got.missing(want)) == 0 && got.count("user.created") == many+2 && got.count("user.updated") == 3
	}, "every type comes")
	got.mu.Lock()
	defer got.mu.Unlock()
	events := got.byType
	for typ, list := range events {
		for _, e := range list {
			checkEvent(t, typ, e)
		}
	}
	if e := events["conversation.members_added"][0].Data; len(e.UserIDs) != many || len(e.Members) != 20 || e.MemberCount != many {
		t.Errorf("%d members were added: %d ids, %d members, %d in all", many, len(e.UserIDs), len(e.Members), e.MemberCount)
	}
	if e := events["conversation.members_removed"][0].Data; len(e.UserIDs) != 2 || e.MemberCount != many-2 {
		t.Errorf("two members were removed: %+v", e)
	}
	if e := events["message.reacted"][0]; e.Actor.UserID == nil || len(e.Data.Reactions) != 1 || e.Data.Reactions[0].Reaction != "+1" {
		t.Errorf("a reaction: %+v by %+v", e.Data.Reactions, e.Actor)
	}
	if e := event(t, events["user.updated"], "Renamed").Data; e.User == nil {
		t.Error("no user was renamed")
	}
	checkUsersActors(t, events, keyID, ana, ben)
}

// hookEvents are the events that a receiver got, by their type.
type hookEvents struct {
	receiver *httptest.Server
	mu       sync.Mutex // guards what follows
	byType   map[string][]hookEvent
	had      map[string]bool // ids of deliveries
}

// newHookEvents starts a receiver.
func newHookEvents(t *testing.T) *hookEvents {
	t.Helper()
	h := &hookEvents{byType: map[string][]hookEvent{}, had: map[string]bool{}}
	h.receiver = httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		var e hookEvent
		if err := json.Unmarshal(b, &e); err != nil || len(b) > 256<<10 {
			t.Errorf("%d bytes: %v: %.300s", len(b), err, b)
		}
		h.add(r.Header.Get("webhook-id"), e)
	}))
	t.Cleanup(h.receiver.Close)
	return h
}

// add keeps an event, once: one that was answered late may come again.
func (h *hookEvents) add(id string, e hookEvent) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.had[id] {
		h.had[id] = true
		h.byType[e.Type] = append(h.byType[e.Type], e)
	}
}

func (h *hookEvents) count(typ string) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.byType[typ])
}

// await waits for an event of the type.
func (h *hookEvents) await(t testing.TB, typ string) {
	t.Helper()
	testenv.Eventually(t, time.Minute, func() bool { return h.count(typ) > 0 }, "%s comes", typ)
}

// missing are the types of which no event has come.
func (h *hookEvents) missing(types []string) []string {
	return slices.DeleteFunc(slices.Clone(types), func(typ string) bool { return h.count(typ) > 0 })
}

// checkEvent checks what every event of a kind of thing has.
func checkEvent(t testing.TB, typ string, e hookEvent) {
	t.Helper()
	if e.Timestamp.IsZero() {
		t.Errorf("%s has no timestamp", typ)
	}
	switch thing, _, _ := strings.Cut(typ, "."); thing {
	case "user":
		if e.Data.User == nil || e.Data.User.ID == "" {
			t.Errorf("%s has the user %+v", typ, e.Data.User)
		}
	case "friend":
		if len(e.Data.Users) != 2 {
			t.Errorf("%s has the users %+v", typ, e.Data.Users)
		}
	case "message", "conversation":
		checkRoomEvent(t, typ, e)
	default:
		t.Errorf("%s is an unknown type", typ)
	}
}

// checkRoomEvent checks an event of the room: it names its conversation and, except for a reaction, the key that caused it.
func checkRoomEvent(t testing.TB, typ string, e hookEvent) {
	t.Helper()
	if c := e.Data.Conversation; c == nil || c.ExternalID != "room" || c.Type != "group" {
		t.Errorf("%s has the conversation %+v", typ, c)
	}
	if e.Actor.KeyID == nil && typ != "message.reacted" || typ == "message.created" && e.Data.Revision == 0 {
		t.Errorf("%s has the actor %+v and the revision %d", typ, e.Actor, e.Data.Revision)
	}
}

// event is that of a user of this name.
func event(t testing.TB, list []hookEvent, name string) (e hookEvent) {
	t.Helper()
	for _, e := range list {
		if e.Data.User != nil && e.Data.User.DisplayName == name {
			return e
		}
	}
	t.Errorf("no event of a user %s in %+v", name, list)
	return e
}

// checkUsersActors checks the actors of events of users and friends: the user, the key, or both for a key that acts for a user.
func checkUsersActors(t testing.TB, events map[string][]hookEvent, keyID string, ana, ben user) {
	t.Helper()
	check := func(what string, e hookEvent, userID, keyID string) {
		t.Helper()
		text := func(s *string) string {
			if s == nil {
				return ""
			}
			return *s
		}
		if text(e.Actor.UserID) != userID || text(e.Actor.KeyID) != keyID {
			t.Errorf("%s has the actor %q with the key %q, want %q with %q", what, text(e.Actor.UserID), text(e.Actor.KeyID), userID, keyID)
		}
	}
	for _, e := range events["user.created"] {
		switch e.Data.User.ID {
		case ana.ID, ben.ID:
			check("a registration", e, e.Data.User.ID, "")
		default:
			check("user.created by a key", e, "", keyID)
		}
	}
	check("user.updated by a key", event(t, events["user.updated"], "Renamed"), "", keyID)
	for _, typ := range []string{"user.banned", "user.unbanned", "user.deactivated", "user.reactivated"} {
		check(typ, events[typ][0], "", keyID)
	}
	for _, e := range events["user.updated"] {
		switch e.Data.User.ID {
		case ana.ID:
			check("user.updated by the user", e, ana.ID, "")
		case ben.ID:
			check("user.updated by a key for the user", e, ben.ID, keyID)
		}
	}
	check("friend.added", events["friend.added"][0], ben.ID, "")
	check("friend.removed", events["friend.removed"][0], ana.ID, "")
	check("user.deleted", events["user.deleted"][0], ben.ID, "")
}
