package conversation_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/parley-chat/parley/internal/audit"
	"github.com/parley-chat/parley/internal/conversation"
	"github.com/parley-chat/parley/internal/cursor"
	"github.com/parley-chat/parley/internal/event"
	"github.com/parley-chat/parley/internal/id"
	"github.com/parley-chat/parley/internal/testenv"
)

// types are those of what was published since the last call, in order.
func (r *recorder) types() (out []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, e := range r.events {
		out = append(out, e.Type)
	}
	r.events = nil
	return out
}

// asKey is the context of a request with a server key.
func asKey(t *testing.T) context.Context {
	t.Helper()
	return audit.With(t.Context(), audit.Actor{KeyID: id.New()})
}

// desired is the desired state of a group, with a patch as a client sends it.
func desired(t *testing.T, patch string, members ...conversation.KeyedMember) *conversation.Group {
	t.Helper()
	return &conversation.Group{Patch: *decode[conversation.Patch](t, patch), Members: members}
}

// role returns a user's role in a conversation from the database, "" without a membership.
func (p *pod) role(conversationID, userID string) (role string) {
	p.t.Helper()
	err := p.db.SQL.QueryRow(`SELECT coalesce((SELECT role FROM conversation_members WHERE conversation_id = $1 AND user_id = $2), '')`, conversationID, userID).Scan(&role)
	if err != nil {
		p.t.Fatal(err)
	}
	return role
}

// A server key describes a group by its external id: it is made, left alone if nothing differs, and changed to what is described.
func TestAGroupIsBroughtToItsDesiredState(t *testing.T) {
	t.Parallel()
	p, ctx := newPod(t, testenv.Postgres(t)), asKey(t)
	u := testenv.Users(t, p.db.SQL, 4)
	owner, plain := conversation.KeyedMember{UserID: u[0], Role: conversation.RoleOwner}, conversation.KeyedMember{UserID: u[1]}
	const patch = `{"name":"Order 1","description":"about","metadata":{"n":1},"posting":"admins"}`

	made, created, err := p.PutByKey(ctx, "order/1", desired(t, patch, owner, plain))
	if err != nil || !created || made.MemberCount != 2 || *made.ExternalID != "order/1" || *made.Description != "about" || made.Revision != 1 {
		t.Fatalf("made: %+v, %v, %v", made.Conversation, created, err)
	}
	if p.role(made.ID, u[0]) != "owner" || p.role(made.ID, u[1]) != "member" {
		t.Errorf("the roles are %s and %s", p.role(made.ID, u[0]), p.role(made.ID, u[1]))
	}
	if e := p.published.last(); e.Type != event.TypeConversationCreated || e.Actor.KeyID == "" {
		t.Errorf("published %+v", e)
	}
	p.published.types()

	t.Run("what is there already", func(t *testing.T) {
		for _, g := range []*conversation.Group{desired(t, patch, owner, plain), desired(t, `{"name":"Order 1"}`, plain), desired(t, `{"metadata":{"n":1}}`)} {
			k, created, err := p.PutByKey(ctx, "order/1", g)
			if err != nil || created || k.ID != made.ID || k.Revision != 1 {
				t.Errorf("%+v, %v, %v", k.Conversation, created, err)
			}
		}
		if got := p.published.types(); got != nil {
			t.Errorf("published %v", got)
		}
	})
	t.Run("another role and another member", func(t *testing.T) {
		k, _, err := p.PutByKey(ctx, "order/1", desired(t, `{"name":"Order 1"}`, conversation.KeyedMember{UserID: u[1], Role: conversation.RoleAdmin}, conversation.KeyedMember{UserID: u[2]}))
		if err != nil || k.MemberCount != 3 || k.Revision != 3 || p.role(k.ID, u[1]) != "admin" || p.role(k.ID, u[0]) != "owner" {
			t.Errorf("%+v, %v", k.Conversation, err)
		}
		if got, want := p.published.types(), []string{event.TypeMemberAdded, event.TypeMemberUpdated}; !slices.Equal(got, want) {
			t.Errorf("published %v, want %v", got, want)
		}
	})
	t.Run("exactly these members, and another name", func(t *testing.T) {
		g := desired(t, `{"name":"Order 1, done","avatarUrl":null}`, owner)
		g.Exact = true
		k, _, err := p.PutByKey(ctx, "order/1", g)
		if err != nil || k.MemberCount != 1 || *k.Name != "Order 1, done" || p.role(k.ID, u[1]) != "" || p.role(k.ID, u[0]) != "owner" {
			t.Errorf("%+v, %v", k.Conversation, err)
		}
		if got, want := p.published.types(), []string{event.TypeConversationUpdated, event.TypeMemberRemoved}; !slices.Equal(got, want) {
			t.Errorf("published %v, want %v", got, want)
		}
	})
	t.Run("a user who does not exist", func(t *testing.T) {
		if _, _, err := p.PutByKey(ctx, "order/2", desired(t, `{"name":"x"}`, conversation.KeyedMember{UserID: id.New()})); !errors.Is(err, conversation.ErrUserNotFound) {
			t.Errorf("got %v", err)
		}
		if _, err := p.ResolveByKey(ctx, "order/2"); !errors.Is(err, conversation.ErrNotFound) {
			t.Errorf("the group was made: %v", err)
		}
	})
	t.Run("more members than a group may have", func(t *testing.T) {
		tooMany := append(slices.Clone(testenv.Users(t, p.db.SQL, conversation.MaxMembers)), u[0])
		var members []conversation.KeyedMember
		for _, m := range tooMany {
			members = append(members, conversation.KeyedMember{UserID: m})
		}
		if _, _, err := p.PutByKey(ctx, "large", desired(t, `{"name":"x"}`, members...)); !errors.Is(err, conversation.ErrTooManyMembers) {
			t.Errorf("at once: %v", err)
		}
		large, _, err := p.PutByKey(ctx, "large", desired(t, `{"name":"x"}`, members[:conversation.MaxMembers]...))
		if err != nil || large.MemberCount != conversation.MaxMembers {
			t.Fatalf("as many as there may be: %v", err)
		}
		if _, err := p.AddByKey(ctx, large.ID, members[conversation.MaxMembers:]); !errors.Is(err, conversation.ErrTooManyMembers) {
			t.Errorf("one more: %v", err)
		}
		if k, err := p.GetByKey(ctx, large.ID); err != nil || k.MemberCount != conversation.MaxMembers {
			t.Errorf("it has %d members, %v", k.MemberCount, err)
		}
	})
}

// Pods that describe the same group at once make one.
func TestTheSameGroupAtOnceIsOne(t *testing.T) {
	t.Parallel()
	url := testenv.Postgres(t)
	pods := []*pod{newPod(t, url), newPod(t, url)}
	u := testenv.Users(t, pods[0].db.SQL, 2)
	ctx := asKey(t)
	var wait sync.WaitGroup
	var mu sync.Mutex
	ids, made := map[string]bool{}, 0
	for i := range 12 {
		wait.Go(func() {
			k, created, err := pods[i%2].PutByKey(ctx, "one", desired(t, `{"name":"one"}`, conversation.KeyedMember{UserID: u[i%2]}))
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				t.Error(err)
				return
			}
			ids[k.ID] = true
			if created {
				made++
			}
		})
	}
	wait.Wait()
	if len(ids) != 1 || made != 1 {
		t.Fatalf("%d groups, made %d times", len(ids), made)
	}
	found, err := pods[0].ResolveByKey(ctx, "one")
	if err != nil || !ids[found] {
		t.Fatalf("found %q, %v", found, err)
	}
	if k, err := pods[1].GetByKey(ctx, found); err != nil || k.MemberCount != 2 {
		t.Errorf("%+v, %v", k.Conversation, err)
	}
}

// A key changes, fills, empties and deletes a group that it is no member of. Each change is in the audit log once.
func TestAKeyChangesAGroup(t *testing.T) {
	t.Parallel()
	p, ctx := newPod(t, testenv.Postgres(t)), asKey(t)
	u := testenv.Users(t, p.db.SQL, 3)
	c, _ := p.create(u[0], `{"type":"group","name":"a"}`)
	p.published.types()

	k, err := p.UpdateByKey(ctx, c.ID, decode[conversation.Patch](t, `{"name":"b"}`))
	if err != nil || *k.Name != "b" {
		t.Fatalf("renamed: %+v, %v", k.Conversation, err)
	}
	if k, err = p.AddByKey(ctx, c.ID, []conversation.KeyedMember{{UserID: u[1]}, {UserID: u[2], Role: conversation.RoleAdmin}}); err != nil || k.MemberCount != 3 {
		t.Fatalf("filled: %+v, %v", k.Conversation, err)
	}
	if k, err = p.AddByKey(ctx, c.ID, nil); err != nil || k.MemberCount != 3 {
		t.Errorf("nobody more: %+v, %v", k.Conversation, err)
	}
	if k, err = p.RemoveByKey(ctx, c.ID, append([]string{id.New()}, u...)); err != nil || k.MemberCount != 0 {
		t.Fatalf("emptied: %+v, %v", k.Conversation, err)
	}
	before := k.Revision
	if k, err = p.RemoveByKey(ctx, c.ID, u); err != nil || k.Revision != before {
		t.Errorf("emptied again: %+v, %v", k.Conversation, err)
	}
	if err := p.DeleteByKey(ctx, c.ID); err != nil {
		t.Fatal(err)
	}
	want := []string{event.TypeConversationUpdated, event.TypeMemberAdded, event.TypeMemberRemoved, event.TypeConversationDeleted}
	if got := p.published.types(); !slices.Equal(got, want) {
		t.Errorf("published %v, want %v", got, want)
	}
	var logged int
	err = p.db.SQL.QueryRow(`SELECT count(DISTINCT action) FROM audit_log WHERE target_id = $1 AND action = ANY ('{conversation.update,member.add,member.remove,conversation.delete}')`, c.ID).Scan(&logged)
	if err != nil || logged != 4 {
		t.Errorf("%d of 4 actions are logged, %v", logged, err)
	}

	direct, _ := p.create(u[0], `{"type":"direct","memberIds":["`+u[1]+`"]}`)
	for name, conversationID := range map[string]string{"a deleted one": c.ID, "none": id.New(), "a direct one": direct.ID} {
		is := conversation.ErrNotFound
		if conversationID == direct.ID {
			is = conversation.ErrDirect
		}
		if _, err := p.UpdateByKey(ctx, conversationID, decode[conversation.Patch](t, `{"name":"b"}`)); !errors.Is(err, is) {
			t.Errorf("%s: %v", name, err)
		}
		if err := p.DeleteByKey(ctx, conversationID); !errors.Is(err, is) {
			t.Errorf("%s is deleted: %v", name, err)
		}
		if _, err := p.AddByKey(ctx, conversationID, []conversation.KeyedMember{{UserID: u[2]}}); !errors.Is(err, is) {
			t.Errorf("%s is filled: %v", name, err)
		}
	}
	if _, err := p.GetByKey(ctx, c.ID); !errors.Is(err, conversation.ErrNotFound) {
		t.Errorf("the deleted one is read: %v", err)
	}
}

// The external id of a deleted group makes another one.
func TestADeletedGroupGivesItsExternalIDUp(t *testing.T) {
	t.Parallel()
	p, ctx := newPod(t, testenv.Postgres(t)), asKey(t)
	first, _, err := p.PutByKey(ctx, "x", desired(t, `{"name":"one"}`))
	if err != nil {
		t.Fatal(err)
	}
	if err := p.DeleteByKey(ctx, first.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := p.ResolveByKey(ctx, "x"); !errors.Is(err, conversation.ErrNotFound) {
		t.Errorf("it is found: %v", err)
	}
	second, created, err := p.PutByKey(ctx, "x", desired(t, `{"name":"two"}`))
	if err != nil || !created || second.ID == first.ID {
		t.Errorf("%+v, %v, %v", second.Conversation, created, err)
	}
}

// Pages of all conversations, of those of one member, and of those that changed since.
func TestAKeyListsConversations(t *testing.T) {
	t.Parallel()
	p, ctx := newPod(t, testenv.Postgres(t)), asKey(t)
	u := testenv.Users(t, p.db.SQL, 2)
	var want []string
	for i := range 5 {
		c, _ := p.create(u[i%2], `{"type":"group","name":"a"}`)
		want = append(want, c.ID)
	}
	gone, _ := p.create(u[0], `{"type":"group","name":"gone"}`)
	if err := p.DeleteByKey(ctx, gone.ID); err != nil {
		t.Fatal(err)
	}
	pages := func(f conversation.KeyedFilter) (got []string) {
		t.Helper()
		f.Limit = 2
		for {
			list, more, err := p.ListByKey(ctx, f)
			if err != nil {
				t.Fatal(err)
			}
			for _, k := range list {
				got = append(got, k.ID)
			}
			if !more {
				return got
			}
			last := list[len(list)-1]
			f.After = &cursor.Position{Time: last.UpdatedAt.Time, ID: last.ID}
		}
	}
	if got := pages(conversation.KeyedFilter{}); !slices.Equal(got, want) {
		t.Errorf("all: %v, want %v", got, want)
	}
	if got := pages(conversation.KeyedFilter{MemberID: u[1]}); !slices.Equal(got, []string{want[1], want[3]}) {
		t.Errorf("those of one member: %v", got)
	}
	since := time.Now().Add(-2 * time.Minute)
	if got := pages(conversation.KeyedFilter{UpdatedAfter: &since}); got != nil {
		t.Errorf("what changed just now is listed, though an earlier change may not be committed yet: %v", got)
	}
	if _, err := p.db.SQL.Exec(`UPDATE conversations SET updated_at = clock_timestamp() - interval '1 minute' WHERE id = $1`, want[2]); err != nil {
		t.Fatal(err)
	}
	if got := pages(conversation.KeyedFilter{UpdatedAfter: &since}); !slices.Equal(got, want[2:3]) {
		t.Errorf("those that changed since: %v", got)
	}
}
