package auth_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/parley-chat/parley/internal/auth"
	"github.com/parley-chat/parley/internal/conversation"
	"github.com/parley-chat/parley/internal/event"
	"github.com/parley-chat/parley/internal/id"
	"github.com/parley-chat/parley/internal/postgres"
	"github.com/parley-chat/parley/internal/testenv"
)

func (p *pod) group(t testing.TB, creator string, others ...string) string {
	t.Helper()
	name := "a group"
	c, _, err := p.conversations.Create(context.Background(), creator, &conversation.Creation{Type: "group", MemberIDs: others, Name: &name})
	if err != nil {
		t.Fatal(err)
	}
	return c.ID
}

func (p *pod) delete(userID string) error {
	return p.DeleteAccount(context.Background(), userID, &auth.Deletion{Password: password})
}

// consistent checks what must hold of all groups: no deleted member, counts that are right, and a living owner where there is a member.
func (p *pod) consistent(t testing.TB) {
	t.Helper()
	for name, query := range map[string]string{
		"deleted users are members of groups": `SELECT count(*) FROM conversation_members m JOIN users u ON u.id = m.user_id JOIN conversations c ON c.id = m.conversation_id
			WHERE c.type = 'group' AND u.deleted_at IS NOT NULL`,
		"groups count their members wrongly": `SELECT count(*) FROM conversations c
			WHERE member_count <> (SELECT count(*) FROM conversation_members m WHERE m.conversation_id = c.id)`,
		"groups with members have no owner": `SELECT count(*) FROM conversations c WHERE type = 'group' AND member_count > 0
			AND NOT EXISTS (SELECT FROM conversation_members m WHERE m.conversation_id = c.id AND m.role = 'owner')`,
		"groups lack a revision": `SELECT count(*) FROM conversations c
			WHERE revision <> last_seq + (SELECT count(*) FROM conversation_changes k WHERE k.conversation_id = c.id)`,
	} {
		var n int
		if p.query(t, &n, query); n != 0 {
			t.Errorf("%d %s", n, name)
		}
	}
}

func TestADeletionCannotBePrevented(t *testing.T) {
	t.Parallel()
	p := newPod(t, testenv.Postgres(t), auth.Config{})
	u := p.register(t, "anna")
	digits := strings.ReplaceAll(u.User.ID, "-", "")
	// The name that an older version gave to deleted accounts, registered while that version ran.
	if _, err := p.db.Exec(`INSERT INTO users (id, username, display_name, password_hash) VALUES ($1, $2, 'Attacker', '!')`,
		id.New(), "deleted_"+digits[len(digits)-24:]); err != nil {
		t.Fatal(err)
	}
	if err := p.delete(u.User.ID); err != nil {
		t.Fatal(err)
	}
	var name string
	p.query(t, &name, `SELECT username FROM users WHERE id = $1`, u.User.ID)
	if !auth.ReservedUsername(name) && !strings.Contains(name, "-") {
		t.Errorf("a deleted account has a name that can be registered: %q", name)
	}
	if err := p.delete(u.User.ID); !errors.Is(err, auth.ErrWrongPassword) {
		t.Errorf("deleted twice: %v", err)
	}
}

func TestADeletionForgets(t *testing.T) {
	t.Parallel()
	p := newPod(t, testenv.Postgres(t), auth.Config{})
	u, other := p.register(t, "anna"), p.register(t, "ben")
	for _, q := range []string{
		`INSERT INTO friendships (user_id, friend_id, status) VALUES ($1, $2, 'accepted'), ($2, $1, 'accepted')`,
		`INSERT INTO blocks (user_id, blocked_id) VALUES ($1, $2), ($2, $1)`,
		`UPDATE users SET avatar_url = 'https://example.com/' || $2::uuid, last_seen_at = now() WHERE id = $1`,
	} {
		if _, err := p.db.Exec(q, u.User.ID, other.User.ID); err != nil {
			t.Fatal(err)
		}
	}
	third := p.register(t, "cem")
	if _, err := p.db.Exec(`INSERT INTO friendships (user_id, friend_id, status) VALUES ($1, $2, 'pending')`, third.User.ID, u.User.ID); err != nil {
		t.Fatal(err)
	}
	if err := p.delete(u.User.ID); err != nil {
		t.Fatal(err)
	}
	if !p.watch.Ended(u.SessionID) || p.announced.count() != 1 {
		t.Error("the session goes on")
	}
	for name, query := range map[string]string{
		"friendships":     `SELECT count(*) FROM friendships WHERE $1 IN (user_id, friend_id)`,
		"blocks":          `SELECT count(*) FROM blocks WHERE $1 IN (user_id, blocked_id)`,
		"addresses":       `SELECT count(*) FROM login_addresses WHERE user_id = $1`,
		"open sessions":   `SELECT count(*) FROM sessions WHERE user_id = $1 AND ended_at IS NULL`,
		"user agents":     `SELECT count(*) FROM sessions WHERE user_id = $1 AND user_agent <> ''`,
		"refresh tokens":  `SELECT count(*) FROM refresh_tokens t JOIN sessions s ON s.id = t.session_id WHERE s.user_id = $1`,
		"search terms":    `SELECT count(*) FROM user_search_terms WHERE user_id = $1`,
		"parts of a name": `SELECT count(*) FROM users WHERE id = $1 AND (display_name <> 'Deleted user' OR avatar_url IS NOT NULL OR password_hash <> '' OR last_seen_at IS NOT NULL)`,
	} {
		var n int
		if p.query(t, &n, query, u.User.ID); n != 0 {
			t.Errorf("%d %s are left", n, name)
		}
	}
}

// The database dies while the deletion has left some groups: nothing of it has happened, and the next try does all of it.
func TestAnInterruptedDeletionChangesNothing(t *testing.T) {
	t.Parallel()
	p := newPod(t, testenv.Postgres(t), auth.Config{})
	u, others := p.register(t, "anna"), testenv.Users(t, p.db, 2)
	var groups []string
	for range 3 {
		groups = append(groups, p.group(t, u.User.ID, others...))
	}
	tx, err := p.db.Begin()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback() }()
	if _, err := tx.Exec(`SELECT FROM conversation_members WHERE conversation_id = $1 AND user_id = $2 FOR UPDATE`, groups[2], others[0]); err != nil {
		t.Fatal(err) // the heir's row, which the deletion wants when it holds everything else
	}
	done := make(chan error)
	go func() { done <- p.delete(u.User.ID) }()
	testenv.Eventually(t, 10*time.Second, func() bool { return p.waiting(t) > 0 }, "the deletion waits")
	if _, err := p.db.Exec(`SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`); err != nil {
		t.Fatal(err)
	}
	if err := <-done; !postgres.IsUnavailable(err) {
		t.Errorf("interrupted: %v", err)
	}
	_ = tx.Rollback()
	if _, err := p.login(t.Context(), "anna", password); err != nil {
		t.Errorf("the account: %v", err)
	}
	var n int
	if p.query(t, &n, `SELECT count(*) FROM conversation_members WHERE user_id = $1`, u.User.ID); n != 3 || p.published.count(event.TypeMemberRemoved) != 0 {
		t.Errorf("of 3 groups %d are left", n)
	}
	if err := p.delete(u.User.ID); err != nil {
		t.Fatal(err)
	}
	p.consistent(t)
	if a, b := p.published.count(event.TypeMemberRemoved), p.published.count(event.TypeMemberUpdated); a != 3 || b != 3 {
		t.Errorf("%d departures and %d new owners were published, want 3 of each", a, b)
	}
}

func TestWhoeverAddsADeletingUserLeavesNoGhost(t *testing.T) {
	t.Parallel()
	url := testenv.Postgres(t)
	p, q := newPod(t, url, auth.Config{}), newPod(t, url, auth.Config{})
	others := testenv.Users(t, p.db, 4)
	for i := range 12 {
		u := p.register(t, fmt.Sprintf("anna%d", i))
		mine := p.group(t, u.User.ID, others[0], others[1])
		theirs := p.group(t, others[0], others[1], others[2])
		var wg sync.WaitGroup
		wg.Go(func() {
			if err := p.delete(u.User.ID); err != nil {
				t.Error(err)
			}
		})
		expected := func(err error) {
			if err != nil && !errors.Is(err, conversation.ErrUserNotFound) && !errors.Is(err, conversation.ErrNotFound) {
				t.Error(err)
			}
		}
		name := "another"
		wg.Go(func() {
			_, err := q.conversations.Add(context.Background(), theirs, others[0], &conversation.Addition{UserIDs: []string{u.User.ID}})
			expected(err)
		})
		wg.Go(func() {
			_, _, err := q.conversations.Create(context.Background(), others[1], &conversation.Creation{Type: "group", MemberIDs: []string{u.User.ID, others[0]}, Name: &name})
			expected(err)
		})
		wg.Go(func() { // the user's own last request
			_, _, err := q.conversations.Create(context.Background(), u.User.ID, &conversation.Creation{Type: "group", MemberIDs: []string{others[2], others[0]}, Name: &name})
			expected(err)
		})
		wg.Go(func() {
			_, err := q.conversations.Add(context.Background(), mine, u.User.ID, &conversation.Addition{UserIDs: []string{others[3]}})
			expected(err)
		})
		wg.Wait()
	}
	p.consistent(t)
}

func TestOwnersWhoAreDeletedTogetherLeaveALivingOne(t *testing.T) {
	t.Parallel()
	url := testenv.Postgres(t)
	p, q := newPod(t, url, auth.Config{}), newPod(t, url, auth.Config{})
	last := testenv.User(t, p.db)
	for i := range 8 {
		a, b := p.register(t, fmt.Sprintf("anna%d", i)), p.register(t, fmt.Sprintf("ben%d", i))
		g := p.group(t, a.User.ID, b.User.ID, last)
		if _, err := p.db.Exec(`INSERT INTO friendships (user_id, friend_id, status) VALUES ($1, $2, 'accepted'), ($2, $1, 'accepted')`, a.User.ID, b.User.ID); err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		for pod, u := range map[*pod]string{p: a.User.ID, q: b.User.ID} {
			wg.Go(func() {
				if err := pod.delete(u); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		var owner string
		p.query(t, &owner, `SELECT user_id FROM conversation_members WHERE conversation_id = $1 AND role = 'owner'`, g)
		if owner != last {
			t.Errorf("the owner is %s, want the only one who is left", owner)
		}
	}
	p.consistent(t)
}

// A member who was deleted by an older version, and stayed, inherits nothing.
func TestAGhostDoesNotInherit(t *testing.T) {
	t.Parallel()
	p := newPod(t, testenv.Postgres(t), auth.Config{})
	u, v := p.register(t, "anna"), p.register(t, "ben")
	ghost, living := testenv.User(t, p.db), testenv.User(t, p.db)
	deleted := p.group(t, u.User.ID, ghost, living)
	left := p.group(t, v.User.ID, ghost, living)
	if _, err := p.db.Exec(`UPDATE users SET deleted_at = now() WHERE id = $1`, ghost); err != nil {
		t.Fatal(err)
	}
	if _, err := p.db.Exec(`UPDATE conversation_members SET role = 'admin' WHERE user_id = $1`, ghost); err != nil {
		t.Fatal(err)
	}
	if err := p.delete(u.User.ID); err != nil {
		t.Fatal(err)
	}
	if err := p.conversations.Remove(t.Context(), left, v.User.ID, v.User.ID); err != nil {
		t.Fatal(err)
	}
	for name, g := range map[string]string{"deleted": deleted, "left": left} {
		var owner string
		p.query(t, &owner, `SELECT user_id FROM conversation_members WHERE conversation_id = $1 AND role = 'owner'`, g)
		if owner != living {
			t.Errorf("%s: the owner is %s, want %s", name, owner, living)
		}
	}
}

func TestADeletionLeavesAThousandGroupsInOneTry(t *testing.T) {
	t.Parallel()
	p := newPod(t, testenv.Postgres(t), auth.Config{})
	u, others := p.register(t, "anna"), testenv.Users(t, p.db, 2)
	for _, q := range []string{
		`INSERT INTO conversations (id, type, name, member_count, created_at, last_message_at)
			SELECT ('01900000-0000-7000-8000-' || lpad(n::text, 12, '0'))::uuid, 'group', 'Group ' || n, 3, now(), now() FROM generate_series(1, 1000) n`,
		`INSERT INTO conversation_changes (conversation_id, revision, last_seq, kind) SELECT id, 1, 0, 'created' FROM conversations`,
		`INSERT INTO conversation_members (conversation_id, user_id, role) SELECT c.id, m.id::uuid, m.role FROM conversations c, (VALUES
			('` + u.User.ID + `', 'owner'), ('` + others[0] + `', 'member'), ('` + others[1] + `', 'member')) m (id, role)`,
	} {
		if _, err := p.db.Exec(q); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.delete(u.User.ID); err != nil {
		t.Fatal(err)
	}
	p.consistent(t)
	if a, b := p.published.count(event.TypeMemberRemoved), p.published.count(event.TypeMemberUpdated); a != 1000 || b != 1000 {
		t.Errorf("%d departures and %d new owners were published, want 1000 of each", a, b)
	}
}
