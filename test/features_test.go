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
	p, q := s.pods[0], s.pods[1]
	u := p.users(t, 3)
	anna, ben := p.open(t, u[0]), q.open(t, u[1])
	g := p.group(t, u[0], u[1], u[2])
	var m message
	ben.ask("message:send", map[string]any{"conversationId": g.ID, "content": "hi", "clientMessageId": "1",
		"metadata": map[string]any{"order": 1}, "mentions": map[string]any{"userIds": []string{u[0].ID}}}).into(t, &m)
	path := "/api/messages/" + m.ID

	t.Run("metadata and mentions", func(t *testing.T) {
		heard := anna.until("message:new", time.Minute)
		expectContains(t, "anna's event", heard.Data, `"metadata":{"order":1},"mentions":{"userIds":["`+u[0].ID+`"],"all":false}`)
	})
	t.Run("reactions", func(t *testing.T) {
		const thumb = "👍"
		p.want(t, 200, u[0].token, "PUT", path+"/reactions/"+url.PathEscape(thumb), nil)
		reacted := ben.until("message:reacted", time.Minute)
		expectContains(t, "ben's event", reacted.Data, `"reactions":[{"reaction":"👍","count":1}],"by":[{"userId":"`+u[0].ID+`","reactions":["👍"]}]`)
		ack := ben.ask("reaction:add", map[string]any{"messageId": m.ID, "reaction": thumb})
		if want := `{"reactions":[{"reaction":"👍","count":2}],"mine":["👍"],`; ack.Type != "ack" || !strings.HasPrefix(string(ack.Data), want) {
			t.Errorf("the response to ben's frame is %s %s, want an ack that begins with %s", ack.Type, ack.Data, want)
		}
		q.call(t, u[1].token, "PUT", path+"/reactions/"+url.PathEscape("a b"), nil).check(t, "white space", 400, "invalid_request")
		expectContains(t, "anna reads", q.want(t, 200, u[0].token, "GET", path, nil).body, `"reactions":[{"reaction":"👍","count":2}],"mine":["👍"]`)
		list := everyPage[struct {
			User     struct{ ID string }
			Reaction string
		}](t, q, u[2].token, path+"/reactions?reaction="+url.QueryEscape(thumb))
		if len(list) != 2 || list[0].User.ID != u[1].ID {
			t.Errorf("the list of reactions is %+v, want two, ben's first", list)
		}
	})
	t.Run("pins", func(t *testing.T) {
		p.call(t, u[1].token, "PUT", path+"/pin", nil).check(t, "a member pins", 403, "forbidden")
		p.want(t, 200, u[0].token, "PUT", path+"/pin", nil)
		updated := ben.until("message:updated", time.Minute)
		expectContains(t, "ben's event", updated.Data, `"pinnedAt":"`)
		if strings.Contains(string(updated.Data), `"mine"`) {
			t.Errorf("ben's event has reactions that are one user's own: %s", updated.Data)
		}
		expectContains(t, "pins", q.want(t, 200, u[2].token, "GET", "/api/conversations/"+g.ID+"/pins", nil).body, m.ID)
	})
	t.Run("edits of a revision", func(t *testing.T) {
		if a := p.call(t, u[1].token, "PATCH", path, map[string]any{"content": "ho", "ifRevision": 1}); a.status != 412 && a.status != 200 {
			t.Errorf("an edit: %d %s, want 200, or 412 after the pin", a.status, a.body)
		}
		old := map[string]any{"metadata": map[string]any{"order": nil}, "ifRevision": 1}
		p.call(t, u[1].token, "PATCH", path, old).check(t, "an old ifRevision", 412, "revision_mismatch")
	})
	t.Run("a page around it", func(t *testing.T) {
		around := q.want(t, 200, u[1].token, "GET", "/api/conversations/"+g.ID+"/messages?limit=3&around="+m.ID, nil)
		if !strings.HasSuffix(strings.TrimSpace(string(around.body)), `"hasNewer":false}}`) {
			t.Errorf("the page is %s, want that it has the newest message", around.body)
		}
	})
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
	expectContains(t, "ben's event", ben.until("conversation:updated", time.Minute).Data, `"description":"about","posting":"admins"`)
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
