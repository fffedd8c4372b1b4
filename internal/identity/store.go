package identity

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/parley-chat/parley/internal/audit"
	"github.com/parley-chat/parley/internal/postgres"
	"github.com/parley-chat/parley/internal/principal"
)

// store holds the SQL of the users of external tokens.
type store struct {
	db *postgres.DB
}

const usernameKey = "users_username_key"

// account is the part of a user that this package reads.
type account struct {
	id       string
	claims   []byte // the hash of the claims that the profile was last taken from, nil for none
	standing principal.Standing
}

const accountColumns = `users.id, profile_claims, deactivated_at IS NOT NULL, banned_at IS NOT NULL, banned_until, standing_changed_at`

func (a *account) scan(row *sql.Row) error {
	var until, changed sql.NullTime
	if err := row.Scan(&a.id, &a.claims, &a.standing.Deactivated, &a.standing.Banned, &until, &changed); err != nil {
		return err
	}
	a.standing.Until, a.standing.ChangedAt = until.Time, changed.Time
	return nil
}

// find reads the user of an external id. found is false if there is none.
func (s *store) find(ctx context.Context, externalID string) (a account, found bool, err error) {
	err = a.scan(s.db.SQL.QueryRowContext(ctx, `SELECT `+accountColumns+` FROM users WHERE external_id = $1`, externalID))
	if errors.Is(err, sql.ErrNoRows) {
		return account{}, false, nil
	}
	if err != nil {
		return account{}, false, fmt.Errorf("read the user of an external id: %w", err)
	}
	return a, true, nil
}

// newAccount is a user to be created from a token. username is "" if the token has no valid one. fallback is used if it is "" or taken.
type newAccount struct {
	id, externalID, username, fallback, displayName string
	avatarURL                                       *string
	claims                                          []byte
	issued                                          time.Time
}

// errUsernameRaced is returned if another user took the username while the statement ran.
var errUsernameRaced = errors.New("the username was taken meanwhile")

// create makes the user of an external id, or reads the one that another pod has made meanwhile, in one statement. The ON CONFLICT update
// changes nothing: it makes the statement wait for the other pod's commit and return its row. create returns ErrUnauthorized for a token
// that was issued before the deletion of its user's account.
func (s *store) create(ctx context.Context, n newAccount) (account, error) {
	var a account
	err := a.scan(s.db.SQL.QueryRowContext(ctx, `INSERT INTO users (id, external_id, username, display_name, avatar_url, password_hash, profile_claims)
		SELECT $1, $2, CASE WHEN $3 = '' OR EXISTS (SELECT FROM users WHERE username = $3) THEN $4 ELSE $3 END, $5, $6, '', $7
		FROM`+audit.ActorSQL("$9")+`WHERE NOT EXISTS (SELECT FROM users WHERE former_external_id = sha256(convert_to($2, 'UTF8')) AND deleted_at >= $8)
		ON CONFLICT (external_id) WHERE external_id IS NOT NULL DO UPDATE SET password_hash = users.password_hash
		RETURNING `+accountColumns, n.id, n.externalID, n.username, n.fallback, n.displayName, n.avatarURL, n.claims, n.issued, audit.Actor{UserID: n.id}.ForOutbox()))
	if postgres.IsUniqueViolation(err, usernameKey) {
		return account{}, errUsernameRaced
	}
	if errors.Is(err, sql.ErrNoRows) {
		return account{}, ErrUnauthorized
	}
	if err != nil {
		return account{}, fmt.Errorf("create the user of an external id: %w", err)
	}
	return a, nil
}

// sync updates the profile and stores the hash of its claims. A nil name or avatar stays unchanged. changed is false if another pod was
// first.
func (s *store) sync(ctx context.Context, userID string, name *string, avatar *sql.NullString, claims []byte) (changed bool, err error) {
	setAvatar, avatarURL := avatar != nil, sql.NullString{}
	if setAvatar {
		avatarURL = *avatar
	}
	res, err := s.db.SQL.ExecContext(ctx, `UPDATE users SET display_name = coalesce($2, display_name),
			avatar_url = CASE WHEN $3 THEN $4 ELSE avatar_url END, profile_claims = $5
		FROM`+audit.ActorSQL("$6")+`WHERE id = $1 AND deleted_at IS NULL AND profile_claims IS DISTINCT FROM $5`, userID, name, setAvatar, avatarURL, claims, audit.Actor{UserID: userID}.ForOutbox())
	if err != nil {
		return false, fmt.Errorf("update a profile from a token: %w", err)
	}
	n, err := res.RowsAffected()
	return n > 0, err
}

// managed is Managed.
func (s *store) managed(ctx context.Context, userID string) (managed bool, err error) {
	err = s.db.SQL.QueryRowContext(ctx, `SELECT EXISTS (SELECT FROM users WHERE id = $1 AND profile_claims IS NOT NULL)`, userID).Scan(&managed)
	if err != nil {
		return false, fmt.Errorf("read whether a profile follows its token: %w", err)
	}
	return managed, nil
}

// createTimeout bounds the lookup and creation of a user, for which several requests may wait.
const createTimeout = postgres.StatementTimeout + time.Second
