package test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"io"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/parley-chat/parley/internal/testenv"
)

// verifier is a back end with several endpoints, a path each, which accepts only what is signed with the endpoint's secret.
type verifier struct {
	*receiver

	mu       sync.Mutex
	secrets  map[string][]byte   // by path
	accepted map[string][]string // the bodies, by path
	refused  int
}

func newVerifier(t testing.TB) *verifier {
	t.Helper()
	v := &verifier{secrets: map[string][]byte{}, accepted: map[string][]string{}}
	v.receiver = newReceiver(t, v)
	return v
}

func (v *verifier) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	b, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	mac := hmac.New(sha256.New, v.secrets[r.URL.Path])
	mac.Write([]byte(r.Header.Get("webhook-id") + "." + r.Header.Get("webhook-timestamp") + "." + string(b)))
	if r.Header.Get("webhook-signature") != "v1,"+base64.StdEncoding.EncodeToString(mac.Sum(nil)) {
		v.refused++
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	v.accepted[r.URL.Path] = append(v.accepted[r.URL.Path], string(b))
}

func (v *verifier) refusals() int {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.refused
}

// endpoint makes a webhook at the pod for a path of the verifier.
func (v *verifier) endpoint(t testing.TB, p *pod, path string) {
	t.Helper()
	var made struct{ Secret string }
	p.want(t, 201, bootstrapKey, "POST", "/api/server/webhooks", map[string]any{
		"name": path, "url": "http://" + v.addr + path, "types": []string{"message.created"},
	}).into(t, &made)
	secret, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(made.Secret, "whsec_"))
	if err != nil {
		t.Fatal(err)
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.secrets[path] = secret
}

// everywhere waits until every endpoint has accepted a message.
func (v *verifier) everywhere(t testing.TB, content string) {
	t.Helper()
	testenv.Eventually(t, 30*time.Second, func() bool {
		v.mu.Lock()
		defer v.mu.Unlock()
		for path := range v.secrets {
			if !strings.Contains(strings.Join(v.accepted[path], "\n"), content) {
				return false
			}
		}
		return true
	}, "%q reaches every endpoint", content)
}

// The secrets key is rotated as docs/operating.md says, with pods and dispatchers of two steps side by side: each dispatcher signs with the
// secret of each webhook, also of those that a pod of the other step made.
func TestTheSecretsKeyRotates(t *testing.T) {
	t.Parallel()
	key := func(letter string) string {
		return base64.StdEncoding.EncodeToString([]byte(strings.Repeat(letter, 32)))
	}
	older, newer := key("o"), key("n")
	s := start(t, 0, "PARLEY_BOOTSTRAP_KEY="+bootstrapKey, "PARLEY_WEBHOOK_ALLOW_CIDRS=127.0.0.0/8")
	v := newVerifier(t)
	step := func(keys ...string) (*pod, *testenv.Process) {
		setting := "PARLEY_SECRETS_KEY=" + strings.Join(keys, ",")
		p := s.addPod(setting)
		dispatcher, _ := s.launchBeside("dispatcher", setting)
		return p, dispatcher
	}
	p, dispatcher := step(older)
	testenv.Eventually(t, 20*time.Second, func() bool { return p.call(t, bootstrapKey, "GET", "/api/server/keys", nil).status == 200 }, "the key is made")
	u := p.register(t)
	group := p.group(t, u)
	v.endpoint(t, p, "/before")
	p.send(t, u, group.ID, "before")
	v.everywhere(t, "before")
	for _, next := range []struct {
		path string
		keys []string
	}{{"/added", []string{older, newer}}, {"/swapped", []string{newer, older}}} {
		was, old := p, dispatcher
		p, dispatcher = step(next.keys...)
		v.endpoint(t, p, next.path)
		was.send(t, u, group.ID, next.path+" beside")
		v.everywhere(t, next.path+" beside")
		old.Signal(syscall.SIGTERM)
		old.Wait(time.Minute)
		p.send(t, u, group.ID, next.path+" after")
		v.everywhere(t, next.path+" after")
	}
	if n := v.refusals(); n > 0 {
		t.Errorf("%d deliveries were not signed with their endpoint's secret", n)
	}
}
