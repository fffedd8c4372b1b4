package main

import (
	"context"
	"crypto/rand"
	"database/sql"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib" // the driver

	"github.com/parley-chat/parley/internal/auth"
	"github.com/parley-chat/parley/internal/client"
	"github.com/parley-chat/parley/internal/id"
)

// displayName marks whom a run made, together with the prefix of the username.
const displayName = "parley-bench"

// maker makes the users and groups that a run needs, and takes them away.
type maker interface {
	people(ctx context.Context, n int) ([]*person, error)
	// groups makes a group of each list of members, with so many messages of its first member.
	groups(ctx context.Context, members [][]*person, messages int) ([]*conversation, error)
	befriend(ctx context.Context, pairs [][2]*person) error
	clean(ctx context.Context) error
}

// seeder puts them straight into Postgres, an hour old.
type seeder struct {
	b  *bench
	db *sql.DB
}

func openSeeder(ctx context.Context, b *bench) (*seeder, error) {
	db, err := sql.Open("pgx", b.databaseURL)
	if err != nil {
		return nil, fmt.Errorf("--database-url: %w", err)
	}
	if err := db.PingContext(ctx); err != nil {
		return nil, fmt.Errorf("--database-url: %w", err)
	}
	return &seeder{b, db}, nil
}

func (s *seeder) exec(ctx context.Context, query string, args ...any) error {
	if _, err := s.db.ExecContext(ctx, query, args...); err != nil {
		return fmt.Errorf("seed: %w", err)
	}
	return nil
}

func (s *seeder) people(ctx context.Context, n int) ([]*person, error) {
	ttl := s.b.Duration + 2*time.Hour
	tokens := auth.NewTokens([][]byte{[]byte(s.b.jwtSecret)}, ttl)
	out := make([]*person, n)
	users, names, sessions := make([]string, n), make([]string, n), make([]string, n)
	for i := range out {
		users[i], names[i], sessions[i] = id.New(), s.b.username(i), id.New()
		token, err := tokens.Issue(users[i], sessions[i])
		if err != nil {
			return nil, err
		}
		out[i] = newPerson(s.b, i, users[i], token)
	}
	err := s.exec(ctx, `INSERT INTO users (id, username, display_name, password_hash)
		SELECT u::uuid, name, $3, '!' FROM unnest($1::text[], $2::text[]) x (u, name)`, users, names, displayName)
	if err != nil {
		return nil, err
	}
	return out, s.exec(ctx, `INSERT INTO sessions (id, user_id, expires_at)
		SELECT s::uuid, u::uuid, now() + $3 * interval '1 second' FROM unnest($1::text[], $2::text[]) x (s, u)`, sessions, users, ttl.Seconds())
}

func (s *seeder) groups(ctx context.Context, members [][]*person, messages int) ([]*conversation, error) {
	out, ids := make([]*conversation, len(members)), make([]string, len(members))
	var group, user, role, first, sizes []string
	for i, m := range members {
		ids[i] = id.New()
		out[i] = s.b.newConversation(ids[i], int64(messages), int64(1+messages), m)
		first, sizes = append(first, m[0].id), append(sizes, fmt.Sprint(len(m)))
		for k, p := range m {
			group, user, role = append(group, ids[i]), append(user, p.id), append(role, map[bool]string{true: "owner", false: "member"}[k == 0])
		}
	}
	for _, q := range []struct {
		query string
		args  []any
	}{
		{`INSERT INTO conversations (id, type, name, last_message_at, member_count, created_at, changed_at)
			SELECT g::uuid, 'group', $3, now() - interval '1 hour', size::int, now() - interval '1 hour', now() - interval '1 hour'
			FROM unnest($1::text[], $2::text[]) x (g, size)`, []any{ids, sizes, displayName}},
		{`INSERT INTO conversation_members (conversation_id, user_id, role, joined_at)
			SELECT g::uuid, u::uuid, role, now() - interval '1 hour' FROM unnest($1::text[], $2::text[], $3::text[]) x (g, u, role)`, []any{group, user, role}},
		{`INSERT INTO conversation_changes (conversation_id, revision, last_seq, kind, user_ids, created_at)
			SELECT conversation_id, 1, 0, 'created', array_agg(user_id), now() - interval '1 hour'
			FROM conversation_members WHERE conversation_id = ANY ($1::text[]::uuid[]) GROUP BY 1`, []any{ids}},
		{`INSERT INTO messages (id, conversation_id, seq, revision, sender_id, content, created_at)
			SELECT overlay(gen_random_uuid()::text PLACING '7' FROM 15 FOR 1)::uuid, g::uuid, n, n + 1, u::uuid, $4,
				now() - interval '1 hour' + n * interval '1 millisecond'
			FROM unnest($1::text[], $2::text[]) x (g, u), generate_series(1, $3::bigint) n`, []any{ids, first, messages, text}},
		{`UPDATE conversations c SET last_seq = m.seq, revision = m.revision, last_message_id = m.id, last_message_at = m.created_at
			FROM messages m WHERE m.conversation_id = c.id AND m.seq = $2 AND c.id = ANY ($1::text[]::uuid[])`, []any{ids, messages}},
	} {
		if err := s.exec(ctx, q.query, q.args...); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func (s *seeder) befriend(ctx context.Context, pairs [][2]*person) error {
	var a, b []string
	for _, p := range pairs {
		a, b = append(a, p[0].id, p[1].id), append(b, p[1].id, p[0].id)
	}
	return s.exec(ctx, `INSERT INTO friendships (user_id, friend_id, status)
		SELECT a::uuid, b::uuid, 'accepted' FROM unnest($1::text[], $2::text[]) x (a, b)`, a, b)
}

func (s *seeder) clean(ctx context.Context) error {
	_, err := cleanUp(ctx, s.db, s.b.Prefix+s.b.run+"_")
	return err
}

// cleanUp removes the users of runs whose names begin so, with all that they are in. It answers how many there were.
func cleanUp(ctx context.Context, db *sql.DB, prefix string) (users int64, err error) {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return 0, err
	}
	defer func() { _ = tx.Rollback() }() // nothing, after the commit
	for _, q := range []string{
		`CREATE TEMP TABLE bench_users ON COMMIT DROP AS SELECT id FROM users WHERE starts_with(username, '` + prefix + `') AND display_name = '` + displayName + `'`,
		`CREATE TEMP TABLE bench_groups ON COMMIT DROP AS SELECT DISTINCT conversation_id AS id FROM conversation_members JOIN bench_users u ON u.id = user_id`,
		`ANALYZE bench_users`, `ANALYZE bench_groups`,
		`DELETE FROM read_receipts USING messages m, bench_groups g WHERE m.id = message_id AND m.conversation_id = g.id`,
		`DELETE FROM messages USING bench_groups g WHERE conversation_id = g.id`,
		`DELETE FROM conversation_changes USING bench_groups g WHERE conversation_id = g.id`,
		`DELETE FROM conversation_members USING bench_groups g WHERE conversation_id = g.id`,
		`DELETE FROM conversations USING bench_groups g WHERE conversations.id = g.id`,
		`DELETE FROM friendships USING bench_users u WHERE u.id IN (user_id, friend_id)`,
		`DELETE FROM blocks USING bench_users u WHERE u.id IN (user_id, blocked_id)`,
		`DELETE FROM sessions USING bench_users u WHERE u.id = user_id`,
		`DELETE FROM users USING bench_users u WHERE users.id = u.id`,
	} {
		r, err := tx.ExecContext(ctx, q)
		if err != nil {
			return 0, fmt.Errorf("clean up: %w", err)
		}
		users, _ = r.RowsAffected() // pgx always knows
	}
	return users, tx.Commit()
}

// registrar makes them as anybody would, over REST.
type registrar struct {
	b    *bench
	made []*person
}

func (r *registrar) people(ctx context.Context, n int) ([]*person, error) {
	for i := range n {
		p := newPerson(r.b, i, "", "")
		p.password = rand.Text()
		in := map[string]string{"username": r.b.username(i), "password": p.password, "displayName": displayName}
		var a account
		err := r.b.call(ctx, nil, "POST", "/auth/register", in, &a)
		for pr := client.ProblemOf(err); pr != nil && pr.Status == http.StatusTooManyRequests; pr = client.ProblemOf(err) {
			wait := time.Duration(max(pr.RetryAfterSeconds, 1)) * time.Second
			r.b.say("%d of %d users are registered; the next in %s (PARLEY_RATE_LIMIT_AUTH=off lifts the limit, --database-url needs none)", i, n, wait)
			if err := pause(ctx, wait); err != nil {
				return nil, err
			}
			err = r.b.call(ctx, nil, "POST", "/auth/register", in, &a)
		}
		if err != nil {
			return nil, err
		}
		p.id = a.User.ID
		p.sign(a)
		r.made = append(r.made, p)
	}
	return slices.Clone(r.made), nil
}

func (r *registrar) groups(ctx context.Context, members [][]*person, messages int) (out []*conversation, err error) {
	for _, m := range members {
		var ids []string
		for _, p := range m[1:] {
			ids = append(ids, p.id)
		}
		var g struct {
			ID       string
			Revision int64
		}
		if err := r.b.call(ctx, m[0], "POST", "/conversations", map[string]any{"type": "group", "name": displayName, "memberIds": ids}, &g); err != nil {
			return nil, err
		}
		for range messages {
			if err := r.b.call(ctx, m[0], "POST", "/conversations/"+g.ID+"/messages", map[string]string{"content": text}, nil); err != nil {
				return nil, err
			}
		}
		out = append(out, r.b.newConversation(g.ID, int64(messages), g.Revision+int64(messages), m))
	}
	return out, nil
}

func (r *registrar) befriend(ctx context.Context, pairs [][2]*person) error {
	for _, p := range pairs {
		if err := r.b.call(ctx, p[0], "POST", "/friends/requests", map[string]string{"userId": p[1].id}, nil); err != nil {
			return err
		}
		if err := r.b.call(ctx, p[1], "POST", "/friends/requests/"+p[0].id+"/accept", nil, nil); err != nil {
			return err
		}
	}
	return nil
}

// clean deletes the accounts; their messages stay, as "Deleted user"'s.
func (r *registrar) clean(ctx context.Context) error {
	for _, p := range r.made {
		if err := r.b.call(ctx, p, "DELETE", "/users/me", map[string]string{"password": p.password}, nil); err != nil {
			return err
		}
	}
	return nil
}

func (b *bench) username(n int) string { return fmt.Sprintf("%s%s_%d", b.Prefix, b.run, n) }

// newRun names a run.
func newRun() string { return strings.ToLower(rand.Text()[:8]) }
