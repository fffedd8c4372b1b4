package auth

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"gorm.io/gorm"

	"github.com/parley-chat/parley/internal/audit"
	"github.com/parley-chat/parley/internal/chat"
	"github.com/parley-chat/parley/internal/postgres"
)

// store holds the SQL of credentials and sessions.
type store struct {
	db *postgres.DB
}

const usernameKey = "users_username_key"

// userRow is a row of users, as far as passwords go.
type userRow struct {
	ID, PasswordHash string
}

// TableName names the table to GORM.
func (userRow) TableName() string { return "users" }

// tokenRow is a new row of refresh_tokens.
type tokenRow struct {
	Hash, SessionID string
	// Parent is the hash of the token that it was given for, nil for the first of a session.
	Parent *string
}

// TableName names the table to GORM.
func (tokenRow) TableName() string { return "refresh_tokens" }

func insertUser(tx *gorm.DB, id, passwordHash string, r *Registration) error {
	_, err := postgres.Exec(tx, `INSERT INTO users (id, username, display_name, password_hash) SELECT $1::uuid, $2, $3, $4 FROM`+audit.ActorSQL("$5"),
		id, r.Username, *r.DisplayName, passwordHash, audit.As(postgres.Context(tx), id).ForOutbox())
	if postgres.IsUniqueViolation(err, usernameKey) {
		return ErrUsernameTaken
	}
	if err != nil {
		return fmt.Errorf("insert a user: %w", err)
	}
	return nil
}

// account is a user with the hash of the password.
type account struct {
	ID, Username, PasswordHash string
}

// account reads an account by its id or username, the zero value if there is none.
func (s *store) account(ctx context.Context, column, value string) (account, error) {
	var a account
	err := s.db.SQL.QueryRowContext(ctx, `SELECT id, username, password_hash FROM users WHERE `+column+` = $1 AND deleted_at IS NULL`, value).
		Scan(&a.ID, &a.Username, &a.PasswordHash)
	if errors.Is(err, sql.ErrNoRows) {
		return account{}, nil
	}
	if err != nil {
		return account{}, fmt.Errorf("read an account: %w", err)
	}
	return a, nil
}

// lockProved locks the account's row with the strength and reports whether its password still is the one that was proved. What
// follows in the transaction is as if it had been proved under the lock.
func lockProved(tx *gorm.DB, strength string, a account) (bool, error) {
	n, err := postgres.Exec(tx, `SELECT FROM users WHERE id = $1 AND password_hash = $2 AND deleted_at IS NULL FOR `+strength, a.ID, a.PasswordHash)
	if err != nil {
		return false, fmt.Errorf("lock an account: %w", err)
	}
	return n == 1, nil
}

// forever is the maximum age, in seconds, of sessions without one.
const forever = 100 * 365 * 24 * 60 * 60

func (c Config) lifetimes() (ttl, age float64) {
	if c.SessionMaxAge <= 0 {
		return c.RefreshTTL.Seconds(), forever
	}
	return c.RefreshTTL.Seconds(), c.SessionMaxAge.Seconds()
}

func (s *Service) insertSession(tx *gorm.DB, id, userID, userAgent string) error {
	ttl, age := s.lifetimes()
	_, err := postgres.Exec(tx, `INSERT INTO sessions (id, user_id, user_agent, expires_at)
		VALUES ($1, $2, $3, clock_timestamp() + make_interval(secs => $4))`, id, userID, userAgent, min(ttl, age))
	if err != nil {
		return fmt.Errorf("insert a session: %w", err)
	}
	return nil
}

// endSurplus ends a user's sessions beyond maxSessions and returns them, those that were used least lately.
func endSurplus(tx *gorm.DB, userID string) ([]string, error) {
	return endWhere(tx, `id IN (SELECT id FROM sessions WHERE user_id = $1 AND ended_at IS NULL
		ORDER BY last_used_at DESC, id DESC OFFSET $2 FOR UPDATE SKIP LOCKED)`, userID, maxSessions)
}

func insertToken(tx *gorm.DB, hash, sessionID string, parent *string) error {
	if err := gorm.G[tokenRow](tx).Create(postgres.Context(tx), &tokenRow{Hash: hash, SessionID: sessionID, Parent: parent}); err != nil {
		return fmt.Errorf("insert a refresh token: %w", err)
	}
	return nil
}

// heldToken is a refresh token as it is under the lock of its session.
type heldToken struct {
	SessionID string
	UserID    string
	// Live is set if the session has not ended, Spent if the token was used before, Late if that was longer ago than the grace.
	// Outdated is set if a token that was given for it has been used itself, or if it is from before a change of the password
	// and the session was given another one since.
	Live, Spent, Late, Outdated bool
}

// lockToken locks the token's session and reads the token under that lock; the zero value is no token of ours.
func lockToken(tx *gorm.DB, hash string, grace time.Duration) (heldToken, error) {
	if _, err := postgres.Exec(tx, `SELECT FROM sessions WHERE id = (SELECT session_id FROM refresh_tokens WHERE hash = $1) FOR UPDATE`, hash); err != nil {
		return heldToken{}, fmt.Errorf("lock a session: %w", err)
	}
	var h heldToken
	err := postgres.In(tx).QueryRowContext(postgres.Context(tx), `SELECT s.id, s.user_id,
			s.ended_at IS NULL AND s.expires_at > clock_timestamp() AS live,
			t.spent_at IS NOT NULL AS spent,
			coalesce(t.spent_at < clock_timestamp() - make_interval(secs => $1), false) AS late,
			t.spent_at IS NOT NULL AND EXISTS (SELECT FROM refresh_tokens c WHERE c.parent = t.hash AND c.spent_at IS NOT NULL)
				OR t.created_at < s.rotate_from AND EXISTS (SELECT FROM refresh_tokens n WHERE n.session_id = s.id AND n.created_at >= s.rotate_from)
				AS outdated
		FROM refresh_tokens t JOIN sessions s ON s.id = t.session_id WHERE t.hash = $2`, grace.Seconds(), hash).
		Scan(&h.SessionID, &h.UserID, &h.Live, &h.Spent, &h.Late, &h.Outdated)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return heldToken{}, fmt.Errorf("read a refresh token: %w", err)
	}
	return h, nil
}

// spend marks the token as used, extends its session and deletes tokens that are so old that they are treated as forged.
func (s *Service) spend(tx *gorm.DB, hash, sessionID string) error {
	ttl, age := s.lifetimes()
	for _, q := range []struct {
		sql  string
		args []any
	}{
		{`UPDATE refresh_tokens SET spent_at = coalesce(spent_at, clock_timestamp()) WHERE hash = $1`, []any{hash}},
		{`UPDATE sessions SET last_used_at = clock_timestamp(),
			expires_at = least(clock_timestamp() + make_interval(secs => $2), created_at + make_interval(secs => $3)) WHERE id = $1`, []any{sessionID, ttl, age}},
		{`DELETE FROM refresh_tokens WHERE session_id = $1 AND spent_at < clock_timestamp() - make_interval(secs => $2)`, []any{sessionID, ttl}},
	} {
		if _, err := postgres.Exec(tx, q.sql, q.args...); err != nil {
			return fmt.Errorf("spend a refresh token: %w", err)
		}
	}
	return nil
}

// readOwn reads a user as they see themselves.
func readOwn(tx *gorm.DB, userID string) (o chat.Own, err error) {
	row := postgres.In(tx).QueryRowContext(postgres.Context(tx), `SELECT `+chat.OwnColumns+` FROM users u WHERE u.id = $1`, userID)
	if err := chat.ScanOwn(row, &o); err != nil {
		return chat.Own{}, fmt.Errorf("read a profile: %w", err)
	}
	return o, nil
}

// end ends sessions of a user and returns their ids: the session with the id, or all except it.
func end(tx *gorm.DB, userID, sessionID string, others bool) ([]string, error) {
	if others {
		return endWhere(tx, `user_id = $1 AND id <> $2`, userID, sessionID)
	}
	return endWhere(tx, `user_id = $1 AND id = $2`, userID, sessionID)
}

// endWhere ends sessions and deletes the descriptions of their clients.
func endWhere(tx *gorm.DB, where string, args ...any) ([]string, error) {
	ended, err := postgres.Column[string](postgres.Context(tx), postgres.In(tx),
		`UPDATE sessions SET ended_at = clock_timestamp(), user_agent = '' WHERE `+where+` AND ended_at IS NULL RETURNING id`, args...)
	if err != nil {
		return nil, fmt.Errorf("end sessions: %w", err)
	}
	if len(ended) == 0 {
		return nil, nil
	}
	if _, err := postgres.Exec(tx, `DELETE FROM refresh_tokens WHERE session_id = ANY ($1::text[]::uuid[])`, ended); err != nil {
		return nil, fmt.Errorf("forget refresh tokens: %w", err)
	}
	return ended, nil
}

// rotate makes the refresh tokens of a session good for one more refresh in all. It returns ErrUnauthorized if the session has ended.
func rotate(tx *gorm.DB, sessionID string) error {
	n, err := postgres.Exec(tx, `UPDATE sessions SET rotate_from = clock_timestamp() WHERE id = $1 AND ended_at IS NULL`, sessionID)
	if err != nil {
		return fmt.Errorf("rotate a session: %w", err)
	}
	if n == 0 {
		return ErrUnauthorized
	}
	return nil
}

func (s *store) sessionOf(ctx context.Context, hash string) (string, error) {
	sessionID, err := postgres.Value[string](ctx, s.db.SQL, `SELECT session_id FROM refresh_tokens WHERE hash = $1`, hash)
	if err != nil {
		return "", fmt.Errorf("look up a refresh token: %w", err)
	}
	return sessionID, nil
}

func (s *store) sessions(ctx context.Context, userID string) ([]Session, error) {
	list, err := postgres.Collect(ctx, s.db.SQL, func(r postgres.Row, v *Session) error {
		return r.Scan(&v.ID, &v.UserAgent, &v.CreatedAt, &v.LastUsedAt, &v.ExpiresAt)
	}, `SELECT id, user_agent, created_at, last_used_at, expires_at FROM sessions
		WHERE user_id = $1 AND ended_at IS NULL AND expires_at > clock_timestamp() ORDER BY last_used_at DESC, id`, userID)
	if err != nil {
		return nil, fmt.Errorf("list sessions: %w", err)
	}
	return list, nil
}

func setPassword(tx *gorm.DB, userID, hash string) error {
	if _, err := gorm.G[userRow](tx).Where(map[string]any{"id": userID}).Update(postgres.Context(tx), "password_hash", hash); err != nil {
		return fmt.Errorf("set a password: %w", err)
	}
	return nil
}

// erase makes a deleted account of one that has left its groups and whose sessions have ended. The triggers of users forget the
// words that it was found by. The new username comes last: to change it locks the row against every reference to the user,
// such as a message that is being sent, and no conversation is waited for after that.
func erase(tx *gorm.DB, userID string) error {
	actor := audit.As(postgres.Context(tx), userID).ForOutbox()
	for _, s := range []struct {
		sql  string
		args []any
	}{
		// In the same order for both sides, so that two friends who delete their accounts at once don't deadlock. Each part is read by an
		// index: there is none of friends in the other direction.
		{`DELETE FROM friendships f USING` + audit.ActorSQL("$2") + `, (
			SELECT k.user_id, k.friend_id FROM friendships k WHERE (k.user_id, k.friend_id) IN (
				SELECT user_id, friend_id FROM friendships WHERE user_id = $1
				UNION ALL
				SELECT friend_id, user_id FROM friendships WHERE user_id = $1
				UNION ALL
				SELECT user_id, friend_id FROM friendships WHERE friend_id = $1 AND status = 'pending')
			ORDER BY least(k.user_id, k.friend_id), greatest(k.user_id, k.friend_id), k.user_id FOR UPDATE) own
			WHERE f.user_id = own.user_id AND f.friend_id = own.friend_id`, []any{userID, actor}},
		{`DELETE FROM blocks WHERE user_id = $1 OR blocked_id = $1`, []any{userID}},
		{`DELETE FROM login_addresses WHERE user_id = $1`, []any{userID}},
		{`UPDATE users SET username = ` + deletedUsernameSQL + `, display_name = 'Deleted user', avatar_url = NULL,
			password_hash = '', presence_sharing = 'nobody', read_receipts_enabled = false, last_seen_at = NULL, deleted_at = clock_timestamp()
			FROM` + audit.ActorSQL("$2") + `WHERE id = $1`, []any{userID, actor}},
	} {
		if _, err := postgres.Exec(tx, s.sql, s.args...); err != nil {
			return fmt.Errorf("erase an account: %w", err)
		}
	}
	return nil
}

// endedSince reads the sessions that ended within the last while, by logging out or by time.
func (s *store) endedSince(ctx context.Context, within time.Duration) ([]string, error) {
	ended, err := postgres.Column[string](ctx, s.db.SQL, `SELECT id FROM sessions WHERE ended_at >= clock_timestamp() - make_interval(secs => $1)
		UNION ALL
		SELECT id FROM sessions WHERE ended_at IS NULL AND expires_at BETWEEN clock_timestamp() - make_interval(secs => $1) AND clock_timestamp()`,
		within.Seconds())
	if err != nil {
		return nil, fmt.Errorf("read ended sessions: %w", err)
	}
	return ended, nil
}

// living reads which of the sessions exist and have not ended.
func (s *store) living(ctx context.Context, ids []string) (map[string]bool, error) {
	found, err := postgres.Column[string](ctx, s.db.SQL, `SELECT id FROM sessions WHERE id = ANY ($1::text[]::uuid[]) AND ended_at IS NULL AND expires_at > clock_timestamp()`, ids)
	if err != nil {
		return nil, fmt.Errorf("read living sessions: %w", err)
	}
	out := make(map[string]bool, len(found))
	for _, id := range found {
		out[id] = true
	}
	return out, nil
}
