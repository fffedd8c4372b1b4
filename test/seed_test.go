package test

import (
	"context"
	"testing"
	"time"

	"github.com/parley-chat/parley/internal/testenv"
	"github.com/parley-chat/parley/scripts/playground/seed"
)

// What make run has there to try: people who can sign in, with conversations that are partly unread. A second run changes nothing, and
// one that was cut off is continued.
func TestSeededPeopleAndMessages(t *testing.T) {
	t.Parallel()
	s := start(t, 1, "PARLEY_BOOTSTRAP_KEY="+bootstrapKey)
	p := s.pods[0]
	run := func(ctx context.Context) (seed.Result, error) {
		return (&seed.Seeder{URL: p.url, Key: bootstrapKey, History: 200}).Run(ctx)
	}
	half, cancel := context.WithCancel(t.Context())
	cut := make(chan error, 1)
	go func() {
		_, err := run(half)
		cut <- err
	}()
	testenv.Eventually(t, 30*time.Second, func() bool {
		if len(cut) > 0 {
			t.Fatalf("the first run ended: %v", <-cut)
		}
		a, err := p.try(bootstrapKey, "GET", "/api/server/conversations/ext:seed-team", nil)
		return err == nil && a.status == 200
	}, "the first groups are there")
	cancel()
	if err := <-cut; err == nil {
		t.Fatal("the first run was over before it could be cut off")
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
