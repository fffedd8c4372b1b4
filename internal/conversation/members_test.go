package conversation_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	"gorm.io/gorm"

	"github.com/parley-chat/parley/internal/conversation"
	"github.com/parley-chat/parley/internal/cursor"
	"github.com/parley-chat/parley/internal/event"
	"github.com/parley-chat/parley/internal/id"
	"github.com/parley-chat/parley/internal/testenv"
)

// Roles decide which members a member may add, remove and promote.
func TestRolesDecideWhoMayChangeMembers(t *testing.T) {
	t.Parallel()
	p := newPod(t, testenv.Postgres(t))
	u := testenv.Users(t, p.db.SQL, 6)
	owner, admin, member, other, fresh, stranger := u[0], u[1], u[2], u[3], u[4], u[5]
	c, _ := p.create(owner, fmt.Sprintf(`{"type":"group","name":"a","memberIds":[%q,%q,%q]}`, admin, member, other))
	direct, _ := p.create(owner, fmt.Sprintf(`{"type":"direct","memberIds":[%q]}`, admin))
	setRole := func(conversationID, actor, whom, role string) error {
		_, err := p.SetRole(t.Context(), conversationID, actor, whom, &conversation.RoleChange{Role: role})
		return err
	}
	add := func(conversationID, actor string, whom ...string) error {
		_, err := p.Add(t.Context(), conversationID, actor, &conversation.Addition{UserIDs: whom})
		return err
	}
	remove := func(conversationID, actor, whom string) error {
		return p.Remove(t.Context(), conversationID, actor, whom)
	}
	for i, step := range []struct {
		name string
		got  func() error
		want error
	}{
		{"a member promotes", func() error { return setRole(c.ID, member, other, "admin") }, conversation.ErrForbidden},
		{"a stranger promotes", func() error { return setRole(c.ID, stranger, other, "admin") }, conversation.ErrNotFound},
		{"the owner promotes a stranger", func() error { return setRole(c.ID, owner, stranger, "admin") }, conversation.ErrMemberNotFound},
		{"the last owner steps down", func() error { return setRole(c.ID, owner, owner, "member") }, conversation.ErrLastOwner},
		{"the owner promotes", func() error { return setRole(c.ID, owner, admin, "admin") }, nil},
		{"the owner promotes again", func() error { return setRole(c.ID, owner, admin, "admin") }, nil},
		{"in a direct one", func() error { return setRole(direct.ID, owner, admin, "admin") }, conversation.ErrDirect},
		{"a member adds", func() error { return add(c.ID, member, fresh) }, conversation.ErrForbidden},
		{"a stranger adds", func() error { return add(c.ID, stranger, fresh) }, conversation.ErrNotFound},
		{"an admin adds nobody", func() error { return add(c.ID, admin, id.New()) }, conversation.ErrUserNotFound},
		{"an admin adds to a direct one", func() error { return add(direct.ID, admin, fresh) }, conversation.ErrDirect},
		{"an admin adds", func() error { return add(c.ID, admin, fresh, member) }, nil},
		{"an admin adds members", func() error { return add(c.ID, admin, fresh, admin) }, nil},
		{"a member removes", func() error { return remove(c.ID, member, other) }, conversation.ErrForbidden},
		{"a member removes a stranger", func() error { return remove(c.ID, member, stranger) }, conversation.ErrForbidden},
		{"an admin removes a stranger", func() error { return remove(c.ID, admin, stranger) }, conversation.ErrMemberNotFound},
		{"an admin removes the owner", func() error { return remove(c.ID, admin, owner) }, conversation.ErrForbidden},
		{"an admin removes a member", func() error { return remove(c.ID, admin, fresh) }, nil},
		{"the owner removes an admin", func() error { return remove(c.ID, owner, admin) }, nil},
		{"a member leaves", func() error { return remove(c.ID, other, other) }, nil},
	} {
		if err := step.got(); !errors.Is(err, step.want) {
			t.Errorf("%d, %s: %v, want %v", i, step.name, err, step.want)
		}
	}
	list, more, err := p.Members(t.Context(), c.ID, owner, nil, 10)
	if err != nil || more || len(list) != 2 || list[0].User.ID != owner || list[1].User.ID != member {
		t.Errorf("left are %+v, %v", list, err)
	}
}

// An addition returns and publishes the users who were no members yet.
func TestAnAdditionReturnsWhoCame(t *testing.T) {
	t.Parallel()
	p := newPod(t, testenv.Postgres(t))
	u := testenv.Users(t, p.db.SQL, 3)
	c, _ := p.create(u[0], fmt.Sprintf(`{"type":"group","name":"a","memberIds":[%q]}`, u[1]))
	p.published.types()
	came, err := p.Add(t.Context(), c.ID, u[0], &conversation.Addition{UserIDs: []string{u[1], u[2], u[0]}})
	if err != nil || len(came) != 1 || came[0].User.ID != u[2] {
		t.Fatalf("came: %+v, %v", came, err)
	}
	if e := p.published.last(); e.Type != event.TypeMemberAdded || e.Revision != c.Revision+1 || !slices.Equal(e.Added, []string{u[2]}) {
		t.Errorf("published %+v", e)
	}
	p.published.types()
	if came, err = p.Add(t.Context(), c.ID, u[0], &conversation.Addition{UserIDs: u[1:]}); err != nil || len(came) != 0 {
		t.Errorf("again: %+v, %v", came, err)
	}
	if got := p.published.types(); got != nil {
		t.Errorf("published %v", got)
	}
}

// The members come in pages, in the order in which they joined, to members alone. One who blocks the other hides the name in a direct one.
func TestMembersComeInPages(t *testing.T) {
	t.Parallel()
	p := newPod(t, testenv.Postgres(t))
	u := testenv.Users(t, p.db.SQL, 6)
	c, _ := p.create(u[0], fmt.Sprintf(`{"type":"group","name":"a","memberIds":[%q,%q,%q,%q]}`, u[1], u[2], u[3], u[4]))
	var got []string
	var after *cursor.Position
	for {
		list, more, err := p.Members(t.Context(), c.ID, u[1], after, 2)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range list {
			got = append(got, m.User.ID)
		}
		if !more {
			break
		}
		last := list[len(list)-1]
		after = &cursor.Position{Time: last.JoinedAt.Time, ID: last.User.ID}
	}
	if !slices.Equal(got, u[:5]) {
		t.Errorf("listed %v, want %v", got, u[:5])
	}
	if _, _, err := p.Members(t.Context(), c.ID, u[5], nil, 2); !errors.Is(err, conversation.ErrNotFound) {
		t.Errorf("a stranger: %v", err)
	}
	direct, _ := p.create(u[0], fmt.Sprintf(`{"type":"direct","memberIds":[%q]}`, u[1]))
	if _, err := p.db.SQL.Exec(`INSERT INTO blocks (user_id, blocked_id) VALUES ($1, $2)`, u[1], u[0]); err != nil {
		t.Fatal(err)
	}
	list, _, err := p.Members(t.Context(), direct.ID, u[0], nil, 2)
	if err != nil || len(list) != 2 {
		t.Fatalf("%+v, %v", list, err)
	}
	for _, m := range list {
		if hidden := m.User.DisplayName == m.User.Username; hidden != (m.User.ID == u[1]) {
			t.Errorf("%s is shown as %+v", m.User.ID, m.User)
		}
	}
}

// A user who leaves everything leaves heirs in the groups that had no other owner, keeps direct conversations, and is in no group after it.
func TestLeavingEverythingLeavesHeirs(t *testing.T) {
	t.Parallel()
	p := newPod(t, testenv.Postgres(t))
	u := testenv.Users(t, p.db.SQL, 4)
	owned, _ := p.create(u[0], fmt.Sprintf(`{"type":"group","name":"owned","memberIds":[%q,%q]}`, u[1], u[2]))
	if _, err := p.SetRole(t.Context(), owned.ID, u[0], u[2], &conversation.RoleChange{Role: conversation.RoleAdmin}); err != nil {
		t.Fatal(err)
	}
	joined, _ := p.create(u[3], fmt.Sprintf(`{"type":"group","name":"joined","memberIds":[%q]}`, u[0]))
	alone, _ := p.create(u[0], `{"type":"group","name":"alone"}`)
	direct, _ := p.create(u[0], fmt.Sprintf(`{"type":"direct","memberIds":[%q]}`, u[1]))
	p.published.types()

	var publish func(context.Context)
	err := p.db.Tx(t.Context(), func(tx *gorm.DB) (err error) {
		if err := tx.Exec(`SELECT FROM users WHERE id = ? FOR UPDATE`, u[0]).Error; err != nil {
			return err
		}
		publish, err = p.LeaveAll(tx, u[0])
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if got := p.published.types(); got != nil {
		t.Errorf("published before it is asked for: %v", got)
	}
	publish(t.Context())
	got := p.published.types()
	slices.Sort(got)
	if want := []string{event.TypeMemberRemoved, event.TypeMemberRemoved, event.TypeMemberRemoved, event.TypeMemberUpdated}; !slices.Equal(got, want) {
		t.Errorf("published %v, want %v", got, want)
	}
	if p.role(owned.ID, u[2]) != conversation.RoleOwner || p.role(owned.ID, u[1]) != conversation.RoleMember {
		t.Errorf("the roles are %s and %s", p.role(owned.ID, u[1]), p.role(owned.ID, u[2]))
	}
	for name, conversationID := range map[string]string{"owned": owned.ID, "joined": joined.ID, "alone": alone.ID} {
		if p.role(conversationID, u[0]) != "" {
			t.Errorf("%s: the user is still a member", name)
		}
	}
	if p.role(direct.ID, u[0]) == "" {
		t.Error("the direct conversation was left")
	}
	left, err := p.Memberships(t.Context(), u[0])
	if err != nil || len(left) != 1 || left[direct.ID] == 0 {
		t.Errorf("memberships are %v, %v", left, err)
	}
}
