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

func insertUser(tx *gorm.DB, id, passwordHash string, r *Registration) error {
	err := tx.Exec(`INSERT INTO users (id, username, display_name, password_hash) SELECT ?::uuid, ?, ?, ? FROM`+audit.ActorSQL("?"),
		id, r.Username, *r.DisplayName, passwordHash, audit.As(postgres.Context(tx), id).ForOutbox()).Error
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
	r := tx.Exec(`SELECT FROM users WHERE id = ? AND password_hash = ? AND deleted_at IS NULL FOR `+strength, a.ID, a.PasswordHash)
	if r.Error != nil {
		return false, fmt.Errorf("lock an account: %w", r.Error)
	}
	return r.RowsAffected == 1, nil
}

// lifetimeSQL is when a session expires that is used now. Its parameters are those of lifetimes.
const lifetimeSQL = `least(clock_timestamp() + make_interval(secs => ?), created_at + make_interval(secs => ?))`

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
	err := tx.Exec(`INSERT INTO sessions (id, user_id, user_agent, expires_at) VALUES (?, ?, ?, clock_timestamp() + make_interval(secs => ?))`,
		id, userID, userAgent, min(ttl, age)).Error
	if err != nil {
		return fmt.Errorf("insert a session: %w", err)
	}
	return nil
}

// endSurplus ends a user's sessions beyond maxSessions and returns them, those that were used least lately.
func endSurplus(tx *gorm.DB, userID string) ([]string, error) {
	return endWhere(tx, `id IN (SELECT id FROM sessions WHERE user_id = ? AND ended_at IS NULL
		ORDER BY last_used_at DESC, id DESC OFFSET ? FOR UPDATE SKIP LOCKED)`, userID, maxSessions)
}

func insertToken(tx *gorm.DB, hash, sessionID string, parent *string) error {
	if err := tx.Exec(`INSERT INTO refresh_tokens (hash, session_id, parent) VALUES (?, ?, ?)`, hash, sessionID, parent).Error; err != nil {
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
	if err := tx.Exec(`SELECT FROM sessions WHERE id = (SELECT session_id FROM refresh_tokens WHERE hash = ?) FOR UPDATE`, hash).Error; err != nil {
		return heldToken{}, fmt.Errorf("lock a session: %w", err)
	}
	var h heldToken
	err := tx.Raw(`SELECT s.id AS session_id, s.user_id,
			s.ended_at IS NULL AND s.expires_at > clock_timestamp() AS live,
			t.spent_at IS NOT NULL AS spent,
			coalesce(t.spent_at < clock_timestamp() - make_interval(secs => ?), false) AS late,
			t.spent_at IS NOT NULL AND EXISTS (SELECT FROM refresh_tokens c WHERE c.parent = t.hash AND c.spent_at IS NOT NULL)
				OR t.created_at < s.rotate_from AND EXISTS (SELECT FROM refresh_tokens n WHERE n.session_id = s.id AND n.created_at >= s.rotate_from)
				AS outdated
		FROM refresh_tokens t JOIN sessions s ON s.id = t.session_id WHERE t.hash = ?`, grace.Seconds(), hash).Scan(&h).Error
	if err != nil {
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
		{`UPDATE refresh_tokens SET spent_at = coalesce(spent_at, clock_timestamp()) WHERE hash = ?`, []any{hash}},
		{`UPDATE sessions SET last_used_at = clock_timestamp(), expires_at = ` + lifetimeSQL + ` WHERE id = ?`, []any{ttl, age, sessionID}},
		{`DELETE FROM refresh_tokens WHERE session_id = ? AND spent_at < clock_timestamp() - make_interval(secs => ?)`, []any{sessionID, ttl}},
	} {
		if err := tx.Exec(q.sql, q.args...).Error; err != nil {
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
		return endWhere(tx, `user_id = ? AND id <> ?`, userID, sessionID)
	}
	return endWhere(tx, `user_id = ? AND id = ?`, userID, sessionID)
}

// endWhere ends sessions and deletes the descriptions of their clients.
func endWhere(tx *gorm.DB, where string, args ...any) ([]string, error) {
	var ended []string
	err := tx.Raw(`UPDATE sessions SET ended_at = clock_timestamp(), user_agent = '' WHERE `+where+` AND ended_at IS NULL RETURNING id`, args...).Scan(&ended).Error
	if err != nil {
		return nil, fmt.Errorf("end sessions: %w", err)
	}
	if len(ended) == 0 {
		return nil, nil
	}
	if err := tx.Exec(`DELETE FROM refresh_tokens WHERE session_id = ANY (?::uuid[])`, postgres.IDArray(ended)).Error; err != nil {
		return nil, fmt.Errorf("forget refresh tokens: %w", err)
	}
	return ended, nil
}

// rotate makes the refresh tokens of a session good for one more refresh in all. It returns ErrUnauthorized if the session has ended.
func rotate(tx *gorm.DB, sessionID string) error {
	r := tx.Exec(`UPDATE sessions SET rotate_from = clock_timestamp() WHERE id = ? AND ended_at IS NULL`, sessionID)
	if r.Error != nil {
		return fmt.Errorf("rotate a session: %w", r.Error)
	}
	if r.RowsAffected == 0 {
		return ErrUnauthorized
	}
	return nil
}

func (s *store) sessionOf(ctx context.Context, hash string) (string, error) {
	var sessionID string
	err := s.db.Gorm.WithContext(ctx).Raw(`SELECT session_id FROM refresh_tokens WHERE hash = ?`, hash).Scan(&sessionID).Error
	if err != nil {
		return "", fmt.Errorf("look up a refresh token: %w", err)
	}
	return sessionID, nil
}

func (s *store) sessions(ctx context.Context, userID string) ([]Session, error) {
	list := []Session{}
	err := s.db.Gorm.WithContext(ctx).Raw(`SELECT id, user_agent, created_at, last_used_at, expires_at FROM sessions
		WHERE user_id = ? AND ended_at IS NULL AND expires_at > clock_timestamp() ORDER BY last_used_at DESC, id`, userID).Scan(&list).Error
	if err != nil {
		return nil, fmt.Errorf("list sessions: %w", err)
	}
	return list, nil
}

func setPassword(tx *gorm.DB, userID, hash string) error {
	if err := tx.Exec(`UPDATE users SET password_hash = ? WHERE id = ?`, hash, userID).Error; err != nil {
		return fmt.Errorf("set a password: %w", err)
	}
	return nil
}

// erase makes a deleted account of one that has left its groups and whose sessions have ended. The triggers of users forget the
// words that it was found by. The new username comes last: to change it locks the row against every reference to the user,
// such as a message that is being sent, and no conversation is waited for after that.
func erase(tx *gorm.DB, userID string) error {
	actor := audit.As(postgres.Context(tx), userID).ForOutbox()
	for _, q := range []string{
		// In the same order for both sides, so that two friends who delete their accounts at once don't deadlock. Each part is read by an
		// index: there is none of friends in the other direction.
		`DELETE FROM friendships f USING` + audit.ActorSQL("@actor") + `, (
			SELECT k.user_id, k.friend_id FROM friendships k WHERE (k.user_id, k.friend_id) IN (
				SELECT user_id, friend_id FROM friendships WHERE user_id = @id
				UNION ALL
				SELECT friend_id, user_id FROM friendships WHERE user_id = @id
				UNION ALL
				SELECT user_id, friend_id FROM friendships WHERE friend_id = @id AND status = 'pending')
			ORDER BY least(k.user_id, k.friend_id), greatest(k.user_id, k.friend_id), k.user_id FOR UPDATE) own
			WHERE f.user_id = own.user_id AND f.friend_id = own.friend_id`,
		`DELETE FROM blocks WHERE user_id = @id OR blocked_id = @id`,
		`DELETE FROM login_addresses WHERE user_id = @id`,
		`UPDATE users SET username = ` + deletedUsernameSQL + `, display_name = 'Deleted user', avatar_url = NULL,
			password_hash = '', presence_sharing = 'nobody', read_receipts_enabled = false, last_seen_at = NULL, deleted_at = clock_timestamp()
			FROM` + audit.ActorSQL("@actor") + `WHERE id = @id`,
	} {
		if err := tx.Exec(q, sql.Named("id", userID), sql.Named("actor", actor)).Error; err != nil {
			return fmt.Errorf("erase an account: %w", err)
		}
	}
	return nil
}

// endedSince reads the sessions that ended within the last while, by logging out or by time.
func (s *store) endedSince(ctx context.Context, within time.Duration) ([]string, error) {
	rows, err := s.db.SQL.QueryContext(ctx, `SELECT id FROM sessions WHERE ended_at >= clock_timestamp() - make_interval(secs => $1)
		UNION ALL
		SELECT id FROM sessions WHERE ended_at IS NULL AND expires_at BETWEEN clock_timestamp() - make_interval(secs => $1) AND clock_timestamp()`,
		within.Seconds())
	if err != nil {
		return nil, fmt.Errorf("read ended sessions: %w", err)
	}
	defer rows.Close()
	var out []string
	for rows.Next() {
		var id string
		if err := rows.Scan(&id); err != nil {
			return nil, fmt.Errorf("read ended sessions: %w", err)
		}
		out = append(out, id)
	}
	return out, rows.Err()
}

// living reads which of the sessions exist and have not ended.
func (s *store) living(ctx context.Context, ids []string) (map[string]bool, error) {
	found, err := postgres.Collect(ctx, s.db.SQL, func(r postgres.Row, id *string) error { return r.Scan(id) },
		`SELECT id FROM sessions WHERE id = ANY ($1::uuid[]) AND ended_at IS NULL AND expires_at > clock_timestamp()`, ids)
	if err != nil {
		return nil, fmt.Errorf("read living sessions: %w", err)
	}
	out := make(map[string]bool, len(found))
	for _, id := range found {
		out[id] = true
	}
	return out, nil
}
