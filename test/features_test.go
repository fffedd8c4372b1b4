package test

import (
	"encoding/json"
	"net/url"
	"strings"
	"testing"
	"time"
)

// Reactions, pins, mentions and metadata, by REST and by frames, as members on two pods see them.
func TestFeaturesOfMessagesOverTwoPods(t *testing.T) {
	t.Parallel()
	s := plainSystem(t)
	u := s.pods[0].users(t, 3)
	anna, ben := s.pods[0].open(t, u[0]), s.pods[1].open(t, u[1])
	g := s.pods[0].group(t, u[0], u[1], u[2])
	f := ben.ask("message:send", map[string]any{"conversationId": g.ID, "content": "hi", "clientMessageId": "1",
		"metadata": map[string]any{"order": 1}, "mentions": map[string]any{"userIds": []string{u[0].ID}}})
	var m message
	f.into(t, &m)
	heard := anna.until("message:new", time.Minute)
	if want := `"metadata":{"order":1},"mentions":{"userIds":["` + u[0].ID + `"],"all":false}`; !strings.Contains(string(heard.Data), want) {
		t.Errorf("heard %s, want %s", heard.Data, want)
	}

	path := "/api/messages/" + m.ID
	s.pods[0].want(t, 200, u[0].token, "PUT", path+"/reactions/"+url.PathEscape("👍"), nil)
	reacted := ben.until("message:reacted", time.Minute)
	if want := `"reactions":[{"reaction":"👍","count":1}],"by":[{"userId":"` + u[0].ID + `","reactions":["👍"]}]`; !strings.Contains(string(reacted.Data), want) {
		t.Errorf("ben heard %s", reacted.Data)
	}
	ack := ben.ask("reaction:add", map[string]any{"messageId": m.ID, "reaction": "👍"})
	if want := `{"reactions":[{"reaction":"👍","count":2}],"mine":["👍"],`; ack.Type != "ack" || !strings.HasPrefix(string(ack.Data), want) {
		t.Errorf("got %s %s", ack.Type, ack.Data)
	}
	if a := s.pods[1].call(t, u[1].token, "PUT", path+"/reactions/"+url.PathEscape("a b"), nil); a.status != 400 {
		t.Errorf("white space: %d", a.status)
	}
	seen := s.pods[1].want(t, 200, u[0].token, "GET", path, nil)
	if !strings.Contains(string(seen.body), `"reactions":[{"reaction":"👍","count":2}],"mine":["👍"]`) {
		t.Errorf("anna reads %s", seen.body)
	}
	list := s.pods[1].want(t, 200, u[2].token, "GET", path+"/reactions?reaction="+url.QueryEscape("👍"), nil)
	var page struct {
		Data []struct {
			User     struct{ ID string }
			Reaction string
		}
	}
	if list.into(t, &page); len(page.Data) != 2 || page.Data[0].User.ID != u[1].ID {
		t.Errorf("listed as %s", list.body)
	}

	if a := s.pods[0].call(t, u[1].token, "PUT", path+"/pin", nil); a.status != 403 {
		t.Errorf("a member pins: %d", a.status)
	}
	s.pods[0].want(t, 200, u[0].token, "PUT", path+"/pin", nil)
	if updated := ben.until("message:updated", time.Minute); !strings.Contains(string(updated.Data), `"pinnedAt":"`) || strings.Contains(string(updated.Data), `"mine"`) {
		t.Errorf("ben heard %s", updated.Data)
	}
	if pins := s.pods[1].want(t, 200, u[2].token, "GET", "/api/conversations/"+g.ID+"/pins", nil); !strings.Contains(string(pins.body), m.ID) {
		t.Errorf("pins are %s", pins.body)
	}

	if a := s.pods[0].call(t, u[1].token, "PATCH", path, map[string]any{"content": "ho", "ifRevision": 1}); a.status != 412 && a.status != 200 {
		t.Errorf("an edit: %d %s", a.status, a.body)
	}
	a := s.pods[0].call(t, u[1].token, "PATCH", path, map[string]any{"metadata": map[string]any{"order": nil}, "ifRevision": 1})
	if a.status != 412 || a.code() != "revision_mismatch" {
		t.Errorf("an old ifRevision: %d %s", a.status, a.body)
	}
	around := s.pods[1].want(t, 200, u[1].token, "GET", "/api/conversations/"+g.ID+"/messages?limit=3&around="+m.ID, nil)
	if !strings.HasSuffix(strings.TrimSpace(string(around.body)), `"hasNewer":false}}`) {
		t.Errorf("around: %s", around.body)
	}
}

// A deleted group is gone for every member at once, on any pod.
func TestAGroupIsDeletedOverTwoPods(t *testing.T) {
	t.Parallel()
	s := plainSystem(t)
	u := s.pods[0].users(t, 3)
	anna, ben := s.pods[0].open(t, u[0]), s.pods[1].open(t, u[1])
	g := s.pods[0].group(t, u[0], u[1], u[2])
	anna.until("conversation:created", time.Minute)
	ben.until("conversation:created", time.Minute)
	path := "/api/conversations/" + g.ID
	s.pods[1].want(t, 200, u[0].token, "PATCH", path, map[string]any{"description": "about", "posting": "admins"})
	if f := ben.until("conversation:updated", time.Minute); !strings.Contains(string(f.Data), `"description":"about","posting":"admins"`) {
		t.Errorf("ben heard %s", f.Data)
	}
	if a := s.pods[0].call(t, u[1].token, "POST", path+"/messages", map[string]any{"content": "x"}); a.code() != "posting_not_allowed" {
		t.Errorf("a member posts: %d %s", a.status, a.body)
	}
	if f := ben.ask("message:send", map[string]any{"conversationId": g.ID, "content": "x", "clientMessageId": "1"}); f.Type != "error" {
		t.Errorf("a member posts by frame: %s", f.Data)
	}
	s.pods[0].want(t, 204, u[0].token, "DELETE", path, nil)
	for _, x := range []*socket{anna, ben} {
		var d struct {
			ConversationID string
			Revision       int64
		}
		if x.until("conversation:deleted", time.Minute).into(t, &d); d.ConversationID != g.ID || d.Revision != 3 {
			t.Errorf("heard %+v", d)
		}
	}
	for i, p := range s.pods {
		if a := p.call(t, u[i].token, "GET", path, nil); a.status != 404 {
			t.Errorf("it reads %d", a.status)
		}
	}
	f := ben.ask("sync", map[string]any{"conversations": map[string]any{g.ID: 2}})
	var sync struct{ Gone, Unknown []string }
	if err := json.Unmarshal(f.Data, &sync); err != nil || len(sync.Gone) != 1 || len(sync.Unknown) != 0 {
		t.Errorf("sync answers %s", f.Data)
	}
}
