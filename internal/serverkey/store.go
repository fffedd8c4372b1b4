package serverkey

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"gorm.io/gorm"

	"github.com/parley-chat/parley/internal/postgres"
	"github.com/parley-chat/parley/internal/principal"
)

// store holds the SQL of keys. Scopes have no commas, so that a list of them travels as one text.
type store struct {
	db *postgres.DB
}

// maxKeys bounds the keys that live at once: each pod may hold all of them.
const maxKeys = 1000

const nameKey = "server_keys_name_key"

// held is a key as a pod remembers it.
type held struct {
	hash    []byte
	scopes  principal.Scopes
	expires time.Time // zero for never
}

// find reads a key that has not ended. found is false if there is none.
func (s *store) find(ctx context.Context, keyID string) (h held, found bool, err error) {
	var scopes string
	var expires sql.NullTime
	err = s.db.SQL.QueryRowContext(ctx, `SELECT hash, array_to_string(scopes, ','), expires_at FROM server_keys
		WHERE id = $1 AND ended_at IS NULL`, keyID).Scan(&h.hash, &scopes, &expires)
	if errors.Is(err, sql.ErrNoRows) {
		return held{}, false, nil
	}
	if err != nil {
		return held{}, false, fmt.Errorf("read a server key: %w", err)
	}
	h.scopes, h.expires = strings.Split(scopes, ","), expires.Time
	return h, true, nil
}

// endedSince reads the keys that ended within the last while.
func (s *store) endedSince(ctx context.Context, within time.Duration) ([]string, error) {
	ended, err := postgres.Column[string](ctx, s.db.SQL, `SELECT id FROM server_keys WHERE ended_at >= clock_timestamp() - make_interval(secs => $1)`, within.Seconds())
	if err != nil {
		return nil, fmt.Errorf("read ended server keys: %w", err)
	}
	return ended, nil
}

// used notes the hour of a key's last use, which other pods may have noted already.
func (s *store) used(ctx context.Context, keyIDs []string) error {
	_, err := s.db.SQL.ExecContext(ctx, `UPDATE server_keys SET last_used_at = date_trunc('hour', clock_timestamp())
		WHERE id = ANY ($1::text[]::uuid[]) AND last_used_at IS DISTINCT FROM date_trunc('hour', clock_timestamp())`, keyIDs)
	if err != nil {
		return fmt.Errorf("note the use of server keys: %w", err)
	}
	return nil
}

const keyColumns = `id, name, array_to_string(scopes, ','), created_at, expires_at, last_used_at`

// scanKey reads keyColumns.
func scanKey(r postgres.Row, k *Key) error {
	var scopes string
	err := r.Scan(&k.ID, &k.Name, &scopes, &k.CreatedAt, &k.ExpiresAt, &k.LastUsedAt)
	k.Scopes = strings.Split(scopes, ",")
	return err
}

// live reads the keys that have neither ended nor expired, the newest first.
func (s *store) live(ctx context.Context) ([]Key, error) {
	list, err := postgres.Collect(ctx, s.db.SQL, scanKey, `SELECT `+keyColumns+` FROM server_keys
		WHERE ended_at IS NULL AND (expires_at IS NULL OR expires_at > clock_timestamp()) ORDER BY created_at DESC, id DESC`)
	if err != nil {
		return nil, fmt.Errorf("list server keys: %w", err)
	}
	return list, nil
}

// insert makes a key and ends one of its name that has expired. The lock keeps the number of keys bounded; those that have
// expired don't count, because nobody finds them in the list to end them.
func insert(tx *gorm.DB, keyID string, hash []byte, d *Draft, createdBy string) (Key, error) {
	if _, err := postgres.Exec(tx, `SELECT pg_advisory_xact_lock(hashtext('parley.server_keys'))`); err != nil {
		return Key{}, fmt.Errorf("lock the server keys: %w", err)
	}
	if _, err := postgres.Exec(tx, `UPDATE server_keys SET ended_at = clock_timestamp()
		WHERE name = $1 AND ended_at IS NULL AND expires_at <= clock_timestamp()`, d.Name); err != nil {
		return Key{}, fmt.Errorf("end an expired server key: %w", err)
	}
	n, err := postgres.Value[int](postgres.Context(tx), postgres.In(tx), `SELECT count(*) FROM server_keys
		WHERE ended_at IS NULL AND (expires_at IS NULL OR expires_at > clock_timestamp())`)
	if err != nil {
		return Key{}, fmt.Errorf("count the server keys: %w", err)
	}
	if n >= maxKeys {
		return Key{}, ErrTooMany
	}
	var k Key
	err = scanKey(postgres.In(tx).QueryRowContext(postgres.Context(tx), `INSERT INTO server_keys (id, name, hash, scopes, created_by, expires_at)
		VALUES ($1, $2, $3, string_to_array($4, ','), nullif($5, '')::uuid, $6) RETURNING `+keyColumns,
		keyID, d.Name, hash, strings.Join(d.Scopes, ","), createdBy, d.ExpiresAt), &k)
	if postgres.IsUniqueViolation(err, nameKey) {
		return Key{}, ErrNameTaken
	}
	if err != nil {
		return Key{}, fmt.Errorf("insert a server key: %w", err)
	}
	return k, nil
}

// end ends a key, and returns its name and whether it had not ended before.
func end(tx *gorm.DB, keyID string) (name string, ended bool, err error) {
	names, err := postgres.Column[string](postgres.Context(tx), postgres.In(tx),
		`UPDATE server_keys SET ended_at = clock_timestamp() WHERE id = $1 AND ended_at IS NULL RETURNING name`, keyID)
	if err != nil {
		return "", false, fmt.Errorf("end a server key: %w", err)
	}
	if len(names) == 0 {
		return "", false, nil
	}
	return names[0], true, nil
}

// known reads the hash of a key, whether it has ended or not.
func (s *store) known(ctx context.Context, keyID string) (hash []byte, err error) {
	hash, err = postgres.Value[[]byte](ctx, s.db.SQL, `SELECT hash FROM server_keys WHERE id = $1`, keyID)
	if err != nil {
		return nil, fmt.Errorf("read a server key: %w", err)
	}
	return hash, nil
}
