package test

import (
	"crypto/ecdh"
	"crypto/rand"
	"encoding/base64"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"strings"
	"testing"
	"time"

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

// pushSettings have web push to services on this machine, soon after a message.
func pushSettings(t testing.TB) []string {
	t.Helper()
	private, _ := vapidKey(t)
	return []string{
		"PARLEY_PUSH_VAPID_PRIVATE_KEY=" + private, "PARLEY_PUSH_VAPID_SUBJECT=mailto:ops@example.com", "PARLEY_PUSH_WEBPUSH_HOSTS=127.0.0.1",
		"PARLEY_PUSH_DELAY=1s",
	}
}

// subscribe registers a browser that gets its pushes at that URL.
func (p *pod) subscribe(t testing.TB, u user, endpoint string) {
	t.Helper()
	key, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	encode := base64.RawURLEncoding.EncodeToString
	p.want(t, 204, u.token, "PUT", "/api/push/devices/browser", map[string]any{"provider": "webpush", "subscription": map[string]any{
		"endpoint": endpoint, "expirationTime": nil, "keys": map[string]string{"p256dh": encode(key.PublicKey().Bytes()), "auth": encode(make([]byte, 16))},
	}})
}

// Everything together: a browser that subscribed at one pod gets a push for a message that was sent to the other, from a dispatcher's
// process; nobody who has read it or looks gets one.
func TestPushesOverTwoPodsAndADispatcher(t *testing.T) {
	t.Parallel()
	got := make(chan *http.Request, 16)
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(201)
		got <- r
	}))
	t.Cleanup(service.Close)
	settings := append(pushSettings(t), "PARLEY_SECRETS_KEY="+base64.StdEncoding.EncodeToString([]byte(strings.Repeat("k", 32))))
	s := start(t, 2, settings...)
	a, b := s.pods[0], s.pods[1]
	u := a.users(t, 4)
	for i, path := range []string{"/reads", "/looks", "/away"} {
		a.subscribe(t, u[i+1], service.URL+path)
	}
	g := a.group(t, u[0], u[1:]...)
	m := a.send(t, u[0], g.ID, "hello")
	b.want(t, 204, u[1].token, "POST", "/api/messages/"+m.ID+"/read", nil)
	b.open(t, u[2]).ask("focus", map[string]any{"active": true, "conversationId": g.ID})
	b.open(t, u[3]) // an open socket is not attention
	testenv.Start(t, testenv.Binary(t, "dispatcher"), nil, append(s.settings(), append(settings, "PARLEY_OPS_ADDR=127.0.0.1:0")...))
	r := testenv.Receive(t, got, time.Minute, "a push comes")
	topic := strings.ReplaceAll(g.ID, "-", "")
	if r.URL.Path != "/away" || r.Header.Get("Topic") != topic || r.Header.Get("Content-Encoding") != "aes128gcm" || !strings.HasPrefix(r.Header.Get("Authorization"), "vapid t=") {
		t.Errorf("got %s %v", r.URL, r.Header)
	}
	if len(got) != 0 {
		t.Errorf("another push came, to %s", (<-got).URL)
	}
}
