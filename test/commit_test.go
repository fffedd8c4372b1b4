package test

import (
	"encoding/base64"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/parley-chat/parley/internal/testenv"
)

// write is a request that commits something: its status, and the frame that the watching user gets of it, "" for none.
type write struct {
	status int
	token  string
	method string
	path   string
	body   any
	frame  string
}

// cast are the users and things of TestNothingAfterACommitFailsTheCall.
type cast struct {
	me, other, asker, stranger user
	group, direct, doomed      conversation
	mine, more                 message
	session, key, webhook      string
}

// commits has what every mutating route needs. other watches.
var commits = map[string]func(c *cast) write{
	"POST /api/auth/register": func(*cast) write {
		return write{201, "", "POST", "/api/auth/register", map[string]any{"username": "committed", "password": password}, ""}
	},
	"POST /api/auth/login": func(c *cast) write {
		return write{200, "", "POST", "/api/auth/login", map[string]any{"username": c.me.Username, "password": password}, ""}
	},
	"POST /api/auth/refresh": func(c *cast) write {
		return write{200, "", "POST", "/api/auth/refresh", map[string]any{"refreshToken": c.stranger.refresh}, ""}
	},
	"DELETE /api/auth/sessions/{id}": func(c *cast) write {
		return write{204, c.me.token, "DELETE", "/api/auth/sessions/" + c.session, nil, ""}
	},
	"PATCH /api/users/me": func(c *cast) write {
		return write{200, c.me.token, "PATCH", "/api/users/me", map[string]any{"displayName": "Another"}, ""}
	},
	"DELETE /api/users/me": func(c *cast) write {
		return write{204, c.stranger.token, "DELETE", "/api/users/me", map[string]any{"password": password}, "conversation:member_removed"}
	},
	"POST /api/auth/logout": func(c *cast) write {
		return write{204, "", "POST", "/api/auth/logout", map[string]any{"refreshToken": c.asker.refresh}, ""}
	},
	"POST /api/auth/password": func(c *cast) write {
		return write{204, c.me.token, "POST", "/api/auth/password", map[string]any{"current": password, "new": password + "!"}, ""}
	},
	"PATCH /api/users/me/privacy": func(c *cast) write {
		return write{200, c.me.token, "PATCH", "/api/users/me/privacy", map[string]any{"presenceSharing": "friends"}, ""}
	},
	"POST /api/friends/requests": func(c *cast) write {
		return write{201, c.me.token, "POST", "/api/friends/requests", map[string]any{"userId": c.other.ID}, "friend:requested"}
	},
	"DELETE /api/friends/requests/{userId}": func(c *cast) write {
		return write{204, c.me.token, "DELETE", "/api/friends/requests/" + c.other.ID, nil, "friend:removed"}
	},
	"POST /api/friends/requests/{userId}/accept": func(c *cast) write {
		return write{200, c.other.token, "POST", "/api/friends/requests/" + c.stranger.ID + "/accept", nil, "friend:accepted"}
	},
	"DELETE /api/friends/{userId}": func(c *cast) write {
		return write{204, c.other.token, "DELETE", "/api/friends/" + c.stranger.ID, nil, "friend:removed"}
	},
	"PUT /api/blocks/{userId}": func(c *cast) write {
		return write{204, c.me.token, "PUT", "/api/blocks/" + c.stranger.ID, nil, ""}
	},
	"DELETE /api/blocks/{userId}": func(c *cast) write {
		return write{204, c.me.token, "DELETE", "/api/blocks/" + c.stranger.ID, nil, ""}
	},
	"POST /api/conversations": func(c *cast) write {
		ids := []string{c.other.ID, c.asker.ID}
		return write{201, c.me.token, "POST", "/api/conversations", map[string]any{"type": "group", "name": "new", "memberIds": ids}, "conversation:created"}
	},
	"PATCH /api/conversations/{id}": func(c *cast) write {
		return write{200, c.me.token, "PATCH", "/api/conversations/" + c.group.ID, map[string]any{"name": "renamed"}, "conversation:updated"}
	},
	"DELETE /api/conversations/{id}": func(c *cast) write {
		return write{204, c.me.token, "DELETE", "/api/conversations/" + c.doomed.ID, nil, "conversation:deleted"}
	},
	"POST /api/conversations/{id}/members": func(c *cast) write {
		return write{200, c.me.token, "POST", "/api/conversations/" + c.group.ID + "/members", map[string]any{"userIds": []string{c.stranger.ID}}, "conversation:member_added"}
	},
	"PATCH /api/conversations/{id}/members/{userId}": func(c *cast) write {
		return write{200, c.me.token, "PATCH", "/api/conversations/" + c.group.ID + "/members/" + c.other.ID, map[string]any{"role": "admin"}, "conversation:member_updated"}
	},
	"DELETE /api/conversations/{id}/members/{userId}": func(c *cast) write {
		return write{204, c.me.token, "DELETE", "/api/conversations/" + c.group.ID + "/members/" + c.me.ID, nil, "conversation:member_removed"}
	},
	"POST /api/conversations/{id}/messages": func(c *cast) write {
		return write{201, c.me.token, "POST", "/api/conversations/" + c.direct.ID + "/messages", map[string]any{"content": "sent"}, "message:new"}
	},
	"PATCH /api/messages/{id}": func(c *cast) write {
		return write{200, c.me.token, "PATCH", "/api/messages/" + c.mine.ID, map[string]any{"content": "edited"}, "message:updated"}
	},
	"POST /api/messages/{id}/read": func(c *cast) write {
		return write{204, c.other.token, "POST", "/api/messages/" + c.mine.ID + "/read", nil, "conversation:read"}
	},
	"POST /api/conversations/{id}/read": func(c *cast) write {
		return write{204, c.other.token, "POST", "/api/conversations/" + c.direct.ID + "/read", map[string]any{"upToMessageId": c.more.ID}, "conversation:read"}
	},
	"PUT /api/messages/{id}/reactions/{reaction}": func(c *cast) write {
		return write{200, c.me.token, "PUT", "/api/messages/" + c.mine.ID + "/reactions/yes", nil, "message:reacted"}
	},
	"DELETE /api/messages/{id}/reactions/{reaction}": func(c *cast) write {
		return write{200, c.me.token, "DELETE", "/api/messages/" + c.mine.ID + "/reactions/yes", nil, "message:reacted"}
	},
	"PUT /api/messages/{id}/pin": func(c *cast) write {
		return write{200, c.me.token, "PUT", "/api/messages/" + c.mine.ID + "/pin", nil, "message:updated"}
	},
	"DELETE /api/messages/{id}/pin": func(c *cast) write {
		return write{200, c.me.token, "DELETE", "/api/messages/" + c.mine.ID + "/pin", nil, "message:updated"}
	},
	"PATCH /api/conversations/{id}/me": func(c *cast) write {
		return write{200, c.other.token, "PATCH", "/api/conversations/" + c.direct.ID + "/me", map[string]any{"pinned": true}, "state:updated"}
	},
	"POST /api/conversations/read": func(c *cast) write {
		return write{204, c.other.token, "POST", "/api/conversations/read", map[string]any{"all": true}, "conversation:read"}
	},
	"PUT /api/push/devices/{deviceId}": func(c *cast) write {
		return write{204, c.me.token, "PUT", "/api/push/devices/phone", map[string]any{"provider": "fcm", "token": "a-token"}, ""}
	},
	"DELETE /api/push/devices/{deviceId}": func(c *cast) write {
		return write{204, c.me.token, "DELETE", "/api/push/devices/phone", nil, ""}
	},
	"PATCH /api/push/preferences": func(c *cast) write {
		return write{200, c.me.token, "PATCH", "/api/push/preferences", map[string]any{"level": "none"}, ""}
	},
	"POST /api/server/keys": func(c *cast) write {
		return write{201, bootstrapKey, "POST", "/api/server/keys", map[string]any{"name": "made", "scopes": []string{"act"}}, ""}
	},
	"DELETE /api/server/keys/{id}": func(c *cast) write {
		return write{204, bootstrapKey, "DELETE", "/api/server/keys/" + c.key, nil, ""}
	},
	"POST /api/server/webhooks": func(*cast) write {
		return write{201, bootstrapKey, "POST", "/api/server/webhooks", map[string]any{"name": "made", "url": "https://example.com/", "types": []string{"*"}}, ""}
	},
	"PATCH /api/server/webhooks/{id}": func(c *cast) write {
		return write{200, bootstrapKey, "PATCH", "/api/server/webhooks/" + c.webhook, map[string]any{"state": "disabled"}, ""}
	},
	"POST /api/server/webhooks/{id}/rotate": func(c *cast) write {
		return write{200, bootstrapKey, "POST", "/api/server/webhooks/" + c.webhook + "/rotate", nil, ""}
	},
	"POST /api/server/webhooks/{id}/replay": func(c *cast) write {
		return write{202, bootstrapKey, "POST", "/api/server/webhooks/" + c.webhook + "/replay", map[string]any{"from": "2026-01-01T00:00:00Z"}, ""}
	},
	"DELETE /api/server/webhooks/{id}": func(c *cast) write {
		return write{204, bootstrapKey, "DELETE", "/api/server/webhooks/" + c.webhook, nil, ""}
	},
	"DELETE /api/messages/{id}": func(c *cast) write {
		return write{204, c.me.token, "DELETE", "/api/messages/" + c.mine.ID, nil, "message:deleted"}
	},
}

// commitOrder is that of the table: some requests need what others before them made.
var commitOrder = []string{
	"POST /api/auth/register", "POST /api/auth/login", "POST /api/auth/refresh", "POST /api/auth/logout", "DELETE /api/auth/sessions/{id}",
	"POST /api/auth/password", "PATCH /api/users/me", "PATCH /api/users/me/privacy",
	"POST /api/friends/requests", "DELETE /api/friends/requests/{userId}", "POST /api/friends/requests/{userId}/accept", "DELETE /api/friends/{userId}",
	"POST /api/conversations", "PATCH /api/conversations/{id}", "DELETE /api/conversations/{id}", "POST /api/conversations/{id}/members",
	"PATCH /api/conversations/{id}/members/{userId}", "POST /api/conversations/{id}/messages", "PATCH /api/messages/{id}",
	"PUT /api/messages/{id}/reactions/{reaction}", "DELETE /api/messages/{id}/reactions/{reaction}",
	"PUT /api/messages/{id}/pin", "DELETE /api/messages/{id}/pin",
	"POST /api/messages/{id}/read", "POST /api/conversations/{id}/read", "POST /api/conversations/read", "PATCH /api/conversations/{id}/me", "DELETE /api/messages/{id}",
	"PUT /api/push/devices/{deviceId}", "DELETE /api/push/devices/{deviceId}", "PATCH /api/push/preferences",
	"POST /api/server/keys", "DELETE /api/server/keys/{id}",
	"POST /api/server/webhooks", "PATCH /api/server/webhooks/{id}", "POST /api/server/webhooks/{id}/rotate",
	"POST /api/server/webhooks/{id}/replay", "DELETE /api/server/webhooks/{id}", "PUT /api/blocks/{userId}",
	"DELETE /api/blocks/{userId}", "DELETE /api/conversations/{id}/members/{userId}",
	"DELETE /api/users/me",
}

// Postgres is cut off right after each commit: the caller is answered as if nothing had happened, and the event arrives.
func TestNothingAfterACommitFailsTheCall(t *testing.T) {
	t.Parallel()
	s, proxy := behindCommitProxy(t)
	s.extra = []string{"PARLEY_BOOTSTRAP_KEY=" + bootstrapKey, "PARLEY_SECRETS_KEY=" + base64.StdEncoding.EncodeToString([]byte(strings.Repeat("k", 32)))}
	p := s.addPod()
	c := newCast(t, p)
	var writes []func(c *cast) write
	names := slices.Clone(commitOrder[:len(commitOrder)-1]) // the last deletes an account
	for _, name := range names {
		writes = append(writes, commits[name])
	}
	for _, w := range serverCommits(settledKey(t, s)) {
		names, writes = append(names, w.name), append(writes, w.make)
	}
	names, writes = append(names, commitOrder[len(commitOrder)-1]), append(writes, commits[commitOrder[len(commitOrder)-1]])
	for n, name := range names {
		w := writes[n](c)
		watch := openAgain(t, p, c.other)
		var a answer
		cut := false
		// Nothing was committed if a connection failed that was cut before, and something else may be if a background task was. A
		// commit whose answer was cut off too is a 503, and a repeat has the same result.
		for tries, cuts := 0, 0; tries < 20 && cuts < 3 && (tries == 0 || a.status == http.StatusServiceUnavailable); tries++ {
			proxy.Arm()
			a = p.call(t, w.token, w.method, w.path, w.body)
			if proxy.Mend() {
				cut = true
				cuts++
			}
		}
		if a.status != w.status || !cut {
			t.Fatalf("%s: %d %s, want %d; committed %t", name, a.status, a.body, w.status, cut)
		}
		if w.frame != "" { // users who join a conversation get it by way of Postgres, once that is back
			watch.until(w.frame, 10*time.Second)
		}
		watch.conn.Close()
	}
}

// behindCommitProxy is a system without pods, which reach Postgres through a proxy that can cut connections after a commit.
func behindCommitProxy(t *testing.T) (*system, *testenv.CommitProxy) {
	t.Helper()
	if testenv.Engine() == testenv.PgBouncer {
		t.Skip("PgBouncer would stand between the proxy and Postgres")
	}
	pg := testenv.Postgres(t)
	through, err := url.Parse(pg)
	if err != nil {
		t.Fatal(err)
	}
	proxy := testenv.NewCommitProxy(t, through.Host)
	through.Host = proxy.Addr()
	return &system{t: t, pg: pg, redis: testenv.NewRedis(t), database: []string{"PARLEY_DATABASE_URL=" + through.String()}}, proxy
}

// openAgain opens a socket once the pod has left the connections to Postgres that were cut.
func openAgain(t *testing.T, p *pod, u user) (sock *socket) {
	t.Helper()
	testenv.Eventually(t, 20*time.Second, func() bool {
		if p.call(t, u.token, "GET", "/api/users/me", nil).status != http.StatusOK {
			return false
		}
		var err error
		if sock, err = p.dial(t, "/api/ws", http.Header{"Authorization": {"Bearer " + u.token}}); err != nil {
			return false
		}
		return sock.next(5*time.Second).Type == "ready"
	}, "a socket opens")
	return sock
}

func newCast(t *testing.T, p *pod) *cast {
	t.Helper()
	u := p.users(t, 4)
	c := &cast{me: u[0], other: u[1], asker: u[2], stranger: u[3]}
	var second pair
	p.want(t, 200, "", "POST", "/api/auth/login", map[string]any{"username": c.me.Username, "password": password}).into(t, &second)
	var list struct {
		Data []struct {
			ID      string
			Current bool
		}
	}
	p.want(t, 200, c.me.token, "GET", "/api/auth/sessions", nil).into(t, &list)
	for _, x := range list.Data {
		if !x.Current {
			c.session = x.ID
		}
	}
	p.want(t, 201, c.stranger.token, "POST", "/api/friends/requests", map[string]any{"userId": c.other.ID})
	c.group, c.direct, c.doomed = p.group(t, c.me, c.other, c.asker), p.direct(t, c.me, c.other), p.group(t, c.me, c.other)
	c.mine, c.more = p.send(t, c.me, c.direct.ID, "mine"), p.send(t, c.me, c.direct.ID, "more")
	testenv.Eventually(t, 10*time.Second, func() bool { return p.call(t, bootstrapKey, "GET", "/api/server/keys", nil).status == 200 }, "the key is made")
	var key struct{ ID string }
	p.want(t, 201, bootstrapKey, "POST", "/api/server/keys", map[string]any{"name": "doomed", "scopes": []string{"act"}}).into(t, &key)
	c.key = key.ID
	p.want(t, 201, bootstrapKey, "POST", "/api/server/webhooks", map[string]any{"name": "doomed", "url": "https://example.com/", "types": []string{"*"}}).into(t, &key)
	c.webhook = key.ID
	return c
}

// notCommits are mutating routes that TestNothingAfterACommitFailsTheCall leaves out, with the reason.
var notCommits = map[string]string{
	"POST /api/uploads":               "needs a storage for files",
	"POST /api/uploads/{id}/complete": "needs a storage for files",
	"POST /api/attachments/urls":      "writes nothing",

	"POST /api/server/webhooks/{id}/test":               "writes nothing",
	"POST /api/server/webhooks/{id}/dead/{event}/retry": "needs an event that a receiver refused",
	"DELETE /api/server/webhooks/{id}/dead/{event}":     "needs an event that a receiver refused",
}

func TestEveryMutatingRouteIsCutAfterItsCommit(t *testing.T) {
	t.Parallel()
	v, err := document()
	if err != nil {
		t.Fatal(err)
	}
	for _, op := range v.Operations() {
		if method, _, _ := strings.Cut(op, " "); method == "GET" || method == "HEAD" {
			continue
		}
		byKey := slices.ContainsFunc(serverCommits(bootstrapKey), func(w struct {
			name string
			make func(c *cast) write
		},
		) bool {
			return w.name == op
		})
		if commits[op] == nil && !byKey && notCommits[op] == "" {
			t.Errorf("%s is not in the table of what is cut after its commit", op)
		}
	}
	for name := range commits {
		found := false
		for _, x := range commitOrder {
			found = found || x == name
		}
		if !found {
			t.Errorf("%s has no place in the order", name)
		}
	}
}
