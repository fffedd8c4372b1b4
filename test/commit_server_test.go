package test

import (
	"testing"
	"time"

	"github.com/parley-chat/parley/internal/testenv"
)

const hello = "/api/server/conversations/ext:room/messages"

// serverCommits are the writes of TestNothingAfterACommitFailsTheCall that server keys make, in their order; other watches.
func serverCommits(key string) []struct {
	name string
	make func(c *cast) write
} {
	by := func(status int, method, path string, body any, frame string) func(c *cast) write {
		return func(*cast) write { return write{status, key, method, path, body, frame} }
	}
	const user, room = "/api/server/users/ext:new", "/api/server/conversations/ext:room"
	list := []struct {
		name string
		make func(c *cast) write
	}{
		{"PUT /api/server/users", by(200, "PUT", "/api/server/users", map[string]any{"users": []any{map[string]any{"externalId": "new", "displayName": "New"}}}, "")},
		{"PATCH /api/server/users/{user}", by(200, "PATCH", user, map[string]any{"displayName": "Newer"}, "")},
		{"POST /api/server/users/{user}/deactivate", by(200, "POST", user+"/deactivate", nil, "")},
		{"POST /api/server/users/{user}/reactivate", by(200, "POST", user+"/reactivate", nil, "")},
		{"PUT /api/server/users/{user}/ban", by(200, "PUT", user+"/ban", map[string]any{"reason": "spam"}, "")},
		{"DELETE /api/server/users/{user}/ban", by(204, "DELETE", user+"/ban", nil, "")},
		{"POST /api/server/users/{user}/tokens", by(201, "POST", user+"/tokens", nil, "")},
		{"DELETE /api/server/users/{user}/sessions", by(204, "DELETE", user+"/sessions", nil, "")},
		{"PUT /api/server/conversations/{conversation}", func(c *cast) write {
			return write{201, key, "PUT", room, map[string]any{"name": "Room", "members": []any{map[string]any{"user": c.other.ID}}}, "conversation:created"}
		}},
		{"PATCH /api/server/conversations/{conversation}", by(200, "PATCH", room, map[string]any{"name": "Room 2"}, "conversation:updated")},
		{"POST /api/server/conversations/{conversation}/members", by(200, "POST", room+"/members", map[string]any{"users": []any{map[string]any{"user": "ext:new"}}}, "conversation:member_added")},
		{"POST /api/server/conversations/{conversation}/messages", by(201, "POST", hello, map[string]any{"sender": "ext:new", "content": "Hello", "clientMessageId": "1"}, "message:new")},
		{"PATCH /api/server/messages/{id}", func(c *cast) write {
			return write{200, key, "PATCH", "/api/server/messages/" + c.more.ID, map[string]any{"content": "edited"}, "message:updated"}
		}},
		{"DELETE /api/server/messages/{id}", func(c *cast) write {
			return write{204, key, "DELETE", "/api/server/messages/" + c.more.ID, nil, "message:deleted"}
		}},
		{"DELETE /api/server/conversations/{conversation}/members", by(200, "DELETE", room+"/members", map[string]any{"users": []any{"ext:new"}}, "conversation:member_removed")},
		{"DELETE /api/server/conversations/{conversation}", by(204, "DELETE", room, nil, "conversation:deleted")},
		{"POST /api/server/keys", by(201, "POST", "/api/server/keys", map[string]any{"name": "another", "scopes": []string{"users"}}, "")},
		{"DELETE /api/server/keys/{id}", by(204, "DELETE", "/api/server/keys/"+keyIDOf(key), nil, "")},
	}
	return list
}

// keyIDOf is the id of a key.
func keyIDOf(key string) string {
	h := key[len("parley_sk_"):]
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:32]
}

// settledKey is a key with all scopes whose first use has been noted: what is cut off must not be that.
func settledKey(t testing.TB, s *system) string {
	t.Helper()
	key := s.createKey(t, "commits", "users,conversations,messages,tokens,moderation,keys")
	s.pods[0].want(t, 200, key, "GET", "/api/server/keys", nil)
	testenv.Eventually(t, 10*time.Second, func() bool {
		return s.count(t, `SELECT count(*) FROM server_keys WHERE last_used_at IS NOT NULL`) == 2 // the bootstrap key's too
	}, "the use of the key is noted")
	return key
}
