package test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"testing"

	"github.com/parley-chat/parley/scripts/playground/seed"
)

// What make run has there to try: people who can sign in, with conversations that are partly unread. A second run changes nothing, and
// one that was cut off is continued.
func TestSeededPeopleAndMessages(t *testing.T) {
	t.Parallel()
	s := start(t, 1, "PARLEY_BOOTSTRAP_KEY="+bootstrapKey)
	p := s.pods[0]
	half, cancel := context.WithCancel(t.Context())
	defer cancel()
	if _, err := (&seed.Seeder{URL: cuttingProxy(t, p, "PUT /api/server/conversations/ext:seed-team", cancel), Key: bootstrapKey, History: 200}).Run(half); err == nil {
		t.Fatal("the first run succeeded although it was cut off")
	}
	p.want(t, 200, bootstrapKey, "GET", "/api/server/conversations/ext:seed-team", nil)
	run := func(ctx context.Context) (seed.Result, error) {
		return (&seed.Seeder{URL: p.url, Key: bootstrapKey, History: 200}).Run(ctx)
	}
	made, err := run(t.Context())
	if err != nil || !made.Fresh || made.Messages < 230 {
		t.Fatalf("seeded %+v, %v", made, err)
	}
	t.Logf("%d messages in %v", made.Messages, made.Took)
	again, err := run(t.Context())
	if err != nil || again.Fresh {
		t.Fatalf("the second run: %+v, %v", again, err)
	}

	var session pair
	p.want(t, 200, "", "POST", "/api/auth/login", map[string]any{"username": seed.People()[0], "password": seed.Password}).into(t, &session)
	var list struct {
		Data []struct {
			LastSeq, UnreadCount, MentionCount int64
			Name                               string
		}
	}
	p.want(t, 200, session.AccessToken, "GET", "/api/conversations", nil).into(t, &list)
	total, unread, mentions := int64(0), int64(0), int64(0)
	for _, c := range list.Data {
		total, unread, mentions = total+c.LastSeq, unread+c.UnreadCount, mentions+c.MentionCount
	}
	if len(list.Data) != 8 || total != int64(made.Messages) || unread != 6 || mentions != 1 {
		t.Errorf("%d conversations, %d messages of %d, %d unread, %d mentions", len(list.Data), total, made.Messages, unread, mentions)
	}
}

// cuttingProxy passes requests on to a pod, and calls cut once the pod has answered that one. It returns its own URL.
func cuttingProxy(t *testing.T, p *pod, request string, cut func()) string {
	t.Helper()
	to, err := url.Parse(p.url)
	if err != nil {
		t.Fatal(err)
	}
	proxy := httputil.NewSingleHostReverseProxy(to)
	proxy.ModifyResponse = func(r *http.Response) error {
		if r.Request.Method+" "+r.Request.URL.Path == request {
			cut()
		}
		return nil
	}
	proxy.ErrorHandler = func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) } // what was cut off
	server := httptest.NewServer(proxy)
	t.Cleanup(server.Close)
	return server.URL
}
