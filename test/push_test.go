package test

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/parley-chat/parley/internal/testenv"
)

// vapidKey is a pair of keys as api push keys prints it.
func vapidKey(t testing.TB) (private, public string) {
	t.Helper()
	out, err := exec.Command(testenv.Binary(t, "api"), "push", "keys").Output()
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	private, ok := strings.CutPrefix(lines[0], "PARLEY_PUSH_VAPID_PRIVATE_KEY=")
	if !ok || len(lines) != 2 || len(private) != 43 {
		t.Fatalf("api push keys prints %s", out)
	}
	return private, lines[1][strings.LastIndex(lines[1], " ")+1:]
}

// The routes of pushes, each answer held against the OpenAPI document.
func TestDevicesAndPreferencesOfPushes(t *testing.T) {
	t.Parallel()
	private, public := vapidKey(t)
	s := start(t, 1, "PARLEY_PUSH_VAPID_PRIVATE_KEY="+private, "PARLEY_PUSH_VAPID_SUBJECT=mailto:ops@example.com", "PARLEY_BOOTSTRAP_KEY="+bootstrapKey)
	p := s.pods[0]
	ana := p.register(t)
	if a := p.want(t, 200, ana.token, "GET", "/api/push/config", nil); string(a.body) != `{"webPush":{"publicKey":"`+public+`"},"fcm":false}` {
		t.Errorf("the config is %s", a.body)
	}
	fcm := map[string]any{"provider": "fcm", "token": "a-token"}
	for _, c := range []struct {
		status              int
		token, method, path string
		body                any
	}{
		{204, ana.token, "PUT", "devices/phone", fcm},
		{204, ana.token, "PUT", "devices/phone", fcm},
		{401, "", "PUT", "devices/phone", fcm},
		{400, ana.token, "PUT", "devices/a.b", fcm},
		{400, ana.token, "PUT", "devices/phone", map[string]any{"provider": "webpush", "subscription": map[string]any{"endpoint": "https://evil.example/x"}}},
		{204, ana.token, "DELETE", "devices/phone", nil},
		{204, ana.token, "DELETE", "devices/phone", nil},
		{400, ana.token, "DELETE", "devices/a.b", nil},
		{400, ana.token, "PATCH", "preferences", map[string]any{"level": "loud"}},
		{200, ana.token, "PATCH", "preferences", map[string]any{"level": "mentions", "preview": false}},
	} {
		p.want(t, c.status, c.token, c.method, "/api/push/"+c.path, c.body)
	}
	if a := p.want(t, 200, ana.token, "GET", "/api/push/preferences", nil); string(a.body) != `{"level":"mentions","preview":false}` {
		t.Errorf("the preferences are %s", a.body)
	}
	socket := p.open(t, ana)
	if f := socket.ask("focus", map[string]any{"active": true}); f.Type != "ack" || string(f.Data) != "{}" {
		t.Errorf("focus: %s %s", f.Type, f.Data)
	}
	rdb := s.redis.Client(t)
	if n := rdb.ZCard(t.Context(), "push_active:"+ana.ID).Val(); n != 1 {
		t.Errorf("%d sources are active", n)
	}
	if f := socket.ask("focus", map[string]any{"active": false, "conversationId": "x"}); f.Type != "error" {
		t.Errorf("a malformed id: %s %s", f.Type, f.Data)
	}
	socket.ask("focus", map[string]any{"active": false})
	if n := rdb.Exists(t.Context(), "push_active:"+ana.ID).Val(); n != 0 {
		t.Error("active after the focus ended")
	}
	p.want(t, 204, bootstrapKey, "PUT", "/api/push/devices/tablet", fcm, "Parley-User", ana.ID)
}
