package auth

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"gorm.io/gorm"

	"github.com/parley-chat/parley/internal/postgres"
)

// store holds the SQL of credentials and sessions.
type store struct {
	db *postgres.DB
}

const usernameKey = "users_username_key"

func insertUser(tx *gorm.DB, id, passwordHash string, r *Registration) error {
	err := tx.Exec(`INSERT INTO users (id, username, display_name, password_hash) VALUES (?, ?, ?, ?)`,
		id, r.Username, *r.DisplayName, passwordHash).Error
	if postgres.IsUniqueViolation(err, usernameKey) {
		return ErrUsernameTaken
	}
	if err != nil {
		return fmt.Errorf("insert a user: %w", err)
	}
	return nil
}

// credentials reads a user's id and hash by a column, empty where there is no such account.
func (s *store) credentials(ctx context.Context, column, value string) (userID, hash string, err error) {
	err = s.db.SQL.QueryRowContext(ctx, `SELECT id, password_hash FROM users WHERE `+column+` = $1 AND deleted_at IS NULL`, value).Scan(&userID, &hash)
	if errors.Is(err, sql.ErrNoRows) {
		return "", "", nil
	}
	if err != nil {
		return "", "", fmt.Errorf("read credentials: %w", err)
	}
	return userID, hash, nil
}

func insertSession(tx *gorm.DB, id, userID, userAgent string, ttl time.Duration) error {
	err := tx.Exec(`INSERT INTO sessions (id, user_id, user_agent, expires_at) VALUES (?, ?, ?, clock_timestamp() + make_interval(secs => ?))`,
		id, userID, userAgent, ttl.Seconds()).Error
	if err != nil {
		return fmt.Errorf("insert a session: %w", err)
	}
	return nil
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
	// Live is set where the session has not ended, Spent where the token was used before, Late where that was longer ago
	// than the grace, Outdated where a token that was given for it has been used itself.
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
			EXISTS (SELECT FROM refresh_tokens c WHERE c.parent = t.hash AND c.spent_at IS NOT NULL) AS outdated
		FROM refresh_tokens t JOIN sessions s ON s.id = t.session_id WHERE t.hash = ?`, grace.Seconds(), hash).Scan(&h).Error
	if err != nil {
		return heldToken{}, fmt.Errorf("read a refresh token: %w", err)
	}
	return h, nil
}

// spend marks the token used, prolongs its session and forgets tokens that are too old to be told from forged ones.
func spend(tx *gorm.DB, hash, sessionID string, ttl time.Duration) error {
	for _, q := range []struct {
		sql  string
		args []any
	}{
		{`UPDATE refresh_tokens SET spent_at = coalesce(spent_at, clock_timestamp()) WHERE hash = ?`, []any{hash}},
		{`UPDATE sessions SET last_used_at = clock_timestamp(), expires_at = clock_timestamp() + make_interval(secs => ?) WHERE id = ?`, []any{ttl.Seconds(), sessionID}},
		{`DELETE FROM refresh_tokens WHERE session_id = ? AND spent_at < clock_timestamp() - make_interval(secs => ?)`, []any{sessionID, ttl.Seconds()}},
	} {
		if err := tx.Exec(q.sql, q.args...).Error; err != nil {
			return fmt.Errorf("spend a refresh token: %w", err)
		}
	}
	return nil
}

// end ends sessions of a user's and answers which: the one with that id, or all but it.
func end(tx *gorm.DB, userID, sessionID string, others bool) ([]string, error) {
	op := "="
	if others {
		op = "<>"
	}
	var ended []string
	err := tx.Raw(`UPDATE sessions SET ended_at = clock_timestamp()
		WHERE user_id = ? AND id `+op+` ? AND ended_at IS NULL RETURNING id`, userID, sessionID).Scan(&ended).Error
	if err != nil {
		return nil, fmt.Errorf("end sessions: %w", err)
	}
	if err := tx.Exec(`DELETE FROM refresh_tokens WHERE session_id = ANY (?::uuid[])`, postgres.IDArray(ended)).Error; err != nil {
		return nil, fmt.Errorf("forget refresh tokens: %w", err)
	}
	return ended, nil
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

// erase makes a deleted account of one; its username gives way to one that nobody chose.
func erase(tx *gorm.DB, userID string) error {
	for _, q := range []string{
		`UPDATE users SET username = 'deleted_' || right(replace(id::text, '-', ''), 24), display_name = 'Deleted user', avatar_url = NULL,
			password_hash = '', presence_sharing = 'nobody', read_receipts_enabled = false, last_seen_at = NULL, deleted_at = clock_timestamp()
			WHERE id = @id`,
		// By the primary key and the index of requests: there is none of friends the other way round.
		`DELETE FROM friendships f USING friendships own WHERE own.user_id = @id AND f.user_id = own.friend_id AND f.friend_id = @id`,
		`DELETE FROM friendships WHERE friend_id = @id AND status = 'pending'`,
		`DELETE FROM friendships WHERE user_id = @id`,
		`DELETE FROM blocks WHERE user_id = @id OR blocked_id = @id`,
	} {
		if err := tx.Exec(q, sql.Named("id", userID)).Error; err != nil {
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
