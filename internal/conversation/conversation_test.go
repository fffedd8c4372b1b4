package conversation_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/parley-chat/parley/internal/chat"
	"github.com/parley-chat/parley/internal/conversation"
	"github.com/parley-chat/parley/internal/event"
	"github.com/parley-chat/parley/internal/jsonbody"
	"github.com/parley-chat/parley/internal/message"
	"github.com/parley-chat/parley/internal/postgres"
	"github.com/parley-chat/parley/internal/testenv"
)

// recorder keeps what was published.
type recorder struct {
	mu     sync.Mutex
	events []*event.Event
}

func (r *recorder) Publish(events ...*event.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.events = append(r.events, events...)
}

func (r *recorder) last() *event.Event {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.events) == 0 {
		return &event.Event{}
	}
	return r.events[len(r.events)-1]
}

// markers are what Redis holds of reads.
type markers map[string]map[string]chat.PendingMarker

func (m markers) Markers(_ context.Context, userID string) map[string]chat.PendingMarker {
	return m[userID]
}

// notices keeps what users were notified of.
type notices struct {
	mu   sync.Mutex
	list []*event.Notice
}

func (n *notices) Notify(x *event.Notice) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.list = append(n.list, x)
}

// pod is what one api process has of conversations.
type pod struct {
	*conversation.Service
	t         *testing.T
	db        *postgres.DB
	published *recorder
	notified  *notices
	pending   markers
}

func newPod(t *testing.T, url string) *pod {
	t.Helper()
	db := testenv.Open(t, postgres.Config{URL: url, MaxConns: 8})
	p := &pod{t: t, db: db, published: &recorder{}, notified: &notices{}, pending: markers{}}
	p.Service = conversation.NewService(db, conversation.NewStore(db, message.NewStore(db)), p.pending, p.published, p.notified)
	return p
}

func decode[T any, P interface {
	*T
	jsonbody.Checker
}](t *testing.T, body string) P {
	t.Helper()
	v := P(new(T))
	if err := jsonbody.Decode([]byte(body), v); err != nil {
		t.Fatalf("%s: %v", body, err)
	}
	return v
}

func (p *pod) create(creator, body string) (*chat.Conversation, bool) {
	p.t.Helper()
	c, created, err := p.Create(p.t.Context(), creator, decode[conversation.Creation](p.t, body))
	if err != nil {
		p.t.Fatal(err)
	}
	return c, created
}

func (p *pod) update(id, actor, body string) (*chat.Conversation, error) {
	return p.Update(p.t.Context(), id, actor, decode[conversation.Patch](p.t, body))
}

func TestAGroupMayHaveItsCreatorAlone(t *testing.T) {
	t.Parallel()
	p := newPod(t, testenv.Postgres(t))
	user := testenv.User(t, p.db.SQL)
	for _, body := range []string{`{"type":"group","name":"a"}`, `{"type":"group","name":"a","memberIds":[]}`} {
		c, created := p.create(user, body)
		if !created || c.MemberCount != 1 || c.Members[0].Role != conversation.RoleOwner {
			t.Errorf("%s: %+v", body, c)
		}
	}
}

func TestAClientIDIsOneGroup(t *testing.T) {
	t.Parallel()
	url := testenv.Postgres(t)
	pods := []*pod{newPod(t, url), newPod(t, url)}
	users := testenv.Users(t, pods[0].db.SQL, 3)
	body := fmt.Sprintf(`{"type":"group","name":"a","memberIds":[%q],"clientId":"x"}`, users[1])
	var wait sync.WaitGroup
	var mu sync.Mutex
	ids, made := map[string]bool{}, 0
	for i := range 16 {
		wait.Go(func() {
			c, created, err := pods[i%2].Create(context.Background(), users[0], decode[conversation.Creation](t, body))
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				t.Error(err)
				return
			}
			ids[c.ID] = true
			if created {
				made++
			}
		})
	}
	wait.Wait()
	if len(ids) != 1 || made != 1 {
		t.Fatalf("%d groups, made %d times", len(ids), made)
	}
	if c, created := pods[0].create(users[2], body); !created || ids[c.ID] {
		t.Error("another creator's clientId is the same group")
	}
	for id := range ids {
		if err := pods[0].Delete(t.Context(), id, users[0]); err != nil {
			t.Fatal(err)
		}
	}
	if _, _, err := pods[1].Create(t.Context(), users[0], decode[conversation.Creation](t, body)); !errors.Is(err, conversation.ErrClientIDReused) {
		t.Errorf("after the deletion: %v", err)
	}
}

func TestAClientIDOfAGroupThatWasLeft(t *testing.T) {
	t.Parallel()
	p := newPod(t, testenv.Postgres(t))
	users := testenv.Users(t, p.db.SQL, 2)
	body := fmt.Sprintf(`{"type":"group","name":"a","memberIds":[%q],"clientId":"x"}`, users[1])
	c, _ := p.create(users[0], body)
	if err := p.Remove(t.Context(), c.ID, users[0], users[0]); err != nil {
		t.Fatal(err)
	}
	if _, _, err := p.Create(t.Context(), users[0], decode[conversation.Creation](t, body)); !errors.Is(err, conversation.ErrClientIDReused) {
		t.Errorf("got %v", err)
	}
}

func TestAPatchChangesWhatItNames(t *testing.T) {
	t.Parallel()
	p := newPod(t, testenv.Postgres(t))
	users := testenv.Users(t, p.db.SQL, 3)
	made, _ := p.create(users[0], fmt.Sprintf(`{"type":"group","name":"a","memberIds":[%q,%q]}`, users[1], users[2]))
	c, err := p.update(made.ID, users[0], `{"description":" about ","avatarUrl":"https://example.com/a.png","metadata":{"a":1,"b":2},"posting":"admins"}`)
	if err != nil {
		t.Fatal(err)
	}
	if *c.Name != "a" || *c.Description != "about" || *c.AvatarURL != "https://example.com/a.png" || *c.Posting != "admins" || c.Revision != made.Revision+1 {
		t.Errorf("got %+v", c)
	}
	if e := p.published.last(); e.Type != event.TypeConversationUpdated || e.Revision != c.Revision || e.Data.(*chat.Conversation).OwnState != nil {
		t.Errorf("published %+v", e)
	}
	first := c.Revision
	c, err = p.update(made.ID, users[0], `{"description":null,"avatarUrl":null,"metadata":{"a":null},"posting":"members","name":"b"}`)
	if err != nil || *c.Name != "b" || c.Description != nil || c.AvatarURL != nil || c.Posting != nil || strings.ReplaceAll(string(c.Metadata), " ", "") != `{"b":2}` {
		t.Errorf("cleared: %+v, %v", c, err)
	}
	if _, err := p.update(made.ID, users[0], fmt.Sprintf(`{"name":"c","ifRevision":%d}`, first)); !errors.Is(err, conversation.ErrRevisionMismatch) {
		t.Errorf("an old ifRevision: %v", err)
	}
	held := c.Revision
	if _, err := p.SetRole(t.Context(), made.ID, users[0], users[1], &conversation.RoleChange{Role: "admin"}); err != nil {
		t.Fatal(err)
	}
	if _, err := p.update(made.ID, users[1], fmt.Sprintf(`{"name":"c","ifRevision":%d}`, held)); err != nil {
		t.Errorf("after a change of a role: %v", err)
	}
	if _, err := p.update(made.ID, users[2], `{"name":"d"}`); !errors.Is(err, conversation.ErrForbidden) {
		t.Errorf("a member: %v", err)
	}
}

func TestADeletedGroupIsGone(t *testing.T) {
	t.Parallel()
	p := newPod(t, testenv.Postgres(t))
	users := testenv.Users(t, p.db.SQL, 3)
	c, _ := p.create(users[0], fmt.Sprintf(`{"type":"group","name":"a","memberIds":[%q,%q]}`, users[1], users[2]))
	if err := p.Delete(t.Context(), c.ID, users[1]); !errors.Is(err, conversation.ErrForbidden) {
		t.Errorf("a member deletes: %v", err)
	}
	if err := p.Delete(t.Context(), c.ID, users[0]); err != nil {
		t.Fatal(err)
	}
	if e := p.published.last(); e.Type != event.TypeConversationDeleted || e.Revision != c.Revision+1 || !e.Ends {
		t.Errorf("published %+v", e)
	}
	for _, u := range users {
		if _, err := p.Get(t.Context(), c.ID, u); !errors.Is(err, conversation.ErrNotFound) {
			t.Errorf("got %v", err)
		}
	}
	if err := p.Delete(t.Context(), c.ID, users[0]); !errors.Is(err, conversation.ErrNotFound) {
		t.Errorf("deleted again: %v", err)
	}
	d, _ := p.create(users[0], fmt.Sprintf(`{"type":"direct","memberIds":[%q]}`, users[1]))
	if err := p.Delete(t.Context(), d.ID, users[0]); !errors.Is(err, conversation.ErrDirect) {
		t.Errorf("a direct one: %v", err)
	}
}

func TestInputs(t *testing.T) {
	t.Parallel()
	for body, field := range map[string]string{
		`{"name":null}`: "name", `{"name":""}`: "name", `{}`: "body", `{"ifRevision":3}`: "body",
		`{"description":"` + strings.Repeat("x", 1001) + `"}`: "description", `{"avatarUrl":"nope"}`: "avatarUrl",
		`{"metadata":[]}`: "metadata", `{"posting":"nobody"}`: "posting", `{"posting":null}`: "posting",
	} {
		err := jsonbody.Decode([]byte(body), &conversation.Patch{})
		if err == nil || !strings.Contains(err.Error(), field) {
			t.Errorf("%s: %v", body, err)
		}
	}
	for body, field := range map[string]string{
		`{"type":"direct"}`: "memberIds", `{"type":"group"}`: "name", `{"type":"group","name":"a","clientId":""}`: "clientId",
		`{"type":"group","name":"a","clientId":"` + strings.Repeat("x", 65) + `"}`: "clientId",
	} {
		err := jsonbody.Decode([]byte(body), &conversation.Creation{})
		if err == nil || !strings.Contains(err.Error(), field) {
			t.Errorf("%s: %v", body, err)
		}
	}
}
