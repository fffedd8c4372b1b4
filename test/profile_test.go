package test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/parley-chat/parley/internal/testenv"
)

func TestProfileAndPrivacy(t *testing.T) {
	t.Parallel()
	s := plainSystem(t)
	p := s.pods[0]
	u := p.users(t, 2)
	type privacy struct {
		PresenceSharing     string
		ReadReceiptsEnabled bool
	}
	type own struct {
		ID, Username, DisplayName, CreatedAt string
		AvatarURL                            *string
		Privacy                              privacy
	}
	get := func() (o own) {
		p.want(t, 200, u[0].token, "GET", "/api/users/me", nil).into(t, &o)
		return o
	}
	if o := get(); o.Privacy != (privacy{"everyone", true}) || o.AvatarURL != nil || len(o.CreatedAt) != 27 {
		t.Errorf("a new profile is %+v", o)
	}
	var o own
	p.want(t, 200, u[0].token, "PATCH", "/api/users/me", "{\"displayName\":\"  Zoe\u0308 \",\"avatarUrl\":\"https://x.example/a.png\"}").into(t, &o)
	if o.DisplayName != "Zo\u00eb" || o.AvatarURL == nil || *o.AvatarURL != "https://x.example/a.png" {
		t.Errorf("updated: %+v", o)
	}
	if p.want(t, 200, u[0].token, "PATCH", "/api/users/me", `{"displayName":"Zoe"}`); *get().AvatarURL == "" {
		t.Error("an absent field was cleared")
	}
	if p.want(t, 200, u[0].token, "PATCH", "/api/users/me", `{"avatarUrl":null}`); get().AvatarURL != nil || get().DisplayName != "Zoe" {
		t.Errorf("null did not clear: %+v", get())
	}
	p.want(t, 200, u[0].token, "PATCH", "/api/users/me", map[string]any{"displayName": strings.Repeat("日", 50)})
	var pr privacy
	p.want(t, 200, u[0].token, "PATCH", "/api/users/me/privacy", `{"presenceSharing":"friends"}`).into(t, &pr)
	if pr != (privacy{"friends", true}) {
		t.Errorf("privacy is %+v", pr)
	}
	p.want(t, 200, u[0].token, "PATCH", "/api/users/me/privacy", `{"readReceiptsEnabled":false}`)
	p.want(t, 200, u[0].token, "GET", "/api/users/me/privacy", nil).into(t, &pr)
	if pr != (privacy{"friends", false}) {
		t.Errorf("privacy is %+v", pr)
	}
	shown := string(p.want(t, 200, u[1].token, "GET", "/api/users/"+u[0].ID, nil).body)
	if strings.Contains(shown, "privacy") || strings.Contains(shown, "createdAt") || strings.Contains(shown, "assword") {
		t.Errorf("others see %s", shown)
	}
}

func TestBadProfilesAndPrivacy(t *testing.T) {
	t.Parallel()
	s := plainSystem(t)
	u := s.pods[0].register(t)
	for path, bodies := range map[string]map[string]string{
		"/api/users/me": {
			`{}`:                         "body",
			`{"displayName":"x"}`:        "displayName",
			`{"displayName":"   x   "}`:  "displayName",
			`{"displayName":""}`:         "displayName",
			`{"displayName":null}`:       "displayName",
			`{"displayName":7}`:          "displayName",
			`{"displayName":["a"]}`:      "displayName",
			`{"displayName":"a\u0000b"}`: "displayName",
			`{"displayName":"a\nb"}`:     "displayName",
			`{"displayName":"a\u0085b"}`: "displayName",
			`{"displayName":"` + strings.Repeat("日", 51) + `"}`:                   "displayName",
			`{"displayname":"Zoe"}`:                                               "displayname",
			`{"displayName":"Zoe","displayName":"Zoe"}`:                           "displayName",
			`{"avatarUrl":"/relative.png"}`:                                       "avatarUrl",
			`{"avatarUrl":"ftp://x.example/a"}`:                                   "avatarUrl",
			`{"avatarUrl":"javascript:alert(1)"}`:                                 "avatarUrl",
			`{"avatarUrl":"https://"}`:                                            "avatarUrl",
			`{"avatarUrl":""}`:                                                    "avatarUrl",
			`{"avatarUrl":7}`:                                                     "avatarUrl",
			`{"avatarUrl":"https://x.example/` + strings.Repeat("a", 2048) + `"}`: "avatarUrl",
			`{"avatarUrl":"https://x.example/\u0007"}`:                            "avatarUrl",
			`{"username":"other"}`:                                                "username",
			`{"id":"x","displayName":"x","avatarUrl":"x","y":1}`:                  "avatarUrl displayName id y",
		},
		"/api/users/me/privacy": {
			`{}`:                                                       "body",
			`{"presenceSharing":"all"}`:                                "presenceSharing",
			`{"presenceSharing":"Everyone"}`:                           "presenceSharing",
			`{"presenceSharing":""}`:                                   "presenceSharing",
			`{"presenceSharing":null}`:                                 "presenceSharing",
			`{"presenceSharing":true}`:                                 "presenceSharing",
			`{"readReceiptsEnabled":"true"}`:                           "readReceiptsEnabled",
			`{"readReceiptsEnabled":1}`:                                "readReceiptsEnabled",
			`{"readReceiptsEnabled":null}`:                             "readReceiptsEnabled",
			`{"readreceiptsenabled":true}`:                             "readreceiptsenabled",
			`{"presenceSharing":"x","readReceiptsEnabled":"y","z":1}`:  "presenceSharing readReceiptsEnabled z",
			`{"readReceiptsEnabled":true,"readReceiptsEnabled":false}`: "readReceiptsEnabled",
		},
	} {
		for body, fields := range bodies {
			a := s.pods[0].call(t, u.token, "PATCH", path, body)
			if pr := a.problem(t); a.status != 400 || pr.Code != "invalid_request" || pr.fields() != fields {
				t.Errorf("PATCH %s %.80s: %d %s, want faults of %s", path, body, a.status, a.body, fields)
			}
		}
	}
}

// Pods remember profiles for a moment. A change on one pod, by the user or by a server key, is seen on the other at once, and an ended
// session sees nothing.
func TestARememberedProfileIsNeverAnOldOne(t *testing.T) {
	t.Parallel()
	s := start(t, 2, "PARLEY_RATE_LIMIT_DEFAULT=100000/1s", "PARLEY_BOOTSTRAP_KEY="+bootstrapKey)
	u := s.pods[0].register(t)
	type own struct{ DisplayName string }
	for i := range 30 {
		changes, reads := s.pods[i%2], s.pods[1-i%2]
		var before, after own
		reads.want(t, 200, u.token, "GET", "/api/users/me", nil).into(t, &before)
		name := fmt.Sprint("Name ", i)
		if i%3 == 0 {
			changes.want(t, 200, bootstrapKey, "PATCH", "/api/server/users/"+u.ID, map[string]any{"displayName": name})
		} else {
			changes.want(t, 200, u.token, "PATCH", "/api/users/me", map[string]any{"displayName": name})
		}
		if reads.want(t, 200, u.token, "GET", "/api/users/me", nil).into(t, &after); after.DisplayName != name {
			t.Fatalf("after %q the other pod returns %q", name, after.DisplayName)
		}
	}
	s.pods[0].want(t, 204, bootstrapKey, "DELETE", "/api/server/users/"+u.ID+"/sessions", nil)
	s.pods[0].want(t, 401, u.token, "GET", "/api/users/me", nil)
	testenv.Eventually(t, 5*time.Second, func() bool { return s.pods[1].call(t, u.token, "GET", "/api/users/me", nil).status == 401 }, "the other pod refuses the token")
}
